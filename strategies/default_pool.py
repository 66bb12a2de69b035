"""The call runs in the event loop's default threads, as with `asyncio.to_thread`. Other code shares them.

This relies on the default executor that asyncio creates. If it is smaller (``loop.set_default_executor``), or
if other code never frees its threads, opening raises `threading.BrokenBarrierError` after
`WARM_UP_TIMEOUT_S`.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from strategies import Call, Options, Setup, Submit, always_available
from strategies._pool import WARM_UP_TIMEOUT_S, LoopThreads, serving_threads

SUMMARY = "in the event loop's default threads, like asyncio.to_thread"
WHEN_FULL = (
    "nothing is refused: items wait in an unbounded first-in, first-out queue, "
    "together with all other work for the loop's threads"
)
WHEN_WORKER_DIES = "the server dies with it"
TAKES: frozenset[str] = frozenset()
why_not = always_available


def worker_count(options: Options) -> int:  # noqa: ARG001  asyncio sets the number
    """Return asyncio's number of threads for a loop: CPUs + 4, at most 32."""
    # process_cpu_count exists since Python 3.13
    cpu_count: Callable[[], int | None] = getattr(os, "process_cpu_count", os.cpu_count)
    return min(32, (cpu_count() or 1) + 4)


@asynccontextmanager
async def open(setup: Setup, call: Call, options: Options) -> AsyncIterator[Submit]:
    """See the contract in `strategies`. The threads stay after closing: they belong to the loop."""
    pool = LoopThreads(partial(asyncio.get_running_loop().run_in_executor, None))
    async with serving_threads(pool, worker_count(options), setup, call, WARM_UP_TIMEOUT_S) as submit:
        yield submit
