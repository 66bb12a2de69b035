"""What strategies over a `concurrent.futures.Executor` share: warm all up, submit, leave nothing behind."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import BrokenExecutor, Executor, Future, wait
from contextlib import asynccontextmanager
from threading import Barrier, Thread

from strategies import Call, Item, Result, Setup, Submit


@asynccontextmanager
async def serving(
    pool: Executor, warm_up: Callable[[], None], everyone: Barrier, call: Call
) -> AsyncIterator[Submit]:
    """Run ``warm_up`` once in each worker of ``pool``, then give its submit; on leaving, close ``pool``.

    Before it returns or raises, ``warm_up`` must meet the others at ``everyone``, a barrier with one party
    per worker: pools start workers lazily, and one that is held there cannot do another's warm-up.
    """

    async def submit(item: Item) -> Result:
        (result,) = await asyncio.wrap_future(pool.submit(call, [item]))
        return result

    warm_ups: list[Future[None]] = []
    try:
        warm_ups += _start(pool, warm_up, everyone)
        # shielded: cancelling the warm-up of one worker would leave the others at the barrier
        await asyncio.shield(asyncio.gather(*map(asyncio.wrap_future, warm_ups)))
        yield submit
    finally:
        await _close(pool, warm_ups)


def warm_up_thread(setup: Setup, call: Call, everyone: Barrier) -> None:
    """The warm-up where workers are threads. One that fails meets the others all the same.

    Were it to break the barrier, the opener could hear of that first, and not of the failure.
    """
    try:
        call([setup()])
    finally:
        everyone.wait()


def _start(pool: Executor, warm_up: Callable[[], None], everyone: Barrier) -> list[Future[None]]:
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


def _nothing() -> None:
    """Do nothing."""


async def _close(pool: Executor, warm_ups: list[Future[None]]) -> None:
    """Cancel what waits and wait for what runs, with the loop free to answer meanwhile.

    A thread of our own, because `asyncio.to_thread` would leave one of the loop's behind.
    """
    loop = asyncio.get_running_loop()
    closed = asyncio.Event()

    def close() -> None:
        try:
            wait(warm_ups)
            pool.shutdown(cancel_futures=True)
        finally:
            loop.call_soon_threadsafe(closed.set)

    closing = Thread(target=close, name="strategy-closing")
    closing.start()
    try:
        await closed.wait()
    finally:
        closing.join()  # at once; only when cancelled a second time does the loop stand still here
