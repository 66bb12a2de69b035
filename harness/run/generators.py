"""Send a trial's load from several load generators, here or on other hosts, and put their results together.

Each sends its share (`load_options.Share`) of the same load. They start at one moment, of which each is given
the time on its own monotonic clock. So all stamps count from the same start, as exactly as the offsets of
these clocks are known; `generators.csv` has the offsets. Percentiles come from the rows of all.
"""

from __future__ import annotations

import functools
import statistics
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, Protocol

from harness.errors import HarnessError
from harness.run import clocks
from harness.run.agreement import Agreement
from harness.run.channel import Channel
from harness.run.clocks import Offset
from harness.run.load_generator import HANDS_OVER_WITHIN_S, Loader, Rows, Sink, ignore
from harness.run.local_generator import LocalProcess
from harness.run.supervisor import Supervisor
from harness.wire import tally
from harness.wire.clock import now_ms
from harness.wire.load_options import LoadOptions, Share
from harness.wire.records import Generator, Outcome, Shot
from harness.wire.tally import Counts

START_IN_MS = 30.0  # from now, plus some round trips: until each generator has its load


class LoadGenerator(Protocol):
    """One load generator, or several that act as one."""

    def pids(self) -> list[int]:
        """The processes on this host that generate load."""

    def limits_there(self, transport: str) -> list[dict[str, float]]:
        """Measure the limit of each generator on its host (`client_limit.Quick`); empty if they run here."""

    def run(
        self,
        options: LoadOptions,
        on_progress: Callable[[int, float], None] = ignore,
        sink: Sink | None = None,
        *,
        keep_shots: bool = True,
    ) -> Outcome:
        """Run one trial; see `Loader.run`."""

    def hand_over(self) -> Outcome | None:
        """End the current trial, after a KeyboardInterrupt; see `Loader.hand_over`."""


@contextmanager
def opened(generators: str, supervisor: Supervisor) -> Iterator[LoadGenerator]:
    """Start the load generators of the setting `generators`; end them on exit.

    Raises HarnessError if one cannot be started.
    """
    with ExitStack() as stack:
        if not generators.isdecimal():
            from harness.run.dask_cluster import DaskCluster

            cluster = stack.enter_context(DaskCluster(generators))
            yield stack.enter_context(Generators(cluster.channels, cluster.count))
        elif generators == "1":
            yield stack.enter_context(Loader(LocalProcess(supervisor)))
        else:
            count = int(generators)
            yield stack.enter_context(Generators(lambda _: LocalProcess(supervisor), count))


class Generators:
    """Several load generators that share each trial's load. One that ends is replaced before the next trial.

    `channel(number)` opens the way to a generator; it may raise HarnessError.
    """

    def __init__(self, channel: Callable[[int], Channel], count: int) -> None:
        self._channel = channel
        self._count = count
        self._members: dict[int, Loader] = {}
        self._current: _Trial | None = None

    def __enter__(self) -> Generators:
        try:
            self._replace_missing()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._current is not None:
            self._current.abandon()
        for member in self._members.values():
            member.__exit__()
        self._members = {}

    def limits_there(self, transport: str) -> list[dict[str, float]]:
        """See `LoadGenerator`. All are measured at the same time."""
        pending = [member.start_limit(transport) for member in self._members.values()]
        return [result() for result in pending if result is not None]

    def pids(self) -> list[int]:
        """See `LoadGenerator`."""
        return [pid for member in self._members.values() for pid in member.pids()]

    def run(
        self,
        options: LoadOptions,
        on_progress: Callable[[int, float], None] = ignore,
        sink: Sink | None = None,
        *,
        keep_shots: bool = True,
    ) -> Outcome:
        """See `LoadGenerator`. If a generator ends, the others end early; the outcome has what there is."""
        self._replace_missing()
        most = min(self._count, options.most_generators or self._count, options.connections)
        offsets = [self._offset(number) for number in range(most)]
        members = [self._members[number] for number in range(most)]
        self._current = _Trial(members, offsets, options, on_progress, sink, keep_shots=keep_shots)
        outcome = self._current.outcome()
        for number in self._current.lost:
            self._members.pop(number).__exit__()
        self._current = None
        return outcome

    def hand_over(self) -> Outcome | None:
        """See `LoadGenerator`."""
        return None if self._current is None else self._current.hand_over()

    def _offset(self, number: int) -> Offset:
        """Measure the clock of a generator; one that has ended since the last trial is replaced."""
        try:
            return clocks.measure(self._members[number].exchange_clocks)
        except HarnessError:
            self._members.pop(number).__exit__()
            self._replace_missing()
            return clocks.measure(self._members[number].exchange_clocks)

    def _replace_missing(self) -> None:
        for number in range(self._count):
            if number not in self._members:
                self._members[number] = Loader(self._channel(number)).__enter__()


class _Part(NamedTuple):
    """The result of one generator's share of a trial."""

    outcome: Outcome | None  # None: the generator ended
    rows: Rows
    error: HarnessError | None

    @property
    def counts(self) -> Counts:
        """What was counted; of a generator that ended, its rows only."""
        if self.outcome is not None:
            return self.outcome.counts
        return Counts(requests=self.rows.requests, measured=self.rows.measured)


class _Trial:
    """One trial of several generators, each of which has a thread that reads what it sends."""

    def __init__(
        self,
        members: Sequence[Loader],
        offsets: Sequence[Offset],
        options: LoadOptions,
        on_progress: Callable[[int, float], None],
        sink: Sink | None,
        *,
        keep_shots: bool,
    ) -> None:
        self._members = members
        self._options = options
        self._on_progress = on_progress
        self._sink = sink
        self._keep_shots = keep_shots
        self._unsaved: HarnessError | None = None  # why rows could not be saved
        self._lock = threading.Lock()
        self._progress: dict[int, tuple[int, float]] = {}
        self._before = offsets
        slowest_ms = 2 * max(offset.bound_ms for offset in offsets)
        self._start_ms = now_ms() + START_IN_MS + 4 * slowest_ms
        self._agreement = Agreement(range(len(members)), self._tell, lead_ms=2 * slowest_ms + 5.0)
        self.lost: list[int] = []
        self._threads = ThreadPoolExecutor(len(members), thread_name_prefix="generator")
        self._parts: list[Future[_Part]] = [
            self._threads.submit(self._run_share, number) for number in range(len(members))
        ]

    def outcome(self) -> Outcome:
        """Wait for all generators, and return the outcome of the whole.

        Raises HarnessError if all have ended, or the rows cannot be saved.
        """
        wait(self._parts)
        if self._unsaved is not None:
            raise self._unsaved
        return self._merged()

    def hand_over(self) -> Outcome | None:
        """End the trial early; return what was measured, or None if a generator does not answer in time."""
        for member in self._members:
            member.end_early()
        if wait(self._parts, HANDS_OVER_WITHIN_S).not_done:
            return None
        return self._merged()

    def abandon(self) -> None:
        """End the generators, and save no more rows: the run ends."""
        with self._lock:
            self._sink = None
        for member in self._members:
            member.kill()
        self._threads.shutdown()

    # -- in the thread of a generator ------------------------------------------------------------------

    def _run_share(self, number: int) -> _Part:
        rows = Rows(self._save, keeps=self._keep_shots)
        try:
            outcome = self._members[number].run_share(
                self._share(number),
                functools.partial(self._note_progress, number),
                rows,
                functools.partial(self._agreement.step, number),
            )
        except HarnessError as error:
            self._end_others(number)
            return _Part(None, rows, error)
        finally:
            self._agreement.leaves(number)
        return _Part(outcome, rows, None)

    def _share(self, number: int) -> LoadOptions:
        """Return what this generator sends. Only the first sends pings."""
        options, of = self._options, len(self._members)
        share = Share(index=number, of=of)
        changes: dict[str, Any] = {
            "share": share,
            "start_at_ms": self._start_ms + self._before[number].offset_ms,
            "cap": max(1, share.size(options.cap)),
        }
        if number:
            changes["ping_url"] = None
        if options.give_up_in_flight is not None:
            changes["give_up_in_flight"] = max(1, share.size(options.give_up_in_flight))
        if users := options.arrivals.users:
            ours = share.size(users)
            changes["warmup_requests"] = -(-options.warmup_requests * ours // users)
            if options.requests is not None:
                changes["requests"] = -(-options.requests * ours // users)
        return options.model_copy(update=changes)

    def _save(self, lines: str) -> None:
        with self._lock:
            if self._sink is None:
                return
            try:
                self._sink(lines)
            except HarnessError as error:
                self._sink, self._unsaved = None, error
                raise

    def _note_progress(self, number: int, answered: int, median_ms: float) -> None:
        with self._lock:
            self._progress[number] = answered, median_ms
            answers, medians = zip(*self._progress.values(), strict=True)
            self._on_progress(sum(answers), statistics.median(medians))

    def _tell(self, number: int, message: dict[str, Any]) -> None:
        self._members[number].tell(message)

    def _end_others(self, lost: int) -> None:
        """The trial has failed, so that its rest would take time for nothing."""
        with self._lock:
            self.lost.append(lost)
        for number, member in enumerate(self._members):
            if number not in self.lost:
                member.end_early()

    # -- at the end ------------------------------------------------------------------------------------

    def _merged(self) -> Outcome:
        self._threads.shutdown()
        parts = [part.result() for part in self._parts]
        found = [part.outcome for part in parts if part.outcome is not None]
        errors = [part.error for part in parts if part.error is not None]
        if not found:
            raise errors[0]
        return Outcome(
            shots=_by_seq(found),
            window_start_ms=max(one.window_start_ms for one in found),
            window_end_ms=max(one.window_end_ms for one in found),
            client_cpu_ms=sum(one.client_cpu_ms for one in found),
            in_flight_max=sum(one.in_flight_max for one in found),
            capped=sum(one.capped for one in found),
            client_lag_p99_ms=_largest(one.client_lag_p99_ms for one in found),
            client_lag_max_ms=_largest(one.client_lag_max_ms for one in found),
            bad_answers={error: text for one in found for error, text in one.bad_answers.items()},
            ended=any(one.ended for one in found),
            tally=tally.total([part.counts for part in parts]),
            generators=tuple(self._row(number, part) for number, part in enumerate(parts)),
            lost=errors[0].what if errors else "",
        )

    def _row(self, number: int, part: _Part) -> Generator:
        before, outcome = self._before[number], part.outcome
        after = None if outcome is None else self._after(number)
        offsets = [before] if after is None else [before, after]
        bound_ms = max(offset.bound_ms for offset in offsets)
        return Generator(
            trial=0,
            generator=number,
            host=self._members[number].place().host,
            requests=part.counts.requests,
            measured=part.counts.measured,
            dispatch_lag_p50_ms=part.counts.dispatch_lag_p50_ms,
            client_cpu_ms=None if outcome is None else outcome.client_cpu_ms,
            client_lag_p99_ms=None if outcome is None else outcome.client_lag_p99_ms,
            offset_before_ms=before.offset_ms,
            offset_after_ms=None if after is None else after.offset_ms,
            bound_ms=bound_ms,
            error="" if part.error is None else part.error.what,
        )

    def _after(self, number: int) -> Offset | None:
        try:
            return clocks.measure(self._members[number].exchange_clocks)
        except HarnessError:
            self.lost.append(number)
            return None


def _by_seq(outcomes: Iterable[Outcome]) -> list[Shot]:
    return sorted((shot for one in outcomes for shot in one.shots), key=lambda shot: shot.seq)


def _largest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
