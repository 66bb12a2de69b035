"""Plan → trials: starts the arms' servers, sends each trial's load, saves what came of it."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, Protocol

from harness import environment, workloads
from harness.errors import HarnessError
from harness.plans.arm import Arm
from harness.plans.plan import Cell, Plan
from harness.results.store import Writer
from harness.run import bare_model, client_limit, no_answer, noise, server_process
from harness.run.foreign_server import Standing, check_processes
from harness.run.load_generator import Loader
from harness.run.precision import Precision
from harness.run.supervisor import Supervisor
from harness.system import pinning
from harness.wire.arrivals import closed
from harness.wire.clock import utc_now
from harness.wire.options import LoadOptions, ServerOptions
from harness.wire.records import (
    DOWNSTREAM,
    MEASURE,
    PILOT_BLOCK,
    Identity,
    Noise,
    Outcome,
    Sample,
    Trial,
    to_rows,
)
from harness.workloads.io import kinds
from harness.workloads.io.service import Services

# a model that was just loaded is not at its speed yet; a disturbance only ever adds, so the lowest counts
PILOT_SETTLES_S = 3.0
PILOT_WINDOWS = 3
PILOT_REQUESTS = 40
PILOT_CLOSED_S = 2.0
DRAINS_WITHIN_S = 30.0


class Listener(Protocol):
    """Who wants to know how a run gets on (the terminal)."""

    def stage(self, text: str) -> None:
        """The run does `text` now; nothing is measured."""

    def trial_begins(self, cell: Cell, number: int, total: int) -> None:
        """Trial `number` of `total`, from 1, begins."""

    def progress(self, answered: int, median_ms: float) -> None:
        """So many requests of the trial have been answered, their latest median latency."""

    def trial_ends(self, trial: Trial) -> None:
        """The trial is on the disk."""


class Before(NamedTuple):
    """What a killed run left, to go on from."""

    record: dict[str, Any]  # its run.json
    done: frozenset[tuple[int, str, str]]  # block, arm, load
    trials: int  # the highest number given
    precision: Precision


def run(
    plan: Plan,
    writer: Writer,
    listener: Listener,
    before: Before | None = None,
    client_limit_per_s: float | None = None,
) -> list[Trial]:
    """Run every trial of `plan` and save each as it ends; those in `before` are not run again.

    `client_limit_per_s` is what the load generator can send at most; without it the plan's self-check sees.

    Returns the new trials in order; those of a server that died are marked failed, and the others go on.
    Raises HarnessError when a server cannot start. An interrupted run keeps its finished trials; nothing
    that it started is left behind in any case.
    """
    with session(plan, writer, listener, before, client_limit_per_s) as trials:
        trials.run_all()
    return trials.done


@contextmanager
def session(
    plan: Plan,
    writer: Writer,
    listener: Listener,
    before: Before | None = None,
    client_limit_per_s: float | None = None,
) -> Iterator[Trials]:
    """Every server of `plan` ready and the load generator beside them; the caller says which trials are run.

    Leaves what `run` leaves, however it is left.
    """
    record = _Record(writer, plan, before)
    with record, Supervisor() as supervisor, ExitStack() as stack:
        tool = _instrument(plan, supervisor, stack, record)
        if client_limit_per_s is None:
            client_limit_per_s = _checked_itself(plan, tool, record, listener)
        _see_limits(plan, tool, writer, record, listener)
        services = stack.enter_context(Services(writer.log, listener.stage, record.note_left))
        arms = _Arms(plan, writer, supervisor, stack, record, tool.pins, services)
        trials = Trials(plan, writer, tool.loader, listener, arms, record, client_limit_per_s, before)
        _ready(plan, arms, trials, tool.loader, listener)
        yield trials
        arms.note_memory()


class _Instrument(NamedTuple):
    """What measures; it is there before the first server."""

    supervisor: Supervisor
    loader: Loader
    pins: pinning.Pinning | None

    @property
    def server_cpus(self) -> tuple[int, ...]:
        return () if self.pins is None else self.pins.server


def _instrument(plan: Plan, supervisor: Supervisor, stack: ExitStack, record: _Record) -> _Instrument:
    """The load generator, on CPUs of its own where the plan asks for it."""
    loader = stack.enter_context(Loader(supervisor))
    pins = pinning.split() if plan.pin else None
    if pins is not None:
        pinning.apply(loader.pid, pins.client)
        record.note(pinning=pins._asdict())
    return _Instrument(supervisor, loader, pins)


def _checked_itself(plan: Plan, tool: _Instrument, record: _Record, listener: Listener) -> float | None:
    """How many requests a second the load generator can send; None where the plan asks for no self-check."""
    if not plan.self_check:
        return None
    listener.stage("self-check: what the load generator can do")
    found = client_limit.quick(tool.supervisor, tool.loader, plan.transport, tool.server_cpus)
    record.note(self_check=found._asdict())
    return found.requests_per_s


def _see_limits(plan: Plan, tool: _Instrument, writer: Writer, record: _Record, listener: Listener) -> None:
    """What the bare models can do, if that is asked for. A resumed run has it: the machine is the same."""
    if not plan.limit or record["limits"] is not None:
        return
    listener.stage("limit: the model in a bare loop, alone")
    log, cpus = writer.log("limit"), tool.server_cpus
    record.note(**bare_model.of_plan(plan, tool.supervisor, tool.loader, log=log, cpus=cpus))


def _ready(plan: Plan, arms: _Arms, trials: Trials, loader: Loader, listener: Listener) -> None:
    """Every server answers, and what pilots have to tell is known. Scaled arms wait for theirs."""
    if plan.runs_elsewhere:
        listener.stage("asking each server once")
        arms.ask_once(loader, listener)
    else:
        listener.stage("starting servers")
        arms.start([arm for arm in plan.every_arm if arm.io_per_model is None])
    if plan.pilot is not None:
        arms.lone_model_ms = trials.lone_model_ms(plan.pilot)
        listener.stage("starting servers")
        arms.start([arm for arm in plan.every_arm if arm.io_per_model is not None])
    if plan.knows_own_loads:
        listener.stage("pilot: what each arm can do")
        trials.see_own_throughputs()


class _Record:
    """run.json: says from the start what is run where, and at the end how it ended."""

    def __init__(self, writer: Writer, plan: Plan, before: Before | None) -> None:
        self._writer = writer
        now = {"state": "running", "ended_at": None}
        if before is not None:
            resumed = {
                "at": utc_now(),
                "after_trial": before.trials,
                "in_block": _broken_block(plan, before),
                "self_check": before.record.get("self_check"),  # the new one takes its place
            }
            again = [*before.record.get("resumed", []), resumed]
            self._data: dict[str, Any] = {**before.record, **now, "resumed": again}
            return
        self._data = {
            "plan": plan.model_dump(mode="json"),
            "started_at": utc_now(),
            **now,
            "lone_model_ms": None,
            "own_per_s": {},  # arm → what it can do in closed loop, for loads that are a share of that
            "environment": environment.collect(),
            "arms": {},
            "schedules": {},
            "payloads_sha256": workloads.payloads_sha256(plan.workload),
        }

    def __enter__(self) -> _Record:
        self._writer.write_record(self._data)
        return self

    def __getitem__(self, key: str) -> Any:
        return self._data.get(key)

    def note(self, **facts: Any) -> None:
        self._data |= facts
        self._writer.write_record(self._data)

    def note_arm(self, arm: str, **facts: Any) -> None:
        known = self._data["arms"].get(arm, {})
        self.note(arms={**self._data["arms"], arm: {**known, **facts}})

    def note_downstream(self, failed: Sequence[str], ended: Sequence[str]) -> None:
        """Errors of requests by what they await, and what to say of services that ended badly."""
        known: dict[str, Any] = {"requests": 0, "first": "", "died": [], **(self["downstream"] or {})}
        found = {
            "requests": known["requests"] + len(failed),
            "first": known["first"] or next(iter(failed), ""),
            "died": [*known["died"], *ended],
        }
        self.note(downstream=found)

    def note_left(self, what: str) -> None:
        """What a service could not tidy up."""
        self.note_downstream([], [what])

    def keep_schedule(self, load: str, block: int, digest: str) -> None:
        """Is written with the next note."""
        self._data["schedules"].setdefault(load, {})[str(block)] = digest

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.note(state=_how_it_ended(kind), ended_at=utc_now())
        self._writer.close()


def _how_it_ended(kind: type[BaseException] | None) -> str:
    if kind is None:
        return "finished"
    return "interrupted" if issubclass(kind, KeyboardInterrupt) else "failed"


def _broken_block(plan: Plan, before: Before) -> int | None:
    """The block that was under way when the run was killed: its trials do not lie within seconds any more."""
    for cell in plan.cells():
        if _key(cell) not in before.done:
            return cell.block if cell.position else None
    return None


def _key(cell: Cell) -> tuple[int, str, str]:
    return cell.block, cell.arm.name, str(cell.law)


class _Arms:
    """The servers: one for each arm all along (resident), or a fresh one for each trial."""

    def __init__(
        self,
        plan: Plan,
        writer: Writer,
        supervisor: Supervisor,
        stack: ExitStack,
        record: _Record,
        pins: pinning.Pinning | None,
        services: Services,
    ) -> None:
        self._plan = plan
        self._writer = writer
        self._supervisor = supervisor
        self._stack = stack
        self._record = record
        self._pins = pins
        self._services = services
        self._lone_model_ms: float | None = None
        self._resident: dict[str, server_process.Server] = {}
        self._standing: dict[str, Standing] = {}
        self.pids: dict[str, int] = {}
        self.options: dict[str, ServerOptions] = {}  # of those that are started here

    @property
    def lone_model_ms(self) -> float | None:
        return self._lone_model_ms

    @lone_model_ms.setter
    def lone_model_ms(self, value: float) -> None:
        self._lone_model_ms = value
        self._record.note(lone_model_ms=value)

    def io_nominal_ms(self, arm: Arm) -> float | None:
        """The I/O that was asked for; None where nobody knows: of a database, of servers that run already."""
        if arm.name not in self.options:
            return None
        workload = self.options[arm.name].workload
        return workloads.nominal_io_ms(workload) if kinds.takes_ms(workload.io) else None

    def start(self, arms: list[Arm]) -> None:
        """Start them side by side (loading a model is mostly waiting), then wait until all are ready."""
        for arm in arms:
            options = arm.server_options(self._plan.workload, self._lone_model_ms)
            connected = self._services.connected(options.workload)
            self.options[arm.name] = options.model_copy(update={"workload": connected})
        if self._plan.fresh:
            return
        for arm in arms:
            self._resident[arm.name] = self._stack.enter_context(self._started(arm))
        self._stack.callback(self._ask_all_to_stop)  # on leaving it comes first: one deadline for all
        for arm in arms:
            self._wait_ready(arm, self._resident[arm.name])

    def newly_dead_services(self) -> list[str]:
        """What to say of what the servers ask that has ended since; told once."""
        return self._services.newly_dead()

    def ask_once(self, loader: Loader, listener: Listener) -> None:
        """Servers that run already: HarnessError when one does not answer as expected."""
        for arm in self._plan.every_arm:
            assert arm.url is not None
            check_processes(arm.name, arm.pid)
            load = self._plan.load_options("", closed(1), PILOT_BLOCK).at(arm.url)
            whose = f"The server of arm {arm.name!r}, {arm.url},"
            first = first_answer(loader, load, listener, whose=whose)
            if error := first.shots[0].error:
                said = first.bad_answers.get(error)
                raise HarnessError(
                    f"{whose} answers {load.method} with {error}, not with {load.expected_status}."
                    + (f" It says: {said}" if said else ""),
                    stage="load",
                    hint="--method, --header and --body say what is asked, --expect-status what is right.",
                )
            self._standing[arm.name] = standing = Standing(arm.url, keeps_connections=not first.ended)
            self._record.note_arm(arm.name, url=arm.url, is_here=standing.is_here, about={})
            self._found(arm.name)

    @contextmanager
    def serving(self, arm: Arm) -> Iterator[server_process.Server | Standing]:
        """A ready server of `arm`: the resident one, or a fresh one that ends with the trial."""
        if arm.name in self._standing:
            yield self._found(arm.name)
            return
        if arm.name in self._resident:
            yield self._resident[arm.name]
            return
        with self._started(arm) as child:
            self._wait_ready(arm, child)
            yield child
            self._note_memory_of(arm.name, child.pid)

    def _found(self, arm: str) -> Standing:
        """With its process, where that is known, among those whose CPU is not foreign."""
        standing = self._standing[arm]
        self.pids.pop(arm, None)
        if standing.pid is not None:
            self.pids[arm] = standing.pid
        return standing

    def note_memory(self) -> None:
        """After the last trial: every model has run, and shared pages are not counted."""
        for name, child in self._resident.items():
            self._note_memory_of(name, child.pid)

    @contextmanager
    def _started(self, arm: Arm) -> Iterator[server_process.Server]:
        options, log = self.options[arm.name], self._writer.log(arm.name)
        cpus = self._pins.server if self._pins is not None else ()
        with server_process.start(arm.name, options, self._supervisor, log=log, cpus=cpus) as child:
            self.pids[arm.name] = child.pid
            try:
                yield child
            finally:
                del self.pids[arm.name]

    def _wait_ready(self, arm: Arm, child: server_process.Server) -> None:
        about = child.wait_ready()["about"]
        self._record.note_arm(
            arm.name,
            options=self.options[arm.name].model_dump(),
            about=about,
            when_worker_dies=arm.when_worker_dies,
        )

    def _note_memory_of(self, arm: str, pid: int) -> None:
        self._record.note_arm(arm, uss_bytes=noise.memory_uss_bytes(pid))

    def _ask_all_to_stop(self) -> None:
        for child in self._resident.values():
            child.ask_to_stop()


class Trials:
    """Runs trials one after another, and saves each as it ends."""

    def __init__(
        self,
        plan: Plan,
        writer: Writer,
        loader: Loader,
        listener: Listener,
        arms: _Arms,
        record: _Record,
        client_limit_per_s: float | None,
        before: Before | None,
    ) -> None:
        self._plan = plan
        self._writer = writer
        self._loader = loader
        self._listener = listener
        self._arms = arms
        self._record = record
        self.client_limit_per_s = client_limit_per_s
        named = {arm.name: arm.pid for arm in plan.every_arm if arm.url is not None}
        self._meter = noise.Meter(arms.pids, [loader.pid, os.getpid()], named)
        self._finished = before.done if before else frozenset()
        self._number = before.trials if before else 0
        self._precision = before.precision if before else Precision.for_plan(plan)
        self._idle_before: dict[str, Any] = record["idle"] or {}
        self.own_per_s: dict[str, float] = dict(record["own_per_s"] or {})
        self.done: list[Trial] = []

    def lone_model_ms(self, arm: Arm) -> float:
        """The median model time of `arm` for a lone user, in ms: from a pilot, whose rows are block 0."""
        known: float | None = self._record["lone_model_ms"]
        return self._pilot(arm) if known is None else known

    def see_own_throughputs(self) -> None:
        """What each arm answers in closed loop, unless it is known from before; its rows are block 0."""
        law = closed(self._plan.own_users)
        window_s = min(PILOT_CLOSED_S, self._plan.open_duration_s)  # who asks for a quick look gets one
        windows = [(arm, number) for number in range(PILOT_WINDOWS) for arm in self._plan.every_arm]
        seen: dict[str, list[float]] = {}
        for arm, number in windows:
            if arm.name not in self.own_per_s:
                cell = Cell(PILOT_BLOCK, number, arm, law)
                samples = self.run_one(cell, duration_s=window_s)
                seen.setdefault(arm.name, []).append(_closed_throughput(samples, self._plan.own_users))
        known = {arm: statistics.median(found) for arm, found in seen.items()}
        for name, found_per_s in known.items():
            if not found_per_s:
                raise HarnessError(
                    f"The pilot got no good answer of arm {name!r}.",
                    stage="pilot",
                    hint="See trials.csv." if self._plan.runs_elsewhere else "See trials.csv and logs/.",
                )
        self.own_per_s |= known
        self._record.note(own_per_s=self.own_per_s)

    def run_all(self) -> None:
        """Every trial not finished yet; with `precision`, until a block ends with narrow intervals."""
        cells = [cell for cell in self._plan.cells() if _key(cell) not in self._finished]
        under_way = 0
        for number, cell in enumerate(cells, 1):
            if cell.block != under_way:
                under_way = cell.block
                self.note_idle()
                if self._is_precise():
                    self._record.note(stopped_at_block=cell.block - 1)
                    return
            self._listener.trial_begins(cell, number, len(cells))
            self.run_one(cell)
            self._listener.trial_ends(self.done[-1])
        self.note_idle()

    def note(self, **facts: Any) -> None:
        """Into run.json."""
        self._record.note(**facts)

    def note_idle(self) -> None:
        """What each arm burnt while others were measured, earlier sittings of a resumed run included."""
        idle = self._meter.idle_record()
        for arm, before in self._idle_before.items():
            now = idle.get(arm, {"cpu_ms": 0.0, "wall_ms": 0.0})
            idle[arm] = {key: now[key] + before[key] for key in now}
        self._record.note(idle=idle)
        self._note_processes()

    def _note_processes(self) -> None:
        """Which processes' CPU was counted as an arm's, of servers that ran before."""
        for arm, processes in self._meter.counted().items():
            if processes != self._record["arms"].get(arm, {}).get("processes"):
                self._record.note_arm(arm, processes=processes)

    def _is_precise(self) -> bool:
        wanted = self._plan.precision
        return wanted is not None and self._precision.half_width() <= wanted

    def _pilot(self, arm: Arm) -> float:
        self._listener.stage("pilot: the model alone")
        medians = [self._pilot_window(arm, number) for number in range(PILOT_WINDOWS)]
        return min(medians)

    def _pilot_window(self, arm: Arm, number: int) -> float:
        lone = Cell(PILOT_BLOCK, number, arm, closed(1))
        settle_s = 0.0 if number else PILOT_SETTLES_S
        samples = self.run_one(lone, settle_s=settle_s, requests=PILOT_REQUESTS, duration_s=None)
        times = [sample.model_ms for sample in samples if sample.phase == MEASURE and sample.model_ms]
        if not times:
            raise HarnessError(
                "The pilot got no good answer.", stage="pilot", hint="See trials.csv and logs/."
            )
        return statistics.median(times)

    def run_one(self, cell: Cell, **changes: Any) -> list[Sample]:
        """One trial and its rows; `changes` are of its load. Its own row is the last of `done`."""
        self._number += 1
        started_at = utc_now()
        law = cell.law.for_arm(self.own_per_s.get(cell.arm.name, 0.0))
        load = self._plan.load_options("", law, cell.block).model_copy(update=changes)
        outcome, readings, error = self._fire(cell, load)
        trial, samples = to_rows(
            self._identity(cell, load),
            outcome,
            started_at=started_at,
            noise=readings,
            error=error,
            invalid=sent_late(load, outcome),
        )
        self._writer.append(trial, samples)
        self._note_downstream(samples)
        self._note_bad_answers(outcome)
        self._precision.note(trial, samples)
        self.done.append(trial)
        return samples

    def _identity(self, cell: Cell, load: LoadOptions) -> Identity:
        if load.schedule and not cell.law.is_own:  # each arm has its own
            self._record.keep_schedule(str(cell.law), cell.block, load.schedule)
        return Identity(
            trial=self._number,
            block=cell.block,
            position=cell.position,
            arm=cell.arm.name,
            strategy=cell.arm.strategy,
            load=str(cell.law),
            concurrency=cell.law.users,
            rate_per_s=load.arrivals.rate_per_s,
            schedule=load.schedule,
            io_nominal_ms=self._arms.io_nominal_ms(cell.arm),
        )

    def _note_downstream(self, samples: list[Sample]) -> None:
        """Requests that failed by what they await, and services that died: the run goes on, but tells."""
        failed = [sample.error for sample in samples if DOWNSTREAM in sample.error]
        died = self._arms.newly_dead_services()
        if failed or died:
            self._record.note_downstream(failed, died)

    def _note_bad_answers(self, outcome: Outcome) -> None:
        """What the first answer with each error says, of the whole run."""
        known = self._record["bad_answers"] or {}
        if new := {error: said for error, said in outcome.bad_answers.items() if error not in known}:
            self._record.note(bad_answers=known | new)

    def _fire(self, cell: Cell, load: LoadOptions) -> tuple[Outcome, Noise, str]:
        """Send the load unless the server is dead already; say what is wrong with it afterwards."""
        outcome, readings = Outcome([], 0.0, 0.0, 0.0), Noise()
        try:
            with self._arms.serving(cell.arm) as child:
                child.check_alive(stage=f"block {cell.block}")
                outcome, readings = self._measure(child, cell, load)
                child.check_alive(stage=f"block {cell.block}")
        except server_process.ServerEnded as error:
            return outcome, readings, error.what.split("\n", 1)[0]
        return outcome, readings, ""

    def _measure(
        self, child: server_process.Server | Standing, cell: Cell, load: LoadOptions
    ) -> tuple[Outcome, Noise]:
        """One window. The server's own probe runs only now: an idle arm must cost nothing."""
        self._meter.begin(cell.arm.name)
        if self._plan.probes:
            child.watch()
        load = load.at(child.url).model_copy(update={"keep_alive": child.keeps_connections})
        outcome = self._loader.run(load, self._listener.progress)
        readings = self._meter.end(child.unwatch() if self._plan.probes else None)
        if isinstance(child, Standing) and child.is_here and child.pid is None and not cell.arm.pid:
            readings = readings._replace(foreign_cpu=None)  # the server's own is in it
        if any(shot.status is None for shot in outcome.shots):
            self._drain(load)
        return outcome, readings

    def _drain(self, load: LoadOptions) -> None:
        """Work whose client has given up still burns CPU: the next arm waits for it, but not for ever.

        One more request, which is no row, is answered after what was queued before it.
        """
        one = {
            "arrivals": closed(1),
            "requests": 1,
            "duration_s": None,
            "warmup_requests": 0,
            "settle_s": 0.0,
        }
        quiet = {"ping_url": None, "beat": False, "timeout_s": DRAINS_WITHIN_S}
        self._loader.run(load.model_copy(update=one | quiet), lambda answered, median_ms: None)  # noqa: ARG005


def first_answer(loader: Loader, load: LoadOptions, listener: Listener, *, whose: str) -> Outcome:
    """Ask a server that runs already once; HarnessError when there is no answer at all.

    `ended` of the outcome says whether the server ends its connection after a good answer. Such a server
    should get a connection for each request: on one that is about to end, requests are lost.
    """
    one = {"arrivals": closed(1), "requests": 1, "duration_s": None, "warmup_requests": 0, "settle_s": 0.0}
    first = loader.run(
        load.model_copy(update=one | {"ping_url": None, "watches_end": True}), listener.progress
    )
    if first.shots[0].status is None:
        raise HarnessError(
            f"{whose} does not answer ({first.shots[0].error}).",
            stage="load",
            hint=no_answer.way_out(first.shots[0].error),
        )
    return first._replace(ended=first.ended and not first.shots[0].error)


def _closed_throughput(samples: list[Sample], users: int) -> float:
    """Users / mean latency (Little's law) of the good answers, a second; 0 when there is none."""
    good = [sample for sample in samples if sample.phase == MEASURE and not sample.error]
    took_ms = [sample.done_ms - sample.due_ms for sample in good]
    return users / statistics.fmean(took_ms) * 1e3 if took_ms else 0.0


def sent_late(load: LoadOptions, outcome: Outcome) -> str:
    """Why an open loop says more of the client, which sent late, than of the server; empty if it does not.

    Not judged where the cap held requests back: that is the server's doing, and counted.
    """
    if not load.arrivals.is_open or outcome.capped:
        return ""
    return noise.trial_lags_behind(
        [shot.sent_ms - shot.due_ms for shot in outcome.shots if shot.phase == MEASURE]
    )
