"""How late an event loop is: a beat every 5 ms that notes when it really came."""

from __future__ import annotations

import asyncio
import math
from typing import NamedTuple

from harness.wire.clock import now_ms

EVERY_MS = 5.0


class Lag(NamedTuple):
    """How late the beats of one stretch came; None where there was no beat.

    With fewer than 100 beats (half a second) the p99 is the latest of them.
    """

    beats: int
    p99_ms: float | None
    max_ms: float | None


class Beat:
    """The lateness of the loop it is started on, sampled on a fixed grid of `EVERY_MS`.

    A beat's lag is how much later than its place on the grid it came. In it is asyncio's own rounding of
    timers: 0.5-1.2 ms on a loop with nothing else to do. Below that a lag says nothing.

    A stalled loop swallows beats: 200 ms of stall are one late beat, and 39 that never came. Left out, they
    would hide the stall from the p99 (coordinated omission). So every place of the grid that has passed
    counts, 5 ms less late than the one before it: what somebody who arrived just then would have waited.

    It costs 2 % of a core on an idle loop, which it wakes 200 times a second, and below 1 % on a busy one: so
    it runs only while its arm is measured, in every arm alike.
    """

    def __init__(self) -> None:
        self._lags_ms: list[float] = []
        self._due_ms = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to beat on the running loop, from nothing: what an earlier start has noted is forgotten."""
        self._cancel()
        self._lags_ms = []
        self._due_ms = now_ms() + EVERY_MS
        self._await_next()

    async def stop(self) -> Lag:
        """End it and say how late the beats were, once. Without a start since the last stop: no beats."""
        if self._timer is not None:
            self._note()  # a stall that has just ended is seen here before its own beat runs
            self._cancel()
        noted, self._lags_ms = self._lags_ms, []
        return lag_of(noted)

    def _await_next(self) -> None:
        # a bare timer: a task that sleeps costs 40 % more, and starts late when the loop is busy
        delay_s = max(0.0, self._due_ms - now_ms()) / 1e3
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._beat)

    def _beat(self) -> None:
        self._note()
        self._await_next()

    def _note(self) -> None:
        now = now_ms()
        while self._due_ms <= now:
            self._lags_ms.append(now - self._due_ms)
            self._due_ms += EVERY_MS

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def lag_of(lags_ms: list[float]) -> Lag:
    """The Lag of these beats; the p99 by nearest rank."""
    if not lags_ms:
        return Lag(0, None, None)
    ordered = sorted(lags_ms)
    rank = math.ceil(0.99 * len(ordered))
    return Lag(len(ordered), ordered[rank - 1], ordered[-1])
