"""Plan → trials: everything a run needs is started in order, and nothing of it is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

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
    with record, Supervisor() as supervisor, Loader(supervisor) as loader, ExitStack() as stack:
        cpus = _pinned(loader, record) if plan.pin else ()
        if client_limit_per_s is None and plan.self_check:
            listener.stage("self-check: what the load generator can do")
            found = client_limit.quick(supervisor, loader, plan.transport, cpus)
            record.note(self_check=found._asdict())
            client_limit_per_s = found.requests_per_s
        if plan.limit and record["limits"] is None:  # a resumed run has it: the machine is the same
            listener.stage("limit: the model in a bare loop, alone")
            record.note(**bare_model.of_plan(plan, supervisor, loader, log=writer.log("limit"), cpus=cpus))
        services = Services(writer.log, listener.stage, lambda left: record.note_downstream([], [left]))
        stack.enter_context(services)
        servers = Servers(plan, writer, supervisor, stack, record, cpus, services)
        trials = Trials(plan, writer, loader, listener, servers, record, client_limit_per_s, before)
        _ready(plan, servers, trials, listener)
        yield trials
        servers.note_memory()


def _pinned(loader: Loader, record: Record) -> tuple[int, ...]:
    """The load generator on a CPU of its own; the CPUs that are left to servers."""
    pins = pinning.split()
    pinning.apply(loader.pid, pins.client)
    record.note(pinning=pins._asdict())
    return pins.server


def _ready(plan: Plan, servers: Servers, trials: Trials, listener: Listener) -> None:
    """Every server answers, and what pilots have to tell is known. Scaled arms wait for theirs."""
    if plan.runs_elsewhere:
        listener.stage("asking each server once")
        servers.ask_once(trials.loader, listener)
    else:
        listener.stage("starting servers")
        servers.start([arm for arm in plan.every_arm if arm.io_per_model is None])
    if plan.pilot is not None:
        lone_model_ms = trials.lone_model_ms(plan.pilot)
        listener.stage("starting servers")
        servers.start([arm for arm in plan.every_arm if arm.io_per_model is not None], lone_model_ms)
    if plan.knows_own_loads:
        listener.stage("pilot: what each arm can do")
        trials.measure_own_throughputs()
