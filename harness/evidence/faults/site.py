"""The server of an arm during a fault: send requests to it, observe it, kill its processes.

`AnySite` is what the faults of all servers use; `Site` is our own server, `command_site` a command's.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import aiohttp
import psutil

from harness.errors import HarnessError
from harness.evidence.faults.client import Answer, send, tally
from harness.evidence.faults.records import Observation
from harness.numbers import counted
from harness.plans.arm import Arm
from harness.run.server_process import Server
from harness.wire.options import WorkloadOptions
from harness.workloads import faulty

INNOCENT = "innocent"
LOG = "server.log"
LOOKS_EVERY_S = 0.02
_FAIR_S = 1.0  # the shortest time limit of a request, even for the last one before the recovery limit
ORPHANS_END_WITHIN_S = 2.0


@dataclass(frozen=True)
class Pace:
    """Durations and time limits, in seconds."""

    recovers_within_s: float = 8.0
    ends_within_s: float = 6.0  # after SIGTERM
    overload_s: float = 10.0
    drains_within_s: float = 60.0  # the queue after an overload
    storm_s: float = 30.0
    storm_every_s: float = 2.0
    pilot_s: float = 2.0  # of load, to see what a command answers and which of its processes work


Value = TypeVar("Value")


async def until(look: Callable[[], Value], within_s: float = math.inf) -> Value:
    """Call `look` until it returns a true value or the time is over; return its last value."""
    deadline = time.monotonic() + within_s
    while not (value := look()) and time.monotonic() < deadline:  # noqa: ASYNC110  see below
        await asyncio.sleep(LOOKS_EVERY_S)  # other processes set no event that could be awaited
    return value


class AnySite(ABC):
    """A server on which a fault is tried."""

    pace: Pace

    @abstractmethod
    async def ask(self, text: str | None = None, within_s: float | None = None) -> Answer:
        """Send a request; wait for its answer as long as a recovery may take."""

    @abstractmethod
    async def health(self, within_s: float) -> Answer:
        """The answer of the route that says whether the server is ready."""

    @abstractmethod
    def has_ended(self) -> bool:
        """Whether the server's process has ended."""

    @abstractmethod
    def family(self) -> list[psutil.Process]:
        """Every running process started by the server or its descendants."""

    @abstractmethod
    def died_with(self, pid: int | None) -> tuple[str, ...]:
        """A note if the killed worker was the server itself."""

    def ask_soon(self, text: str | None = None, within_s: float | None = None) -> asyncio.Task[Answer]:
        """Send a request in the background."""
        return asyncio.create_task(self.ask(text, within_s))

    def ask_many(self, count: int) -> list[asyncio.Task[Answer]]:
        """Send `count` innocent requests at once."""
        return [self.ask_soon() for _ in range(count)]

    def kill(self, pid: int | None) -> float:
        """Send SIGKILL; return the time."""
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return time.monotonic()

    async def orphans(self) -> list[psutil.Process]:
        """The processes that still run a while after the server's end."""
        await until(lambda: not self.family(), ORPHANS_END_WITHIN_S)
        return self.family()

    # -- outcome ------------------------------------------------------------------------------------

    async def aftermath(
        self,
        since_s: float,
        innocents: Sequence[asyncio.Task[Answer]],
        *,
        item: asyncio.Task[Answer] | None = None,
        notes: Sequence[str] = (),
        kills: int | None = None,
    ) -> Observation:
        """Wait for the innocent requests; at the same time, send requests until one gets a good answer."""
        later = asyncio.create_task(self._later(since_s))
        answers = await asyncio.gather(*innocents)
        good = [answer for answer in (*answers, *await later) if answer.is_good and answer.sent_s >= since_s]
        recovered_s = min((answer.done_s for answer in good), default=None)
        return Observation(
            outcome=self._outcome(answers, later.result()),
            recovered_s=None if recovered_s is None else recovered_s - since_s,
            tally=tally(answers),
            item="" if item is None else str(await item),
            longest_ms=max((answer.took_ms for answer in answers if answer.in_time), default=None),
            kills=kills,
            notes=tuple(notes),
        )

    async def _later(self, since_s: float) -> list[Answer]:
        """Send requests one after another until one gets a good answer or the time is over."""
        answers: list[Answer] = []
        while (left_s := since_s + self.pace.recovers_within_s - time.monotonic()) > 0:
            answers.append(await self.ask(within_s=max(left_s, _FAIR_S)))
            if answers[-1].is_good or self.has_ended():
                break
            await asyncio.sleep(0.05)
        return answers

    def _outcome(self, answers: Sequence[Answer], later: Sequence[Answer]) -> str:
        if self.has_ended():
            return "server died"
        if later and later[-1].is_good:
            return "unharmed" if all(answer.is_good for answer in answers) else "recovered"
        return "broken" if later and later[-1].in_time else "stuck"


@dataclass(eq=False)
class Site(AnySite):
    """The server of an arm of ours, on which a fault is tried."""

    arm: Arm
    workload: WorkloadOptions
    server: Server
    session: aiohttp.ClientSession
    pace: Pace
    folder: Path

    def __post_init__(self) -> None:
        # all processes that the server starts belong to it, even after their parent has ended
        self._group = os.getpgid(self.server.pid)

    # -- requests -----------------------------------------------------------------------------------

    async def ask(self, text: str | None = None, within_s: float | None = None) -> Answer:
        within_s = within_s or self.pace.recovers_within_s
        return await send(self.session, "POST", "/predict", within_s, {"text": text or INNOCENT})

    async def health(self, within_s: float) -> Answer:
        return await send(self.session, "GET", "/health", within_s)

    # -- observations -------------------------------------------------------------------------------

    async def runs(
        self, what: str, times: int = 1, *, unless: asyncio.Task[Answer] | None = None
    ) -> int | None:
        """Wait until an item has been started `times` times; return the process of the last start.

        None if the request `unless` is answered first, or after the time limit.
        """
        is_over = asyncio.Event().is_set if unless is None else unless.done
        await until(lambda: len(self.runs_of(what)) >= times or is_over(), self.pace.recovers_within_s)
        return next(iter(self.runs_of(what)[times - 1 :]), None)

    def runs_of(self, what: str) -> list[int]:
        """The process of each start of the item, or of a set-up."""
        log = self.folder / LOG
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        begins = faulty.log_line_prefix(what)
        return [int(line.removeprefix(begins)) for line in lines if line.startswith(begins)]

    def times(self, item: str) -> str:
        """How often the item was started, in words."""
        return counted(len(self.runs_of(item)), "time")

    def has_ended(self) -> bool:
        try:
            self.server.check_alive(stage="fault")
        except HarnessError:
            return True
        return False

    def family(self) -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if self._is_of_the_family(process)]

    def _is_of_the_family(self, process: psutil.Process) -> bool:
        """Whether it runs in the run's process group; our own children, such as the server, do not count."""
        try:
            is_in_group = os.getpgid(process.pid) == self._group
            return is_in_group and process.ppid() != os.getpid() and process.status() != psutil.STATUS_ZOMBIE
        except (ProcessLookupError, psutil.NoSuchProcess):
            return False

    # -- actions ------------------------------------------------------------------------------------

    def died_with(self, pid: int | None) -> tuple[str, ...]:
        return ("the worker is the server itself",) if pid == self.server.pid else ()

    async def ask_to_end(self) -> float | None:
        """Send SIGTERM; return the seconds until the end, None if the server was dead or had to be killed."""
        if self.has_ended():
            return None
        began = time.monotonic()
        os.kill(self.server.pid, signal.SIGTERM)
        if await until(self.has_ended, self.pace.ends_within_s):
            return time.monotonic() - began
        self.kill(self.server.pid)
        return None
