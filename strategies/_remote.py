"""Shared code of strategies whose workers belong to another package's cluster, on this host or on others.

The cluster starts the workers, places them and carries the items. Here is the rest: a `Crew` decides on the
event loop which worker gets the next item, and a `Place` runs the set-up and the calls in a worker.

A busy worker gets items ahead, so that it does not idle while an answer and the next item are on their way.
"""

import asyncio
import multiprocessing
import os
import pickle
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Coroutine, Sequence
from concurrent.futures import BrokenExecutor
from threading import Lock
from typing import Any, NamedTuple

from strategies import Call, Item, Result, Setup
from strategies._child import descendants, kill
from strategies._outcome import Outcome, attempt

MAX_PAUSE_S = 5.0  # between set-ups that fail


class WorkerLost(Exception):
    """The worker has ended, or cannot be reached."""


class ClusterLost(Exception):
    """The cluster cannot be reached any more, so that no worker will come back."""


def unable(cluster: str, why: str) -> RuntimeError:
    """Return the error that a worker of this cluster cannot run our code at all."""
    return RuntimeError(
        f"a worker of the {cluster} cluster cannot run the model: {why}. "
        "Its environment needs executor-bench and the packages of the model"
    )


class Worker(ABC):
    """One worker of the cluster. Each method raises `WorkerLost` if the worker ends meanwhile."""

    is_warm = False
    ahead = 0  # items that it may have in addition to the one that it runs
    running = 0  # items that it has
    life = 0  # how often it was lost

    @abstractmethod
    async def find(self) -> None:
        """Get a process: at first, and after it was lost. Raises `ClusterLost` if there will be none."""

    @abstractmethod
    async def warm_up(self) -> Outcome:
        """Run `Place.warm_up` there."""

    @abstractmethod
    async def call(self, payload: bytes) -> Outcome:
        """Run `Place.call` there."""


class Work(NamedTuple):
    """What a worker needs to run the set-up and the calls."""

    pickled: bytes  # of set-up and call
    path: tuple[str, ...]  # where the server finds modules; a worker appends what it lacks
    environment: dict[str, str | None]  # variables to set, or to remove (None)


def work(setup: Setup, call: Call, environment: dict[str, str | None]) -> Work:
    """Pack the set-up and the call. Raises PicklingError or AttributeError if they cannot be pickled."""
    path = tuple(folder for folder in sys.path if folder)
    return Work(pickle.dumps((setup, call)), path, environment)


# -- in the server -------------------------------------------------------------------------------------


class _Job(NamedTuple):
    payload: bytes
    answer: "asyncio.Future[Result]"


class Crew:
    """Gives items to workers, first in, first out; has a worker that was lost warmed up again."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = tuple(workers)
        self._waiting: deque[_Job] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._revivals: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._closing = False
        self._broken = ""  # why nothing can be served any more

    async def open(self) -> None:
        """Warm all workers up. Raises the exception of the first one that fails."""
        starts = [asyncio.ensure_future(self._prepare(worker)) for worker in self._workers]
        try:
            await asyncio.gather(*starts)
        except (WorkerLost, ClusterLost) as lost:
            raise BrokenExecutor(f"a worker died before it was warm: {lost}") from lost
        finally:
            for start in starts:
                start.cancel()

    async def __call__(self, item: Item) -> Result:
        """Raises BrokenExecutor if the worker dies that has the item, in addition to what the call raises."""
        if self._closing:
            raise RuntimeError("cannot submit after closing")
        if self._broken:
            raise BrokenExecutor(self._broken)
        job = _Job(pickle.dumps([item]), self._loop.create_future())
        self._waiting.append(job)
        self._feed()
        return await job.answer

    def is_able(self) -> bool:
        """Return whether any worker is warm, as far as is known."""
        return any(worker.is_warm for worker in self._workers)

    def idle(self) -> list[Worker]:
        """Return the warm workers that have no item."""
        return [worker for worker in self._workers if worker.is_warm and not worker.running]

    def lose(self, worker: Worker, life: int) -> None:
        """Note that the worker has ended in that life of it; warm it up again."""
        if worker.is_warm and worker.life == life:
            worker.is_warm = False
            worker.life += 1
            if not self._closing:
                self._start(self._revive(worker), self._revivals)

    async def close(self) -> None:
        """Cancel waiting items and wait for running ones."""
        self._closing = True
        for task in self._revivals:
            task.cancel()
        self._drop_waiting()
        try:
            if self._running:
                await asyncio.wait(self._running)
        finally:  # has an effect only if the wait was cancelled
            for task in self._running:
                task.cancel()

    def _drop_waiting(self, error: Exception | None = None) -> None:
        """Cancel waiting items, or fail them."""
        for job in self._waiting:
            if error is None:
                job.answer.cancel()
            elif not job.answer.done():
                job.answer.set_exception(error)
        self._waiting.clear()

    def _start(self, work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> None:
        task = asyncio.ensure_future(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def _feed(self) -> None:
        """Give items to workers, idle ones first. Drop items whose client has left."""
        while self._waiting and (worker := self._next_worker()) is not None:
            job = self._waiting.popleft()
            if not job.answer.done():
                worker.running += 1
                self._start(self._run(worker, worker.life, job), self._running)

    def _next_worker(self) -> Worker | None:
        ready = (worker for worker in self._workers if worker.is_warm and worker.running <= worker.ahead)
        return min(ready, key=lambda worker: worker.running, default=None)

    async def _run(self, worker: Worker, life: int, job: _Job) -> None:
        try:
            (result,) = (await worker.call(job.payload)).get()
        except (WorkerLost, ClusterLost) as lost:
            self.lose(worker, life)
            self._fail(job, BrokenExecutor(f"the worker died that had this item: {lost}"))
        except Exception as error:  # noqa: BLE001  the submitter gets it
            self._fail(job, error)
        else:
            if not job.answer.done():
                job.answer.set_result(result)
        finally:
            worker.running -= 1
            job.answer.cancel()  # has an effect only if closing was cancelled before the answer
            self._feed()

    def _fail(self, job: _Job, error: Exception) -> None:
        if not job.answer.done():
            job.answer.set_exception(error)

    async def _prepare(self, worker: Worker) -> None:
        """Find a process for the worker and warm it up."""
        await worker.find()
        (await worker.warm_up()).get()
        worker.is_warm = True

    async def _revive(self, worker: Worker) -> None:
        """Prepare the worker until that succeeds, at once and then after growing pauses."""
        pause_s = 0.0
        while not worker.is_warm:
            await asyncio.sleep(pause_s)
            pause_s = min(MAX_PAUSE_S, 2 * pause_s or 0.1)
            try:
                await self._prepare(worker)
            except ClusterLost as lost:
                self._broken = str(lost)
                self._drop_waiting(BrokenExecutor(self._broken))
                return
            except Exception:  # noqa: BLE001, S112  a set-up may succeed later, when its file is there again
                continue
        self._feed()


async def to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Run ``work`` to its end, even if the caller is cancelled; then raise the cancellation."""
    task = asyncio.ensure_future(work)
    cancellation: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancellation = error
    task.result()
    if cancellation is not None:
        raise cancellation


# -- in the worker -------------------------------------------------------------------------------------


class Place:
    """Runs the set-up and the calls in a worker, one call at a time. No method raises an exception."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._turn = Lock()  # a worker of the cluster may have several threads, and other users
        self._started_before = set(descendants(os.getpid()))

    def warm_up(self) -> Outcome:
        """Set up and call once. Return the result, so that one that cannot be sent fails the opening."""
        with self._turn:
            return attempt(self._set_up, [None])

    def call(self, payload: bytes) -> Outcome:
        """Return the outcome of the call for a list of items."""
        with self._turn:
            return attempt(self._call_with, [payload])

    def is_there(self) -> None:
        """Return if the worker runs."""

    def end_children(self) -> None:
        """Kill all processes that calls have started."""
        kill([pid for pid in descendants(os.getpid()) if pid not in self._started_before])

    def _set_up(self, _: list[Item]) -> list[Result]:
        for name, value in self._work.environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        sys.path += [folder for folder in self._work.path if folder not in sys.path]
        # the calls may start processes, which multiprocessing forbids for a daemonic process
        multiprocessing.current_process().daemon = False
        setup, self._call = pickle.loads(self._work.pickled)  # noqa: S301  our own server wrote it
        results: list[Result] = self._call([setup()])
        return results

    def _call_with(self, payloads: list[bytes]) -> list[Result]:
        results: list[Result] = self._call(pickle.loads(payloads[0]))  # noqa: S301  as above
        return results
