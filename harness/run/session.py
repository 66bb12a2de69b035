"""Plan → trials: everything a run needs is started in order, and nothing of it is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from harness.plans.plan import Plan
from harness.results.store import Writer
from harness.run import bare_model, client_limit
from harness.run.listener import Listener
from harness.run.load_generator import Loader
from harness.run.record import Before, Record
from harness.run.servers import Servers
from harness.run.supervisor import Supervisor
from harness.run.trials import Trials
from harness.system import pinning
from harness.wire.records import Trial
from harness.workloads.io.service import Services


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
    record = Record(writer, plan, before)
    with record, Supervisor() as supervisor, ExitStack() as stack:
        tool = _instrument(plan, supervisor, stack, record)
        if client_limit_per_s is None:
            client_limit_per_s = _checked_itself(plan, tool, record, listener)
        _see_limits(plan, tool, writer, record, listener)
        services = stack.enter_context(Services(writer.log, listener.stage, record.note_left))
        servers = Servers(plan, writer, supervisor, stack, record, tool.pins, services)
        trials = Trials(plan, writer, tool.loader, listener, servers, record, client_limit_per_s, before)
        _ready(plan, servers, trials, tool.loader, listener)
        yield trials
        servers.note_memory()


class _Instrument(NamedTuple):
    """What measures; it is there before the first server."""

    supervisor: Supervisor
    loader: Loader
    pins: pinning.Pinning | None

    @property
    def server_cpus(self) -> tuple[int, ...]:
        return () if self.pins is None else self.pins.server


def _instrument(plan: Plan, supervisor: Supervisor, stack: ExitStack, record: Record) -> _Instrument:
    """The load generator, on CPUs of its own where the plan asks for it."""
    loader = stack.enter_context(Loader(supervisor))
    pins = pinning.split() if plan.pin else None
    if pins is not None:
        pinning.apply(loader.pid, pins.client)
        record.note(pinning=pins._asdict())
    return _Instrument(supervisor, loader, pins)


def _checked_itself(plan: Plan, tool: _Instrument, record: Record, listener: Listener) -> float | None:
    """How many requests a second the load generator can send; None where the plan asks for no self-check."""
    if not plan.self_check:
        return None
    listener.stage("self-check: what the load generator can do")
    found = client_limit.quick(tool.supervisor, tool.loader, plan.transport, tool.server_cpus)
    record.note(self_check=found._asdict())
    return found.requests_per_s


def _see_limits(plan: Plan, tool: _Instrument, writer: Writer, record: Record, listener: Listener) -> None:
    """What the bare models can do, if that is asked for. A resumed run has it: the machine is the same."""
    if not plan.limit or record["limits"] is not None:
        return
    listener.stage("limit: the model in a bare loop, alone")
    log, cpus = writer.log("limit"), tool.server_cpus
    record.note(**bare_model.of_plan(plan, tool.supervisor, tool.loader, log=log, cpus=cpus))


def _ready(plan: Plan, servers: Servers, trials: Trials, loader: Loader, listener: Listener) -> None:
    """Every server answers, and what pilots have to tell is known. Scaled arms wait for theirs."""
    if plan.runs_elsewhere:
        listener.stage("asking each server once")
        servers.ask_once(loader, listener)
    else:
        listener.stage("starting servers")
        servers.start([arm for arm in plan.every_arm if arm.io_per_model is None])
    if plan.pilot is not None:
        servers.lone_model_ms = trials.lone_model_ms(plan.pilot)
        listener.stage("starting servers")
        servers.start([arm for arm in plan.every_arm if arm.io_per_model is not None])
    if plan.knows_own_loads:
        listener.stage("pilot: what each arm can do")
        trials.see_own_throughputs()
