"""The server's own end, with work in flight: asked for, or by SIGKILL."""

from __future__ import annotations

import asyncio
import os
import signal
import time

from harness.evidence.faults.client import tally
from harness.evidence.faults.records import Found
from harness.evidence.faults.site import Site, until

QUEUED = 3
_RUNNING = "fault:sleep=0.8 running"


async def shutdown(site: Site) -> Found:
    """SIGTERM while one request runs and others wait."""
    under_way = [site.ask_soon(_RUNNING)]
    await site.runs(_RUNNING)
    under_way += site.ask_many(QUEUED)
    await asyncio.sleep(0.2)
    began = time.monotonic()
    os.kill(site.server.pid, signal.SIGTERM)
    answers = await asyncio.gather(*under_way)
    counted = tally(answers)
    return Found(
        outcome="answered" if counted.answered == len(answers) else "lost",
        tally=counted,
        notes=(await _says_when_it_ended(site, began),),
    )


async def parent_killed(site: Site) -> Found:
    """SIGKILL of the server while a worker runs an item and another may be idle."""
    item = "fault:sleep=30 running"
    running = site.ask_soon(item)
    await site.runs(item)
    site.kill(site.server.pid)
    await running
    return Found("ended")


async def _says_when_it_ended(site: Site, began_s: float) -> str:
    has_ended = await until(site.has_ended, site.pace.ends_within_s)
    return f"{'ended' if has_ended else 'still there'} {time.monotonic() - began_s:.1f} s after SIGTERM"
