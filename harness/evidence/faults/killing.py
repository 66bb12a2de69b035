"""kill -9 of a worker: idle, during a request, repeatedly for one item, and during its replacement."""

from __future__ import annotations

import asyncio
import time

from harness.evidence.faults.client import Answer
from harness.evidence.faults.records import Observation
from harness.evidence.faults.site import LOOKS_EVERY_S, AnySite, Site, until
from harness.workloads.faulty import SET_UP

INNOCENTS = 4
MOST_KILLS = 4  # for one item, enough to show that it is retried without end
SET_UP_FAILS_FOR_S = 1.5
ASKS_EVERY_S, REBUILD_ASKS = 0.7, 5  # longer than it takes to start a process
MARKER = "set-up-fails"  # a file in the server's folder
RED_WITHIN_S = 1.0
AWAITED_MS = 2500.0  # set-up time of a worker, during which nothing can be served without another worker


async def idle(site: Site) -> Observation:
    """Kill an idle worker, then send requests at once."""
    worker = (await site.ask()).worker_pid
    since = site.kill(worker)
    return await site.aftermath(since, site.ask_many(INNOCENTS), notes=site.died_with(worker))


async def running(site: Site) -> Observation:
    """Kill the worker that runs an item while others wait. That item counts as innocent too."""
    item = "fault:sleep=0.4 running"
    victim = site.ask_soon(item)
    worker = await site.runs(item)
    innocents = [victim, *site.ask_many(INNOCENTS)]
    await asyncio.sleep(0.1)
    since = site.kill(worker)
    tried = await site.aftermath(since, innocents, notes=site.died_with(worker))
    return tried._replace(notes=(*tried.notes, f"that item ran {site.times(item)}"))


async def twice(site: Site) -> Observation:
    """Kill the worker whenever it runs a certain item: to the server, the item looks like the cause."""
    item = "fault:sleep=0.4 twice"
    victim = site.ask_soon(item, 2 * site.pace.recovers_within_s)
    innocents: list[asyncio.Task[Answer]] = []
    kills, since, worker = 0, time.monotonic(), None
    while kills < MOST_KILLS and (found := await site.runs(item, kills + 1, unless=victim)) is not None:
        worker = found
        innocents += [] if innocents else site.ask_many(INNOCENTS)
        await asyncio.sleep(0.1)
        since = site.kill(worker)
        kills += 1
    notes = (*site.died_with(worker), f"that item ran {site.times(item)}")
    return await site.aftermath(since, innocents, item=victim, notes=notes, kills=kills)


async def rebuilding(site: Site) -> Observation:
    """Kill a worker, then the one that is set up to replace it."""
    worker = (await site.ask()).worker_pid
    before = len(site.runs_of(SET_UP))
    since = site.kill(worker)
    innocents = site.ask_many(INNOCENTS)
    successors = await _asking_until_rebuilt(site, before, innocents)
    for successor in successors:
        site.kill(successor)
    note = "its replacement was killed too" if successors else "no replacement was set up"
    notes = (*site.died_with(worker), note)
    return await site.aftermath(since, innocents, notes=notes, kills=1 + len(successors))


async def rebuilding_fails(site: Site) -> Observation:
    """Kill a worker while no other can be set up, as if the model's file were missing for a while."""
    worker = (await site.ask()).worker_pid
    before = len(site.runs_of(SET_UP))
    marker = site.folder / MARKER
    marker.touch()
    since = site.kill(worker)
    innocents = site.ask_many(INNOCENTS)
    await asyncio.sleep(SET_UP_FAILS_FOR_S)
    marker.unlink()
    found = await site.aftermath(since, innocents, notes=site.died_with(worker), kills=1)
    tries = len(site.runs_of(SET_UP)) - before
    return found._replace(notes=(*found.notes, f"{tries} set-ups; none could succeed in the first 1.5 s"))


async def _asking_until_rebuilt(site: Site, before: int, innocents: list[asyncio.Task[Answer]]) -> list[int]:
    """The processes that set up replacements. Sends requests, as some strategies set up only on request."""
    for _ in range(REBUILD_ASKS):
        await until(lambda: site.has_ended() or site.runs_of(SET_UP)[before:], ASKS_EVERY_S)
        if site.has_ended() or site.runs_of(SET_UP)[before:]:
            break
        innocents.append(site.ask_soon())
    return site.runs_of(SET_UP)[before:]


# -- is /health red while nothing can be served? ---------------------------------------------------------


async def the_only_one(site: Site) -> Observation:
    """Kill the only worker, whose replacement takes seconds to set up, and keep sending requests."""
    worker = (await site.ask()).worker_pid
    return await outage(site, site.kill(worker), notes=site.died_with(worker), kills=1)


async def outage(site: AnySite, since: float, *, notes: tuple[str, ...], kills: int) -> Observation:
    """After these kills, keep sending requests; look when /health is red and when they are answered."""
    aftermath = asyncio.create_task(site.aftermath(since, [site.ask_soon()], notes=notes, kills=kills))
    red_s = await _first_red(site, since, aftermath)
    found = await aftermath
    if found.outcome != "server died":
        found = found._replace(outcome=_outcome_of_health(red_s, found.recovered_s))
    return found._replace(health_red_s=red_s)


async def _first_red(site: AnySite, since_s: float, aftermath: asyncio.Task[Observation]) -> float | None:
    """Seconds until /health was not green; None if it was green until the recovery or the time limit."""
    while not aftermath.done():
        health = await site.health(RED_WITHIN_S)
        if not health.is_good:
            return health.done_s - since_s
        await asyncio.sleep(LOOKS_EVERY_S)
    return None


def _outcome_of_health(red_s: float | None, recovered_s: float | None) -> str:
    if recovered_s is not None and recovered_s <= RED_WITHIN_S:
        return "stayed available"
    return "red" if red_s is not None and red_s <= RED_WITHIN_S else "green"
