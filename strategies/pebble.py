"""The call runs in pebble's pool of processes, which replaces a worker that dies or takes too long.

A call with a ``timeout_s`` that takes longer is killed with its worker; pebble raises `TimeoutError` for it,
and its own ``ProcessExpired`` where a worker has died.
"""

import multiprocessing
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any

from strategies import Call, Options, Setup, Submit, as_many_as_asked_for
from strategies._adapter import Foreign, adapted
from strategies._child import follow_parent

SUMMARY = (
    "in pebble's pool of processes, which replaces the dead and kills what takes too long (extra: pebble)"
)
WHEN_FULL = (
    "nothing is refused: items wait, first in first out, in a queue without a bound, "
    "and are run even if they were cancelled meanwhile"
)
WHEN_WORKER_DIES = (
    "its item fails; another worker is started, and the next item waits for its model; "
    "but if it dies while none has an item, pebble gives up the pool, and the service is broken for good"
)
TAKES = frozenset({"workers", "timeout_s"})
worker_count = as_many_as_asked_for


def why_not() -> str | None:
    """It needs its package."""
    return None if find_spec("pebble") else "pebble is not installed; install the extra: pebble"


@asynccontextmanager
async def open(setup: Setup, call: Call, options: Options) -> AsyncIterator[Submit]:
    """See the contract in `strategies`."""
    workers = worker_count(options)
    make = partial(_pool, workers, options.timeout_s)
    async with adapted(make, workers, setup, call, follow_parent) as submit:
        yield submit


def _pool(workers: int, timeout_s: float | None) -> Foreign:
    """pebble's pool with the names of the standard library."""
    from pebble import ProcessPool

    pool = ProcessPool(max_workers=workers, context=multiprocessing.get_context("spawn"))

    def send(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = pool.schedule(fn, args, kwargs, timeout=timeout_s)
        return future

    def close(wait: bool) -> None:
        pool.close()  # type: ignore[no-untyped-call]  # of the library
        if wait:
            pool.join()

    return Foreign(send, close)
