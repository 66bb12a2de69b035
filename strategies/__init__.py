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
* what ``setup`` raises reaches whoever opens, what ``call`` raises reaches whoever submits, as it was raised;
* ``submit(item)`` answers with the result of ``call([item])``;
* it really runs ``worker_count(options)`` calls at once, and ``WHEN_FULL`` says what becomes of one more;
* leaving, also by an exception or a cancellation and also when opening failed, waits for the calls that run,
  cancels those that wait, and leaves no thread and no child process behind. Exempt: the event loop's own
  threads under `default_pool`, multiprocessing's resource tracker under `process`.

A strategy is not aware of models, HTTP, time or measurements.
A new one is one file here and its name in `NAMES`.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Protocol, TypeAlias, cast

Item: TypeAlias = Any
Result: TypeAlias = Any
Setup: TypeAlias = Callable[[], Item]
Call: TypeAlias = Callable[[list[Item]], list[Result]]
Submit: TypeAlias = Callable[[Item], Awaitable[Result]]

NAMES = ("inline", "thread", "process", "default_pool")  # in the order of reports


@dataclass(frozen=True)
class Options:
    """Everything a strategy can be told; its `TAKES` names the fields that mean something to it."""

    workers: int = 1  # calls that run at once


class Strategy(Protocol):
    """What each module of this package looks like."""

    SUMMARY: str  # one line: where the call runs
    WHEN_FULL: str  # one line: what becomes of an item when every worker is busy
    TAKES: frozenset[str]  # the fields of Options it obeys; a plan that sets another should be refused

    def worker_count(self, options: Options) -> int:
        """How many calls it runs at once under these options."""

    def open(self, setup: Setup, call: Call, options: Options) -> AbstractAsyncContextManager[Submit]:
        """Start the workers, warm them up, and give the function that submits to them."""


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
