"""The call runs in child processes that are looked after: the process pool one would run in production.

* A worker that dies is replaced. Its item is tried once more, elsewhere; when that worker dies too, the item
  is taken for the cause and given up: `Poisoned`.
* A call that takes longer than ``timeout_s`` (30) is killed with its worker: `TimedOut`.
* At most ``max_queue`` (64) items wait; one more is refused at once: `Full`.
* An item whose client has left while it waited is not run.
* Workers end with their parent, however it ends.
* ``spares`` are warm workers that wait for another's death, where loading the model takes long.

Everything happens on the event loop: a pipe to each worker, and no thread in between.
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
    as_many_as_asked_for,
    works_everywhere,
)
from strategies._child import follow_parent, kill_tree
from strategies._outcome import Outcome, attempt
from strategies._pool import beside_the_loop, warm_up

SUMMARY = "in child processes that are replaced when they die or hang, behind a bounded queue"
WHEN_FULL = (
    "items wait, first in first out, up to max_queue (64); beyond that Full is raised at once, "
    "with the time after which to try again"
)
WHEN_WORKER_DIES = (
    "another is started (a spare steps in), its item is tried once more, and the others wait in the queue"
)
TAKES = frozenset({"workers", "start_method", "preload", "max_queue", "timeout_s", "spares"})
why_not = works_everywhere
worker_count = as_many_as_asked_for  # spares do not run calls

MOST_WAITING = 64
LONGEST_CALL_S = 30.0
TRIES = 2  # an item in whose calls so many workers have died is given up
LONGEST_PAUSE_S = 5.0  # before a worker is started again when the one before did not even warm up
ENDS_WITHIN_S = 5.0  # a worker that is asked to


@asynccontextmanager
async def open(setup: Setup, call: Call, options: Options) -> AsyncIterator[Submit]:
    """See the contract in `strategies`. EOFError when a worker dies before all are warm."""
    crew = _Crew(setup, call, options)
    try:
        await crew.open()
        yield crew
    finally:
        await crew.close()


class _Job:
    def __init__(self, item: Item, answer: "asyncio.Future[Result]") -> None:
        self.payload = pickle.dumps(item)  # here, where whoever submits hears of what cannot travel
        self.answer = answer
        self.tries = 0


class _Crew:
    """The workers, and the items that wait for one."""

    def __init__(self, setup: Setup, call: Call, options: Options) -> None:
        self._work = (setup, call)
        self._context: Any = multiprocessing.get_context(options.start_method)
        if options.start_method == "forkserver":
            self._context.set_forkserver_preload(list(options.preload))
        self._at_once = worker_count(options)
        self._size = self._at_once + options.spares
        self._most_waiting = options.max_queue or MOST_WAITING
        self._timeout_s = options.timeout_s or LONGEST_CALL_S
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Job] = deque()
        self._workers: list[_Worker] = []
        self._idle: deque[_Worker] = deque()
        self._pause_s = 0.0
        self._starting: set[asyncio.TimerHandle] = set()
        self._closing = False
        self._s_per_item = 0.0

    async def open(self) -> None:
        """Start all workers and wait until each is warm; raise what the first to fail has raised."""
        for _ in range(self._size):
            self._start_worker()
        await asyncio.gather(*(worker.warm for worker in self._workers))

    async def __call__(self, item: Item) -> Result:
        """Raises `Full`, `Poisoned` and `TimedOut` beside what the call raises."""
        if self._closing:
            raise RuntimeError("cannot submit after closing")
        if len(self._waiting) >= self._most_waiting:
            self._forget_those_who_left()
        if len(self._waiting) >= self._most_waiting:
            raise Full(len(self._waiting), self._s_per_item * len(self._waiting) / self._at_once)
        job = _Job(item, self._loop.create_future())
        self._waiting.append(job)
        self._feed()
        return await job.answer

    def is_able(self) -> bool:
        """Whether any worker is warm and alive."""
        return any(worker.is_warm for worker in self._workers)

    async def close(self) -> None:
        """Cancel what waits, wait for what runs, end all workers."""
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
            await beside_the_loop(partial(_end, [worker.leave() for worker in workers]))

    # -- items ------------------------------------------------------------------------------------

    def _forget_those_who_left(self) -> None:
        """An item that nobody waits for must not keep another out."""
        self._waiting = deque(job for job in self._waiting if not job.answer.done())

    def _feed(self) -> None:
        """Hand items to idle workers, first in first out; those that nobody waits for are dropped."""
        while self._idle and self._waiting:
            if sum(worker.job is not None for worker in self._workers) >= self._at_once:
                return
            job = self._waiting.popleft()
            if not job.answer.done():
                self._idle.popleft().run(job, self._timeout_s)

    # -- what workers tell --------------------------------------------------------------------------

    def is_ready(self, worker: "_Worker") -> None:
        """A worker is warm, or has answered."""
        self._pause_s = 0.0
        self._idle.append(worker)
        self._feed()

    def took(self, seconds: float) -> None:
        """A call has taken so long."""
        self._s_per_item += (seconds - self._s_per_item) / 8

    def has_died(self, worker: "_Worker", job: _Job | None) -> None:
        """A worker is gone, and with it what it had in hand, if anything: replace it, try that once more."""
        if worker not in self._workers:
            return
        self._workers.remove(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        if job is not None and not job.answer.done():
            self._try_again(job)
        if not self._closing:
            self._replace(worker)

    def _try_again(self, job: _Job) -> None:
        if self._closing:
            job.answer.cancel()
        elif job.tries < TRIES:
            self._waiting.appendleft(job)
        else:
            job.answer.set_exception(Poisoned(f"{TRIES} workers died of this item: it is given up"))

    def _replace(self, worker: "_Worker") -> None:
        if worker.is_warm:
            self._start_worker()
        else:  # it did not even warm up: that may well happen again
            self._pause_s = min(LONGEST_PAUSE_S, 2 * self._pause_s or 0.1)
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
        self.warm.add_done_callback(lambda warm: warm.cancelled() or warm.exception())  # nobody need ask
        loop.add_reader(pipe.fileno(), self._hear)

    @property
    def is_warm(self) -> bool:
        return self.warm.done() and not self.warm.cancelled() and self.warm.exception() is None

    def run(self, job: _Job, timeout_s: float) -> None:
        """To an idle worker only: it reads at once."""
        job.tries += 1
        self.job = job
        self._began = self._loop.time()
        self._timer = self._loop.call_later(timeout_s, self._take_too_long, timeout_s)
        try:
            self._pipe.send_bytes(job.payload)
        except OSError:
            self._die()

    def leave(self) -> tuple[BaseProcess, Connection]:
        """Stop listening; the process and the pipe whose closing ends it."""
        self._loop.remove_reader(self._pipe.fileno())
        self._stop_timer()
        if not self.is_warm:
            kill_tree(self._process)  # a set-up may take long, and what it was for will not come
        self.warm.cancel()
        return self._process, self._pipe

    def _hear(self) -> None:
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
            self._crew.took(self._loop.time() - self._began)
        answer = self.warm if job is None else job.answer
        if not answer.done():
            try:
                answer.set_result(outcome.get()[0])
            except Exception as error:  # noqa: BLE001  it belongs to whoever submitted
                answer.set_exception(error)
        if self.is_warm:
            self._crew.is_ready(self)
        else:  # its set-up has raised: it will never be of use, and another may fare better
            self._die()

    def _take_too_long(self, timeout_s: float) -> None:
        if self.job is not None and not self.job.answer.done():
            self.job.answer.set_exception(TimedOut(f"the call took longer than {timeout_s:g} s"))
        self._die()

    def _die(self) -> None:
        process, pipe = self._process, self._pipe
        self._loop.remove_reader(pipe.fileno())
        pipe.close()
        self._stop_timer()
        job, self.job = self.job, None
        kill_tree(process)  # it may live and only have closed its pipe
        process.join()
        process.close()
        self._crew.has_died(self, job)
        if not self.warm.done():
            self.warm.set_exception(EOFError("a worker died before it was warm"))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _end(workers: list[tuple[BaseProcess, Connection]]) -> None:
    """Closing its pipe ends a worker once it has answered; one that does not is killed."""
    for _, pipe in workers:
        pipe.close()
    for process, _ in workers:
        process.join(ENDS_WITHIN_S)
        kill_tree(process)
        process.join()
        process.close()


# -- what runs in the worker -------------------------------------------------------------------------


def _serve(pipe: Connection, setup: Setup, call: Call) -> None:
    """Warm up, then answer items until the pipe is closed."""
    follow_parent()
    with suppress(EOFError, BrokenPipeError):  # that is how it is told to end
        pipe.send_bytes(pickle.dumps(warm_up(setup, call)))
        while True:
            payload = pipe.recv_bytes()
            pipe.send_bytes(pickle.dumps(attempt(partial(_call, call), [payload])))


def _call(call: Call, payloads: list[bytes]) -> list[Result]:
    return call([pickle.loads(payload) for payload in payloads])  # noqa: S301  our own parent wrote it
