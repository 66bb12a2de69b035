"""The call runs in a dedicated thread pool of this process: shared memory and a shared interpreter lock."""

import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager

from strategies import Call, Options, Setup, Submit, always_available, workers_or_one
from strategies._pool import serving_threads

SUMMARY = "in a dedicated thread pool in the server's process"
WHEN_FULL = "nothing is refused: items wait in an unbounded first-in, first-out queue"
WHEN_WORKER_DIES = "the server dies with it"
TAKES = frozenset({"workers", "switch_interval_ms"})
why_not = always_available
worker_count = workers_or_one


@asynccontextmanager
async def open(setup: Setup, call: Call, options: Options) -> AsyncIterator[Submit]:
    """See the contract in `strategies`. The switch interval holds for the whole process until closing."""
    workers = worker_count(options)
    with _switching(options.switch_interval_ms):
        pool = ThreadPoolExecutor(workers, thread_name_prefix="strategy-thread")
        async with serving_threads(pool, workers, setup, call) as submit:
            yield submit


@contextmanager
def _switching(interval_ms: float | None) -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(before if interval_ms is None else interval_ms / 1e3)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
