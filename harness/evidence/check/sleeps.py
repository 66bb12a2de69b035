"""What sleeps take on this machine: facts without a verdict."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

SLEEPS = 20
Sleep = Callable[[float], Awaitable[None]]


async def _took_ms(sleep: Sleep, asked_ms: float) -> float:
    """By the median."""
    took = []
    for _ in range(SLEEPS):
        began = time.perf_counter()
        await sleep(asked_ms / 1e3)
        took.append((time.perf_counter() - began) * 1e3)
    return statistics.median(took)


async def _blocking(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251 - it is what is measured


def loop_sleep_ms(asked_ms: float) -> float:
    """What `asyncio.sleep` takes, whose timers are rounded up: to whole ms, by some kernels to even ones."""
    return asyncio.run(_took_ms(asyncio.sleep, asked_ms))


def facts() -> dict[str, float]:
    """What sleeps take on this machine, in ms by the median: asked → taken."""
    kinds: dict[str, Sleep] = {"time.sleep": _blocking, "asyncio.sleep": asyncio.sleep}
    return {
        f"{name}({asked:g} ms)": asyncio.run(_took_ms(sleep, asked))
        for name, sleep in kinds.items()
        for asked in (5.0, 20.0)
    }
