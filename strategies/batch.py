"""Items that wait are handed over together, as one call on many: a model's fixed cost is paid once for all.

The batches run in another strategy (``over``), at most one at a time for each of its workers.

Whether to wait for company is a guess from what has just happened (`_Crowd`). When a batch is done, those who
were in it may soon be back: together with those who wait already, that is how many the next batch can hope
for. A worker that is free waits for so many until nobody has come for as long as a batch takes, or the first
has waited for ``max_wait_ms``; and only while such waiting pays. A lone user is a crowd of one, and never
waits; eight users who each wait for their answer are a batch of eight, not two batches of four that take
turns; and where arrivals do not depend on answers, waiting fails, and soon is hardly tried any more.

An exception of a batch says nothing about which item it was, and neither does a result that is `Lost`: each
item is then tried alone.
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
from strategies import Call, Full, Item, Options, Result, Setup, Submit, works_everywhere
from strategies._outcome import counted

SUMMARY = "as one call on all that wait, in a thread or wherever over says: dynamic micro-batches"
WHEN_FULL = (
    "items wait, first in first out, up to max_queue (1,024); beyond that Full is raised at once, "
    "with the time after which to try again"
)
WHEN_WORKER_DIES = "as the strategy that runs the batches has it"
TAKES = frozenset(field.name for field in fields(Options))  # much of it where the one that runs them does
why_not = works_everywhere

MOST_WAITING = 1024


def worker_count(options: Options) -> int:
    """As many calls as the strategy that runs the batches runs at once."""
    return strategies.get(options.over).worker_count(options)


@asynccontextmanager
async def open(setup: Setup, call: Call, options: Options) -> AsyncIterator[Submit]:
    """See the contract in `strategies`."""
    inner = strategies.get(options.over)
    alone = replace(options, max_queue=None)  # no more batches are handed over than there are workers
    async with inner.open(partial(_one_batch, setup), partial(_call_each, call), alone) as send:
        batches = _Batches(send, worker_count(options), options)
        try:
            yield batches
        finally:
            await batches.close()


def _one_batch(setup: Setup) -> list[Item]:
    return [setup()]


def _call_each(call: Call, batches: list[list[Item]]) -> list[list[Result]]:
    """What runs in the worker: to the strategy that runs it, a batch is one item."""
    return [counted(call, batch) for batch in batches]


class _Job(NamedTuple):
    item: Item
    answer: "asyncio.Future[Result]"
    came: float


class _Batches:
    def __init__(self, send: Submit, workers: int, options: Options) -> None:
        self._send = send
        self._options = options
        self._most_waiting = options.max_queue or MOST_WAITING
        self._waiting: deque[_Job] = deque()
        self._crowd = _Crowd(workers, options.max_batch)
        self._running: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    async def __call__(self, item: Item) -> Result:
        if len(self._waiting) >= self._most_waiting:
            self._forget_those_who_left()
        if len(self._waiting) >= self._most_waiting:
            raise Full(len(self._waiting), self._crowd.seconds_for(len(self._waiting)))
        job = _Job(item, self._loop.create_future(), self._loop.time())
        self._waiting.append(job)
        self._consider()
        return await job.answer

    def is_able(self) -> bool:
        return self._send.is_able()

    async def close(self) -> None:
        """Cancel what waits, wait for what runs."""
        for job in self._waiting:
            job.answer.cancel()
        self._waiting.clear()
        if self._running:
            await asyncio.wait(self._running)
        self._stop_timer()

    def _forget_those_who_left(self) -> None:
        """An item that nobody waits for must not keep another out."""
        self._waiting = deque(job for job in self._waiting if not job.answer.done())

    def _consider(self) -> None:
        """Send what should not wait any longer, as long as a worker is free."""
        self._stop_timer()
        while self._waiting and self._crowd.has_free_worker:
            if len(self._waiting) >= self._crowd.hoped_for:
                self._crowd.came()
            elif (patience_s := self._patience_s()) > 0:
                self._timer = self._loop.call_later(patience_s, self._consider)
                return
            else:
                self._crowd.did_not_come(len(self._waiting))
            self._dispatch()

    def _patience_s(self) -> float:
        """How much longer to wait for more: nobody need come at all, and the first must not wait too long."""
        now = self._loop.time()
        silent_s = now - max(self._waiting[-1].came, self._crowd.last_end)
        waited_s = now - self._waiting[0].came
        return min(self._crowd.patience_s - silent_s, self._options.max_wait_ms / 1e3 - waited_s)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _dispatch(self) -> None:
        batch = self._take()
        if batch:
            self._crowd.begins(len(batch))
            task = asyncio.create_task(self._run(batch))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def _take(self) -> list[_Job]:
        """The next to go, without those whose client has left."""
        most = self._crowd.most_at_once(len(self._waiting))
        batch: list[_Job] = []
        while self._waiting and len(batch) < most:
            job = self._waiting.popleft()
            if not job.answer.done():
                batch.append(job)
        return batch

    async def _run(self, batch: list[_Job]) -> None:
        began = self._loop.time()
        try:
            await self._answer(batch)
        finally:
            for job in batch:
                job.answer.cancel()  # only what has not been answered: the closing was cancelled
            self._crowd.ends(len(batch), len(self._waiting), began, self._loop.time())
            self._consider()

    async def _answer(self, batch: list[_Job]) -> None:
        """By one call; when that raises, by one for each item."""
        try:
            results = await self._send([job.item for job in batch])
        except Exception as error:  # noqa: BLE001  it belongs to whoever submitted the item
            if len(batch) > 1:
                for job in batch:
                    await self._answer([job])
            elif not batch[0].answer.done():
                batch[0].answer.set_exception(error)
        else:
            for job, result in zip(batch, results, strict=True):
                if not job.answer.done():
                    job.answer.set_result(result)


class _Crowd:
    """How many items can be hoped for, from how many there were. Times in seconds, on the loop's clock."""

    _LONGEST_PAUSE = 64  # batches

    def __init__(self, workers: int, max_batch: int) -> None:
        self._workers = workers
        self._max_batch = max_batch
        self._busy = 0
        self._under_way = 0
        self._hoped_for = 1
        self._pause = 0  # for so many batches waiting is not tried: it did not pay
        self._next_pause = 1
        self._s_per_item = 0.0
        self.patience_s = 0.0  # as long as the latest batch took: beyond that, another batch costs less
        self.last_end = 0.0

    @property
    def has_free_worker(self) -> bool:
        return self._busy < self._workers

    @property
    def hoped_for(self) -> int:
        """So many should wait before a batch begins."""
        return 1 if self._pause else self._hoped_for

    def most_at_once(self, waiting: int) -> int:
        """No batch takes more than a worker's share, lest the others stand idle."""
        return min(self._max_batch, max(self._hoped_for, self._share(waiting + self._under_way)))

    def seconds_for(self, waiting: int) -> float:
        """How long so many take, as far as is known."""
        return self._s_per_item * waiting / self._workers

    def begins(self, count: int) -> None:
        self._busy += 1
        self._under_way += count
        self._pause = max(0, self._pause - 1)

    def ends(self, count: int, waiting: int, began: float, now: float) -> None:
        """A batch is done; those who were in it may come again, to join those who wait."""
        self._hoped_for = min(waiting + count, self._share(waiting + self._under_way), self._max_batch)
        self._busy -= 1
        self._under_way -= count
        self._s_per_item += ((now - began) / count - self._s_per_item) / 8
        self.patience_s, self.last_end = now - began, now

    def came(self) -> None:
        """As many as were hoped for are there."""
        if self.hoped_for > 1:
            self._next_pause = 1

    def did_not_come(self, waiting: int) -> None:
        """Only so many are there after all: hope for no more, and for a while do not wait at all."""
        self._hoped_for = waiting
        self._pause = self._next_pause + 1  # the one that begins now counts
        self._next_pause = min(2 * self._next_pause, self._LONGEST_PAUSE)

    def _share(self, crowd: int) -> int:
        return ceil(crowd / self._workers)
