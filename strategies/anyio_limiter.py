"""The call runs in anyio's threads behind a capacity limiter, as the body of a ``def`` route does.

Starlette gives all ``def`` routes, sync dependencies and file responses together one limiter of 40; this one
is the strategy's own, so that nothing else can use it up. ``workers`` is its size.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from threading import Barrier

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from strategies import Call, Options, Setup, Submit
from strategies._pool import LoopThreads, PoolSubmit, serving, warm_up_thread

SUMMARY = "in anyio's threads behind a limiter (40 unless told otherwise), as a def route does"
WHEN_FULL = "nothing is refused: items wait for the limiter, first in first out, in a queue without a bound"
WHEN_WORKER_DIES = "it is the server itself that dies"
TAKES = frozenset({"workers"})

STARLETTES_SIZE = 40
PATIENCE_S = 600.0  # from the first warm worker to the last


def why_not() -> str | None:
    """Nothing stands against it."""
    return None


def worker_count(options: Options) -> int:
    """The limiter's size."""
    return options.workers or STARLETTES_SIZE


@asynccontextmanager
async def open(setup: Setup, call: Call, options: Options) -> AsyncIterator[Submit]:
    """See the contract in `strategies`. On leaving, idle threads stay: anyio ends them with the loop."""
    limiter = CapacityLimiter(worker_count(options))
    everyone = Barrier(worker_count(options), timeout=PATIENCE_S)
    entering: set[asyncio.Task[None]] = set()

    def start(work: Callable[[], None]) -> None:
        task = asyncio.create_task(run_sync(work, limiter=limiter))
        entering.add(task)
        task.add_done_callback(entering.discard)

    pool = LoopThreads(start)
    warm_up = partial(warm_up_thread, setup, call, everyone)
    try:
        async with serving(pool, warm_up, everyone, PoolSubmit(pool, call)) as submit:
            yield submit
    finally:
        await asyncio.gather(*entering)
