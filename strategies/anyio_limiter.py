"""The call runs in anyio's threads behind a capacity limiter, like the body of a ``def`` route.

In Starlette, all ``def`` routes, sync dependencies and file responses share one limiter of 40. This strategy
has its own limiter, so that nothing else can use it up. ``workers`` is its size.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from strategies import Call, Options, Setup, Submit, always_available
from strategies._pool import WARM_UP_TIMEOUT_S, LoopThreads, serving_threads

SUMMARY = "in anyio's threads behind a limiter (default 40), like a def route"
WHEN_FULL = "nothing is refused: items wait for the limiter in an unbounded first-in, first-out queue"
WHEN_WORKER_DIES = "the server dies with it"
TAKES = frozenset({"workers"})
why_not = always_available

STARLETTE_LIMIT = 40


def worker_count(options: Options) -> int:
    """Return the limiter's size."""
    return options.workers or STARLETTE_LIMIT


@asynccontextmanager
async def open(setup: Setup, call: Call, options: Options) -> AsyncIterator[Submit]:
    """See the contract in `strategies`. Idle threads stay after closing: anyio ends them with the loop."""
    limiter = CapacityLimiter(worker_count(options))
    entering: set[asyncio.Task[None]] = set()

    def start(work: Callable[[], None]) -> None:
        task = asyncio.create_task(run_sync(work, limiter=limiter))
        entering.add(task)
        task.add_done_callback(entering.discard)

    try:
        async with serving_threads(
            LoopThreads(start), worker_count(options), setup, call, WARM_UP_TIMEOUT_S
        ) as submit:
            yield submit
    finally:
        await asyncio.gather(*entering)
