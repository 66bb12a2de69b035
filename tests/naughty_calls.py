"""Calls that raise and return objects that are hard to transfer. Workers import them from here."""

import asyncio
import concurrent.futures
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

READY = "warm-up"


class WithKeywords(Exception):
    """Can be pickled but not unpickled, because its keyword argument is required."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")


class WithLock(Exception):
    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.lock = threading.Lock()
        self.answer = lambda: 42


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError

    __repr__ = __str__


class OwnBaseException(BaseException):
    pass


class Unpickled:
    """Can be pickled, but raises when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return _no_such_type, ()


class PickledByExit:
    def __reduce__(self) -> NoReturn:
        raise SystemExit("not today")


class BecomesAnotherThing(Exception):
    def __reduce__(self) -> tuple[object, ...]:
        return str, ("no exception any more",)


def _no_such_type() -> NoReturn:
    raise ModuleNotFoundError("No module named 'their_types'")


def _recurse(depth: int = 0) -> int:
    return 1 + _recurse(depth + 1)


def _chain() -> NoReturn:
    try:
        raise WithLock("cause")
    except WithLock as cause:
        raise ValueError("effect") from cause


def _nested() -> list[object]:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    return nested


RAISED = {
    "stop": StopIteration("bye"),
    "stop-async": StopAsyncIteration("bye"),
    "generator-exit": GeneratorExit("bye"),
    "ctrl-c": KeyboardInterrupt("bye"),
    "exit": SystemExit("bye"),
    "cancelled": asyncio.CancelledError("bye"),
    "future-cancelled": concurrent.futures.CancelledError("bye"),
    "memory": MemoryError("bye"),
    "own-base": OwnBaseException("bye"),
    "group": ExceptionGroup("bye", [ValueError("one"), WithLock("two")]),
    "base-group": BaseExceptionGroup("bye", [KeyboardInterrupt()]),
    "surrogate": ValueError("bye \ud800"),
    "keywords": WithKeywords(code=7),
    "lock": WithLock("bye"),
    "mute": Unprintable(),
    "another-thing": BecomesAnotherThing("bye"),
}
RETURNED = {
    "lambda": lambda: 1,
    "exits-when-pickled": PickledByExit(),
    "raises-when-unpickled": Unpickled(),
    "deep": None,  # created in the worker
}
MORE: dict[str, Callable[[], object]] = {"recursion": _recurse, "chain": _chain}


def misbehave(items: list[Any]) -> list[Any]:
    """Do what each item names; an unknown item is its own result."""
    return [_one(item) for item in items]


def _one(item: str) -> object:
    if item in RAISED:
        raise RAISED[item]
    if item in MORE:
        MORE[item]()
    if item == "deep":
        return _nested()
    return RETURNED.get(item, item)


def return_too_few(items: list[Any]) -> list[Any]:
    """Return too few results and clear the list of items."""
    results = [item for item in items if item != "lost"]
    items.clear()
    return results


def ready() -> str:
    return READY


def ready_with_what_is_lost() -> str:
    return "raises-when-unpickled"


def raise_on_setup(name: str) -> NoReturn:
    raise RAISED[name]


def square(number: int) -> int:
    return number * number


def with_children(items: list[Any]) -> list[Any]:
    """Return the sum of a Pool's answers and a process that keeps sleeping after the call."""
    if items == [READY]:
        return items
    with multiprocessing.get_context("fork").Pool(2) as pool:
        total = sum(pool.map(square, range(4)))
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    return [(total, sleeper.pid, os.getpid()) for _ in items]


def with_commands(items: list[Any]) -> list[Any]:
    """As `with_children`, but with a command instead of a Pool: gRPC's threads do not survive a fork."""
    if items == [READY]:
        return items
    add = [sys.executable, "-c", "print(sum(number**2 for number in range(4)))"]
    total = int(subprocess.run(add, capture_output=True, check=True).stdout)
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    return [(total, sleeper.pid, os.getpid()) for _ in items]


def hang_with_a_child(items: list[Any]) -> list[Any]:
    """Write the child's process id to a file and never return."""
    if items == [READY]:
        return items
    sleeper = subprocess.Popen(["sleep", "600"])
    Path(items[0]).write_text(str(sleeper.pid))
    threading.Event().wait()
    return items
