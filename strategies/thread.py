"""The call runs in a thread pool of its own, in this process: one memory, and one interpreter lock."""

import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager

from strategies import Call, Options, Setup, Submit, as_many_as_asked_for, works_everywhere
from strategies._pool import serving_threads

SUMMARY = "in a thread pool of its own, in the server's process"
WHEN_FULL = "nothing is refused: items wait, first in first out, in a queue without a bound"
WHEN_WORKER_DIES = "it is the server itself that dies"
TAKES = frozenset({"workers", "switch_interval_ms"})
why_not = works_everywhere
worker_count = as_many_as_asked_for


@asynccontextmanager
async def open(setup: Setup, call: Call, options: Options) -> AsyncIterator[Submit]:
    """See the contract in `strategies`. The switch interval is the whole process's, until leaving."""
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
