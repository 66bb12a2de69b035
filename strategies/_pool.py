"""What strategies over a `concurrent.futures.Executor` share: warm all up, submit, leave nothing behind."""

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

PATIENCE_S = 600.0  # from the first warm worker to the last, where the workers are not our own


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
        """Whether the pool takes a call of nothing: one that lost a worker for good says so."""
        try:
            self._send(_nothing)
        except (BrokenExecutor, RuntimeError):
            return False
        return True

    def _send(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        return self.pool.submit(function, *arguments)


@asynccontextmanager
async def serving(
    pool: Executor, warm_up: Callable[[], Outcome], everyone: Barrier, call: Call
) -> AsyncIterator[Submit]:
    """Run ``warm_up`` once in each worker of ``pool``, then submit ``call``; on leaving, close ``pool``.

    Before it returns, ``warm_up`` must meet the others at ``everyone``, a barrier with one party
    per worker: pools start workers lazily, and one that is held there cannot do another's warm-up.
    """
    warm_ups: list[Future[Outcome]] = []
    try:
        warm_ups += _start(pool, warm_up, everyone)
        # shielded: cancelling the warm-up of one worker would leave the others at the barrier
        for outcome in await asyncio.shield(asyncio.gather(*map(asyncio.wrap_future, warm_ups))):
            outcome.get()
        yield PoolSubmit(pool, call)
    finally:
        await close(pool, warm_ups)


def serving_threads(
    pool: Executor, workers: int, setup: Setup, call: Call, patience_s: float | None = None
) -> AbstractAsyncContextManager[Submit]:
    """The same where the workers are threads; they wait so long for each other."""
    everyone = Barrier(workers, timeout=patience_s)
    return serving(pool, partial(_warm_up_thread, setup, call, everyone), everyone, call)


def warm_up(setup: Setup, call: Call) -> Outcome:
    """Set up and call once. The result comes back, so that one that cannot is known before the first item."""
    return attempt(lambda _: call([setup()]), [None])


def _warm_up_thread(setup: Setup, call: Call, everyone: Barrier) -> Outcome:
    """A warm-up that fails meets the others all the same.

    Were it to break the barrier, the opener could hear of that first, and not of the failure.
    """
    outcome = warm_up(setup, call)
    everyone.wait()
    return outcome


def _start(pool: Executor, warm_up: Callable[[], Outcome], everyone: Barrier) -> list[Future[Outcome]]:
    """One warm-up for each worker; nobody is left at the barrier if they cannot all be started.

    And then one call of nothing: a process pool lists the workers it watches when a submit wakes it, and only
    then does that submit start its worker. Without one more, the death of the last worker goes unnoticed.
    """
    try:
        return [pool.submit(warm_up) for _ in range(everyone.parties)] + [pool.submit(_nothing)]
    except BrokenExecutor:
        raise  # the pool kills its workers itself, and abort() would wait for the dead ones to wake
    except BaseException:
        everyone.abort()
        raise


def _nothing() -> Outcome:
    """Do nothing."""
    return Outcome()


async def close(pool: Executor, warm_ups: list[Future[Any]]) -> None:
    """Cancel what waits and wait for what runs, with the loop free to answer meanwhile.

    A thread of our own, because `asyncio.to_thread` would leave one of the loop's behind.
    """

    def shut_down() -> None:
        wait_for(warm_ups)
        pool.shutdown(cancel_futures=True)

    await beside_the_loop(shut_down)


async def beside_the_loop(work: Callable[[], None]) -> None:
    """Do ``work`` in a thread made for it, to its end even when this is cancelled."""
    job: Future[None] = Future()
    thread = Thread(target=_run, args=(job, work), name="strategy-beside-the-loop")
    thread.start()
    try:
        await asyncio.shield(asyncio.wrap_future(job))
    finally:
        thread.join()  # at once; only when cancelled a second time does the loop stand still here


class LoopThreads(Executor):
    """Threads that an event loop lends, as an executor of which only our own work is shut down.

    ``start`` has one of these threads call what it is given. To be used on the loop.
    """

    def __init__(self, start: Callable[[Callable[[], None]], object]) -> None:
        self._start = start
        self._closed = False
        self._jobs: set[Future[Any]] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Like any executor's, but to be called on the loop."""
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        job: Future[Any] = Future()
        self._start(partial(_run, job, partial(fn, *args, **kwargs)))
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
