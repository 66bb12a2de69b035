"""Bring a fault and an arm together: one server, one fault, one row; nothing of it is left."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.errors import HarnessError
from harness.evidence.faults import arms
from harness.evidence.faults.catalogue import FAULTS, Fault, Meeting
from harness.evidence.faults.client import Client
from harness.evidence.faults.records import Found, Seen, seen, unmet
from harness.evidence.faults.site import Pace, Site
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
    told = fault.told(arm, folder)
    own = WorkloadOptions.model_validate(workload.model_dump(exclude_unset=True) | {**told.workload})
    options = arms.telling(arm, **told.options).server_options(own)
    log = folder / "server.log"
    with server_process.start(arm.name, options, supervisor, log=log) as child:
        async with Client(child.url) as client:
            site = Site(arm, child, client, pace, log)
            found = await _look(fault, site, Meeting(own, folder))
        ended_s = await site.ask_to_end()
        orphans = await site.orphans()
    return seen(name, arm.name, found, ended_s=ended_s, orphans=len(orphans))


async def _look(fault: Fault, site: Site, meeting: Meeting) -> Found:
    if not fault.at_start:
        await asyncio.to_thread(site.server.wait_ready)
    return await fault.look(site, meeting)
