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
  and the resource tracker and fork server of multiprocessing if there are child processes.

In every strategy, a call may start its own processes.

Strategies know nothing about models, HTTP, time or measurements.
To add one, add a file here and its name to `NAMES`.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Protocol, TypeAlias, cast

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
    "supervised",
    "batch",
)
START_METHODS = ("spawn", "forkserver")
MAX_WORKERS = 1_000
MAX_ITEMS = 1_000_000  # in a batch or a queue
MAX_DURATION_S = 86_400.0
BOUNDS: dict[str, tuple[float, float]] = {
    "workers": (1, MAX_WORKERS),
    "spares": (0, MAX_WORKERS),
    "max_batch": (1, MAX_ITEMS),
    "max_queue": (1, MAX_ITEMS),
    "max_wait_ms": (0, MAX_DURATION_S * 1e3),
    "switch_interval_ms": (1e-3, MAX_DURATION_S * 1e3),  # Python accepts whole microseconds above zero
    "timeout_s": (1e-3, MAX_DURATION_S),
}


@dataclass(frozen=True)
class Options:
    """The options of all strategies. Each strategy lists in `TAKES` the fields that it uses.

    Raises ValueError if a value is out of range for every strategy.
    """

    workers: int | None = None  # calls that run at the same time; None: the strategy's default
    switch_interval_ms: float | None = None  # how long a thread may hold the interpreter lock if others wait
    start_method: str = "spawn"  # how child processes start: one of START_METHODS
    preload: tuple[str, ...] = ()  # modules that the fork server imports once for all its children
    factory: str | None = None  # package.module:function, called with the number of workers
    over: str = "thread"  # the strategy that runs the batches
    max_batch: int = 32  # most items in one call
    max_wait_ms: float = 50.0  # longest time an item waits for others to share its batch
    max_queue: int | None = None  # most items that may wait; None: the strategy's default
    timeout_s: float | None = None  # a longer call is killed with its worker; None: the strategy's default
    spares: int = 0  # warm workers beyond `workers`; one takes over when a worker dies

    def __post_init__(self) -> None:
        for name, (least, most) in BOUNDS.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                bound = f"at most {most:g}" if value > most else f"at least {least:g}"
                raise ValueError(f"{name} must be {bound}")
        if self.start_method not in START_METHODS:
            raise ValueError(f"start_method must be one of: {', '.join(START_METHODS)}")
        if self.over == "batch" or self.over not in NAMES:
            raise ValueError(f"over must name the strategy that runs the batches; {self.over!r} is not one")


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
