"""A server that is a command, during a fault: everything is seen from outside, by HTTP and its processes."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from statistics import median
from typing import NamedTuple

import aiohttp
import psutil
from yarl import URL

from harness.errors import HarnessError
from harness.evidence.faults.asking import Asking
from harness.evidence.faults.client import Answer, send
from harness.evidence.faults.site import AnySite, Pace, until
from harness.plans.arm import Arm
from harness.run.command_server import ASKS_EVERY_S, READY_WITHIN_S
from harness.run.meter import process_cpu_ms

_UNAVAILABLE = 503
USERS = 8  # of the closed loop in which a server is observed
_LONE = 5  # requests, one after another, for the usual time of an answer
_AFTER_REFUSAL_S = 0.05
_BACKLOG_S = 0.5  # of work in a burst
_FEWEST, _MOST = 8, 64  # requests of a burst
_WORKS = 0.1  # a process works if it uses at least this share of the server's CPU
_ALIKE = 0.5  # so does every process that uses at least this share of the busiest one's CPU
_DIES_WITHIN_S = 2.0


class Pending(NamedTuple):
    """A request in the background, and whether it has left this process."""

    answer: asyncio.Task[Answer]
    sent_s: list[float]  # when its head was written; empty before

    @property
    def is_in_flight(self) -> bool:
        return bool(self.sent_s) and not self.answer.done()


def session() -> aiohttp.ClientSession:
    """A client session in which each request opens a connection, and notes when it was written."""
    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(_note_sent)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    return aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trace_configs=[trace]
    )


async def _note_sent(_session: object, context: object, _request: object) -> None:
    noted = getattr(context, "trace_request_ctx", None)
    if isinstance(noted, list):
        noted.append(time.monotonic())


def working(cpu_ms: Mapping[int, float], main: int) -> list[int]:
    """Return the processes that do a server's work, the busiest first: the rule that names its workers.

    `cpu_ms`: the CPU time of each process under load. These are the busiest process and those that use at
    least half as much. The main process counts only if all others use less than a tenth of the whole.
    """
    least = _WORKS * sum(cpu_ms.values())
    found = {pid: used for pid, used in cpu_ms.items() if pid != main and used >= least}
    if not found:
        return [main]
    busiest = max(found.values())
    return sorted((pid for pid in found if found[pid] >= _ALIKE * busiest), key=lambda pid: -found[pid])


class CommandSite(AnySite):
    """A command's server. `observe` must be awaited before a fault."""

    def __init__(
        self,
        arm: Arm,
        url: str,
        keeper: int,  # the process that keeps the command
        session: aiohttp.ClientSession,
        asking: Asking,
        pace: Pace,
    ) -> None:
        self.arm = arm
        self.pace = pace
        self.throughput_per_s = 0.0
        self.usual_ms = 0.0  # of a request alone
        self.workers: list[int] = []
        self.processes = 0
        self._url = url
        self._session = session
        self._asking = asking
        self._seen: set[psutil.Process] = set()
        try:
            self._keeper = psutil.Process(keeper)
            # the command itself is older than what it has started, also if its keeper has adopted that
            self.main = min(self._keeper.children(), key=lambda one: (one.create_time(), one.pid))
        except (psutil.NoSuchProcess, ValueError) as error:
            raise HarnessError(f"The command of arm {arm.name!r} has ended.", stage="faults") from error

    # -- requests -----------------------------------------------------------------------------------

    async def ask(self, text: str | None = None, within_s: float | None = None) -> Answer:
        return await self._ask(text, within_s)

    async def health(self, within_s: float) -> Answer:
        url = URL(self._url + (self.arm.ready or "/"), encoded=True)
        answer = await send(self._session, "GET", url, within_s, allow_redirects=False)
        is_good = answer.status is not None and 200 <= answer.status < 300
        return answer._replace(expected_status=answer.status or 200) if is_good else answer

    def burst(self, count: int) -> list[Pending]:
        """Send this number of requests at once."""
        noted: list[list[float]] = [[] for _ in range(count)]
        return [Pending(asyncio.create_task(self._ask(sent_s=sent)), sent) for sent in noted]

    @property
    def backlog(self) -> int:
        """The requests that keep the server busy for about half a second, within limits."""
        return round(min(max(_FEWEST, self.throughput_per_s * _BACKLOG_S), _MOST))

    async def _ask(
        self, text: str | None = None, within_s: float | None = None, sent_s: list[float] | None = None
    ) -> Answer:
        url, options = self._asking.request(text or next(self._asking.texts))
        return await send(
            self._session,
            self._asking.method,
            url,
            within_s or self.pace.recovers_within_s,
            expected_status=self._asking.expected_status,
            trace_request_ctx=sent_s,
            **options,
        )

    # -- observations -------------------------------------------------------------------------------

    async def check_answer(self) -> None:
        """Send a request, again while the answer is 503. Raises HarnessError unless it is good in the end."""
        deadline = time.monotonic() + READY_WITHIN_S
        while True:
            first = await self.ask(within_s=deadline - time.monotonic())  # a worker may still load its model
            if first.status != _UNAVAILABLE or time.monotonic() > deadline:
                break
            await asyncio.sleep(ASKS_EVERY_S)
        if not first.is_good:
            raise HarnessError(
                f"The command of arm {self.arm.name!r} answers {self._asking.method} with {first}.",
                stage="faults",
                hint="Set the request with --path, --method, --header and --body, and the status of a good "
                "answer with --expect-status.",
            )

    async def observe(self) -> None:
        """Find what the server answers per second, and which of its processes work."""
        before, began = self.cpu_ms(), time.monotonic()
        done = await asyncio.gather(*(self._user(began + self.pace.pilot_s) for _ in range(USERS)))
        took_s = time.monotonic() - began
        self.workers = working(self.cpu_used_ms(before), self.main.pid)
        self.processes = len(self.family())
        self.usual_ms = median([(await self.ask()).took_ms for _ in range(_LONE)])
        # a lone user is a lower bound, also for a server that refuses most requests of several
        self.throughput_per_s = max(sum(done) / took_s, 1e3 / self.usual_ms)

    async def _user(self, until_s: float) -> int:
        good = 0
        while time.monotonic() < until_s:
            if (await self.ask()).is_good:
                good += 1
            else:
                await asyncio.sleep(_AFTER_REFUSAL_S)
        return good

    def cpu_ms(self) -> dict[int, float]:
        """The CPU time of each process of the server since its start."""
        found = {one.pid: process_cpu_ms(one.pid) for one in self.family()}
        return {pid: used for pid, used in found.items() if used is not None}

    def cpu_used_ms(self, before: Mapping[int, float]) -> dict[int, float]:
        """The CPU time of each process since `cpu_ms` returned `before`."""
        return {pid: used - before.get(pid, 0.0) for pid, used in self.cpu_ms().items()}

    def has_ended(self) -> bool:
        return not runs(self.main)

    def family(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            self._seen |= set(self._keeper.children(recursive=True))
        return [one for one in self._seen if runs(one)]

    def died_with(self, pid: int | None) -> tuple[str, ...]:
        return ("the worker is the server itself",) if pid == self.main.pid else ()

    def of_worker(self) -> tuple[str, ...]:
        """Notes on the process that is killed."""
        return self.died_with(self.workers[0]) or (f"killed the busiest of {self.processes} processes",)

    # -- actions ------------------------------------------------------------------------------------

    async def users(self, count: int, seconds: float) -> list[asyncio.Task[Answer]]:
        """Send requests in a closed loop for a while; return those that are then in flight."""

        requests = {number: self.ask_soon() for number in range(count)}
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0:
            await asyncio.wait(requests.values(), timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            done = [number for number, request in requests.items() if request.done()]
            requests |= {number: self.ask_soon() for number in done}
        return [request for request in requests.values() if not request.done()]

    def ask_to_stop(self) -> float:
        """Send the stop signal of the arm to the command; return the time."""
        with suppress(ProcessLookupError):
            os.kill(self.main.pid, signal.Signals[self.arm.stop])
        return time.monotonic()

    async def ask_to_end(self) -> float | None:
        """Stop it; return the seconds until its end, None if it was dead or had to be killed."""
        if self.has_ended():
            return None
        began = self.ask_to_stop()
        if await until(self.has_ended, self.pace.ends_within_s):
            return time.monotonic() - began
        self.kill(self.main.pid)
        await until(self.has_ended, _DIES_WITHIN_S)
        return None

    def kill_all(self) -> None:
        """Kill every process of the server that still runs."""
        for one in self.family():
            with suppress(psutil.NoSuchProcess):
                one.kill()


def runs(process: psutil.Process) -> bool:
    """Whether it still runs. A zombie has ended."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
