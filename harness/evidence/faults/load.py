"""Load that goes on whatever the answers are: three times what can be done, and kills every few seconds."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median

from harness import workloads
from harness.evidence.faults.client import Answer, tally
from harness.evidence.faults.records import Found, Tally
from harness.evidence.faults.site import INNOCENT, LOOKS_EVERY_S, Site, until
from harness.wire import arrivals

CAPACITY_PER_S = 50.0  # of a synthetic arm, whatever its number of workers: see `catalogue`
OVERLOAD = 3.0
SEED = 1
_BACK_TO_NORMAL = 2.0  # times the nominal latency, and some ms of noise
_NOISE_MS = 20.0
_USERS, _PILOT_S = 4, 2.0


async def overload(site: Site) -> Found:
    """Three times what it can do for a while; then ask one by one until that takes no longer than before."""
    nominal_ms = median([(await site.ask()).took_ms for _ in range(9)])
    law = arrivals.parse(f"constant({OVERLOAD * CAPACITY_PER_S:g})")
    crowd = Crowd(site, itertools.repeat(INNOCENT))
    await crowd.come(law, site.pace.overload_s)
    ended = time.monotonic()
    nominal = asyncio.create_task(_nominal_again(site, _BACK_TO_NORMAL * nominal_ms + _NOISE_MS))
    answers = await asyncio.gather(*crowd.asked)
    back = await nominal
    refusals = [answer for answer in answers if answer.status == 503]
    counted = tally(answers)
    notes = [f"{counted.refused / len(answers):.0%} were 503"]
    if refusals:
        with_retry_after = sum(answer.retry_after is not None for answer in refusals)
        notes.append(f"{with_retry_after / len(refusals):.0%} of them with Retry-After")
    recovered_s = None if back is None else max(0.0, back - ended)
    return Found(
        outcome=_outcome_of_overload(site, counted, recovered_s),
        recovered_s=recovered_s,
        tally=counted,
        refused_p50_ms=median(answer.took_ms for answer in refusals) if refusals else None,
        longest_ms=max((answer.took_ms for answer in answers if answer.is_good), default=None),
        in_flight_max=crowd.in_flight_max,
        notes=tuple(notes),
    )


async def kill_storm(site: Site) -> Found:
    """Half of what it can do, and every few seconds the worker that has answered last is killed."""
    texts = workloads.create(site.workload).payloads(SEED)
    rate = await _throughput_per_s(site, texts) / 2
    law = arrivals.parse(f"poisson({rate:.3g})")
    crowd = Crowd(site, texts)
    killer = asyncio.create_task(_kill_again_and_again(site, crowd))
    await crowd.come(law, site.pace.storm_s)
    killer.cancel()
    found = await site.aftermath(time.monotonic(), crowd.asked, kills=crowd.kills)
    share = found.tally.answered / len(crowd.asked)
    note = f"{share:.1%} of {len(crowd.asked)} requests were 200, at {rate:.3g} requests a second"
    return found._replace(in_flight_max=crowd.in_flight_max, notes=(note,))


@dataclass(eq=False)
class Crowd:
    """Requests that come by an arrival law, and do not wait for each other."""

    site: Site
    texts: Iterator[str]
    asked: list[asyncio.Task[Answer]] = field(default_factory=list)
    under_way: int = 0
    in_flight_max: int = 0
    kills: int = 0
    last_worker: int | None = None

    async def come(self, law: arrivals.Law, seconds: float) -> None:
        """Send what is due, for so long."""
        began = time.monotonic()
        for due_s in itertools.takewhile(lambda due: due < seconds, arrivals.due_times_s(law, SEED)):
            await asyncio.sleep(max(0.0, began + due_s - time.monotonic()))
            self.under_way += 1
            self.in_flight_max = max(self.in_flight_max, self.under_way)
            asked = self.site.ask_soon(next(self.texts), self.site.pace.drains_within_s)
            asked.add_done_callback(self._note)
            self.asked.append(asked)

    def _note(self, asked: asyncio.Task[Answer]) -> None:
        self.under_way -= 1
        if not asked.cancelled() and asked.result().is_good:
            self.last_worker = asked.result().worker_pid


async def _kill_again_and_again(site: Site, crowd: Crowd) -> None:
    """A worker that has died already is not killed once more: wait for its successor's first answer."""
    killed: set[int | None] = set()
    while True:
        await asyncio.sleep(site.pace.storm_every_s)
        worker = await until(lambda: crowd.last_worker not in (None, *killed) and crowd.last_worker)
        killed.add(worker)
        site.kill(worker)
        crowd.kills += 1


async def _throughput_per_s(site: Site, texts: Iterator[str]) -> float:
    """In closed loop, for as long as matters here."""
    began = time.monotonic()
    done = await asyncio.gather(*(_user(site, texts, began + _PILOT_S) for _ in range(_USERS)))
    return sum(done) / (time.monotonic() - began)


async def _user(site: Site, texts: Iterator[str], until_s: float) -> int:
    done = 0
    while time.monotonic() < until_s:
        done += (await site.ask(next(texts))).is_good
    return done


async def _nominal_again(site: Site, limit_ms: float) -> float | None:
    """When the first request was sent that took no longer; None when that takes too long."""
    deadline = time.monotonic() + site.pace.drains_within_s
    while time.monotonic() < deadline and not site.has_ended():
        answer = await site.ask(within_s=site.pace.drains_within_s)
        if answer.is_good and answer.took_ms <= limit_ms:
            return answer.sent_s
        await asyncio.sleep(LOOKS_EVERY_S)
    return None


def _outcome_of_overload(site: Site, counted: Tally, recovered_s: float | None) -> str:
    if site.has_ended():
        return "server died"
    if recovered_s is None:
        return "stuck"
    if counted.failed or counted.unanswered:
        return "recovered"
    return "sheds" if counted.refused else "piles up"
