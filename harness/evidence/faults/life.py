"""Faults at the server's start (the set-up fails or is killed) and at its end (with requests in flight)."""

from __future__ import annotations

import asyncio
import os
import signal
import time

from harness.errors import HarnessError
from harness.evidence.faults.client import tally
from harness.evidence.faults.records import Observation
from harness.evidence.faults.site import Site, until
from harness.workloads.faulty import SET_UP

GIVES_UP_WITHIN_S = 20.0
QUEUED = 3
_RUNNING = "fault:sleep=0.8 running"


async def killed_at_start(site: Site) -> Observation:
    """Kill the first process during its set-up."""
    start = asyncio.create_task(comes_up(site))
    worker = await site.runs(SET_UP)
    await asyncio.sleep(0.2)
    site.kill(worker)
    found = await start
    return found._replace(notes=(*site.died_with(worker), *found.notes), kills=1)


async def comes_up(site: Site) -> Observation:
    """Wait until the server is ready, has ended, or exceeds the time limit."""
    began = time.monotonic()
    try:
        await asyncio.to_thread(site.server.wait_ready, GIVES_UP_WITHIN_S)
    except HarnessError as error:
        outcome = "refused to start" if site.has_ended() else "stuck"
        took = f"{time.monotonic() - began:.1f} s after its start"
        found = Observation(outcome, notes=(took, error.what.splitlines()[0]))
    else:
        found = Observation("started", recovered_s=time.monotonic() - began)
    return found._replace(notes=(*found.notes, f"set-ups begun: {len(site.runs_of(SET_UP))}"))


async def shutdown(site: Site) -> Observation:
    """Send SIGTERM while one request runs and others wait."""
    under_way = [site.ask_soon(_RUNNING)]
    await site.runs(_RUNNING)
    under_way += site.ask_many(QUEUED)
    await asyncio.sleep(0.2)
    began = time.monotonic()
    os.kill(site.server.pid, signal.SIGTERM)
    answers = await asyncio.gather(*under_way)
    counted = tally(answers)
    has_ended = await until(site.has_ended, site.pace.ends_within_s)
    took = f"{'ended' if has_ended else 'still running'} {time.monotonic() - began:.1f} s after SIGTERM"
    outcome = "answered" if counted.answered == len(answers) else "lost"
    return Observation(outcome, tally=counted, notes=(took,))


async def killed(site: Site) -> Observation:
    """Send SIGKILL to the server while a worker runs an item and another may be idle."""
    item = "fault:sleep=30 running"
    running = site.ask_soon(item)
    await site.runs(item)
    site.kill(site.server.pid)
    await running
    return Observation("ended")
