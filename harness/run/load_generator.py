"""Run trials with one load generator. Imports no httpx."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from harness.errors import HarnessError, from_child
from harness.run.channel import Channel, Place
from harness.run.clocks import Exchange
from harness.system import signals
from harness.wire.arrivals import closed
from harness.wire.generator_messages import DONE, LOAD, WARM
from harness.wire.load_options import REVEALED, LoadOptions
from harness.wire.records import MEASURE, Outcome
from harness.wire.row_lines import shots_of
from harness.wire.tally import Counts

HANDS_OVER_WITHIN_S = 5.0
LOOKS_EVERY_S = 5.0  # checks whether a silent load generator was stopped; twice in a row ends the trial

ONE_REQUEST = {  # of a single user, without a warm-up
    "arrivals": closed(1),
    "requests": 1,
    "duration_s": None,
    "warmup_requests": 0,
    "settle_s": 0.0,
    "think": None,
}


Sink = Callable[[str], None]


def _ignore_step(what: str, at_ms: float) -> None: ...


def ignore(answered: int, median_ms: float) -> None:
    """Ignore the progress of a trial."""


class Loader:
    """Context manager over one load generator, which runs trial after trial.

    The rows of a trial arrive while it runs. Ctrl-C may come at any time: each row is handed on exactly once.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def __enter__(self) -> Loader:
        self._channel.open()
        self._rows = Rows(None, keeps=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def place(self) -> Place:
        """Where the load generator runs."""
        return self._channel.place()

    def limits_there(self, transport: str) -> list[dict[str, float]]:  # noqa: ARG002 - see `LoadGenerator`
        """See `LoadGenerator`: it runs here."""
        return []

    def start_limit(self, transport: str) -> Callable[[], dict[str, float]] | None:
        """See `Channel`."""
        return self._channel.start_limit(transport)

    def pids(self) -> list[int]:
        """The processes on this host that generate load."""
        pid = self.place().pid
        return [] if pid is None else [pid]

    def run(
        self,
        options: LoadOptions,
        on_progress: Callable[[int, float], None] = ignore,
        sink: Sink | None = None,
        *,
        keep_shots: bool = True,
    ) -> Outcome:
        """Run one trial; call `on_progress(answered, median latency in ms)` about twice a second.

        `sink` gets the lines of finished requests (see `wire.row_lines`) within a second. The outcome has the
        shots in order of sending, or none without `keep_shots`: then memory is bounded, however long the
        trial is.

        Raises HarnessError if the load generator has ended, or there was no request to send. After a
        KeyboardInterrupt, `hand_over` returns what was measured.
        """
        return self.run_share(options, on_progress, Rows(sink, keeps=keep_shots), _ignore_step)

    def run_share(
        self,
        options: LoadOptions,
        on_progress: Callable[[int, float], None],
        rows: Rows,
        on_step: Callable[[str, float], None],
    ) -> Outcome:
        """Run one trial as `run`, or a share of it; `on_step(WARM or DONE, time)` says how far it is."""
        self._rows = rows
        load = options.model_dump_json(context=REVEALED)
        try:
            self._channel.send(json.dumps({LOAD: load}).encode())
        except BrokenPipeError:
            raise self._died() from None
        while True:
            message = self._next_message()
            if "outcome" in message:
                outcome = rows.outcome(message["outcome"])
                self._channel.drop()
                return outcome
            if "rows" in message:
                self._hand_on(message["rows"])
                continue
            self._channel.drop()
            if "error" in message:
                raise from_child(message["error"])
            if "done" in message:
                on_progress(message["done"], message["p50_ms"])
            for what in message.keys() & {WARM, DONE}:
                on_step(what, message[what])

    def tell(self, message: dict[str, Any]) -> None:
        """Send the trial that runs a message (see `wire.link`). Does nothing if the generator has ended."""
        with suppress(BrokenPipeError):
            self._channel.send(json.dumps(message).encode())

    def exchange_clocks(self) -> Exchange:
        """Ask for the time on the monotonic clock of the load generator. Call it between trials.

        Raises HarnessError if the load generator has ended.
        """
        try:
            return self._channel.exchange_clocks()
        except BrokenPipeError:
            raise self._died() from None

    def kill(self) -> None:
        """End it at once; a `run` in another thread raises HarnessError."""
        self._channel.kill()

    def end_early(self) -> None:
        """End the current trial; `run` returns what it has measured."""
        self._channel.end_early()

    def hand_over(self) -> Outcome | None:
        """End the current trial; return what it has measured, or None if no answer arrives in time."""
        deadline = time.monotonic() + HANDS_OVER_WITHIN_S
        self._channel.end_early()
        while line := self._channel.peek(max(0.0, deadline - time.monotonic())):
            message = json.loads(line)
            if "outcome" in message:
                return self._rows.outcome(message["outcome"])
            if "rows" in message:
                self._hand_on(message["rows"])
            else:
                self._channel.drop()
        return None

    def _hand_on(self, lines: str) -> None:
        """Hand on the rows of the current message, and drop it."""
        with signals.deferred():
            self._rows.take(lines)
            self._channel.drop()

    def _next_message(self) -> dict[str, Any]:
        """Its next message, which stays until it is dropped."""
        times_stopped = 0
        while (line := self._channel.peek(LOOKS_EVERY_S)) is None:
            times_stopped = times_stopped + 1 if self._channel.is_stopped() else 0
            if times_stopped == 2:
                raise HarnessError(
                    "The load generator was stopped by a signal and has not resumed.",
                    stage="load",
                    hint=self._rows.whereabouts,
                )
        if not line:
            raise self._died()
        message: dict[str, Any] = json.loads(line)
        return message

    def _died(self) -> HarnessError:
        return self._channel.died(self._rows.whereabouts)


class Rows:
    """The rows of a trial, or of a share of one, as they arrive."""

    def __init__(self, sink: Sink | None, *, keeps: bool) -> None:
        self._sink = sink
        self._keeps = keeps
        self._kept: list[str] = []  # parsed at the end, so that the load has the CPU
        self.requests = self.measured = 0  # so far

    @property
    def whereabouts(self) -> str:
        """Where the rows of a trial are that has no outcome."""
        if self._sink is None:
            return "What it has measured in this trial is lost."
        return "The rows of this trial until then are in requests.csv."

    def take(self, lines: str) -> None:
        """Hand on some lines."""
        self.requests += lines.count("\n")
        self.measured += lines.count(f",{MEASURE},")
        if self._sink is not None:
            self._sink(lines)
        if self._keeps:
            self._kept.append(lines)

    def outcome(self, data: dict[str, Any]) -> Outcome:
        """The outcome of the trial, made of what the load generator says at its end."""
        shots = [shot for lines in self._kept for shot in shots_of(lines)]
        shots.sort(key=lambda shot: shot.seq)
        return Outcome(**{**data, "shots": shots, "tally": Counts.from_json(data["tally"])})
