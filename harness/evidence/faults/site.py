"""Where a fault happens: an arm's server, who asks it, and what can be done to it."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import aiohttp
import psutil

from harness.errors import HarnessError
from harness.evidence.faults.client import Answer, send, tally
from harness.evidence.faults.records import Found
from harness.numbers import counted
from harness.plans.arm import Arm
from harness.run.server_process import Server
from harness.wire.options import WorkloadOptions
from harness.workloads import faulty

INNOCENT = "innocent"
LOG = "server.log"
LOOKS_EVERY_S = 0.02
_FAIR_S = 1.0  # no request is given less, not even the last of those that look for a recovery
ORPHANS_END_WITHIN_S = 2.0


@dataclass(frozen=True)
class Pace:
    """How long things may take, in seconds."""

    recovers_within_s: float = 8.0
    ends_within_s: float = 6.0  # a server that is asked to
    overload_s: float = 10.0
    drains_within_s: float = 60.0  # what an overload has piled up
    storm_s: float = 30.0
    storm_every_s: float = 2.0


Seen = TypeVar("Seen")


async def until(look: Callable[[], Seen], within_s: float = math.inf) -> Seen:
    """What `look` says, as soon as that is something, or when time is over."""
    deadline = time.monotonic() + within_s
    while not (seen := look()) and time.monotonic() < deadline:  # noqa: ASYNC110  see below
        await asyncio.sleep(LOOKS_EVERY_S)  # other processes set no event that could be awaited
    return seen


@dataclass(eq=False)
class Site:
    """One arm's server, about to meet a fault."""

    arm: Arm
    workload: WorkloadOptions
    server: Server
    session: aiohttp.ClientSession
    pace: Pace
    folder: Path

    def __post_init__(self) -> None:
        # all that the server starts belongs to it, also when its parent is gone
        self._group = os.getpgid(self.server.pid)

    # -- requests -----------------------------------------------------------------------------------

    async def ask(self, text: str = INNOCENT, within_s: float | None = None) -> Answer:
        """Ask, and wait as long as a recovery may take."""
        within_s = within_s or self.pace.recovers_within_s
        return await send(self.session, "POST", "/predict", within_s, {"text": text})

    async def health(self, within_s: float) -> Answer:
        """What /health says."""
        return await send(self.session, "GET", "/health", within_s)

    def ask_soon(self, text: str = INNOCENT, within_s: float | None = None) -> asyncio.Task[Answer]:
        """The same beside whatever else happens."""
        return asyncio.create_task(self.ask(text, within_s))

    def ask_many(self, count: int) -> list[asyncio.Task[Answer]]:
        """So many innocent questions at once."""
        return [self.ask_soon() for _ in range(count)]

    # -- what it does -------------------------------------------------------------------------------

    async def runs(
        self, what: str, times: int = 1, *, unless: asyncio.Task[Answer] | None = None
    ) -> int | None:
        """The process in which an item is run for the so-manieth time, as soon as it is.

        None when the request `unless` has been answered before, or it takes too long.
        """
        is_over = asyncio.Event().is_set if unless is None else unless.done
        await until(lambda: len(self.runs_of(what)) >= times or is_over(), self.pace.recovers_within_s)
        return next(iter(self.runs_of(what)[times - 1 :]), None)

    def runs_of(self, what: str) -> list[int]:
        """The process of each time that the item, or a set-up, was begun."""
        log = self.folder / LOG
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        begins = faulty.log_line_prefix(what)
        return [int(line.removeprefix(begins)) for line in lines if line.startswith(begins)]

    def times(self, item: str) -> str:
        """How often it was begun, in words."""
        return counted(len(self.runs_of(item)), "time")

    def has_ended(self) -> bool:
        """Whether the server's process is gone."""
        try:
            self.server.check_alive(stage="fault")
        except HarnessError:
            return True
        return False

    def family(self) -> list[psutil.Process]:
        """Every process that the server has started, or one of those, and that runs."""
        return [process for process in psutil.process_iter() if self._is_of_the_family(process)]

    def _is_of_the_family(self, process: psutil.Process) -> bool:
        """Whether it is in the group of the run; the supervisors and the server itself are our children."""
        try:
            is_in_group = os.getpgid(process.pid) == self._group
            return is_in_group and process.ppid() != os.getpid() and process.status() != psutil.STATUS_ZOMBIE
        except (ProcessLookupError, psutil.NoSuchProcess):
            return False

    # -- what is done to it -------------------------------------------------------------------------

    def kill(self, pid: int | None) -> float:
        """SIGKILL; when that was."""
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return time.monotonic()

    def died_with(self, pid: int | None) -> tuple[str, ...]:
        """A note where the worker was the server."""
        return ("there is no worker but the server itself",) if pid == self.server.pid else ()

    async def ask_to_end(self) -> float | None:
        """SIGTERM; how long it took, None if too long (then it is killed), or if it was dead already."""
        if self.has_ended():
            return None
        began = time.monotonic()
        os.kill(self.server.pid, signal.SIGTERM)
        if await until(self.has_ended, self.pace.ends_within_s):
            return time.monotonic() - began
        self.kill(self.server.pid)
        return None

    async def orphans(self) -> list[psutil.Process]:
        """What is still there a while after the server's end."""
        await until(lambda: not self.family(), ORPHANS_END_WITHIN_S)
        return self.family()

    # -- what comes of it ---------------------------------------------------------------------------

    async def aftermath(
        self,
        since_s: float,
        innocents: Sequence[asyncio.Task[Answer]],
        *,
        item: asyncio.Task[Answer] | None = None,
        notes: Sequence[str] = (),
        kills: int | None = None,
    ) -> Found:
        """Wait for the innocent, and meanwhile ask again and again until there is a good answer."""
        later = asyncio.create_task(self._later(since_s))
        answers = await asyncio.gather(*innocents)
        good = [answer for answer in (*answers, *await later) if answer.is_good and answer.sent_s >= since_s]
        recovered_s = min((answer.done_s for answer in good), default=None)
        return Found(
            outcome=self._outcome(answers, later.result()),
            recovered_s=None if recovered_s is None else recovered_s - since_s,
            tally=tally(answers),
            item="" if item is None else str(await item),
            longest_ms=max((answer.took_ms for answer in answers if answer.in_time), default=None),
            kills=kills,
            notes=tuple(notes),
        )

    async def _later(self, since_s: float) -> list[Answer]:
        """Requests one after another, until one is answered well or it is too late."""
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
