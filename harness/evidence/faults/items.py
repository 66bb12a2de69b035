"""Faults of items: one that misbehaves in a queue among innocent ones, and one whose client leaves."""

from __future__ import annotations

import asyncio
import time

from harness.evidence.faults import arms
from harness.evidence.faults.records import Observation
from harness.evidence.faults.site import Site

IN_FRONT, BEHIND = 2, 2
_APART_S = 0.03  # between requests, so that they arrive in this order
INNOCENTS = 3  # in addition to the client that leaves
_BEFORE_IT_LEAVES_S = 0.2
_LEFT = "fault:sleep=0.5 left"


async def among_innocents(site: Site, item: str) -> Observation:
    """While one request runs, send two more, then the faulty item, then another two.

    The recovery counts from when the faulty item runs or, if it never runs, from when it was sent.
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
    return found._replace(notes=(*died, f"it ran {site.times(item)}"))


# -- is the item of a client that has left still run, and does it affect others? --------------------------


async def client_leaves_queued(site: Site) -> Observation:
    """Every worker is busy when the client's item arrives; the client leaves, then others send requests."""
    holders = [f"fault:sleep=0.7 holder {number}" for number in range(arms.workers(site.arm))]
    innocents = [site.ask_soon(holder) for holder in holders]
    for holder in holders:
        await site.runs(holder)
    await _leaves(site.ask_soon(_LEFT))
    found = await site.aftermath(time.monotonic(), innocents + site.ask_many(INNOCENTS))
    if found.outcome != "unharmed":
        return found
    await site.ask()  # everything queued before this request has run by now
    return found._replace(outcome="run anyway" if site.runs_of(_LEFT) else "skipped")


async def client_leaves_running(site: Site) -> Observation:
    """The client leaves while its item runs."""
    leaving = site.ask_soon(_LEFT)
    await site.runs(_LEFT)
    await _leaves(leaving)
    return await site.aftermath(time.monotonic(), site.ask_many(INNOCENTS))


async def _leaves(request: asyncio.Task[object]) -> None:
    """Disconnect, after the server has begun to watch for it (`disconnect.WATCH_DELAY_S`)."""
    await asyncio.sleep(_BEFORE_IT_LEAVES_S)
    request.cancel()
    await asyncio.wait([request])
