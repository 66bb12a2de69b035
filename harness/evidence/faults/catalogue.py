"""All faults, and how one is tried on an arm. A new fault is a function on a `Site` and an entry here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, NamedTuple

from harness.errors import HarnessError
from harness.evidence.faults import arms, items, killing, life, load
from harness.evidence.faults.client import session
from harness.evidence.faults.records import FaultRow, Observation, empty_row, make_row
from harness.evidence.faults.site import LOG, Pace, Site
from harness.plans.arm import Arm
from harness.run import server_process
from harness.run.supervisor import Supervisor
from harness.wire.load_options import IN_FLIGHT_CAP
from harness.wire.options import WorkloadOptions

SET_UP_MS = 200.0
SERVICE_MS = 20.0
LONG_SET_UP_MS = 2000.0
TIMEOUT_S = 1.0  # of a call, for strategies that take one
BATCH = 4  # the largest batch under overload, so that the capacity of a batching arm is known
QUEUE = 64  # the longest queue under overload, for strategies that bound it: a little more than a second
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Fault(NamedTuple):
    """One fault, with the options of arm and workload that it needs."""

    summary: str
    run: Callable[[Site], Awaitable[Observation]] | None  # on a strategy; None: it needs a command
    workload: Mapping[str, Any] = _NOTHING
    workload_of: Callable[[Arm, Path], Mapping[str, Any]] = lambda arm, folder: _NOTHING  # noqa: ARG005
    options: Mapping[str, Any] = _NOTHING  # of the strategy, if it takes them
    at_start: bool = False  # it happens before the server is ready
    any_workload: bool = False  # it does not need the synthetic workload
    of_commands: str = ""  # its summary for commands, if it differs (see `command_faults`)


def _item(text: str) -> Callable[[Site], Awaitable[Observation]]:
    return partial(items.among_innocents, item=text)


def _same_capacity(arm: Arm, folder: Path) -> Mapping[str, Any]:  # noqa: ARG001
    """The service time that gives every arm a throughput of `load.CAPACITY_PER_S`."""
    at_once = arms.workers(arm) * (BATCH if arms.takes(arm, "max_batch") else 1)
    return {"service_ms": 1e3 * at_once / load.CAPACITY_PER_S}


FAULTS: dict[str, Fault] = {
    "kill-idle": Fault("kill -9 of an idle worker", killing.idle),
    "kill-running": Fault("kill -9 of a worker during a request", killing.running),
    "kill-twice": Fault("kill -9 of the worker whenever it runs a certain item", killing.twice),
    "kill-rebuild": Fault("kill -9 of a worker and of its replacement", killing.rebuilding),
    "setup-fails-later": Fault(
        "kill -9 of a worker, after which every set-up fails for 1.5 s",
        killing.rebuilding_fails,
        {"faulty_setup": "raise"},
        lambda arm, folder: {"faulty_setup_file": str(folder / killing.MARKER)},  # noqa: ARG005
    ),
    "start-kill": Fault(
        "kill -9 of a worker during its warm-up, at the server's start",
        life.killed_at_start,
        {"setup_ms": LONG_SET_UP_MS},
        at_start=True,
    ),
    "start-raise": Fault(
        "the set-up raises, at the server's start",
        life.comes_up,
        {"faulty_setup": "raise"},
        at_start=True,
    ),
    "start-exit": Fault(
        "the set-up ends its process, at the server's start",
        life.comes_up,
        {"faulty_setup": "exit"},
        at_start=True,
    ),
    "hang": Fault(
        f"the model hangs on an item; timeout_s = {TIMEOUT_S:g} if the strategy takes it",
        _item("fault:hang"),
        options={"timeout_s": TIMEOUT_S},
    ),
    "poison": Fault("an item that ends its worker whenever it runs", _item("fault:exit")),
    "raise": Fault("an item for which the model raises an exception", _item("fault:raise")),
    "unpicklable": Fault("a result that cannot be pickled", _item("fault:unpicklable")),
    "unpicklable-exception": Fault(
        "an exception that cannot be pickled", _item("fault:unpicklable-exception")
    ),
    "one-way-exception": Fault(
        "an exception that can be pickled but not unpickled", _item("fault:one-way-exception")
    ),
    "client-leaves-queued": Fault(
        "a client disconnects while its item is queued", items.client_leaves_queued
    ),
    "client-leaves-running": Fault("a client disconnects while its item runs", items.client_leaves_running),
    "overload": Fault(
        f"{load.OVERLOAD:g} times the throughput of {load.CAPACITY_PER_S:g} requests/s, for 10 s; "
        f"{QUEUE} may wait if the strategy bounds its queue",
        load.overload,
        workload_of=_same_capacity,
        options={"max_batch": BATCH, "max_queue": QUEUE},
        of_commands=f"{load.OVERLOAD:g} times what it answers, for 10 s; at most {IN_FLIGHT_CAP} in flight",
    ),
    "shutdown": Fault("SIGTERM to the server with work in flight", life.shutdown),
    "server-kill": Fault("kill -9 of the server with work in flight", life.killed),
    "parent-kill": Fault(
        "kill -9 of the execbench that started a command, with work in flight: does anything outlive it?",
        None,
    ),
    "health": Fault(
        f"kill -9 of the only worker; its replacement needs {killing.AWAITED_MS / 1e3:g} s: is /health red?",
        killing.the_only_one,
        {"setup_ms": killing.AWAITED_MS},
        of_commands="kill -9 of all processes that work: is the path that says whether it is ready red?",
    ),
    "kill-storm": Fault(
        "kill -9 of a worker every few seconds, at half of the throughput",
        load.kill_storm,
        any_workload=True,
    ),
}
STORMS = ("overload", "kill-storm")
SYNTHETIC = WorkloadOptions.model_validate(
    {"name": "synthetic", "service_ms": SERVICE_MS, "io_ms": 0.0, "setup_ms": SET_UP_MS, "faults": True}
)
EMBED = WorkloadOptions(name="embed", io_ms=0.0, torch_threads=1)


def run_fault(name: str, arm: Arm, workload: WorkloadOptions, pace: Pace) -> FaultRow:
    """Try this fault on this arm, on its own server, and return the row. Leaves nothing running."""
    if FAULTS[name].run is None:
        return empty_row(name, arm.name, "not applicable", "it needs a server that is a command")
    with TemporaryDirectory(prefix="execbench-faults-") as folder, Supervisor() as supervisor:
        try:
            return asyncio.run(_run_fault(name, arm, workload, pace, Path(folder), supervisor))
        except HarnessError as error:
            return empty_row(name, arm.name, "not measured", error.sentence)


async def _run_fault(
    name: str, arm: Arm, workload: WorkloadOptions, pace: Pace, folder: Path, supervisor: Supervisor
) -> FaultRow:
    fault = FAULTS[name]
    assert fault.run is not None
    given = {**workload.model_dump(exclude_unset=True), **fault.workload, **fault.workload_of(arm, folder)}
    own = WorkloadOptions.model_validate(given)
    options = arms.with_options(arm, **fault.options).server_options(own)
    with server_process.start(
        arm.name, options, supervisor, log=folder / LOG, interpreter=arm.python
    ) as child:
        async with session(child.url) as client:
            site = Site(arm, own, child, client, pace, folder)
            if not fault.at_start:
                await asyncio.to_thread(child.wait_ready)
            observed = await fault.run(site)
        ended_s = await site.ask_to_end()
        orphans = await site.orphans()
    return make_row(name, arm.name, observed, ended_s=ended_s, orphans=len(orphans))
