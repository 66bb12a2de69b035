"""An item that is itself the fault, in a queue among innocent ones; and one whose client leaves."""

from __future__ import annotations

import asyncio
import time

from harness.evidence.faults import arms
from harness.evidence.faults.records import Found
from harness.evidence.faults.site import Site

IN_FRONT, BEHIND = 2, 2
_APART_S = 0.03  # so that they come in this order
INNOCENTS = 3  # beside a client that leaves
_BEFORE_IT_LEAVES_S = 0.2
_LEFT = "fault:sleep=0.5 left"


async def among_innocents(site: Site, item: str) -> Found:
    """While one request runs, two more come, then the fault, then another two.

    The recovery counts from when the fault is run, or else from when it was sent.
    """
    holder = "fault:sleep=0.3 in front"
    innocents = [site.ask_soon(holder)]
    await site.runs(holder)
    innocents += site.ask_many(IN_FRONT)
    await asyncio.sleep(_APART_S)
    fault = site.ask_soon(item)
    await asyncio.sleep(_APART_S)
    innocents += site.ask_many(BEHIND)
    worker = await site.runs(item, unless=fault)
    found = await site.aftermath(time.monotonic(), innocents, item=fault)
    died = site.died_with(worker) if found.outcome == "server died" else ()
    return found._replace(notes=(*died, f"it was run {site.times(item)}"))


# -- is the item of a client that has left run all the same, and do others suffer? ------------------------


async def client_leaves_queued(site: Site) -> Found:
    """Every worker is busy when its item comes; it leaves, then others come."""
    holders = [f"fault:sleep=0.7 holder {number}" for number in range(arms.workers(site.arm))]
    innocents = [site.ask_soon(holder) for holder in holders]
    for holder in holders:
        await site.runs(holder)
    await _leaves(site.ask_soon(_LEFT))
    found = await site.aftermath(time.monotonic(), innocents + site.ask_many(INNOCENTS))
    if found.outcome != "unharmed":
        return found
    await site.ask()  # whatever came before it has had its turn
    return found._replace(outcome="run all the same" if site.runs_of(_LEFT) else "skipped")


async def client_leaves_running(site: Site) -> Found:
    """Its item is being run."""
    leaving = site.ask_soon(_LEFT)
    await site.runs(_LEFT)
    await _leaves(leaving)
    return await site.aftermath(time.monotonic(), site.ask_many(INNOCENTS))


async def _leaves(request: asyncio.Task[object]) -> None:
    """Later than a server begins to watch for it (`disconnect.WATCH_DELAY_S`)."""
    await asyncio.sleep(_BEFORE_IT_LEAVES_S)
    request.cancel()
    await asyncio.wait([request])
