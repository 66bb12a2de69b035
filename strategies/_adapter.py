"""What strategies over a stranger's executor share: each worker sets itself up when it is first met.

Such an executor has no common way to initialize its workers, nor to say how many there are. So every call
carries the set-up along, a worker that has not done it yet does it first, and the opening sends warm-ups
until as many workers as asked for have been met. A worker that the executor starts later sets itself up in
the call that meets it.
"""

import asyncio
import os
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

from strategies import Call, Item, Result, Setup, Submit
from strategies._outcome import Outcome, attempt
from strategies._pool import PATIENCE_S, PoolSubmit, close

_LONGEST_HOLD_S = 1.0


class Work(NamedTuple):
    """What travels to a worker with each call."""

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
    """Serve over the executor that ``make`` makes; ``revives``: make another when it is broken."""
    work = Work(uuid.uuid4().hex, setup, call, begin)
    submit = _Adapted(make, work, revives=revives)
    try:
        await _meet_all(submit, workers)
        yield submit
    finally:
        await close(submit.pool, submit.warm_ups)


class Foreign(Executor):
    """Gives a stranger's pool what the standard library's can: to be left.

    ``send`` hands a call over as an executor's submit does; ``close`` ends the pool, and waits if told to.
    """

    def __init__(self, send: Callable[..., Future[Any]], close: Callable[[bool], None]) -> None:
        self._send = send
        self._close = close
        self._futures: set[Future[Any]] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Like any executor's."""
        future = self._send(fn, *args, **kwargs)
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Like any executor's."""
        if cancel_futures:
            for future in list(self._futures):
                if not future.running():  # pebble would kill the worker of one that runs
                    future.cancel()
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
    """Send as many warm-ups as workers, each held for a while, until so many different ones were met."""
    met: set[tuple[int, int]] = set()
    hold_s = 0.0 if workers == 1 else 0.05
    deadline = time.monotonic() + PATIENCE_S
    while len(met) < workers:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the executor runs {len(met)} calls at once, not {workers}")
        round_ = [asyncio.wrap_future(submit.warm_up(hold_s)) for _ in range(workers)]
        for answer in await asyncio.shield(asyncio.gather(*round_, return_exceptions=True)):
            if isinstance(answer, BaseException):
                raise answer
            ((_, worker),) = answer.get()
            met.add(worker)
        hold_s = min(2 * hold_s, _LONGEST_HOLD_S)


# -- what runs in the worker -------------------------------------------------------------------------

_ready = threading.local()  # what this very worker, be it a thread or a process, has set up


def _call(work: Work, items: list[Item]) -> list[Result]:
    """The call, after the set-up where that has not been done yet."""
    _set_up(work)
    return work.call(items)


def _meet(work: Work, hold_s: float, _: list[Item]) -> list[tuple[list[Result], tuple[int, int]]]:
    """Set up, stay a while so that the others get a warm-up of their own, and say who this is.

    The result of the warm-up comes back, so that one that cannot is known before the first item.
    """
    results = _set_up(work)
    time.sleep(hold_s)
    return [(results, (os.getpid(), threading.get_ident()))]


def _set_up(work: Work) -> list[Result]:
    """The results of the warm-up; none where it was done before."""
    if getattr(_ready, "key", None) == work.key:
        return []
    if work.begin is not None:
        work.begin()
    results = work.call([work.setup()])
    _ready.key = work.key
    return results
