"""kill -9 of a worker: idle, in mid-request, twice for one item, and while another is being built."""

from __future__ import annotations

import asyncio
import time

from harness.evidence.faults.client import Answer
from harness.evidence.faults.records import Found
from harness.evidence.faults.site import LOOKS_EVERY_S, Site, until
from harness.workloads.faulty import SET_UP

INNOCENTS = 4
MOST_KILLS = 4  # of one item: enough to see that it is tried again and again
SET_UP_FAILS_FOR_S = 1.5
ASKS_EVERY_S, REBUILD_ASKS = 0.7, 5  # longer than it takes to start a process
MARKER = "set-up-fails"  # a file in the server's folder
RED_WITHIN_S = 1.0
AWAITED_MS = 2500.0  # so that for this long nothing can be served, unless there is another worker


async def idle(site: Site) -> Found:
    """A worker that does nothing is killed; at once there are requests."""
    worker = (await site.ask()).worker_pid
    since = site.kill(worker)
    return await site.aftermath(since, site.ask_many(INNOCENTS), notes=site.died_with(worker))


async def running(site: Site) -> Found:
    """The worker that runs an item is killed, while others wait. That item is innocent, too."""
    item = "fault:sleep=0.4 running"
    victim = site.ask_soon(item)
    worker = await site.runs(item)
    innocents = [victim, *site.ask_many(INNOCENTS)]
    await asyncio.sleep(0.1)
    since = site.kill(worker)
    tried = await site.aftermath(since, innocents, notes=site.died_with(worker))
    return tried._replace(notes=(*tried.notes, f"that item was run {site.times(item)}"))


async def twice(site: Site) -> Found:
    """Whenever one certain item runs, its worker is killed: it is not its fault, but who would know."""
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
    notes = (*site.died_with(worker), f"that item was run {site.times(item)}")
    return await site.aftermath(since, innocents, item=victim, notes=notes, kills=kills)


async def rebuilding(site: Site) -> Found:
    """A worker is killed, and so is the one that is set up in its place."""
    worker = (await site.ask()).worker_pid
    before = len(site.runs_of(SET_UP))
    since = site.kill(worker)
    innocents = site.ask_many(INNOCENTS)
    successors = await _asking_until_rebuilt(site, before, innocents)
    for successor in successors:
        site.kill(successor)
    note = "killed in the rebuild, too" if successors else "nothing was rebuilt"
    notes = (*site.died_with(worker), note)
    return await site.aftermath(since, innocents, notes=notes, kills=1 + len(successors))


async def rebuilding_fails(site: Site) -> Found:
    """A worker is killed, and for a while no other can be set up: the model's file is not there, say."""
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
    """The processes that set themselves up anew. Some strategies do so only when they are asked again."""
    for _ in range(REBUILD_ASKS):
        await until(lambda: site.has_ended() or site.runs_of(SET_UP)[before:], ASKS_EVERY_S)
        if site.has_ended() or site.runs_of(SET_UP)[before:]:
            break
        innocents.append(site.ask_soon())
    return site.runs_of(SET_UP)[before:]


# -- does /health say so when nothing can be served? -----------------------------------------------------


async def the_only_one(site: Site) -> Found:
    """The only worker is killed, idle; the next takes seconds to be set up. Requests come all the time."""
    worker = (await site.ask()).worker_pid
    since = site.kill(worker)
    notes = site.died_with(worker)
    aftermath = asyncio.create_task(site.aftermath(since, [site.ask_soon()], notes=notes, kills=1))
    red_s = await _first_red(site, since, aftermath)
    found = await aftermath
    if found.outcome != "server died":
        found = found._replace(outcome=_outcome_of_health(red_s, found.recovered_s))
    return found._replace(health_red_s=red_s)


async def _first_red(site: Site, since_s: float, aftermath: asyncio.Task[Found]) -> float | None:
    """When /health was first not green; None if it was green until all was well, or until it is too late."""
    while not aftermath.done():
        health = await site.health(RED_WITHIN_S)
        if not health.is_good:
            return health.done_s - since_s
        await asyncio.sleep(LOOKS_EVERY_S)
    return None


def _outcome_of_health(red_s: float | None, recovered_s: float | None) -> str:
    if recovered_s is not None and recovered_s <= RED_WITHIN_S:
        return "served"
    return "red" if red_s is not None and red_s <= RED_WITHIN_S else "green"
