"""Shared code of strategies that use a `concurrent.futures.Executor`: warm-up, submission and clean-up."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from concurrent.futures import wait as wait_for
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from threading import Barrier, Thread
from typing import Any

from strategies import Call, Item, Result, Setup, Submit
from strategies._outcome import Outcome, attempt

WARM_UP_TIMEOUT_S = 600.0  # from the first warm worker to the last, if other code owns the workers


class PoolSubmit:
    """Submits to an executor."""

    def __init__(self, pool: Executor, call: Call) -> None:
        self.pool = pool
        self._call = call

    async def __call__(self, item: Item) -> Result:
        outcome = await asyncio.wrap_future(self._send(attempt, self._call, [item]))
        (result,) = outcome.get()
        return result

    def is_able(self) -> bool:
        """Return whether the pool accepts an empty call; a pool that is broken refuses it."""
        try:
            self._send(_do_nothing)
        except (BrokenExecutor, RuntimeError):
            return False
        return True

    def _send(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        return self.pool.submit(function, *arguments)


@asynccontextmanager
async def serving(
    pool: Executor, warm_up: Callable[[], Outcome], all_workers: Barrier, call: Call
) -> AsyncIterator[Submit]:
    """Run ``warm_up`` once in each worker of ``pool``, then submit ``call``; close ``pool`` at the end.

    ``warm_up`` must wait at ``all_workers``, a barrier with one party per worker, before it returns. Pools
    start workers lazily, and a worker that waits at the barrier cannot run another worker's warm-up.
    """
    warm_ups: list[Future[Outcome]] = []
    try:
        warm_ups += _start(pool, warm_up, all_workers)
        # shielded: if one worker's warm-up were cancelled, the others would wait at the barrier forever
        for outcome in await asyncio.shield(asyncio.gather(*map(asyncio.wrap_future, warm_ups))):
            outcome.get()
        yield PoolSubmit(pool, call)
    finally:
        await close(pool, warm_ups)


def serving_threads(
    pool: Executor, workers: int, setup: Setup, call: Call, timeout_s: float | None = None
) -> AbstractAsyncContextManager[Submit]:
    """Like `serving`, for threads. They wait at most ``timeout_s`` for each other during the warm-up."""
    all_workers = Barrier(workers, timeout=timeout_s)
    return serving(pool, partial(_warm_up_thread, setup, call, all_workers), all_workers, call)


def warm_up(setup: Setup, call: Call) -> Outcome:
    """Set up and call once. Return the result, so that one that cannot be transferred fails the opening."""
    return attempt(lambda _: call([setup()]), [None])


def _warm_up_thread(setup: Setup, call: Call, all_workers: Barrier) -> Outcome:
    """Warm up and wait for the other threads, even after a failure.

    If a failure broke the barrier instead, opening could raise BrokenBarrierError and hide the failure.
    """
    outcome = warm_up(setup, call)
    all_workers.wait()
    return outcome


def _start(pool: Executor, warm_up: Callable[[], Outcome], all_workers: Barrier) -> list[Future[Outcome]]:
    """Submit one warm-up per worker. If one cannot be submitted, release the workers at the barrier.

    Also submit one empty call. A submit first makes a process pool update the list of workers it watches, and
    only then starts a worker. Without one more submit, the pool would not notice the last worker's death.
    """
    try:
        return [pool.submit(warm_up) for _ in range(all_workers.parties)] + [pool.submit(_do_nothing)]
    except BrokenExecutor:
        raise  # the pool kills its workers itself, and abort() would wait for the dead ones to wake
    except BaseException:
        all_workers.abort()
        raise


def _do_nothing() -> Outcome:
    return Outcome()


async def close(pool: Executor, warm_ups: list[Future[Any]]) -> None:
    """Cancel waiting calls and wait for running ones, without blocking the event loop.

    This uses a dedicated thread, because `asyncio.to_thread` would leave a thread of the loop behind.
    """

    def shut_down() -> None:
        wait_for(warm_ups)
        pool.shutdown(cancel_futures=True)

    await run_in_new_thread(shut_down)


async def run_in_new_thread(work: Callable[[], None]) -> None:
    """Run ``work`` in a new thread. It runs to its end even if the caller is cancelled."""
    job: Future[None] = Future()
    thread = Thread(target=_run, args=(job, work), name="strategy-run-in-new-thread")
    thread.start()
    try:
        await asyncio.shield(asyncio.wrap_future(job))
    finally:
        thread.join()  # returns immediately; blocks the loop only after a second cancellation


class LoopThreads(Executor):
    """An executor over an event loop's threads; shutting it down ends its own jobs, not the threads.

    ``start`` runs the given function in one of the threads. Use the executor on the event loop only.
    """

    def __init__(self, start: Callable[[Callable[[], None]], object]) -> None:
        self._start = start
        self._closed = False
        self._jobs: set[Future[Any]] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See `concurrent.futures.Executor.submit`. Call it on the event loop only."""
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        job: Future[Any] = Future()
        self._start(partial(_run, job, partial(fn, *args, **kwargs)))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return job

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See `concurrent.futures.Executor.shutdown`. The threads keep running."""
        self._closed = True
        jobs = list(self._jobs)
        if cancel_futures:
            for job in jobs:
                job.cancel()
        if wait:
            wait_for(jobs)


def _run(job: Future[Any], work: Callable[[], Any]) -> None:
    """Run a job in a thread, unless it was cancelled while it waited.

    The future of `run_in_executor` cannot be used: once cancelled it is done, although its work still runs.
    """
    if not job.set_running_or_notify_cancel():
        return
    try:
        job.set_result(work())
    except BaseException as failure:  # noqa: BLE001  the future passes it to the submitter
        job.set_exception(failure)
