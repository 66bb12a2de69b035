"""An item that is itself the fault, in a queue among innocent ones."""

from __future__ import annotations

import asyncio
import time

from harness.evidence.faults.records import Found
from harness.evidence.faults.site import Site, died_with_it

IN_FRONT, BEHIND = 2, 2
_APART_S = 0.03  # so that they come in this order


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
    times = len(site.runs_of(item))
    died = died_with_it(site, worker) if found.outcome == "server died" else ()
    return found._replace(notes=(*died, f"it was run {times} time{'s' if times != 1 else ''}"))
