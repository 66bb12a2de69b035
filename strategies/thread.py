"""The call runs in a thread pool of its own, in this process: one memory, and one interpreter lock."""

import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from threading import Barrier

from strategies import Call, Options, Setup, Submit
from strategies._pool import PoolSubmit, serving, warm_up_thread

SUMMARY = "in a thread pool of its own, in the server's process"
WHEN_FULL = "nothing is refused: items wait, first in first out, in a queue without a bound"
WHEN_WORKER_DIES = "it is the server itself that dies"
TAKES = frozenset({"workers", "switch_interval_ms"})


def why_not() -> str | None:
    """Nothing stands against it."""
    return None


def worker_count(options: Options) -> int:
    """As many threads as asked for, or one."""
    return options.workers or 1


@asynccontextmanager
async def open(setup: Setup, call: Call, options: Options) -> AsyncIterator[Submit]:
    """See the contract in `strategies`. The switch interval is the whole process's, until leaving."""
    everyone = Barrier(worker_count(options))
    with _switching(options.switch_interval_ms):
        pool = ThreadPoolExecutor(everyone.parties, thread_name_prefix="strategy-thread")
        warm_up = partial(warm_up_thread, setup, call, everyone)
        async with serving(pool, warm_up, everyone, PoolSubmit(pool, call)) as submit:
            yield submit


@contextmanager
def _switching(interval_ms: float | None) -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(before if interval_ms is None else interval_ms / 1e3)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
