"""The faults that a command can have: those that need only its processes, signals and HTTP."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from harness.errors import HarnessError
from harness.evidence.faults import asking, command_site, killing, load, parent_kill
from harness.evidence.faults.client import tally
from harness.evidence.faults.command_site import CommandSite, Pending
from harness.evidence.faults.records import FaultRow, Observation, empty_row, make_row
from harness.evidence.faults.site import LOG, Pace, until
from harness.plans.arm import Arm
from harness.run import command_server
from harness.run.supervisor import Supervisor
from harness.wire import arrivals
from harness.wire.load_options import IN_FLIGHT_CAP, LoadOptions

INNOCENTS = 4
_IDLE_S = 0.3
_LOADED_S = 0.5
_IN_FLIGHT_AFTER_S = (0.1, 0.05, 0.02, 0.01)  # a burst that is answered sooner is sent again
_ROUNDS = 3  # of bursts; a median of these counts
_QUEUED_MS = 50.0  # a burst that delays the next request by less makes no queue


async def idle(site: CommandSite) -> Observation:
    """Kill the worker, then send requests at once."""
    await asyncio.sleep(_IDLE_S)
    since = site.kill(site.workers[0])
    return await site.aftermath(since, site.ask_many(INNOCENTS), notes=site.of_worker(), kills=1)


async def running(site: CommandSite) -> Observation:
    """Kill the worker while it is under load; those in flight count as innocent too."""
    innocents = await site.users(INNOCENTS, _LOADED_S)
    since = site.kill(site.workers[0])
    innocents += site.ask_many(INNOCENTS)
    return await site.aftermath(since, innocents, notes=site.of_worker(), kills=1)


async def rebuilding(site: CommandSite) -> Observation:
    """Kill the worker, then every process that the server starts to replace it."""
    before = {one.pid for one in site.family()}
    since = site.kill(site.workers[0])
    innocents = site.ask_many(INNOCENTS)
    new: list[int] = []
    for _ in range(killing.REBUILD_ASKS):
        await until(lambda: site.has_ended() or _new(site, before), killing.ASKS_EVERY_S)
        if site.has_ended() or (new := _new(site, before)):
            break
        innocents.append(site.ask_soon())
    for successor in new:
        site.kill(successor)
    note = "its replacement was killed too" if new else "no replacement was started"
    return await site.aftermath(since, innocents, notes=(*site.of_worker(), note), kills=1 + len(new))


def _new(site: CommandSite, before: set[int]) -> list[int]:
    return [one.pid for one in site.family() if one.pid not in before]


async def client_leaves_queued(site: CommandSite) -> Observation:
    """Let the clients of a burst leave: does the next request wait as long as behind a burst that stays?"""
    stayed, left = [], []
    for _ in range(_ROUNDS):
        stayed.append(await _behind_a_burst(site, leave=False))
        left.append(await _behind_a_burst(site, leave=True))
    stayed_ms, left_ms = median(stayed), median(left)
    found = await site.aftermath(time.monotonic(), site.ask_many(INNOCENTS))
    waits = (
        f"behind {site.backlog} requests the next one took {stayed_ms:.0f} ms, {left_ms:.0f} ms if they left"
    )
    queued_ms = stayed_ms - site.usual_ms
    if found.outcome != "unharmed":
        return found._replace(notes=(waits,))
    if queued_ms < max(_QUEUED_MS, site.usual_ms):
        return found._replace(notes=(f"a burst of {site.backlog} requests made no queue",))
    outcome = "run anyway" if left_ms - site.usual_ms > queued_ms / 2 else "skipped"
    return found._replace(outcome=outcome, notes=(waits,))


async def _behind_a_burst(site: CommandSite, *, leave: bool) -> float:
    """The time, in ms, of a request sent 0.1 s after a burst, whose clients have left by then if `leave`."""
    burst = site.burst(site.backlog)
    await asyncio.sleep(_IN_FLIGHT_AFTER_S[0])
    if leave:
        await _leave(*(one.answer for one in burst))
    next_one = await site.ask()
    await asyncio.wait([one.answer for one in burst])
    return next_one.took_ms


async def client_leaves_running(site: CommandSite) -> Observation:
    """Let the client of a lone request leave after half of the time that its answer takes."""
    leaving = site.ask_soon()
    await asyncio.sleep(site.usual_ms / 2e3)
    is_late = leaving.done()
    await _leave(leaving)
    notes = ("it was answered before its client left",) if is_late else ()
    return await site.aftermath(time.monotonic(), site.ask_many(INNOCENTS), notes=notes)


async def _leave(*requests: asyncio.Task[object]) -> None:
    for request in requests:
        request.cancel()
    await asyncio.wait(requests)


async def overload(site: CommandSite) -> Observation:
    """Send three times what it answers, with as many requests in flight as a run may have."""
    found = await load.overloaded(site, site.throughput_per_s, at_most=IN_FLIGHT_CAP)
    sent = f"{sum(found.tally)} requests in {site.pace.overload_s:g} s"
    note = f"got {sent}, and answers {site.throughput_per_s:.0f} per second"
    return found._replace(notes=(*found.notes, note))


async def shutdown(site: CommandSite) -> Observation:
    """Send the stop signal with requests in flight. Those that have not been sent by then do not count."""
    in_flight = await _in_flight(site)
    if not in_flight:
        return Observation("not measured", notes=("every request was answered before the signal",))
    began = site.ask_to_stop()
    answers = await asyncio.gather(*(one.answer for one in in_flight))
    counted = tally(answers)
    has_ended = await until(site.has_ended, site.pace.ends_within_s)
    took = (
        f"{'ended' if has_ended else 'still running'} {time.monotonic() - began:.1f} s after {site.arm.stop}"
    )
    outcome = "answered" if counted.answered == len(answers) else "lost"
    return Observation(outcome, tally=counted, notes=(took,))


async def killed(site: CommandSite) -> Observation:
    """Send SIGKILL to the command, not to the processes that it has started, with requests in flight."""
    in_flight = await _in_flight(site)
    site.kill(site.main.pid)
    await asyncio.gather(*(one.answer for one in in_flight))
    await until(site.has_ended, site.pace.ends_within_s)
    return Observation("ended")


async def _in_flight(site: CommandSite) -> list[Pending]:
    """Send a burst and return those of its requests that are in flight; none if the server is too quick."""
    for seconds in _IN_FLIGHT_AFTER_S:
        burst = site.burst(site.backlog)
        await asyncio.sleep(seconds)
        if found := [one for one in burst if one.is_in_flight]:
            return found
        await asyncio.gather(*(one.answer for one in burst))
    return []


async def outage(site: CommandSite) -> Observation:
    """Kill all processes that work, and keep sending requests: does the path `ready` report it?"""
    for worker in site.workers:
        since = site.kill(worker)
    return await killing.outage(site, since, notes=site.of_worker()[:1], kills=len(site.workers))


async def kill_storm(site: CommandSite) -> Observation:
    """Send half of what it answers, and kill the process that was busiest since the last kill."""
    rate = site.throughput_per_s / 2
    crowd = load.Crowd(site, itertools.repeat(None), IN_FLIGHT_CAP)
    killer = asyncio.create_task(_kill_the_busiest(site, crowd))
    await crowd.send(arrivals.parse(f"poisson({rate:.3g})"), site.pace.storm_s)
    killer.cancel()
    return await load.after_storm(site, crowd, rate)


async def _kill_the_busiest(site: CommandSite, crowd: load.Crowd) -> None:
    """After a kill, wait until a request that was sent later has got a good answer."""
    while not site.has_ended():
        before = site.cpu_ms()
        await asyncio.sleep(site.pace.storm_every_s)
        since = site.kill(command_site.working(site.cpu_used_ms(before), site.main.pid)[0])
        crowd.kills += 1
        await until(partial(_is_over, site, crowd, since))


def _is_over(site: CommandSite, crowd: load.Crowd, since_s: float) -> bool:
    return crowd.last_good_s > since_s or site.has_ended()


FAULTS: Mapping[str, Callable[[CommandSite], Awaitable[Observation]]] = {
    "kill-idle": idle,
    "kill-running": running,
    "kill-rebuild": rebuilding,
    "client-leaves-queued": client_leaves_queued,
    "client-leaves-running": client_leaves_running,
    "overload": overload,
    "shutdown": shutdown,
    "server-kill": killed,
    "health": outage,
    "kill-storm": kill_storm,
}
PARENT_KILL = "parent-kill"  # the server is started by another process, which is killed


def can_have(name: str) -> bool:
    """Whether a command can have this fault, if it has all paths that it needs."""
    return name in FAULTS or name == PARENT_KILL


def why_not_applicable(name: str, arm: Arm) -> str:
    """Say why this command cannot have this fault; "" if it can."""
    if name == "health" and arm.ready is None:
        return "no path says whether it is ready (--ready)"
    return "" if can_have(name) else "it needs the app of execbench"


def run_fault(name: str, arm: Arm, request: LoadOptions, pace: Pace) -> FaultRow:
    """Try this fault on a new server of this command, and return the row. Leaves nothing running.

    `request`: what it is asked; the URL has only a path.
    """
    if why := why_not_applicable(name, arm):
        return empty_row(name, arm.name, "not applicable", why)
    with TemporaryDirectory(prefix="execbench-faults-") as folder:
        try:
            if name == PARENT_KILL:
                return parent_kill.run(name, arm, request, pace, Path(folder))
            with Supervisor() as supervisor:
                return asyncio.run(_run_fault(name, arm, request, pace, Path(folder), supervisor))
        except HarnessError as error:
            return empty_row(name, arm.name, "not measured", error.sentence)


def check(arm: Arm, request: LoadOptions, pace: Pace) -> None:
    """Start the command once and ask it. Raises HarnessError if it does not start or gives no good answer."""
    with TemporaryDirectory(prefix="execbench-faults-") as folder, Supervisor() as supervisor:
        asyncio.run(_run_fault("", arm, request, pace, Path(folder), supervisor))


async def _run_fault(
    name: str, arm: Arm, request: LoadOptions, pace: Pace, folder: Path, supervisor: Supervisor
) -> FaultRow:
    with command_server.start(arm, supervisor, log=folder / LOG) as server:
        await asyncio.to_thread(server.wait_ready)
        async with command_site.session() as client:
            site = CommandSite(arm, server.url, server.pid, client, asking.of(request.at(server.url)), pace)
            try:
                await site.check_answer()
                if not name:
                    return empty_row(name, arm.name, "answered", "")
                await site.observe()
                observed = await FAULTS[name](site)
                ended_s = await site.ask_to_end()
                orphans = await site.orphans()
            finally:
                site.kill_all()
    return make_row(name, arm.name, observed, ended_s=ended_s, orphans=len(orphans))
