"""The call runs in the workers of a Dask cluster, each a process of its own with its own model.

Without ``address``, the strategy starts a `LocalCluster`: its scheduler runs on the event loop, its workers
are child processes. With ``address`` (such as tcp://HOST:PORT), the calls run in that cluster, on as many of
its workers as are asked for; each needs the modules of the set-up and of the call.

A worker runs one call at a time. Every call is computed (``pure=False``: otherwise equal calls run once), and
no item is retried: a call may have run before its worker died.
"""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any

from strategies import Call, Options, Setup, Submit, workers_or_one
from strategies._outcome import Outcome
from strategies._remote import ClusterLost, Crew, Place, Work, Worker, WorkerLost, to_its_end, unable, work

SUMMARY = "in the workers of a Dask cluster, on this host or at address (extra: dask)"
WHEN_FULL = (
    "nothing is refused: items wait in an unbounded first-in, first-out queue; "
    "the two that each busy worker has ahead can no longer be cancelled"
)
WHEN_WORKER_DIES = (
    "its item fails, and so do the two that it had ahead; others wait, and the worker that Dask starts, "
    "or another one of the cluster, loads the model"
)
TAKES = frozenset({"workers", "address"})
worker_count = workers_or_one

AHEAD = 2  # items, as the way to a worker and back takes some 10 ms, like the call of a small model
CONNECTS_WITHIN_S = 10.0
LOOKS_EVERY_S = 1.0  # at the connection, while a worker is missing
TOPIC = "all"  # of the scheduler's events: workers that join and leave
OF_ITS_OWN = {  # configuration of a cluster that we start
    "distributed.nanny.pre-spawn-environ": {},  # it would give each model a single thread
    "distributed.worker.daemon": False,  # a call may start processes
    "distributed.scheduler.allowed-failures": 0,
}


def why_not() -> str | None:
    """Return why it cannot run if the package is missing."""
    return None if find_spec("distributed") else "distributed is not installed; install the extra dask"


@asynccontextmanager
async def open(setup: Setup, call: Call, options: Options) -> AsyncIterator[Submit]:
    """See the contract in `strategies`.

    Raises ConnectionError if no scheduler answers at the address, or if it has too few workers.
    """
    count = worker_count(options)
    stack = AsyncExitStack()
    try:
        address = options.address
        if address is None:
            address = await stack.enter_async_context(_started(count))
        team = await _Team.joined(address, count, is_ours=options.address is None)
        stack.push_async_callback(team.leave)
        workers = [_Worker(team, work(setup, call, {})) for _ in range(count)]
        crew = Crew(workers)
        stack.push_async_callback(crew.close)
        team.when_lost(lambda worker: crew.lose(worker, worker.life))
        await crew.open()
        yield crew
    finally:
        await to_its_end(_closed(stack))


async def _closed(stack: AsyncExitStack) -> None:
    await stack.aclose()


@asynccontextmanager
async def _started(count: int) -> AsyncIterator[str]:
    """Start a cluster on this host, and give its address; end it with all of its processes and files."""
    import dask
    from distributed import LocalCluster

    with (
        TemporaryDirectory(prefix="dask-", ignore_cleanup_errors=True) as folder,
        dask.config.set(OF_ITS_OWN | {"temporary-directory": folder}),
    ):
        cluster: Any = LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            # its HTTP server runs all the same; at any free port, as there may be two clusters
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
            memory_limit=None,  # a limit would end workers that other strategies let run
            silence_logs=logging.ERROR,
            asynchronous=True,
        )
        try:
            await cluster
            yield cluster.scheduler_address
        finally:
            await to_its_end(_ended(cluster))


async def _ended(cluster: Any) -> None:
    await cluster.close()


class _Team:
    """Our connection to the cluster, and which of its workers are ours."""

    def __init__(self, client: Any, address: str, *, is_ours: bool) -> None:
        self.key = uuid.uuid4().hex  # names our places in the workers
        self.address = address
        self._client = client
        self._is_ours = is_ours
        self._known: set[str] = set()  # the addresses of the cluster's workers
        self._taken: dict[str, _Worker] = {}
        self._changed = asyncio.Event()
        self._tell: list[Callable[[_Worker], None]] = []

    @classmethod
    async def joined(cls, address: str, count: int, *, is_ours: bool) -> "_Team":
        """Connect to the cluster and listen to its events."""
        from distributed import Client

        client = Client(address, asynchronous=True, set_as_default=False, timeout=CONNECTS_WITHIN_S)
        try:
            await to_its_end(_connect(client))  # if it were cancelled, its socket would stay open
            self = cls(client, address, is_ours=is_ours)
            client.subscribe_topic(TOPIC, self._hear)
            self._known |= (await client.nthreads()).keys()
            if len(self._known) < count:
                raise ConnectionError(
                    f"the Dask cluster at {address} has {len(self._known)} workers, "
                    f"but {count} are asked for (workers)"
                )
        except BaseException as error:
            await _disconnected(client)
            if isinstance(error, OSError) and not isinstance(error, ConnectionError):
                raise ConnectionError(f"no Dask scheduler answers at {address}") from error
            raise
        return self

    async def leave(self) -> None:
        """Forget the places in the workers and disconnect."""
        with suppress(Exception):  # workers may be gone
            await self._client.run(_leave, self.key, self._is_ours, workers=list(self._taken))
        await _disconnected(self._client)

    def when_lost(self, tell: Callable[["_Worker"], None]) -> None:
        """Call ``tell`` when a worker has left the cluster."""
        self._tell.append(tell)

    async def take(self, worker: "_Worker") -> str:
        """Wait for a worker of the cluster that is not taken, and take it."""
        while not (free := sorted(self._known - self._taken.keys())):
            if self._client.status in ("closing", "closed"):
                raise ClusterLost(f"the connection to the Dask scheduler at {self.address} is lost")
            self._changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), LOOKS_EVERY_S)
        self._taken[free[0]] = worker
        return free[0]

    async def threads_of(self, address: str) -> int:
        """Return how many calls the worker would run at the same time."""
        threads: dict[str, int] = await self._client.nthreads(workers=[address])
        return threads.get(address, 1)

    async def ask(self, address: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a function in that worker. Raises ClusterLost if the connection is lost for good."""
        if self._client.status in ("closing", "closed"):
            raise ClusterLost(f"the connection to the Dask scheduler at {self.address} is lost")
        future = self._client.submit(
            function,
            *arguments,
            workers=[address],
            allow_other_workers=False,
            pure=False,
            retries=0,
            fifo_timeout=0,  # otherwise calls of the same moment have no order
        )
        return await future.result()

    def _hear(self, event: tuple[float, Any]) -> None:
        """Take note of workers that join and leave."""
        _, news = event
        if not isinstance(news, dict):
            return
        address = news.get("worker", "")
        if news.get("action") == "add-worker":
            self._known.add(address)
            self._changed.set()
        elif news.get("action") == "remove-worker":
            self._known.discard(address)
            if worker := self._taken.pop(address, None):
                worker.is_gone.set()
                for tell in self._tell:
                    tell(worker)


async def _connect(client: Any) -> None:
    await client


async def _disconnected(client: Any) -> None:
    with suppress(Exception):  # the scheduler may be gone, or was never there
        client.unsubscribe_topic(TOPIC)
    await client.close()


class _Worker(Worker):
    """A worker of the cluster, and another one when it has died."""

    def __init__(self, team: _Team, luggage: Work) -> None:
        self._team = team
        self._luggage = luggage
        self._address = ""
        self.is_gone = asyncio.Event()

    async def find(self) -> None:
        if not self._address or self.is_gone.is_set():
            self.is_gone = asyncio.Event()
            self._address = await self._team.take(self)
            # items that several threads take at the same moment have no order
            self.ahead = AHEAD if await self._team.threads_of(self._address) == 1 else 0

    async def warm_up(self) -> Outcome:
        return await self._ask(_warm_up, self._team.key, self._luggage)

    async def call(self, payload: bytes) -> Outcome:
        return await self._ask(_call, self._team.key, payload)

    async def _ask(self, function: Callable[..., Any], *arguments: Any) -> Outcome:
        answer = asyncio.ensure_future(self._team.ask(self._address, function, *arguments))
        gone = asyncio.ensure_future(self.is_gone.wait())
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise WorkerLost("it has left the Dask cluster")
            return _outcome(answer)
        finally:
            answer.cancel()
            gone.cancel()


def _outcome(answer: "asyncio.Future[Any]") -> Outcome:
    """Return the outcome. Raises WorkerLost, or RuntimeError if the worker could not import our code."""
    from concurrent.futures import CancelledError

    from distributed import KilledWorker

    try:
        outcome: Outcome = answer.result()
    except ClusterLost:
        raise
    except KilledWorker as error:
        raise WorkerLost("its process has ended") from error
    except (CancelledError, OSError) as error:
        raise WorkerLost(f"{type(error).__name__}: {error}") from error
    except Exception as error:
        first = error
        while isinstance(first.__cause__, Exception):
            first = first.__cause__
        raise unable("Dask", f"{type(first).__name__}: {first}") from error
    return outcome


# -- in the worker -------------------------------------------------------------------------------------

_places: dict[str, Place] = {}


def _warm_up(key: str, luggage: Work) -> Outcome:
    place = Place(luggage)
    outcome = place.warm_up()
    _places[key] = place
    return outcome


def _call(key: str, payload: bytes) -> Outcome:
    return _places[key].call(payload)


def _leave(key: str, is_ours: bool) -> None:
    """Forget the place. Other clients of a cluster may have started processes in this worker too."""
    place = _places.pop(key, None)
    if place is not None and is_ours:
        place.end_children()
