"""Does /health say so when nothing can be served?"""

from __future__ import annotations

import asyncio

from harness.evidence.faults.records import Found
from harness.evidence.faults.site import LOOKS_EVERY_S, Site, died_with_it

RED_WITHIN_S = 1.0
SET_UP_MS = 2500.0  # so that for this long nothing can be served, unless there is another worker


async def after_a_kill(site: Site) -> Found:
    """The only worker is killed, idle; the next takes seconds to be set up. Requests come all the time."""
    worker = (await site.ask()).worker_pid
    since = site.kill(worker)
    notes = died_with_it(site, worker)
    aftermath = asyncio.create_task(site.aftermath(since, [site.ask_soon()], notes=notes, kills=1))
    red_s = await _first_red(site, since, aftermath)
    found = await aftermath
    outcome = "server died" if found.outcome == "server died" else _outcome(red_s, found.recovered_s)
    return found._replace(outcome=outcome, health_red_s=red_s)


async def _first_red(site: Site, since_s: float, aftermath: asyncio.Task[Found]) -> float | None:
    """When /health was first not green; None if it was green until all was well, or until it is too late."""
    while not aftermath.done():
        health = await site.client.health(RED_WITHIN_S)
        if not health.is_good:
            return health.done_s - since_s
        await asyncio.sleep(LOOKS_EVERY_S)
    return None


def _outcome(red_s: float | None, recovered_s: float | None) -> str:
    if recovered_s is not None and recovered_s <= RED_WITHIN_S:
        return "served"
    return "red" if red_s is not None and red_s <= RED_WITHIN_S else "green"
