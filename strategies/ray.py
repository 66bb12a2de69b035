"""The call runs in a pool of Ray actors, each a process of its own with its own model.

Without ``address``, the strategy starts a Ray of its own on this host, reachable from this host only and
without its dashboard, and ends it. With ``address`` (HOST:PORT), the actors run in that cluster, spread over
its nodes; each node needs the modules of the set-up and of the call.

An actor runs one call at a time. No item is retried: a call may have run before its actor died.
"""

import asyncio
import logging
import os
import re
import secrets
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from threading import Event, Thread
from typing import Any

from strategies import Call, Options, Setup, Submit, workers_or_one
from strategies._outcome import Outcome
from strategies._remote import Crew, Place, Work, Worker, WorkerLost, to_its_end, unable, work

SUMMARY = "in a pool of Ray actors, on this host or in the cluster at address (extra: ray)"
WHEN_FULL = (
    "nothing is refused: items wait in an unbounded first-in, first-out queue; "
    "the one that each busy actor has ahead can no longer be cancelled"
)
WHEN_WORKER_DIES = (
    "its item fails, and so does the one that it had ahead; others wait, "
    "and a new actor starts and loads the model"
)
TAKES = frozenset({"workers", "address"})
worker_count = workers_or_one

AHEAD = 1  # items, as the way to an actor and back takes less time than the call of a model
LOOKS_EVERY_S = 0.5  # at idle actors, whose death nothing else reports
CONNECTS_WITHIN_S = 5.0
STORE_BYTES = 100 * 2**20  # of Ray's shared memory, which small items do not use
MARK = "STRATEGY_RAY"  # the environment variable by which processes of a Ray of ours are found
THREADS = "OMP_NUM_THREADS"  # Ray sets it to 1 in actors; models choose their threads as in other strategies
_ADDRESS = re.compile(r"[^/\s]+:\d{1,5}")
OF_ITS_OWN = {  # environment of a Ray that we start; it reads most of it when it is imported
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # listen on loopback only; Linux obeys too
    "RAY_AUTH_MODE": "token",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # actors see the GPUs that the server sees
}


def why_not() -> str | None:
    """Return why it cannot run if the package is missing."""
    return None if find_spec("ray") else "ray is not installed; install the extra ray"


@asynccontextmanager
async def open(setup: Setup, call: Call, options: Options) -> AsyncIterator[Submit]:
    """See the contract in `strategies`.

    Raises ConnectionError if no cluster answers at the address, ValueError if the address is no HOST:PORT.
    """
    if options.address is not None and not _ADDRESS.fullmatch(options.address):
        raise ValueError(f"the address of a Ray cluster is HOST:PORT, not {options.address}")
    luggage = work(setup, call, {THREADS: os.environ.get(THREADS)})
    stderr_of = None if options.address else os.getpid()
    async with _connected(options.address, worker_count(options)):
        kind = _kind()
        actors = [_Actor(kind, luggage, stderr_of) for _ in range(worker_count(options))]
        crew = Crew(actors)
        watch = asyncio.create_task(_watch(crew))
        try:
            await crew.open()
            yield crew
        finally:
            watch.cancel()
            await to_its_end(_close(crew, actors))


def _kind() -> Any:
    """Return the class of the actors. Ray's default gives them no share of a CPU once they run."""
    import ray

    return ray.remote(_Place).options(scheduling_strategy="SPREAD", max_restarts=0, max_task_retries=0)


async def _close(crew: Crew, actors: "list[_Actor]") -> None:
    await crew.close()
    await asyncio.gather(*(actor.end() for actor in actors))


async def _watch(crew: Crew) -> None:
    """Look regularly whether idle actors still run."""
    while True:
        await asyncio.sleep(LOOKS_EVERY_S)
        await asyncio.gather(*(_look_at(worker, crew) for worker in crew.idle()))


async def _look_at(worker: Worker, crew: Crew) -> None:
    assert isinstance(worker, _Actor)
    life = worker.life
    try:
        await worker.is_there()
    except WorkerLost:
        crew.lose(worker, life)


class _Actor(Worker):
    """An actor, and another one when it has died."""

    ahead = AHEAD

    def __init__(self, kind: Any, luggage: Work, stderr_of: int | None) -> None:
        self._kind = kind
        self._luggage = luggage
        self._stderr_of = stderr_of
        self._actor: Any = None

    async def find(self) -> None:
        """Ask Ray for an actor. Ray starts it when a node has room, and keeps its calls until then."""
        self._kill()
        self._actor = self._kind.remote(self._luggage, self._stderr_of)

    async def warm_up(self) -> Outcome:
        outcome: Outcome = await _answer(self._actor.warm_up.remote())
        return outcome

    async def call(self, payload: bytes) -> Outcome:
        outcome: Outcome = await _answer(self._actor.call.remote(payload))
        return outcome

    async def is_there(self) -> None:
        """Raises WorkerLost if the actor has died."""
        await _answer(self._actor.is_there.remote())

    async def end(self) -> None:
        """End the actor and all processes that its calls have started."""
        if self.is_warm:
            with suppress(Exception):  # it has died meanwhile
                await _answer(self._actor.end_children.remote())
        self._kill()

    def _kill(self) -> None:
        import ray

        if self._actor is not None:
            ray.kill(self._actor)
            self._actor = None


async def _answer(reference: Any) -> Any:
    """Await an answer of an actor. Raises WorkerLost; RuntimeError if the actor could not import our code."""
    from ray.exceptions import RayActorError, RayError, RayTaskError

    try:
        return await reference
    except RayError as error:
        never_began = isinstance(error, RayActorError) and error.actor_init_failed
        if never_began or isinstance(error, RayTaskError):
            raise unable("Ray", _last_line(error)) from error
        raise WorkerLost(_last_line(error)) from error


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


# -- Ray itself ----------------------------------------------------------------------------------------


@asynccontextmanager
async def _connected(address: str | None, workers: int) -> AsyncIterator[None]:
    """Connect this process to the cluster at ``address``, or to one of its own that ends with it.

    Connecting takes seconds and must not stop the event loop. The thread that starts Ray's processes has to
    live as long as they do: they end with it (`PR_SET_PDEATHSIG`).
    """
    ready: Future[None] = Future()
    ended: Future[None] = Future()
    leave = Event()
    session = _session if address is None else _visit
    arguments = (address or workers, ready, leave)
    thread = Thread(target=_run, args=(session, arguments, ready, ended), name="strategy-ray", daemon=True)
    thread.start()
    try:
        await asyncio.shield(asyncio.wrap_future(ready))
        yield
    finally:
        leave.set()
        try:
            await to_its_end(_wait_for(ended))
        finally:
            thread.join()


async def _wait_for(ended: "Future[None]") -> None:
    await asyncio.wrap_future(ended)


def _run(session: Any, arguments: Any, ready: "Future[None]", ended: "Future[None]") -> None:
    try:
        session(*arguments)
    except BaseException as error:  # noqa: BLE001  the opening raises it
        if not ready.done():
            ready.set_exception(error)
    finally:
        ended.set_result(None)


def _visit(address: str, ready: "Future[None]", leave: Event) -> None:
    """Use the cluster at this address."""
    import ray

    try:
        _check(address)
        ray.init(address, **_quiet())
        ready.set_result(None)
        leave.wait()
    finally:
        ray.shutdown()


def _check(address: str) -> None:
    """Raise ConnectionError if nothing listens there: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECTS_WITHIN_S).close()
    except OSError as error:
        raise ConnectionError(f"no Ray cluster answers at {address}: {error}") from error


def _session(workers: int, ready: "Future[None]", leave: Event) -> None:
    """Start a Ray, use it, and end it with all of its processes and files."""
    for name, value in {**OF_ITS_OWN, "RAY_AUTH_TOKEN": secrets.token_hex(32)}.items():
        os.environ.setdefault(name, value)
    import ray

    with _swept() as folder:
        os.environ[MARK] = folder  # of Ray's processes, and of what they start
        try:
            ray.init(
                "local",
                num_cpus=workers,
                include_dashboard=False,
                object_store_memory=STORE_BYTES,
                _temp_dir=folder,
                **_quiet(),
            )
            del os.environ[MARK]  # of other processes of this one
            ready.set_result(None)
            leave.wait()
        finally:
            os.environ.pop(MARK, None)
            ray.shutdown(wait_for_processes=True)


@contextmanager
def _swept() -> Iterator[str]:
    """Yield a new folder; at the end, even of a killed process, remove it and kill all marked processes.

    Ray's processes end with this one, but for its agents.
    """
    # a short path, as sockets in it must have fewer than 108 characters
    folder = mkdtemp(prefix="ray-", dir="/tmp")
    sweeper = Path(__file__).with_name("_sweeper.py")
    command = [sys.executable, "-I", str(sweeper), f"{MARK}={folder}", folder]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdin is not None
        with process.stdin:  # which ends the process when it closes
            yield folder


def _quiet() -> dict[str, Any]:
    """Return the settings of every connection."""
    import ray

    # a client's job leaves the current folder out of the path of its workers; a file there may hide a module
    job = ray.job_config.JobConfig(_client_job=True)
    return {"log_to_driver": False, "logging_level": logging.ERROR, "job_config": job}


# -- in the actor --------------------------------------------------------------------------------------


class _Place(Place):
    """A place whose output goes to the server's log, if that is on the same host."""

    def __init__(self, luggage: Work, stderr_of: int | None) -> None:
        super().__init__(luggage)
        if stderr_of is not None:
            with suppress(OSError):  # a system without /proc: the output is in Ray's logs
                log = os.open(f"/proc/{stderr_of}/fd/2", os.O_WRONLY | os.O_APPEND)
                os.dup2(log, 1)
                os.dup2(log, 2)
                os.close(log)
