"""Run trials one after another: send the load, watch the server, save the rows."""

from __future__ import annotations

import functools
import os
import statistics
from dataclasses import InitVar, dataclass, field
from typing import Any

from harness.errors import HarnessError
from harness.plans.arm import Arm
from harness.plans.plan import Cell, Plan
from harness.results.store import Writer
from harness.run import server_process
from harness.run.bare_model import BareModels
from harness.run.early_stop import EarlyStop, Rule
from harness.run.foreign_server import RunningServer
from harness.run.generators import LoadGenerator
from harness.run.listener import Listener
from harness.run.load_generator import ONE_REQUEST
from harness.run.meter import Meter
from harness.run.record import Checkpoint, Record, key
from harness.run.servers import Servers, Started
from harness.wire.arrivals import closed
from harness.wire.clock import utc_now
from harness.wire.load_options import LoadOptions
from harness.wire.records import (
    DOWNSTREAM,
    MEASURE,
    PILOT_BLOCK,
    UNKNOWN,
    Cause,
    Identity,
    Noise,
    Outcome,
    Sample,
    Trial,
    judge,
    to_rows,
)

# A model that was just loaded is not at full speed yet. A disturbance only adds time, so the lowest counts.
PILOT_SETTLES_S = 3.0
PILOT_WINDOWS = 3
PILOT_REQUESTS = 40
PILOT_CLOSED_S = 2.0
DRAINS_WITHIN_S = 30.0
LATE_TRIAL_P50_MS = 3.0  # a client that sends half of its requests later does not follow its schedule


@dataclass
class Trials:
    """Runs trials one after another and saves each as it ends."""

    plan: Plan
    writer: Writer
    loader: LoadGenerator
    listener: Listener
    servers: Servers
    record: Record
    client_limit_per_s: float | None
    checkpoint: InitVar[Checkpoint | None]
    bare: BareModels | None = None
    done: list[Trial] = field(default_factory=list)
    causes: dict[int, Cause] = field(default_factory=dict)  # trial → why it is not ok

    def __post_init__(self, checkpoint: Checkpoint | None) -> None:
        named = {arm.name: arm.pid for arm in self.plan.every_arm if arm.url is not None}
        own = [*self.loader.pids(), os.getpid()]
        self._meter = Meter(self.servers.pids, own, named, self.record["idle"], self.servers.keepers)
        self._finished = checkpoint.done if checkpoint else frozenset()
        self._number = checkpoint.trials if checkpoint else 0
        self.own_per_s: dict[str, float] = dict(self.record["own_per_s"] or {})

    def lone_model_ms(self, arm: Arm) -> float:
        """The median model time of `arm` for a single user, in ms, from a pilot whose rows are block 0."""
        found: float | None = self.record["lone_model_ms"]
        if found is None:
            self.listener.stage("pilot: timing the model for one user")
            found = min(self._pilot_window(arm, number) for number in range(PILOT_WINDOWS))
            self.record.note(lone_model_ms=found)
        return found

    def measure_own_throughputs(self) -> None:
        """Measure each arm's throughput in a closed loop, unless it is known; the rows are block 0."""
        law = closed(self.plan.own_users)
        window_s = min(PILOT_CLOSED_S, self.plan.open_duration_s)  # a quick look has a short pilot, too
        windows = [(arm, number) for number in range(PILOT_WINDOWS) for arm in self.plan.every_arm]
        measured: dict[str, list[float]] = {}
        for arm, number in windows:
            if arm.name not in self.own_per_s:
                cell = Cell(PILOT_BLOCK, number, arm, law)
                samples = self.run_one(cell, keep_samples=True, duration_s=window_s, think=None)
                throughput = _closed_throughput(samples, self.plan.own_users)
                measured.setdefault(arm.name, []).append(throughput)
        medians = {arm: statistics.median(found) for arm, found in measured.items()}
        self._refuse_own_limit()
        for name, median_per_s in medians.items():
            if not median_per_s:
                raise HarnessError(
                    f"The pilot got no good answer from arm {name!r}.",
                    stage="pilot",
                    hint="See trials.csv." if self.plan.has_running_servers else "See trials.csv and logs/.",
                )
        self.own_per_s |= medians
        self.record.note(own_per_s=self.own_per_s)

    def _refuse_own_limit(self) -> None:
        """Raise HarnessError if a pilot reached a limit of our own process: no load can be based on it."""
        for trial in self.done:
            if self.causes.get(trial.trial) is Cause.OWN_LIMIT:
                raise HarnessError(f"The pilot is not valid: {trial.error}.", stage="pilot")

    def run_all(self, rule: Rule | None = None) -> None:
        """Run every unfinished trial, or stop between two blocks if the rule says so."""
        cells = [cell for cell in self.plan.cells() if key(cell) not in self._finished]
        early_stop = EarlyStop(rule, self.record, self.listener)
        current_block = 0
        for number, cell in enumerate(cells, 1):
            if cell.block != current_block:
                current_block = cell.block
                self.note_idle()
                if early_stop.after(cell.block - 1):
                    return
                self.time_bare_models(cell.block)
            self.listener.trial_begins(cell, number, len(cells))
            self.run_one(cell)
            self.listener.trial_ends(self.done[-1])
        self.note_idle()

    def time_bare_models(self, block: int) -> None:
        """Time the bare models, if the plan has limits, at the start of this block."""
        for message in self.bare.measure(block) if self.bare is not None else ():
            self.listener.stage(message)

    def note_idle(self) -> None:
        """Record the CPU that each arm used while others were measured, including before a resume."""
        self.record.note(idle={arm: dict(idle) for arm, idle in self._meter.idle.items()})
        for arm, processes in self._meter.counted().items():
            if processes != self.record["arms"].get(arm, {}).get("processes"):
                self.record.note_arm(arm, processes=processes)

    def _pilot_window(self, arm: Arm, number: int) -> float:
        lone = Cell(PILOT_BLOCK, number, arm, closed(1))
        settle_s = 0.0 if number else PILOT_SETTLES_S
        pilot = {"settle_s": settle_s, "requests": PILOT_REQUESTS, "duration_s": None, "think": None}
        samples = self.run_one(lone, keep_samples=True, **pilot)
        times = [sample.model_ms for sample in samples if sample.phase == MEASURE and sample.model_ms]
        if not times:
            raise HarnessError(
                "The pilot got no good answer.", stage="pilot", hint="See trials.csv and logs/."
            )
        return statistics.median(times)

    def run_one(self, cell: Cell, *, keep_samples: bool = False, **changes: Any) -> list[Sample]:
        """Run and save one trial. `changes` replace load options.

        Its rows are saved while it runs. Only with `keep_samples` they are returned, too: they take memory.
        The trial's own row is the last of `done`.
        """
        self._number += 1
        started_at = utc_now()
        law = cell.law.for_arm(self.own_per_s.get(cell.arm.name, 0.0))
        load = self.plan.load_options("", law, cell.block, cell.arm).model_copy(update=changes)
        attempt = _Attempt(cell, load, self._identity(cell, load))
        attempt.keeps_shots = keep_samples
        ended = self._send(attempt)
        outcome, identity = attempt.outcome, attempt.identity
        fault = judge(outcome, ended=ended, late=sent_late(load, outcome))
        trial, samples = to_rows(
            identity, outcome, started_at=started_at, fault=fault, noise=attempt.readings
        )
        self.writer.finish(trial)
        self.writer.append_generators(trial.trial, outcome.generators)
        self.record.note_downstream(_of_downstream(outcome), self.servers.services.newly_dead())
        self.record.note_bad_answers(outcome.bad_answers)
        self.done.append(trial)
        if fault is not None:
            self.causes[trial.trial] = fault.cause
        return samples

    def _identity(self, cell: Cell, load: LoadOptions) -> Identity:
        if load.schedule and not cell.law.is_own:  # with own(…), each arm has another schedule
            self.record.keep_schedule(str(cell.law), cell.block, load.schedule)
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
            io_nominal_ms=self.servers.io_nominal_ms(cell.arm),
        )

    def _send(self, attempt: _Attempt) -> str:
        """Send the load unless the server is dead; return how the server ended, empty if it lives."""
        stage = f"block {attempt.cell.block}"
        try:
            with self.servers.serving(attempt.cell.arm) as child:
                child.check_alive(stage=stage)
                self._measure(child, attempt)
                child.check_alive(stage=stage)
        except server_process.ServerEnded as error:
            return error.sentence
        return ""

    def _measure(self, child: Started | RunningServer, attempt: _Attempt) -> None:
        """Measure one window. The probe in the server runs only now: an idle arm must cost nothing."""
        arm = attempt.cell.arm
        self._meter.begin(arm.name)
        if self.plan.probes:
            child.watch()
        load = attempt.load.at(child.url).model_copy(update={"keep_alive": child.keeps_connections})
        save = functools.partial(self.writer.stream, attempt.identity)
        attempt.outcome = self.loader.run(load, self.listener.progress, save, keep_shots=attempt.keeps_shots)
        readings = self._meter.end(child.unwatch() if self.plan.probes else None)
        is_unlocated = isinstance(child, RunningServer) and child.is_here and child.pid is None
        if is_unlocated and not arm.pid:
            readings = readings._replace(foreign_cpu=None)  # it includes the CPU of the server itself
        attempt.readings = readings
        if attempt.outcome.counts.unanswered:
            # Work that the client has given up still uses CPU, so the next arm waits for it, within a limit:
            # one more request, which is not saved, is answered after all that was queued before it.
            quiet = {"ping_url": None, "probe_loop": False, "timeout_s": DRAINS_WITHIN_S}
            self.loader.run(load.model_copy(update=ONE_REQUEST | quiet))


@dataclass
class _Attempt:
    """One trial in progress. If its server ends, the outcome so far counts: its rows are on disk."""

    cell: Cell
    load: LoadOptions
    identity: Identity
    keeps_shots: bool = False
    outcome: Outcome = field(default_factory=lambda: Outcome([], 0.0, 0.0, 0.0))
    readings: Noise = UNKNOWN


def _of_downstream(outcome: Outcome) -> dict[str, int]:
    """The errors of requests that failed in their I/O, with the number of requests."""
    return {error: times for error, times in outcome.counts.errors.items() if DOWNSTREAM in error}


def _closed_throughput(samples: list[Sample], users: int) -> float:
    """Good answers per second: users / mean latency (Little's law); 0 without a good answer."""
    good = [sample for sample in samples if sample.phase == MEASURE and not sample.error]
    took_ms = [sample.done_ms - sample.due_ms for sample in good]
    return users / statistics.fmean(took_ms) * 1e3 if took_ms else 0.0


def sent_late(load: LoadOptions, outcome: Outcome) -> str:
    """Why a trial in an open loop is invalid: the client sent its requests late. Empty if it did not.

    Not judged if the cap held requests back: then the server caused the delay, and `capped` counts it.
    """
    if not load.arrivals.is_open or outcome.capped:
        return ""
    middle = outcome.counts.dispatch_lag_p50_ms or 0.0
    if middle <= LATE_TRIAL_P50_MS:
        return ""
    return (
        f"the client sent half of the requests at least {middle:.1f} ms late "
        f"(allowed: {LATE_TRIAL_P50_MS:g} ms)"
    )
