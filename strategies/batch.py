"""Waiting items run together in one call, so that they share the model's fixed cost per call.

The batches run in another strategy (``over``), at most one at a time for each of its workers.

`_BatchSizer` predicts from recent batches whether to wait for more items. When a batch is done, its clients
may soon send their next items. Together with the items that already wait, they are the expected size of the
next batch. A free worker waits for this many items. It stops when the last batch ended longer ago than the
fixed cost of a call: the part of its duration that does not depend on the number of items, as recent batches
show it (all of it if their sizes hardly differ). It also stops when the oldest item has waited for
``max_wait_ms``. So it waits only as long as that pays off:

* A single user forms batches of one and never waits.
* Eight users who each wait for their answer form one batch of eight if a call has a large fixed cost.
  Otherwise they form smaller batches that take turns, and no worker waits.
* If arrivals do not depend on answers, waiting fails and is soon tried only rarely.

An exception from a batch does not show which item caused it, and neither does a `Lost` result. So each item
of that batch is then tried alone.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from functools import partial
from math import ceil
from typing import NamedTuple

import strategies
from strategies import Call, Full, Item, Options, Result, Setup, Submit, always_available
from strategies._outcome import counted

SUMMARY = (
    "in dynamic micro-batches: one call for all waiting items, in threads or in the strategy that over names"
)
WHEN_FULL = (
    "items wait in a first-in, first-out queue of at most max_queue (default 1,024); "
    "one more raises Full immediately, with the time to retry after"
)
WHEN_WORKER_DIES = "the same as in the strategy that runs the batches (over)"
TAKES = frozenset(
    field.name for field in fields(Options)
)  # some apply only if the strategy in `over` takes them
why_not = always_available

DEFAULT_ITEM_QUEUE = 1024


def worker_count(options: Options) -> int:
    """Return the number of calls that the strategy in ``over`` runs at the same time."""
    return strategies.get(options.over).worker_count(options)


@asynccontextmanager
async def open(setup: Setup, call: Call, options: Options) -> AsyncIterator[Submit]:
    """See the contract in `strategies`."""
    inner = strategies.get(options.over)
    inner_options = replace(
        options, max_queue=None
    )  # batches never wait there: at most one per worker is sent
    async with inner.open(partial(_one_batch, setup), partial(_call_each, call), inner_options) as send:
        batches = _Batches(send, worker_count(options), options)
        try:
            yield batches
        finally:
            await batches.close()


def _one_batch(setup: Setup) -> list[Item]:
    return [setup()]


def _call_each(call: Call, batches: list[list[Item]]) -> list[list[Result]]:
    """Run each batch. This runs in the worker, where the inner strategy treats a batch as one item."""
    return [counted(call, batch) for batch in batches]


class _Job(NamedTuple):
    item: Item
    answer: "asyncio.Future[Result]"
    arrived: float


class _Batches:
    def __init__(self, send: Submit, workers: int, options: Options) -> None:
        self._send = send
        self._options = options
        self._max_waiting = options.max_queue or DEFAULT_ITEM_QUEUE
        self._waiting: deque[_Job] = deque()
        self._sizer = _BatchSizer(workers, options.max_batch)
        self._running: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    async def __call__(self, item: Item) -> Result:
        if len(self._waiting) >= self._max_waiting:
            self._drop_abandoned_items()
        if len(self._waiting) >= self._max_waiting:
            raise Full(len(self._waiting), self._sizer.seconds_for(len(self._waiting)))
        job = _Job(item, self._loop.create_future(), self._loop.time())
        self._waiting.append(job)
        self._dispatch_ready_batches()
        return await job.answer

    def is_able(self) -> bool:
        return self._send.is_able()

    async def close(self) -> None:
        """Cancel waiting items and wait for running ones."""
        for job in self._waiting:
            job.answer.cancel()
        self._waiting.clear()
        if self._running:
            await asyncio.wait(self._running)
        self._stop_timer()

    def _drop_abandoned_items(self) -> None:
        """Drop items whose client has left, so that they do not fill the queue."""
        self._waiting = deque(job for job in self._waiting if not job.answer.done())

    def _dispatch_ready_batches(self) -> None:
        """While a worker is free, send each batch that is complete or has waited long enough."""
        self._stop_timer()
        while self._waiting and self._sizer.has_free_worker:
            if len(self._waiting) >= self._sizer.expected:
                self._sizer.batch_filled()
            elif (remaining_s := self._remaining_wait_s()) > 0:
                self._timer = self._loop.call_later(remaining_s, self._dispatch_ready_batches)
                return
            else:
                self._sizer.batch_not_filled(len(self._waiting))
            self._dispatch()

    def _remaining_wait_s(self) -> float:
        """Return how much longer to wait, within a limit for the worker and one for the oldest item."""
        now = self._loop.time()
        idle_s, waited_s = now - self._sizer.last_end, now - self._waiting[0].arrived
        return min(self._sizer.cost.fixed_s - idle_s, self._options.max_wait_ms / 1e3 - waited_s)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _dispatch(self) -> None:
        batch = self._take()
        if batch:
            self._sizer.batch_started(len(batch))
            task = asyncio.create_task(self._run(batch))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def _take(self) -> list[_Job]:
        """Take the next batch from the queue, without items whose client has left."""
        size = self._sizer.largest_batch(len(self._waiting))
        batch: list[_Job] = []
        while self._waiting and len(batch) < size:
            job = self._waiting.popleft()
            if not job.answer.done():
                batch.append(job)
        return batch

    async def _run(self, batch: list[_Job]) -> None:
        began, is_one_call = self._loop.time(), False
        try:
            is_one_call = await self._answer(batch)
        finally:
            for job in batch:
                job.answer.cancel()  # has an effect only if closing was cancelled before the answer
            now = self._loop.time()
            if is_one_call:
                self._sizer.cost.add(len(batch), now - began)
            self._sizer.batch_ended(len(batch), len(self._waiting), began, now)
            self._dispatch_ready_batches()

    async def _answer(self, batch: list[_Job]) -> bool:
        """Answer a batch with one call; if that raises, with one per item. Return whether one was enough."""
        try:
            results = await self._send([job.item for job in batch])
        except Exception as error:  # noqa: BLE001  the submitter of the item gets it
            if len(batch) > 1:
                for job in batch:
                    await self._answer([job])
            elif not batch[0].answer.done():
                batch[0].answer.set_exception(error)
            return False
        for job, result in zip(batch, results, strict=True):
            if not job.answer.done():
                job.answer.set_result(result)
        return True


class _BatchSizer:
    """Predicts the size of the next batch from recent ones. Times are in seconds on the loop's clock."""

    _MAX_PAUSE = 64  # batches

    def __init__(self, workers: int, max_batch: int) -> None:
        self._workers = workers
        self._max_batch = max_batch
        self._busy_workers = 0
        self._running_items = 0
        self._expected = 1
        self._pause = 0  # do not wait for this many batches, as waiting did not pay off
        self._next_pause = 1
        self._s_per_item = 0.0
        self.cost = _CallCost()
        self.last_end = 0.0

    @property
    def has_free_worker(self) -> bool:
        return self._busy_workers < self._workers

    @property
    def expected(self) -> int:
        """The number of items that should wait before a batch starts."""
        return 1 if self._pause else self._expected

    def largest_batch(self, waiting: int) -> int:
        """Return the most items for one batch: a worker's share, so that the other workers are not idle."""
        return min(self._max_batch, max(self._expected, self._share(waiting + self._running_items)))

    def seconds_for(self, waiting: int) -> float:
        """Estimate how long this many items take."""
        return self._s_per_item * waiting / self._workers

    def batch_started(self, count: int) -> None:
        self._busy_workers += 1
        self._running_items += count
        self._pause = max(0, self._pause - 1)

    def batch_ended(self, count: int, waiting: int, began: float, now: float) -> None:
        """Expect the clients of this batch to send their next items, in addition to the waiting ones."""
        self._expected = min(waiting + count, self._share(waiting + self._running_items), self._max_batch)
        self._busy_workers -= 1
        self._running_items -= count
        self._s_per_item += ((now - began) / count - self._s_per_item) / 8
        self.last_end = now

    def batch_filled(self) -> None:
        """Note that the expected number of items has arrived."""
        if self.expected > 1:
            self._next_pause = 1

    def batch_not_filled(self, waiting: int) -> None:
        """Expect only ``waiting`` items from now on, and do not wait at all for the next few batches."""
        self._expected = waiting
        self._pause = self._next_pause + 1  # plus 1 for the batch that starts now
        self._next_pause = min(2 * self._next_pause, self._MAX_PAUSE)

    def _share(self, items: int) -> int:
        return ceil(items / self._workers)


class _CallCost:
    """What a call costs: a straight line through the durations of recent batches over their sizes."""

    _DECAY = 31 / 32  # a batch counts for half after 22 others
    _LEAST_SPREAD = 0.05  # of the sizes around their mean, as a share of it: with less there is no line

    def __init__(self) -> None:
        self._weight = self._size = self._took = self._size_size = self._size_took = 0.0

    def add(self, size: int, took_s: float) -> None:
        self._weight = self._weight * self._DECAY + 1.0
        self._size = self._size * self._DECAY + size
        self._took = self._took * self._DECAY + took_s
        self._size_size = self._size_size * self._DECAY + size * size
        self._size_took = self._size_took * self._DECAY + size * took_s

    @property
    def fixed_s(self) -> float:
        """Seconds that a call takes in addition to its items; the whole duration if sizes hardly differ."""
        if not self._weight:
            return 0.0
        size, took = self._size / self._weight, self._took / self._weight
        variance = self._size_size / self._weight - size * size
        if variance < (self._LEAST_SPREAD * size) ** 2:
            return took
        per_item = (self._size_took / self._weight - size * took) / variance
        return min(took, max(0.0, took - per_item * size))
