"""Bring a fault and an arm together: one server, one fault, one row; nothing of it is left."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.errors import HarnessError
from harness.evidence.faults import arms
from harness.evidence.faults.catalogue import FAULTS
from harness.evidence.faults.client import session
from harness.evidence.faults.records import Seen, seen, unmet
from harness.evidence.faults.site import LOG, Pace, Site
from harness.plans.arm import Arm
from harness.run import server_process
from harness.run.supervisor import Supervisor
from harness.wire.options import WorkloadOptions


def meet(name: str, arm: Arm, workload: WorkloadOptions, pace: Pace) -> Seen:
    """The row of this fault and this arm."""
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
