"""The call runs in the event loop's own threads, as with `asyncio.to_thread`: shared with all that uses them.

It counts on the loop's default executor as asyncio makes it. A smaller one (``loop.set_default_executor``) or
threads that others never free end the opening with `threading.BrokenBarrierError` after `PATIENCE_S`.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, Future
from concurrent.futures import wait as wait_for
from contextlib import asynccontextmanager
from functools import partial
from threading import Barrier
from typing import Any

from strategies import Call, Options, Setup, Submit
from strategies._pool import serving, warm_up_thread

SUMMARY = "in the event loop's default threads, as asyncio.to_thread does"
WHEN_FULL = (
    "nothing is refused: items wait, first in first out, in a queue without a bound, "
    "together with everything else that uses the loop's threads"
)
TAKES: frozenset[str] = frozenset()

PATIENCE_S = 600.0  # from the first warm worker to the last


def worker_count(options: Options) -> int:  # noqa: ARG001  asyncio has decided
    """As many threads as asyncio gives a loop: processors + 4, at most 32."""
    processors: Callable[[], int | None] = getattr(
        os, "process_cpu_count", os.cpu_count
    )  # the former from 3.13
    return min(32, (processors() or 1) + 4)


@asynccontextmanager
async def open(setup: Setup, call: Call, options: Options) -> AsyncIterator[Submit]:
    """See the contract in `strategies`. On leaving, the threads stay: they are the loop's."""
    everyone = Barrier(worker_count(options), timeout=PATIENCE_S)
    pool = _LoopThreads(asyncio.get_running_loop())
    async with serving(pool, partial(warm_up_thread, setup, call, everyone), everyone, call) as submit:
        yield submit


class _LoopThreads(Executor):
    """The loop's default executor, as one of which our own work, and only that, can be shut down."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._closed = False
        self._jobs: set[Future[Any]] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Like any executor's, but to be called on the loop."""
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        job: Future[Any] = Future()
        self._loop.run_in_executor(None, _run, job, partial(fn, *args, **kwargs))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return job

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Like any executor's, but the threads stay."""
        self._closed = True
        jobs = list(self._jobs)
        if cancel_futures:
            for job in jobs:
                job.cancel()
        if wait:
            wait_for(jobs)


def _run(job: Future[Any], work: Callable[[], Any]) -> None:
    """Do a job in a thread, unless it was cancelled while it waited.

    The future of `run_in_executor` would not do: it is done as soon as it is cancelled, its work is not.
    """
    if not job.set_running_or_notify_cancel():
        return
    try:
        job.set_result(work())
    except BaseException as failure:  # noqa: BLE001  the future carries it to whoever submitted
        job.set_exception(failure)
