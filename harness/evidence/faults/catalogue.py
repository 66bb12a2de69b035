"""Which faults there are, and how an arm meets one. A new one is one function on a `Site` and a line here."""

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
from harness.evidence.faults.records import Found, Seen, seen, unmet
from harness.evidence.faults.site import LOG, Pace, Site
from harness.plans.arm import Arm
from harness.run import server_process
from harness.run.supervisor import Supervisor
from harness.wire.options import WorkloadOptions

SET_UP_MS = 200.0
SERVICE_MS = 20.0
LONG_SET_UP_MS = 2000.0
TIMEOUT_S = 1.0  # of a call, where a strategy takes one
BATCH = 4  # at most, under overload: what a batching arm can do must be known
QUEUE = 64  # likewise, where there is a bound: a second and a bit
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Fault(NamedTuple):
    """One fault, and what an arm and its workload are told for it, beyond the usual."""

    summary: str
    look: Callable[[Site], Awaitable[Found]]
    workload: Mapping[str, Any] = _NOTHING
    workload_of: Callable[[Arm, Path], Mapping[str, Any]] = lambda arm, folder: _NOTHING  # noqa: ARG005
    options: Mapping[str, Any] = _NOTHING  # of the strategy, where it obeys them
    at_start: bool = False  # it happens before the server is ready
    any_workload: bool = False  # it asks for nothing that only the synthetic one can do


def _item(text: str) -> Callable[[Site], Awaitable[Found]]:
    return partial(items.among_innocents, item=text)


def _same_capacity(arm: Arm, folder: Path) -> Mapping[str, Any]:  # noqa: ARG001
    """A service time with which every arm can do `load.CAPACITY_PER_S`."""
    at_once = arms.workers(arm) * (BATCH if arms.obeys(arm, "max_batch") else 1)
    return {"service_ms": 1e3 * at_once / load.CAPACITY_PER_S}


FAULTS: dict[str, Fault] = {
    "kill-idle": Fault("kill -9 of a worker that does nothing", killing.idle),
    "kill-running": Fault("kill -9 of a worker in mid-request", killing.running),
    "kill-twice": Fault("kill -9 whenever a certain item runs", killing.twice),
    "kill-rebuild": Fault("kill -9 of a worker, and of the one that replaces it", killing.rebuilding),
    "setup-fails-later": Fault(
        "kill -9 of a worker, and for 1.5 s no set-up succeeds",
        killing.rebuilding_fails,
        {"faulty_setup": "raise"},
        lambda arm, folder: {"faulty_setup_file": str(folder / killing.MARKER)},  # noqa: ARG005
    ),
    "start-kill": Fault(
        "kill -9 of a worker in its warm-up, at the server's start",
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
        f"the model hangs on an item; timeout_s = {TIMEOUT_S:g} where there is one",
        _item("fault:hang"),
        options={"timeout_s": TIMEOUT_S},
    ),
    "poison": Fault("an item that ends its worker whenever it is run", _item("fault:exit")),
    "raise": Fault("an item of which the call raises", _item("fault:raise")),
    "unpicklable": Fault("a result that cannot be pickled", _item("fault:unpicklable")),
    "unpicklable-exception": Fault(
        "an exception that cannot be pickled", _item("fault:unpicklable-exception")
    ),
    "one-way-exception": Fault(
        "an exception that can be pickled, but not back again", _item("fault:one-way-exception")
    ),
    "client-leaves-queued": Fault("a client leaves while its item waits", items.client_leaves_queued),
    "client-leaves-running": Fault("a client leaves while its item is run", items.client_leaves_running),
    "overload": Fault(
        f"{load.OVERLOAD:g}x what it can do, {load.CAPACITY_PER_S:g} requests a second, for 10 s; "
        f"{QUEUE} may wait where there is a bound",
        load.overload,
        workload_of=_same_capacity,
        options={"max_batch": BATCH, "max_queue": QUEUE},
    ),
    "shutdown": Fault("SIGTERM to the server with work in flight", life.shutdown),
    "server-kill": Fault("kill -9 of the server with work in flight", life.killed),
    "health": Fault(
        f"kill -9 of the only worker, whose successor needs {killing.AWAITED_MS / 1e3:g} s: is /health red?",
        killing.the_only_one,
        {"setup_ms": killing.AWAITED_MS},
    ),
    "kill-storm": Fault(
        "kill -9 of a worker every few seconds under half of what it can do",
        load.kill_storm,
        any_workload=True,
    ),
}
STORMS = ("overload", "kill-storm")
SYNTHETIC = WorkloadOptions.model_validate(
    {"name": "synthetic", "service_ms": SERVICE_MS, "io_ms": 0.0, "setup_ms": SET_UP_MS, "faults": True}
)
EMBED = WorkloadOptions(name="embed", io_ms=0.0, torch_threads=1)


def meet(name: str, arm: Arm, workload: WorkloadOptions, pace: Pace) -> Seen:
    """The row of this fault and this arm: one server of its own, of which nothing is left."""
    with TemporaryDirectory(prefix="execbench-faults-") as folder, Supervisor() as supervisor:
        try:
            return asyncio.run(_meet(name, arm, workload, pace, Path(folder), supervisor))
        except HarnessError as error:
            return unmet(name, arm.name, "not measured", error.sentence)


async def _meet(
    name: str, arm: Arm, workload: WorkloadOptions, pace: Pace, folder: Path, supervisor: Supervisor
) -> Seen:
    fault = FAULTS[name]
    told = {**workload.model_dump(exclude_unset=True), **fault.workload, **fault.workload_of(arm, folder)}
    own = WorkloadOptions.model_validate(told)
    options = arms.telling(arm, **fault.options).server_options(own)
    with server_process.start(arm.name, options, supervisor, log=folder / LOG) as child:
        async with session(child.url) as client:
            site = Site(arm, own, child, client, pace, folder)
            if not fault.at_start:
                await asyncio.to_thread(child.wait_ready)
            found = await fault.look(site)
        ended_s = await site.ask_to_end()
        orphans = await site.orphans()
    return seen(name, arm.name, found, ended_s=ended_s, orphans=len(orphans))
