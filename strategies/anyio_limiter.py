"""The call runs in anyio's threads behind a capacity limiter, as the body of a ``def`` route does.

Starlette gives all ``def`` routes, sync dependencies and file responses together one limiter of 40; this one
is the strategy's own, so that nothing else can use it up. ``workers`` is its size.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from strategies import Call, Options, Setup, Submit, works_everywhere
from strategies._pool import PATIENCE_S, LoopThreads, serving_threads

SUMMARY = "in anyio's threads behind a limiter (40 unless told otherwise), as a def route does"
WHEN_FULL = "nothing is refused: items wait for the limiter, first in first out, in a queue without a bound"
WHEN_WORKER_DIES = "it is the server itself that dies"
TAKES = frozenset({"workers"})
why_not = works_everywhere

STARLETTES_SIZE = 40


def worker_count(options: Options) -> int:
    """The limiter's size."""
    return options.workers or STARLETTES_SIZE


@asynccontextmanager
async def open(setup: Setup, call: Call, options: Options) -> AsyncIterator[Submit]:
    """See the contract in `strategies`. On leaving, idle threads stay: anyio ends them with the loop."""
    limiter = CapacityLimiter(worker_count(options))
    entering: set[asyncio.Task[None]] = set()

    def start(work: Callable[[], None]) -> None:
        task = asyncio.create_task(run_sync(work, limiter=limiter))
        entering.add(task)
        task.add_done_callback(entering.discard)

    try:
        async with serving_threads(
            LoopThreads(start), worker_count(options), setup, call, PATIENCE_S
        ) as submit:
            yield submit
    finally:
        await asyncio.gather(*entering)
