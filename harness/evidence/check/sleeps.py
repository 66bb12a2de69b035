"""What sleeps take on this machine: facts without a verdict."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable

SLEEPS = 20


def sleep_ms(asked_ms: float) -> float:
    """What `time.sleep` of so many ms takes here, by the median."""
    return statistics.median(_timed(lambda: time.sleep(asked_ms / 1e3)) for _ in range(SLEEPS))


def loop_sleep_ms(asked_ms: float) -> float:
    """The same of `asyncio.sleep`, whose timers are rounded up: to whole ms, by some kernels to even ones."""

    async def sleeps() -> list[float]:
        took = []
        for _ in range(SLEEPS):
            began = time.perf_counter()
            await asyncio.sleep(asked_ms / 1e3)
            took.append((time.perf_counter() - began) * 1e3)
        return took

    return statistics.median(asyncio.run(sleeps()))


def facts() -> dict[str, float]:
    """What sleeps take on this machine, in ms by the median: asked → taken."""
    kinds = {"time.sleep": sleep_ms, "asyncio.sleep": loop_sleep_ms}
    return {f"{name}({asked:g} ms)": take(asked) for name, take in kinds.items() for asked in (5.0, 20.0)}


def _timed(act: Callable[[], None]) -> float:
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1e3
