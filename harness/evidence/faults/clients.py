"""A client that leaves before it has its answer: is its item run all the same, and do others suffer?"""

from __future__ import annotations

import asyncio
import time

from harness.evidence.faults import arms
from harness.evidence.faults.records import Found
from harness.evidence.faults.site import Site

INNOCENTS = 3
_BEFORE_IT_LEAVES_S = 0.2
_LEFT = "fault:sleep=0.5 left"


async def while_queued(site: Site) -> Found:
    """Every worker is busy when its item comes; it leaves, then others come."""
    holders = [f"fault:sleep=0.7 holder {number}" for number in range(arms.workers(site.arm))]
    innocents = [site.ask_soon(holder) for holder in holders]
    for holder in holders:
        await site.runs(holder)
    await _comes_and_leaves(site)
    found = await site.aftermath(time.monotonic(), innocents + site.ask_many(INNOCENTS))
    if found.outcome != "unharmed":
        return found
    await site.ask()  # whatever came before it has had its turn
    return found._replace(outcome="run all the same" if site.runs_of(_LEFT) else "skipped")


async def while_running(site: Site) -> Found:
    """Its item is being run."""
    leaving = site.ask_soon(_LEFT)
    await site.runs(_LEFT)
    await _leaves(leaving)
    return await site.aftermath(time.monotonic(), site.ask_many(INNOCENTS))


async def _comes_and_leaves(site: Site) -> None:
    await _leaves(site.ask_soon(_LEFT))


async def _leaves(request: asyncio.Task[object]) -> None:
    """Later than a server begins to watch for it (`leaving.WATCHED_AFTER_S`)."""
    await asyncio.sleep(_BEFORE_IT_LEAVES_S)
    request.cancel()
    await asyncio.wait([request])
