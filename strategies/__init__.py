"""Where a blocking call runs. Each strategy is a module of the same name; all have the same interface.

    strategy = strategies.get("process")
    async with strategy.open(setup, call, Options(workers=3)) as submit:
        result = await submit(item)

``setup()`` loads whatever the call needs *in the worker* and returns one item to warm up with.
``call(items)`` returns one result per item. Both must be module-level functions, or a `functools.partial` of
one, so that they can be pickled and sent to another process. If workers share a process, several of its
threads run ``setup`` at the same time.

Every strategy guarantees:

* When the strategy is open, every worker has run ``setup`` and the warm-up ``call([setup()])`` exactly once.
* Opening raises the exception that ``setup`` raises; submitting raises the exception that ``call`` raises.
  Both raise it immediately and unchanged. A RuntimeError that quotes the original exception replaces one that
  does not survive pickling, and one that a task must not raise: StopIteration, StopAsyncIteration, and any
  BaseException that is not an `Exception` (SystemExit, CancelledError).
* A result that does not survive pickling raises `Lost`. If that happens in the warm-up, opening fails.
* None of this affects another call or a later one.
* ``submit(item)`` returns the result that ``call([item])`` would return.
* The strategy runs ``worker_count(options)`` calls at the same time. ``WHEN_FULL`` says what happens to one
  more: it waits, or `Full` is raised immediately.
* ``submit.is_able()`` becomes false at most one second after the strategy can no longer serve any item, as
  far as the strategy can tell. A call that hangs counts as a running call.
* Closing waits for running calls, cancels waiting ones, and leaves no thread, no child process and nothing
  that a worker started. This includes closing after an exception, a cancellation or a failed opening.
  Exceptions: the event loop's own threads under `default_pool`, anyio's idle threads under `anyio_limiter`,
  Dask's thread for large messages, and the resource tracker and fork server of multiprocessing if there are
  child processes. The workers of a cluster that ran before (``address``) go on.

In every strategy, a call may start its own processes.

Strategies know nothing about models, HTTP, time or measurements.
To add one, add a file here and its name to `NAMES`.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from difflib import get_close_matches
from importlib import import_module
from typing import Annotated, Any, Literal, Protocol, TypeAlias, cast

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

Item: TypeAlias = Any
Result: TypeAlias = Any
Setup: TypeAlias = Callable[[], Item]
Call: TypeAlias = Callable[[list[Item]], list[Result]]

NAMES = (  # in the order in which reports list them
    "inline",
    "thread",
    "process",
    "default_pool",
    "anyio_limiter",
    "loky",
    "pebble",
    "executor",
    "ray",
    "dask",
    "supervised",
    "batch",
)
MAX_WORKERS = 1_000
MAX_ITEMS = 1_000_000  # in a batch, or in a queue
MAX_DURATION_S = 86_400.0

Workers = Annotated[int, Field(ge=1, le=MAX_WORKERS)]
Items = Annotated[int, Field(ge=1, le=MAX_ITEMS)]
Seconds = Annotated[float, Field(ge=1e-3, le=MAX_DURATION_S)]
SwitchInterval = Annotated[float, Field(ge=1e-3, le=MAX_DURATION_S * 1e3)]  # Python counts whole microseconds


def _runs_batches(name: str) -> str:
    if name == "batch" or name not in NAMES:
        raise ValueError(f"over must name the strategy that runs the batches; {name!r} is not one")
    return name


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Options:
    """All options of all strategies. A strategy's `TAKES` names the fields that it uses.

    Each field is declared here alone: type, bounds, default and description. Raises ValueError for a value
    that no strategy can use.
    """

    workers: Annotated[
        Workers | None,
        Field(
            description="Run this many model calls at the same time.", json_schema_extra={"flag": "--workers"}
        ),
    ] = None  # None: the strategy's own default
    switch_interval_ms: Annotated[
        SwitchInterval | None,
        Field(description="Let a computing thread keep the interpreter lock this long."),
    ] = None
    start_method: Annotated[
        Literal["spawn", "forkserver"], Field(description="Start child processes this way.")
    ] = "spawn"
    preload: Annotated[
        tuple[str, ...], Field(description="Let the fork server import these modules once for all workers.")
    ] = ()
    factory: Annotated[
        str | None, Field(description="Make the executor with this package.module:function.")
    ] = None
    address: Annotated[
        str | None,
        Field(min_length=1, max_length=1_000, description="Use the cluster at this address."),
    ] = None  # None: the strategy starts one on this host
    over: Annotated[
        str,
        AfterValidator(_runs_batches),
        Field(
            description="Run the batches with this strategy.",
            json_schema_extra={"enum": [name for name in NAMES if name != "batch"]},
        ),
    ] = "thread"
    max_batch: Annotated[Items, Field(description="Put at most this many items into one call.")] = 32
    max_wait_ms: Annotated[
        float,
        Field(
            ge=0,
            le=MAX_DURATION_S * 1e3,
            description="Let an item wait this long for others to join its batch.",
        ),
    ] = 50.0
    max_queue: Annotated[Items | None, Field(description="Refuse an item if this many wait.")] = (
        None  # None: the strategy's own default
    )
    timeout_s: Annotated[
        Seconds | None, Field(description="Kill a call that takes longer, with its worker.")
    ] = None  # None: the strategy's own default
    spares: Annotated[
        int, Field(ge=0, le=MAX_WORKERS, description="Keep this many warm workers to replace those that die.")
    ] = 0


class Submit(Protocol):
    """Submits items to an open strategy."""

    async def __call__(self, item: Item) -> Result:
        """Return the result of the call for this item. Cancelling drops the item if it is still waiting."""

    def is_able(self) -> bool:
        """Return whether the strategy can serve an item now."""


class Strategy(Protocol):
    """The interface of each strategy module in this package."""

    SUMMARY: str  # one line: where the call runs
    WHEN_FULL: str  # one line: what happens to an item when every worker is busy
    WHEN_WORKER_DIES: str  # one line: what happens to its item and to later items when a worker is killed
    TAKES: frozenset[str]  # the fields of Options that it uses; refuse a plan that sets any other

    def why_not(self) -> str | None:
        """Return why the strategy cannot run here and how to fix that; None if it can run."""

    def worker_count(self, options: Options) -> int:
        """Return how many calls run at the same time with these options."""

    def open(self, setup: Setup, call: Call, options: Options) -> AbstractAsyncContextManager[Submit]:
        """Start the workers, warm them up, and return the function that submits items to them."""


def always_available() -> str | None:
    """Return None: the `why_not` of a strategy that runs everywhere."""
    return None


def workers_or_one(options: Options) -> int:
    """Return `options.workers`, by default 1: the usual `worker_count`."""
    return options.workers or 1


class Full(Exception):
    """The item was refused because the queue is full. Retry after `retry_after_s`."""

    def __init__(self, waiting: int, retry_after_s: float) -> None:
        super().__init__(waiting, retry_after_s)
        self.waiting = waiting
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"{self.waiting} items are already waiting; retry in {self.retry_after_s:.1f} s"


class Poisoned(Exception):
    """The item was given up because two workers died while they ran it."""


class TimedOut(Exception):
    """The call exceeded its timeout, so its worker was killed."""


class Lost(Exception):
    """The call returned, but its result could not be transferred from the worker."""


class UnknownStrategy(LookupError):
    """No strategy has this name. ``nearest`` is the most similar name, or None if none is similar."""

    def __init__(self, name: str, nearest: str | None) -> None:
        super().__init__(name, nearest)  # unchanged, so that the exception survives pickling
        self.name = name
        self.nearest = nearest

    def __str__(self) -> str:
        guess = f"did you mean {self.nearest!r}? " if self.nearest else ""
        return f"there is no strategy {self.name!r}; {guess}Strategies: {', '.join(NAMES)}"


def get(name: str) -> Strategy:
    """Import and return the strategy called ``name``. Raises `UnknownStrategy` if there is none."""
    if name not in NAMES:
        raise UnknownStrategy(name, next(iter(get_close_matches(name, NAMES, n=1)), None))
    return cast(Strategy, import_module(f"{__name__}.{name}"))


def available() -> tuple[str, ...]:
    """Return the names of the strategies that can run here, in the order in which reports list them."""
    return tuple(name for name in NAMES if get(name).why_not() is None)
