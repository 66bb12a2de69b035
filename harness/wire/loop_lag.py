"""The lag of an event loop: a timer that is due every 5 ms notes how late it really ran."""

from __future__ import annotations

import asyncio
import math
from array import array
from collections.abc import Sequence
from typing import NamedTuple

from harness.wire.clock import now_ms

SAMPLE_INTERVAL_MS = 5.0


class Lag(NamedTuple):
    """The lag of an event loop over a period of time; the figures are None without samples.

    With fewer than 100 samples (half a second), the p99 is the maximum.
    """

    samples: int
    p99_ms: float | None
    max_ms: float | None


class LoopLagProbe:
    """Samples the lag of the event loop on which it is started, on a fixed grid of `SAMPLE_INTERVAL_MS`.

    A sample is the time from a point of the grid until the loop ran the timer for it. It includes the
    rounding of asyncio's timers: 0.5-1.2 ms on an idle loop. Smaller lags mean nothing.

    A stalled loop skips timers: during a stall of 200 ms, one timer runs late and 39 never run. Without those
    39, the p99 would hide the stall (coordinated omission). So every point of the grid that has passed counts
    as a sample, each 5 ms less late than the one before. This is how long a request that arrived then would
    have waited.

    The probe takes 2 % of a core on an idle loop, which it wakes 200 times per second, and less than 1 % on a
    busy one. So it runs only while its arm is measured, in the same way for every arm.
    """

    def __init__(self) -> None:
        self._lags_ms = array("d")  # 6 MB an hour
        self._due_ms = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start to sample the running loop, and discard earlier samples."""
        self._cancel()
        self._lags_ms = array("d")
        self._due_ms = now_ms() + SAMPLE_INTERVAL_MS
        self._schedule_next()

    async def stop(self) -> Lag:
        """Stop and return the lag since `start`. Each sample is returned once."""
        if self._timer is not None:
            self._sample()  # a stall that has just ended counts, although its timer has not run yet
            self._cancel()
        lags_ms, self._lags_ms = self._lags_ms, array("d")
        return lag_of(lags_ms)

    def _schedule_next(self) -> None:
        # a plain timer: a sleeping task costs 40 % more and starts late on a busy loop
        delay_s = max(0.0, self._due_ms - now_ms()) / 1e3
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        self._sample()
        self._schedule_next()

    def _sample(self) -> None:
        now = now_ms()
        while self._due_ms <= now:
            self._lags_ms.append(now - self._due_ms)
            self._due_ms += SAMPLE_INTERVAL_MS

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def lag_of(lags_ms: Sequence[float]) -> Lag:
    """Return the Lag of these samples, with the p99 by nearest rank."""
    if not lags_ms:
        return Lag(0, None, None)
    ordered = sorted(lags_ms)
    rank = math.ceil(0.99 * len(ordered))
    return Lag(len(ordered), ordered[rank - 1], ordered[-1])
