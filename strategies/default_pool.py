"""The call runs in the event loop's own threads, as with `asyncio.to_thread`: shared with all that uses them.

It counts on the loop's default executor as asyncio makes it. A smaller one (``loop.set_default_executor``) or
threads that others never free end the opening with `threading.BrokenBarrierError` after `PATIENCE_S`.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from strategies import Call, Options, Setup, Submit, works_everywhere
from strategies._pool import PATIENCE_S, LoopThreads, serving_threads

SUMMARY = "in the event loop's default threads, as asyncio.to_thread does"
WHEN_FULL = (
    "nothing is refused: items wait, first in first out, in a queue without a bound, "
    "together with everything else that uses the loop's threads"
)
WHEN_WORKER_DIES = "it is the server itself that dies"
TAKES: frozenset[str] = frozenset()
why_not = works_everywhere


def worker_count(options: Options) -> int:  # noqa: ARG001  asyncio has decided
    """As many threads as asyncio gives a loop: processors + 4, at most 32."""
    # the former from Python 3.13 on
    processors: Callable[[], int | None] = getattr(os, "process_cpu_count", os.cpu_count)
    return min(32, (processors() or 1) + 4)


@asynccontextmanager
async def open(setup: Setup, call: Call, options: Options) -> AsyncIterator[Submit]:
    """See the contract in `strategies`. On leaving, the threads stay: they are the loop's."""
    pool = LoopThreads(partial(asyncio.get_running_loop().run_in_executor, None))
    async with serving_threads(pool, worker_count(options), setup, call, PATIENCE_S) as submit:
        yield submit
