"""Does /health say so when nothing can be served?"""

from __future__ import annotations

import asyncio
import time

from harness.faults.client import Answer
from harness.faults.records import Found
from harness.faults.site import LOOKS_EVERY_S, Site, died_with_it

RED_WITHIN_S = 1.0
SET_UP_MS = 2500.0  # so that for this long nothing can be served, unless there is another worker


async def after_a_kill(site: Site) -> Found:
    """The only worker is killed, idle; the next takes seconds to be set up. One request waits meanwhile."""
    worker = (await site.ask()).worker_pid
    since = site.kill(worker)
    request = site.ask_soon()
    red_s = await _first_red(site, since, request)
    answer = await request
    answered_s = answer.done_s - since if answer.is_good else None
    found = await site.aftermath(since, [request], notes=died_with_it(site, worker), kills=1)
    outcome = "server died" if found.outcome == "server died" else _outcome(red_s, answered_s)
    return found._replace(outcome=outcome, health_red_s=red_s)


async def _first_red(site: Site, since_s: float, request: asyncio.Task[Answer]) -> float | None:
    """When /health was first not green; None if the request is answered before, or it takes too long."""
    while time.monotonic() < since_s + site.pace.recovers_within_s:
        health = await site.client.health(RED_WITHIN_S)
        if not health.is_good:
            return health.done_s - since_s
        if request.done() and request.result().is_good:
            return None
        await asyncio.sleep(LOOKS_EVERY_S)
    return None


def _outcome(red_s: float | None, answered_s: float | None) -> str:
    if answered_s is not None and answered_s <= RED_WITHIN_S:
        return "served"
    return "red" if red_s is not None and red_s <= RED_WITHIN_S else "green"
