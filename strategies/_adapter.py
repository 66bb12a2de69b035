"""Shared code of strategies that use a third-party executor: each worker runs its set-up on first use.

Such executors have no common way to initialize their workers or to report how many there are. So every call
carries the set-up, and a worker that has not run it yet runs it first. Opening sends warm-ups until the
requested number of different workers has answered. A worker that the executor starts later runs the set-up
in its first call.
"""

import asyncio
import os
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from concurrent.futures import wait as wait_for
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

from strategies import Call, Item, Result, Setup, Submit
from strategies._outcome import Outcome, attempt
from strategies._pool import WARM_UP_TIMEOUT_S, PoolSubmit, close

_LONGEST_HOLD_S = 1.0


class Work(NamedTuple):
    """The data sent to a worker with each call."""

    key: str
    setup: Setup
    call: Call
    begin: Callable[[], None] | None  # run once in each worker, before the set-up


@asynccontextmanager
async def adapted(
    make: Callable[[], Executor],
    workers: int,
    setup: Setup,
    call: Call,
    begin: Callable[[], None] | None = None,
    *,
    revives: bool = False,
) -> AsyncIterator[Submit]:
    """Submit to the executor that ``make`` returns. With ``revives``, replace it when it is broken."""
    work = Work(uuid.uuid4().hex, setup, call, begin)
    submit = _Adapted(make, work, revives=revives)
    try:
        await _meet_all(submit, workers)
        yield submit
    finally:
        await close(submit.pool, submit.warm_ups)


class ThirdPartyExecutor(Executor):
    """Gives a third-party pool the interface of `concurrent.futures.Executor`, so that it can be closed.

    ``send`` submits a call like `Executor.submit`. ``close(wait)`` closes the pool and optionally waits for
    it.
    """

    def __init__(self, send: Callable[..., Future[Any]], close: Callable[[bool], None]) -> None:
        self._send = send
        self._close = close
        self._futures: set[Future[Any]] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See `concurrent.futures.Executor.submit`."""
        future = self._send(fn, *args, **kwargs)
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See `concurrent.futures.Executor.shutdown`."""
        if cancel_futures:
            for future in list(self._futures):
                if not future.running():  # pebble would kill the worker of a running call
                    future.cancel()
        if wait:
            wait_for(list(self._futures))
        self._close(wait)


class _Adapted(PoolSubmit):
    def __init__(self, make: Callable[[], Executor], work: Work, *, revives: bool) -> None:
        super().__init__(make(), partial(_call, work))
        self._make = make
        self._work = work
        self._revives = revives
        self.warm_ups: list[Future[Outcome]] = []

    def warm_up(self, hold_s: float) -> "Future[Outcome]":
        future = self.pool.submit(attempt, partial(_meet, self._work, hold_s), [None])
        self.warm_ups.append(future)
        return future

    def _send(self, function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        try:
            return super()._send(function, *arguments)
        except BrokenExecutor:
            if not self._revives:
                raise
            self.pool.shutdown(wait=False)
            self.pool = self._make()
            return super()._send(function, *arguments)


async def _meet_all(submit: _Adapted, workers: int) -> None:
    """Send one warm-up per worker, each held for a while, until all ``workers`` have answered."""
    met: set[tuple[int, int]] = set()
    hold_s = 0.0 if workers == 1 else 0.05
    deadline = time.monotonic() + WARM_UP_TIMEOUT_S
    while len(met) < workers:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the executor runs {len(met)} calls at the same time instead of {workers}")
        round_ = [asyncio.wrap_future(submit.warm_up(hold_s)) for _ in range(workers)]
        for answer in await asyncio.shield(asyncio.gather(*round_, return_exceptions=True)):
            if isinstance(answer, BaseException):
                raise answer
            ((_, worker),) = answer.get()
            met.add(worker)
        hold_s = min(2 * hold_s, _LONGEST_HOLD_S)


# -- what runs in the worker -------------------------------------------------------------------------

_ready = threading.local()  # the key of the work that this worker (thread or process) has set up


def _call(work: Work, items: list[Item]) -> list[Result]:
    """Run the call, after the set-up if this worker has not run that yet."""
    _set_up(work)
    return work.call(items)


def _meet(work: Work, hold_s: float, _: list[Item]) -> list[tuple[list[Result], tuple[int, int]]]:
    """Run the set-up, wait so that the other workers get a warm-up too, and return this worker's identity.

    Also return the warm-up's result, so that a result that cannot be transferred fails before the first item.
    """
    results = _set_up(work)
    time.sleep(hold_s)
    return [(results, (os.getpid(), threading.get_ident()))]


def _set_up(work: Work) -> list[Result]:
    """Run the set-up and return the warm-up's results; an empty list if it was done before."""
    if getattr(_ready, "key", None) == work.key:
        return []
    if work.begin is not None:
        work.begin()
    results = work.call([work.setup()])
    _ready.key = work.key
    return results
