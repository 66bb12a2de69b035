"""The call runs in supervised child processes: a process pool for production.

* A worker that dies is replaced. Its item is retried once in another worker. If that worker dies too, the
  item is treated as the cause and raises `Poisoned`.
* A call that takes longer than ``timeout_s`` (default 30) is killed with its worker and raises `TimedOut`.
* At most ``max_queue`` (default 64) items wait. One more raises `Full` immediately.
* An item does not run if its client leaves while it waits.
* Workers end with their parent, however it ends.
* ``spares`` are additional warm workers. One takes over when a worker dies, which helps if the model loads
  slowly.

Everything runs on the event loop, with one pipe per worker and without threads.
"""

import asyncio
import multiprocessing
import pickle
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from strategies import (
    Call,
    Full,
    Item,
    Options,
    Poisoned,
    Result,
    Setup,
    Submit,
    TimedOut,
    always_available,
    workers_or_one,
)
from strategies._child import follow_parent, kill_tree
from strategies._outcome import Outcome, attempt
from strategies._pool import run_in_new_thread, warm_up

SUMMARY = "in child processes behind a bounded queue; a process that dies or hangs is replaced"
WHEN_FULL = (
    "items wait in a first-in, first-out queue of at most max_queue (default 64); "
    "one more raises Full immediately, with the time to retry after"
)
WHEN_WORKER_DIES = (
    "its item is retried once, other items wait in the queue, and a new worker starts (or a spare takes over)"
)
TAKES = frozenset({"workers", "start_method", "preload", "max_queue", "timeout_s", "spares"})
why_not = always_available
worker_count = workers_or_one  # spares do not count: they wait until a worker dies

DEFAULT_MAX_QUEUE = 64
DEFAULT_TIMEOUT_S = 30.0
MAX_TRIES = 2  # an item is given up after this many workers have died while they ran it
MAX_RESTART_DELAY_S = 5.0  # after workers that died before they were warm
STOP_TIMEOUT_S = 5.0  # a worker that has not ended by then is killed


@asynccontextmanager
async def open(setup: Setup, call: Call, options: Options) -> AsyncIterator[Submit]:
    """See the contract in `strategies`. Raises EOFError if a worker dies before all are warm."""
    crew = _Crew(setup, call, options)
    try:
        await crew.open()
        yield crew
    finally:
        await crew.close()


class _Job:
    def __init__(self, item: Item, answer: "asyncio.Future[Result]") -> None:
        self.payload = pickle.dumps(
            item
        )  # here, so that the submitter gets the error if it cannot be pickled
        self.answer = answer
        self.tries = 0


class _Crew:
    """The workers, and the items that wait for one."""

    def __init__(self, setup: Setup, call: Call, options: Options) -> None:
        self._work = (setup, call)
        self._context: Any = multiprocessing.get_context(options.start_method)
        if options.start_method == "forkserver":
            self._context.set_forkserver_preload(list(options.preload))
        self._max_running = worker_count(options)
        self._size = self._max_running + options.spares
        self._max_waiting = options.max_queue or DEFAULT_MAX_QUEUE
        self._timeout_s = options.timeout_s or DEFAULT_TIMEOUT_S
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Job] = deque()
        self._workers: list[_Worker] = []
        self._idle: deque[_Worker] = deque()
        self._pause_s = 0.0
        self._starting: set[asyncio.TimerHandle] = set()
        self._closing = False
        self._s_per_item = 0.0

    async def open(self) -> None:
        """Start all workers and wait until each is warm. Raises the exception of the first one that fails."""
        for _ in range(self._size):
            self._start_worker()
        await asyncio.gather(*(worker.warm for worker in self._workers))

    async def __call__(self, item: Item) -> Result:
        """Raises `Full`, `Poisoned` and `TimedOut` in addition to what the call raises."""
        if self._closing:
            raise RuntimeError("cannot submit after closing")
        if len(self._waiting) >= self._max_waiting:
            self._drop_abandoned_items()
        if len(self._waiting) >= self._max_waiting:
            raise Full(len(self._waiting), self._s_per_item * len(self._waiting) / self._max_running)
        job = _Job(item, self._loop.create_future())
        self._waiting.append(job)
        self._feed()
        return await job.answer

    def is_able(self) -> bool:
        """Return whether any worker is warm and alive."""
        return any(worker.is_warm for worker in self._workers)

    async def close(self) -> None:
        """Cancel waiting items, wait for running ones, and end all workers."""
        self._closing = True
        for handle in self._starting:
            handle.cancel()
        for job in self._waiting:
            job.answer.cancel()
        self._waiting.clear()
        running = [worker.job.answer for worker in self._workers if worker.job]
        try:
            if running:
                await asyncio.wait(running)
        finally:
            workers, self._workers = self._workers, []
            await run_in_new_thread(partial(_end, [worker.detach() for worker in workers]))

    # -- items ------------------------------------------------------------------------------------

    def _drop_abandoned_items(self) -> None:
        """Drop items whose client has left, so that they do not fill the queue."""
        self._waiting = deque(job for job in self._waiting if not job.answer.done())

    def _feed(self) -> None:
        """Give items to idle workers, first in, first out. Drop items whose client has left."""
        while self._idle and self._waiting:
            if sum(worker.job is not None for worker in self._workers) >= self._max_running:
                return
            job = self._waiting.popleft()
            if not job.answer.done():
                self._idle.popleft().run(job, self._timeout_s)

    # -- callbacks of workers ------------------------------------------------------------------------

    def worker_is_ready(self, worker: "_Worker") -> None:
        """The worker is warm or has answered, so it can take an item."""
        self._pause_s = 0.0
        self._idle.append(worker)
        self._feed()

    def note_duration(self, seconds: float) -> None:
        """Update the running mean of call durations."""
        self._s_per_item += (seconds - self._s_per_item) / 8

    def worker_has_died(self, worker: "_Worker", job: _Job | None) -> None:
        """Replace a dead worker, and retry the item that it was running, if any."""
        if worker not in self._workers:
            return
        self._workers.remove(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        if job is not None and not job.answer.done():
            self._retry(job)
        if not self._closing:
            self._replace(worker)

    def _retry(self, job: _Job) -> None:
        if self._closing:
            job.answer.cancel()
        elif job.tries < MAX_TRIES:
            self._waiting.appendleft(job)
        else:
            job.answer.set_exception(
                Poisoned(f"{MAX_TRIES} workers died while they ran this item; it is not retried again")
            )

    def _replace(self, worker: "_Worker") -> None:
        if worker.is_warm:
            self._start_worker()
        else:  # it died before it was warm, which is likely to happen again
            self._pause_s = min(MAX_RESTART_DELAY_S, 2 * self._pause_s or 0.1)
            self._starting.add(self._loop.call_later(self._pause_s, self._start_worker))
        self._feed()

    def _start_worker(self) -> None:
        self._starting = {handle for handle in self._starting if handle.when() > self._loop.time()}
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, *self._work), daemon=True)
        process.start()
        theirs.close()
        self._workers.append(_Worker(self, process, ours, self._loop))


class _Worker:
    """One child process as seen from the event loop."""

    def __init__(
        self, crew: _Crew, process: BaseProcess, pipe: Connection, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._crew = crew
        self._process = process
        self._pipe = pipe
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._began = 0.0
        self.job: _Job | None = None
        self.warm: asyncio.Future[Any] = loop.create_future()
        self.warm.add_done_callback(lambda warm: warm.cancelled() or warm.exception())  # or asyncio logs it
        loop.add_reader(pipe.fileno(), self._receive)

    @property
    def is_warm(self) -> bool:
        return self.warm.done() and not self.warm.cancelled() and self.warm.exception() is None

    def run(self, job: _Job, timeout_s: float) -> None:
        """Send the job to the worker. The worker must be idle, so that it reads the pipe immediately."""
        job.tries += 1
        self.job = job
        self._began = self._loop.time()
        self._timer = self._loop.call_later(timeout_s, self._time_out, timeout_s)
        try:
            self._pipe.send_bytes(job.payload)
        except OSError:
            self._die()

    def detach(self) -> tuple[BaseProcess, Connection]:
        """Stop listening. Return the process and its pipe; closing the pipe ends the process."""
        self._loop.remove_reader(self._pipe.fileno())
        self._stop_timer()
        if not self.is_warm:
            kill_tree(self._process)  # its set-up may take long and is no longer needed
        self.warm.cancel()
        return self._process, self._pipe

    def _receive(self) -> None:
        try:
            received = self._pipe.recv_bytes()
        except (EOFError, OSError):
            self._die()
        else:
            self._settle(pickle.loads(received))  # noqa: S301  our own child wrote it

    def _settle(self, outcome: Outcome) -> None:
        self._stop_timer()
        job, self.job = self.job, None
        if job is not None:
            self._crew.note_duration(self._loop.time() - self._began)
        answer = self.warm if job is None else job.answer
        if not answer.done():
            try:
                answer.set_result(outcome.get()[0])
            except Exception as error:  # noqa: BLE001  the submitter gets it
                answer.set_exception(error)
        if self.is_warm:
            self._crew.worker_is_ready(self)
        else:  # its set-up raised; a new worker may succeed
            self._die()

    def _time_out(self, timeout_s: float) -> None:
        if self.job is not None and not self.job.answer.done():
            self.job.answer.set_exception(TimedOut(f"the call took longer than {timeout_s:g} s"))
        self._die()

    def _die(self) -> None:
        process, pipe = self._process, self._pipe
        self._loop.remove_reader(pipe.fileno())
        pipe.close()
        self._stop_timer()
        job, self.job = self.job, None
        kill_tree(process)  # it may still run and have closed only its pipe
        process.join()
        process.close()
        self._crew.worker_has_died(self, job)
        if not self.warm.done():
            self.warm.set_exception(EOFError("a worker died before it was warm"))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _end(workers: list[tuple[BaseProcess, Connection]]) -> None:
    """Close each worker's pipe, which ends the worker after its answer. Kill workers that do not end."""
    for _, pipe in workers:
        pipe.close()
    for process, _ in workers:
        process.join(STOP_TIMEOUT_S)
        kill_tree(process)
        process.join()
        process.close()


# -- what runs in the worker -------------------------------------------------------------------------


def _serve(pipe: Connection, setup: Setup, call: Call) -> None:
    """Warm up, then answer items until the pipe is closed."""
    follow_parent()
    with suppress(EOFError, BrokenPipeError):  # raised when the parent closes the pipe, to end this process
        pipe.send_bytes(pickle.dumps(warm_up(setup, call)))
        while True:
            payload = pipe.recv_bytes()
            pipe.send_bytes(pickle.dumps(attempt(partial(_call, call), [payload])))


def _call(call: Call, payloads: list[bytes]) -> list[Result]:
    return call([pickle.loads(payload) for payload in payloads])  # noqa: S301  our own parent wrote it
