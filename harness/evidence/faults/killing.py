"""kill -9 of a worker: idle, in mid-request, twice for one item, and while another is being built."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from harness.evidence.faults.client import Answer
from harness.evidence.faults.records import Found
from harness.evidence.faults.site import Site, died_with_it, until
from harness.workloads.faulty import SET_UP

INNOCENTS = 4
MOST_KILLS = 4  # of one item: enough to see that it is tried again and again
SET_UP_FAILS_FOR_S = 1.5
ASKS_EVERY_S, REBUILD_ASKS = 0.7, 5  # longer than it takes to start a process
MARKER = "set-up-fails"  # a file in the server's folder


async def idle(site: Site) -> Found:
    """A worker that does nothing is killed; at once there are requests."""
    worker = (await site.ask()).worker_pid
    since = site.kill(worker)
    return await site.aftermath(since, site.ask_many(INNOCENTS), notes=died_with_it(site, worker))


async def running(site: Site) -> Found:
    """The worker that runs an item is killed, while others wait. That item is innocent, too."""
    item = "fault:sleep=0.4 running"
    victim = site.ask_soon(item)
    worker = await site.runs(item)
    innocents = [victim, *site.ask_many(INNOCENTS)]
    await asyncio.sleep(0.1)
    since = site.kill(worker)
    tried = await site.aftermath(since, innocents, notes=died_with_it(site, worker))
    return tried._replace(notes=(*tried.notes, _runs(site, item)))


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
    notes = (*died_with_it(site, worker), _runs(site, item))
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
    notes = (*died_with_it(site, worker), note)
    return await site.aftermath(since, innocents, notes=notes, kills=1 + len(successors))


async def rebuilding_fails(site: Site, marker: Path) -> Found:
    """A worker is killed, and for a while no other can be set up: the model's file is not there, say."""
    worker = (await site.ask()).worker_pid
    before = len(site.runs_of(SET_UP))
    _touch(marker)
    since = site.kill(worker)
    innocents = site.ask_many(INNOCENTS)
    await asyncio.sleep(SET_UP_FAILS_FOR_S)
    _remove(marker)
    found = await site.aftermath(since, innocents, notes=died_with_it(site, worker), kills=1)
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


def _touch(path: Path) -> None:
    path.touch()


def _remove(path: Path) -> None:
    path.unlink()


def _runs(site: Site, item: str) -> str:
    times = len(site.runs_of(item))
    return f"that item was run {times} time{'s' if times != 1 else ''}"
