"""The call runs in a thread pool of its own, in this process: one memory, and one interpreter lock."""

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from threading import Barrier

from strategies import Call, Options, Setup, Submit
from strategies._pool import serving, warm_up_thread

SUMMARY = "in a thread pool of its own, in the server's process"
WHEN_FULL = "nothing is refused: items wait, first in first out, in a queue without a bound"
TAKES = frozenset({"workers"})


def worker_count(options: Options) -> int:
    """As many threads as asked for."""
    return options.workers


@asynccontextmanager
async def open(setup: Setup, call: Call, options: Options) -> AsyncIterator[Submit]:
    """See the contract in `strategies`."""
    everyone = Barrier(worker_count(options))
    pool = ThreadPoolExecutor(everyone.parties, thread_name_prefix="strategy-thread")
    async with serving(pool, partial(warm_up_thread, setup, call, everyone), everyone, call) as submit:
        yield submit
