"""Faults at start: the set-up raises, ends its process, or is killed. Then a server must not hang."""

from __future__ import annotations

import asyncio
import time

from harness.errors import HarnessError
from harness.evidence.faults.records import Found
from harness.evidence.faults.site import Site, died_with_it
from harness.workloads.faulty import SET_UP

GIVES_UP_WITHIN_S = 20.0


async def killed(site: Site) -> Found:
    """The first process that sets itself up is killed while it does."""
    start = asyncio.create_task(_start(site))
    worker = await site.runs(SET_UP)
    await asyncio.sleep(0.2)
    site.kill(worker)
    found = await start
    return found._replace(notes=(*died_with_it(site, worker), *found.notes), kills=1)


async def failing(site: Site) -> Found:
    """The set-up of every worker fails."""
    return await _start(site)


async def _start(site: Site) -> Found:
    began = time.monotonic()
    try:
        await asyncio.to_thread(site.server.wait_ready, GIVES_UP_WITHIN_S)
    except HarnessError as error:
        outcome = "refused to start" if site.has_ended() else "stuck"
        took = f"{time.monotonic() - began:.1f} s after its start"
        return Found(outcome, notes=(took, error.what.splitlines()[0], _attempts(site)))
    return Found("started", recovered_s=time.monotonic() - began, notes=(_attempts(site),))


def _attempts(site: Site) -> str:
    return f"set-ups begun: {len(site.runs_of(SET_UP))}"
