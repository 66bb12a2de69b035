"""Faults under an open loop: an overload of three times the throughput, and kills every few seconds."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median

from harness import workloads
from harness.evidence.faults.client import REFUSALS, Answer, tally
from harness.evidence.faults.records import Observation, Tally
from harness.evidence.faults.site import LOOKS_EVERY_S, AnySite, Site, until
from harness.wire import arrivals

CAPACITY_PER_S = 50.0  # throughput of a synthetic arm with any number of workers: see `catalogue`
OVERLOAD = 3.0
SEED = 1
_BACK_TO_NORMAL = 2.0  # times the usual latency, plus some ms of noise
_NOISE_MS = 20.0
_USERS, _PILOT_S = 4, 2.0


async def overload(site: Site) -> Observation:
    """Send three times the throughput for a while, then single requests until latency is back to normal."""
    return await overloaded(site, CAPACITY_PER_S)


async def overloaded(site: AnySite, throughput_per_s: float, *, at_most: float = math.inf) -> Observation:
    """The same, with this throughput and at most this number of requests in flight."""
    usual_ms = median([(await site.ask()).took_ms for _ in range(9)])
    law = arrivals.parse(f"constant({OVERLOAD * throughput_per_s:g})")
    crowd = Crowd(site, itertools.repeat(None), at_most)
    await crowd.send(law, site.pace.overload_s)
    ended = time.monotonic()
    normal = asyncio.create_task(_normal_again(site, _BACK_TO_NORMAL * usual_ms + _NOISE_MS))
    answers = await asyncio.gather(*crowd.sent)
    back = await normal
    refusals = [answer for answer in answers if answer.status in REFUSALS]
    counted = tally(answers)
    shares = {status: sum(one.status == status for one in answers) / len(answers) for status in REFUSALS}
    notes = [
        f"{share:.0%} were {status}"
        for status, share in shares.items()
        if share or (status == 503 and not refusals)
    ]
    if refusals:
        with_retry_after = sum(answer.retry_after is not None for answer in refusals)
        notes.append(f"{with_retry_after / len(refusals):.0%} of them with Retry-After")
    recovered_s = None if back is None else max(0.0, back - ended)
    return Observation(
        outcome=_outcome_of_overload(site, counted, recovered_s),
        recovered_s=recovered_s,
        tally=counted,
        refused_p50_ms=median(answer.took_ms for answer in refusals) if refusals else None,
        longest_ms=max((answer.took_ms for answer in answers if answer.is_good), default=None),
        in_flight_max=crowd.in_flight_max,
        notes=tuple(notes),
    )


async def kill_storm(site: Site) -> Observation:
    """Send half of the throughput, and kill the worker that answered last every few seconds."""
    texts = workloads.create(site.workload).payloads(SEED)
    rate = await _throughput_per_s(site, texts) / 2
    law = arrivals.parse(f"poisson({rate:.3g})")
    crowd = Crowd(site, texts)
    killer = asyncio.create_task(_kill_again_and_again(site, crowd))
    await crowd.send(law, site.pace.storm_s)
    killer.cancel()
    return await after_storm(site, crowd, rate)


async def after_storm(site: AnySite, crowd: Crowd, rate: float) -> Observation:
    """Wait for the requests of the crowd, and look whether others are answered."""
    found = await site.aftermath(time.monotonic(), crowd.sent, kills=crowd.kills)
    share = found.tally.answered / len(crowd.sent)
    note = f"{share:.1%} of {len(crowd.sent)} requests were 200, at {rate:.3g} requests/s"
    return found._replace(in_flight_max=crowd.in_flight_max, notes=(note,))


@dataclass(eq=False)
class Crowd:
    """Independent requests that arrive by an arrival law."""

    site: AnySite
    texts: Iterator[str | None]
    at_most: float = (
        math.inf
    )  # in flight: a request that would be one more is sent late, or left out at the end
    sent: list[asyncio.Task[Answer]] = field(default_factory=list)
    in_flight: int = 0
    in_flight_max: int = 0
    kills: int = 0
    last_worker: int | None = None
    last_good_s: float = 0.0  # when the last request that got a good answer was sent

    async def send(self, law: arrivals.Law, seconds: float) -> None:
        """Send requests when they are due, for `seconds`."""
        began = time.monotonic()
        for due_s in itertools.takewhile(lambda due: due < seconds, arrivals.due_times_s(law, SEED)):
            await asyncio.sleep(max(0.0, began + due_s - time.monotonic()))
            await until(lambda: self.in_flight < self.at_most)
            if self.at_most < math.inf and time.monotonic() > began + seconds:
                return
            self.in_flight += 1
            self.in_flight_max = max(self.in_flight_max, self.in_flight)
            request = self.site.ask_soon(next(self.texts), self.site.pace.drains_within_s)
            request.add_done_callback(self._note)
            self.sent.append(request)

    def _note(self, request: asyncio.Task[Answer]) -> None:
        self.in_flight -= 1
        if not request.cancelled() and request.result().is_good:
            self.last_worker = request.result().worker_pid
            self.last_good_s = max(self.last_good_s, request.result().sent_s)


async def _kill_again_and_again(site: Site, crowd: Crowd) -> None:
    """Kill the worker that answered last. After a kill, wait for the first answer of its replacement."""
    killed: set[int | None] = set()
    while True:
        await asyncio.sleep(site.pace.storm_every_s)
        worker = await until(lambda: crowd.last_worker not in (None, *killed) and crowd.last_worker)
        killed.add(worker)
        site.kill(worker)
        crowd.kills += 1


async def _throughput_per_s(site: Site, texts: Iterator[str]) -> float:
    """The throughput in a short closed loop."""
    began = time.monotonic()
    done = await asyncio.gather(*(_user(site, texts, began + _PILOT_S) for _ in range(_USERS)))
    return sum(done) / (time.monotonic() - began)


async def _user(site: Site, texts: Iterator[str], until_s: float) -> int:
    done = 0
    while time.monotonic() < until_s:
        done += (await site.ask(next(texts))).is_good
    return done


async def _normal_again(site: AnySite, limit_ms: float) -> float | None:
    """The time at which the first request within `limit_ms` was sent; None after the time limit."""
    deadline = time.monotonic() + site.pace.drains_within_s
    while time.monotonic() < deadline and not site.has_ended():
        answer = await site.ask(within_s=site.pace.drains_within_s)
        if answer.is_good and answer.took_ms <= limit_ms:
            return answer.sent_s
        await asyncio.sleep(LOOKS_EVERY_S)
    return None


def _outcome_of_overload(site: AnySite, counted: Tally, recovered_s: float | None) -> str:
    if site.has_ended():
        return "server died"
    if recovered_s is None:
        return "stuck"
    if counted.failed or counted.unanswered:
        return "recovered"
    return "sheds" if counted.refused else "piles up"
