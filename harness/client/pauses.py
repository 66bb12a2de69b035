"""The pauses of users, which all end as soon as the window is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from harness.client.window import Window

SHORT_SLEEP_MS = 6.0
WATCH_EVERY_S = 0.02


def next_sleep_ms(left_ms: float) -> float:
    """Return how long to sleep next if this time is left.

    On some kernels a long sleep ends up to 2 ms late, a short one less than 1 ms. So sleep twice.
    """
    return left_ms - SHORT_SLEEP_MS if left_ms > 2 * SHORT_SLEEP_MS else left_ms


class Pauses:
    """Lets users pause. `watch` must run meanwhile: thousands of users cannot each look for the end."""

    def __init__(self, window: Window, now: Callable[[], float]) -> None:
        self._window = window
        self._now = now  # ms from the trial's start
        self._sleeping: set[asyncio.Future[None]] = set()

    async def until(self, due_ms: float) -> bool:
        """Return True at `due_ms`, at once if that has passed, or False as soon as the window is over."""
        while not self._window.over:
            left_ms = due_ms - self._now()
            if left_ms <= 0:
                return True
            await self._sleep(next_sleep_ms(left_ms) / 1e3)
        return False

    async def watch(self) -> None:
        """Wait until the window is over, even if no user sends a request meanwhile; then end all pauses."""
        while not self._window.over:
            await asyncio.sleep(WATCH_EVERY_S)
            self._window.passed(self._now())
        for sleeping in self._sleeping:
            _wake(sleeping)

    async def _sleep(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        sleeping = loop.create_future()
        timer = loop.call_later(seconds, _wake, sleeping)
        self._sleeping.add(sleeping)
        try:
            await sleeping
        finally:
            timer.cancel()
            self._sleeping.discard(sleeping)


def _wake(sleeping: asyncio.Future[None]) -> None:
    if not sleeping.done():
        sleeping.set_result(None)
