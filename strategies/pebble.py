"""The call runs in pebble's process pool, which replaces a worker that dies or takes too long.

A call that takes longer than ``timeout_s`` is killed with its worker, and pebble raises `TimeoutError`. If a
worker dies, pebble raises its own ``ProcessExpired``.
"""

import multiprocessing
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any

from strategies import Call, Options, Setup, Submit, workers_or_one
from strategies._adapter import ThirdPartyExecutor, adapted
from strategies._child import descendants, follow_parent, kill

SUMMARY = (
    "in pebble's process pool, which replaces dead workers and kills calls that take too long (extra: pebble)"
)
WHEN_FULL = (
    "nothing is refused: items wait in an unbounded first-in, first-out queue, "
    "and run even if they are cancelled while they wait"
)
WHEN_WORKER_DIES = (
    "its item fails, and the next item waits until a new worker loads the model; "
    "if it dies while no worker has an item, every request fails until the service restarts"
)
TAKES = frozenset({"workers", "timeout_s"})
worker_count = workers_or_one


def why_not() -> str | None:
    """Return why it cannot run if the package is missing."""
    return None if find_spec("pebble") else "pebble is not installed; install the extra pebble"


@asynccontextmanager
async def open(setup: Setup, call: Call, options: Options) -> AsyncIterator[Submit]:
    """See the contract in `strategies`."""
    workers = worker_count(options)
    make = partial(_pool, workers, options.timeout_s)
    async with adapted(make, workers, setup, call, follow_parent) as submit:
        yield submit


def _pool(workers: int, timeout_s: float | None) -> ThirdPartyExecutor:
    """Create pebble's pool behind the interface of `concurrent.futures.Executor`."""
    from pebble import ProcessPool

    pool = ProcessPool(max_workers=workers, context=multiprocessing.get_context("spawn"))

    def send(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = pool.schedule(fn, args, kwargs, timeout=timeout_s)
        return future

    def close(wait: bool) -> None:
        # pebble terminates its workers, so that they cannot end the processes that calls have started
        started = [pid for worker in pool._pool_manager.worker_manager.workers for pid in descendants(worker)]
        pool.close()  # type: ignore[no-untyped-call]  # pebble has no annotation here
        if wait:
            pool.join()
        kill(started)

    return ThirdPartyExecutor(send, close)
