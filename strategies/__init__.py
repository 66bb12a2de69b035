"""Where a blocking call runs: one module per strategy, named after it, all behind one verb.

    strategy = strategies.get("process")
    async with strategy.open(setup, call, Options(workers=3)) as submit:
        result = await submit(item)

``setup()`` loads whatever the call needs *in the worker* and returns one item to warm up with;
``call(items)`` returns one result per item. Both are module-level functions, or `functools.partial` of such,
so that they can travel to another process. Where workers share a process, ``setup`` runs in several of its
threads at once.

Every strategy promises:

* when it has opened, every worker has finished ``setup`` and the warm-up ``call([setup()])``, once each;
* opening raises what ``setup`` raises, and submitting raises what ``call`` raises, at once and as it was
  raised. Words in a RuntimeError replace what cannot be pickled and unpickled on its way, and what no
  task may raise: StopIteration, StopAsyncIteration, and what is no `Exception` (SystemExit, CancelledError);
* a result that cannot be pickled and unpickled on its way is `Lost`; that of the warm-up fails the opening;
* none of this harms another call, nor a later one;
* ``submit(item)`` answers with the result that ``call([item])`` would give;
* it really runs ``worker_count(options)`` calls at once, and ``WHEN_FULL`` says what becomes of one more:
  it waits, or `Full` is raised at once;
* ``submit.is_able()`` is false from at most a second after nothing can be served any more, as far as the
  strategy can know: a call that hangs is a call that runs;
* leaving, also by an exception or a cancellation and also when opening failed, waits for the calls that run,
  cancels those that wait, and leaves no thread and no child process behind, nor what a worker has started.
  Exempt: the event loop's own threads under `default_pool`, anyio's idle ones under `anyio_limiter`,
  multiprocessing's resource tracker and fork server where there are child processes.

A call may start processes of its own, in every strategy.

A strategy is not aware of models, HTTP, time or measurements.
A new one is one file here and its name in `NAMES`.
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

NAMES = (  # in the order of reports
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
MOST_WORKERS = 1_000
MOST_ITEMS = 1_000_000  # in a batch, or in a queue
LONGEST_S = 86_400.0

Workers = Annotated[int, Field(ge=1, le=MOST_WORKERS)]
Items = Annotated[int, Field(ge=1, le=MOST_ITEMS)]
Seconds = Annotated[float, Field(ge=1e-3, le=LONGEST_S)]
SwitchInterval = Annotated[float, Field(ge=1e-3, le=LONGEST_S * 1e3)]  # Python counts whole microseconds


def _runs_batches(name: str) -> str:
    if name == "batch" or name not in NAMES:
        raise ValueError(f"over is the strategy that runs the batches; it cannot be {name!r}")
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
        str | None,
        Field(description="Make the executor with this package.module:function."),
    ] = None
    over: Annotated[
        str, AfterValidator(_runs_batches), Field(description="Run the batches with this strategy.")
    ] = "thread"
    max_batch: Annotated[Items, Field(description="Put at most this many items into one call.")] = 32
    max_wait_ms: Annotated[
        float,
        Field(
            ge=0, le=LONGEST_S * 1e3, description="Let an item wait this long for others to join its batch."
        ),
    ] = 50.0
    max_queue: Annotated[Items | None, Field(description="Refuse an item if this many wait.")] = (
        None  # None: the strategy's own default
    )
    timeout_s: Annotated[
        Seconds | None,
        Field(description="Kill a call that takes longer, with its worker."),
    ] = None  # None: the strategy's own default
    spares: Annotated[
        int,
        Field(ge=0, le=MOST_WORKERS, description="Keep this many warm workers to replace those that die."),
    ] = 0


class Submit(Protocol):
    """What an open strategy gives."""

    async def __call__(self, item: Item) -> Result:
        """The result of the call on this item. Cancelling gives up the item, if it still waits."""

    def is_able(self) -> bool:
        """Whether anything could be served now."""


class Strategy(Protocol):
    """What each module of this package looks like."""

    SUMMARY: str  # one line: where the call runs
    WHEN_FULL: str  # one line: what becomes of an item when every worker is busy
    WHEN_WORKER_DIES: str  # one line: what a killed worker means for its item and for later ones
    TAKES: frozenset[str]  # the fields of Options it obeys; a plan that sets another should be refused

    def why_not(self) -> str | None:
        """Why it cannot work here, and the way out; None when it can."""

    def worker_count(self, options: Options) -> int:
        """How many calls it runs at once under these options."""

    def open(self, setup: Setup, call: Call, options: Options) -> AbstractAsyncContextManager[Submit]:
        """Start the workers, warm them up, and give the function that submits to them."""


def works_everywhere() -> str | None:
    """The `why_not` of a strategy against which nothing stands."""
    return None


def as_many_as_asked_for(options: Options) -> int:
    """The usual `worker_count`; one unless told otherwise."""
    return options.workers or 1


class Full(Exception):
    """The item was refused because as many wait as may; worth another attempt after `retry_after_s`."""

    def __init__(self, waiting: int, retry_after_s: float) -> None:
        super().__init__(waiting, retry_after_s)
        self.waiting = waiting
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"{self.waiting} items wait already; try again in {self.retry_after_s:.1f} s"


class Poisoned(Exception):
    """The item was given up: two workers died of it."""


class TimedOut(Exception):
    """The call took longer than it may; its worker was killed."""


class Lost(Exception):
    """The call returned, but its result could not be brought back from the worker."""


class UnknownStrategy(LookupError):
    """No strategy has this name; ``nearest`` is the most similar one there is, if any comes close."""

    def __init__(self, name: str, nearest: str | None) -> None:
        super().__init__(name, nearest)  # as they came, so that it survives pickling
        self.name = name
        self.nearest = nearest

    def __str__(self) -> str:
        guess = f"did you mean {self.nearest!r}? " if self.nearest else ""
        return f"no strategy is called {self.name!r}; {guess}There are: {', '.join(NAMES)}"


def get(name: str) -> Strategy:
    """The strategy of that name, imported now. Raises `UnknownStrategy`."""
    if name not in NAMES:
        raise UnknownStrategy(name, next(iter(get_close_matches(name, NAMES, n=1)), None))
    return cast(Strategy, import_module(f"{__name__}.{name}"))


def available() -> tuple[str, ...]:
    """The names of those that can work here, in the order of reports."""
    return tuple(name for name in NAMES if get(name).why_not() is None)
