"""Run a plan: start everything that it needs in order, run its trials, and leave nothing running."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from harness.plans.plan import Plan
from harness.results.store import Writer
from harness.run import bare_model, client_limit, generators, neighbour
from harness.run.bare_model import BareModels
from harness.run.early_stop import Rule
from harness.run.generators import LoadGenerator
from harness.run.listener import Listener
from harness.run.record import Checkpoint, Record
from harness.run.servers import Servers
from harness.run.supervisor import Supervisor
from harness.run.trials import Trials
from harness.system import own_limits, pinning
from harness.wire.arrivals import closed
from harness.wire.records import PILOT_BLOCK, Trial
from harness.workloads.io.service import Services


def run(
    plan: Plan,
    writer: Writer,
    listener: Listener,
    checkpoint: Checkpoint | None = None,
    client_limit_per_s: float | None = None,
    rule: Rule | None = None,
) -> list[Trial]:
    """Run every trial of `plan` and save each as it ends, except those that `checkpoint` has already.

    `client_limit_per_s` is the roofline of the load generator; by default the plan's self-check measures it.
    With a `rule`, the run may stop before the plan's last block.

    Returns the new trials in order. If a server dies, its trials are marked failed and the other arms
    continue. Raises HarnessError if a server cannot start. An interrupted run keeps its finished trials. In
    any case, no process is left running.
    """
    with session(plan, writer, listener, checkpoint, client_limit_per_s) as trials:
        trials.run_all(rule)
    return trials.done


@contextmanager
def session(
    plan: Plan,
    writer: Writer,
    listener: Listener,
    checkpoint: Checkpoint | None = None,
    client_limit_per_s: float | None = None,
) -> Iterator[Trials]:
    """Start the load generator and every server of `plan`; the caller chooses which trials to run.

    On exit it cleans up as `run` does.
    """
    most = max(plan.cap, plan.own_users, *plan.concurrency)
    own_limits.make_room(2 * most)  # each of our servers has as many connections, and pings
    record = Record(writer, plan, checkpoint)
    with (
        record,
        Supervisor() as supervisor,
        generators.opened(plan.generators, supervisor) as loader,
        ExitStack() as stack,
    ):
        cpus = _pinned(loader, record) if plan.pin else ()
        if client_limit_per_s is None and plan.self_check:
            listener.stage("self-check: measuring the load generator")
            found = client_limit.of_run(supervisor, loader, plan.transport, cpus)
            record.note(self_check=found._asdict())
            client_limit_per_s = found.requests_per_s
        bare = None
        if plan.limit:
            listener.stage("limit: timing the bare model")
            log = writer.log("limit")
            bare = stack.enter_context(BareModels(plan, supervisor, record, log=log, cpus=cpus))
            if record["null_ms"] is None:  # a resumed run has it: the machine is the same
                load = plan.load_options("", closed(bare_model.NULL_USERS), PILOT_BLOCK)
                null_ms = bare_model.null_request_ms(supervisor, loader, load, log=log, cpus=cpus)
                record.note(null_ms=null_ms)
        services = Services(writer.log, listener.stage, lambda left: record.note_downstream({}, [left]))
        stack.enter_context(services)
        servers = Servers(plan, writer, supervisor, stack, record, cpus, services, loader, listener)
        trials = Trials(plan, writer, loader, listener, servers, record, client_limit_per_s, checkpoint, bare)
        _ready(plan, servers, trials, listener)
        stack.enter_context(neighbour.busy(supervisor, plan.neighbours))
        yield trials
        if bare is not None:
            bare.close()  # it shares memory with the servers' workers, which would then count less
        servers.note_memory()


def _pinned(loader: LoadGenerator, record: Record) -> tuple[int, ...]:
    """Pin the load generators to a CPU of their own; return the CPUs left for the servers."""
    pins = pinning.split()
    for pid in loader.pids():
        pinning.apply(pid, pins.client)
    record.note(pinning=pins._asdict())
    return pins.server


def _ready(plan: Plan, servers: Servers, trials: Trials, listener: Listener) -> None:
    """Wait until every server answers, and run the pilots. Arms with scaled I/O start after their pilot."""
    if plan.has_running_servers:
        listener.stage("checking each server with one request")
        servers.ask_running()
    else:
        listener.stage("starting servers")
        servers.start([arm for arm in plan.every_arm if arm.io_per_model is None])
    if plan.pilot is not None:
        lone_model_ms = trials.lone_model_ms(plan.pilot)
        listener.stage("starting servers")
        servers.start([arm for arm in plan.every_arm if arm.io_per_model is not None], lone_model_ms)
    if plan.needs_own_throughput:
        listener.stage("pilot: measuring the throughput of each arm")
        trials.measure_own_throughputs()
