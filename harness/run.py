"""Plan → trials: starts the arms' servers, sends each trial's load, saves what came of it."""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from typing import Any, Protocol

from harness import environment, server
from harness.clock import utc_now
from harness.errors import HarnessError
from harness.loader import Loader
from harness.options import LoadOptions, ServerOptions
from harness.plans import Arm, Cell, Plan
from harness.records import MEASURE, PILOT_BLOCK, Identity, Outcome, Sample, Trial, to_rows
from harness.store import Writer
from harness.supervisor import Supervisor

PILOT_SETTLES_S = 3.0  # a model that has just been loaded is not at its speed yet


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


def run(plan: Plan, writer: Writer, listener: Listener) -> list[Trial]:
    """Run every trial of `plan`, all arms' servers up at once, and save each as it ends.

    Returns the trials in order; those of a server that died are marked failed, and the others go on. Raises
    HarnessError when a server cannot start. An interrupted run keeps its finished trials; nothing that it
    started is left behind in any case.
    """
    record = _Record(writer, plan)
    with record, Supervisor() as supervisor, ExitStack() as stack:
        loader = stack.enter_context(Loader(supervisor))
        arms = _Arms(plan, writer, supervisor, stack, record)
        trials = _Trials(plan, writer, loader, listener, arms)
        listener.stage("starting servers")
        arms.start([arm for arm in plan.arms if arm.io_per_model is None])
        if plan.pilot is not None:
            listener.stage("pilot: the model alone")
            arms.lone_model_ms = trials.pilot(plan.pilot)
            listener.stage("starting servers")
            arms.start([arm for arm in plan.arms if arm.io_per_model is not None])
        trials.run_all()
    return trials.done


class _Record:
    """run.json: says from the start what is run where, and at the end how it ended."""

    def __init__(self, writer: Writer, plan: Plan) -> None:
        self._writer = writer
        self._data: dict[str, Any] = {
            "plan": plan.model_dump(),
            "started_at": utc_now(),
            "ended_at": None,
            "state": "running",
            "lone_model_ms": None,
            "environment": environment.collect(),
            "arms": {},
        }

    def __enter__(self) -> _Record:
        self._writer.write_record(self._data)
        return self

    def note(self, **facts: Any) -> None:
        self._data |= facts
        self._writer.write_record(self._data)

    def note_arm(self, arm: str, options: ServerOptions, about: dict[str, Any]) -> None:
        facts = {"options": options.model_dump(), "about": about}
        self.note(arms={**self._data["arms"], arm: facts})

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        state = "finished" if kind is None else "interrupted" if kind is KeyboardInterrupt else "failed"
        self.note(state=state, ended_at=utc_now())


class _Arms:
    """The resident servers, one for each arm."""

    def __init__(
        self, plan: Plan, writer: Writer, supervisor: Supervisor, stack: ExitStack, record: _Record
    ) -> None:
        self._plan = plan
        self._writer = writer
        self._supervisor = supervisor
        self._stack = stack
        self._record = record
        self._lone_model_ms: float | None = None
        self.servers: dict[str, server.Server] = {}
        self.options: dict[str, ServerOptions] = {}

    @property
    def lone_model_ms(self) -> float | None:
        return self._lone_model_ms

    @lone_model_ms.setter
    def lone_model_ms(self, value: float) -> None:
        self._lone_model_ms = value
        self._record.note(lone_model_ms=value)

    def start(self, arms: list[Arm]) -> None:
        """Start them side by side (loading a model is mostly waiting), then wait until all are ready."""
        for arm in arms:
            options = arm.server_options(self._plan.workload, self._lone_model_ms)
            log = self._writer.log(arm.name)
            self.options[arm.name] = options
            self.servers[arm.name] = self._stack.enter_context(
                server.start(arm.name, options, self._supervisor, log=log)
            )
        self._stack.callback(self._ask_all_to_stop)  # on leaving it comes first: one deadline for all
        for arm in arms:
            health = self.servers[arm.name].wait_ready()
            self._record.note_arm(arm.name, self.options[arm.name], health["about"])

    def _ask_all_to_stop(self) -> None:
        for child in self.servers.values():
            child.ask_to_stop()


class _Trials:
    def __init__(self, plan: Plan, writer: Writer, loader: Loader, listener: Listener, arms: _Arms) -> None:
        self._plan = plan
        self._writer = writer
        self._loader = loader
        self._listener = listener
        self._arms = arms
        self._number = 0
        self.done: list[Trial] = []

    def pilot(self, arm: Arm) -> float:
        """The median model time of `arm` for a lone user, in ms. Its rows are kept, as block 0."""
        samples = self._run_one(Cell(PILOT_BLOCK, 0, arm, 1), settle_s=PILOT_SETTLES_S)
        times = [sample.model_ms for sample in samples if sample.phase == MEASURE and sample.model_ms]
        if not times:
            raise HarnessError(
                "The pilot got no good answer.", stage="pilot", hint="See trials.csv and logs/."
            )
        return statistics.median(times)

    def run_all(self) -> None:
        cells = list(self._plan.cells())
        for number, cell in enumerate(cells, 1):
            self._listener.trial_begins(cell, number, len(cells))
            self._run_one(cell, settle_s=self._plan.settle_s)
            self._listener.trial_ends(self.done[-1])

    def _run_one(self, cell: Cell, settle_s: float) -> list[Sample]:
        self._number += 1
        started_at = utc_now()
        url = self._arms.servers[cell.arm.name].url
        load = self._plan.load_options(url, cell.concurrency, cell.block, settle_s)
        outcome, error = self._fire(cell, load)
        identity = Identity(
            trial=self._number,
            block=cell.block,
            position=cell.position,
            arm=cell.arm.name,
            strategy=cell.arm.strategy,
            load=load.arrivals,
            concurrency=cell.concurrency,
            io_nominal_ms=self._arms.options[cell.arm.name].workload.io_ms,
        )
        trial, samples = to_rows(identity, outcome, started_at=started_at, error=error)
        self._writer.append(trial, samples)
        self.done.append(trial)
        return samples

    def _fire(self, cell: Cell, load: LoadOptions) -> tuple[Outcome, str]:
        """Send the load unless the server is dead already; say what is wrong with it afterwards."""
        outcome = Outcome([], 0.0, 0.0, 0.0)
        child = self._arms.servers[cell.arm.name]
        try:
            child.check_alive(stage=f"block {cell.block}")
            outcome = self._loader.run(load, self._listener.progress)
            child.check_alive(stage=f"block {cell.block}")
        except server.ServerEnded as error:
            return outcome, error.what.split("\n", 1)[0]
        return outcome, ""
