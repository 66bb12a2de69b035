"""Set-ups and calls for tests of strategies, at module level so that a spawned worker can import them."""

import itertools
import multiprocessing
import os
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple


class Ran(NamedTuple):
    """Where and when an item was handled; times in seconds on the host's monotonic clock."""

    item: object
    pid: int
    thread: int
    start: float
    end: float


class Refused(Exception):
    """An exception class of user code."""


def ready() -> str:
    return "warm-up"


def double(items: list[Any]) -> list[Any]:
    return [item * 2 for item in items]


def raise_on_item(items: list[Any]) -> list[Any]:
    if items != ["warm-up"]:
        raise Refused(f"cannot handle {items[0]}")
    return items


def raise_it(items: list[Any]) -> list[Any]:
    """Raise the item itself if it is an exception."""
    if isinstance(items[0], BaseException):
        raise items[0]
    return items


def run_for(seconds: float, items: list[Any]) -> list[Ran]:
    """Sleep (except in the warm-up), then return where and when the call ran."""
    start = time.monotonic()
    if items != ["warm-up"]:
        time.sleep(seconds)
    return [Ran(item, os.getpid(), threading.get_native_id(), start, time.monotonic()) for item in items]


def run_for_each(seconds: float, items: list[Any]) -> list[Ran]:
    """Sleep for this long per item; otherwise as `run_for`."""
    return run_for(seconds * len(items), items)


def note(folder: Path, what: str) -> None:
    """Append a line to this worker's file."""
    with (folder / f"{os.getpid()}-{threading.get_native_id()}").open("a") as file:
        file.write(f"{what}\n")


def noted_setup(folder: Path) -> str:
    # returns immediately, so that a fast worker could wrongly run another worker's warm-up
    note(folder, "setup")
    return "warm-up"


def noted_call(folder: Path, items: list[Any]) -> list[Any]:
    note(folder, "call")
    return items


def noted_run_for(folder: Path, seconds: float, items: list[Any]) -> list[Ran]:
    """As `run_for`, and note each item when its call begins."""
    if items != ["warm-up"]:
        for item in items:
            note(folder, f"{item}")
    return run_for(seconds, items)


def noted(folder: Path) -> int:
    """How many lines the workers have noted."""
    return sum(len(file.read_text().splitlines()) for file in folder.iterdir())


def arrival(folder: Path) -> int:
    """Return 1 in the first worker that calls this, 2 in the next."""
    for number in itertools.count(1):
        try:
            (folder / str(number)).touch(exist_ok=False)
        except FileExistsError:
            continue
        return number
    raise AssertionError


def setup_that_raises(folder: Path, in_worker: int) -> str:
    if arrival(folder) == in_worker:
        raise Refused("no such model")
    return "warm-up"


def setup_that_kills_its_process(folder: Path, in_worker: int) -> str:
    if arrival(folder) == in_worker:
        os._exit(3)
    return "warm-up"


def setup_that_lasts(folder: Path, in_worker: int, seconds: float) -> str:
    if arrival(folder) == in_worker:
        time.sleep(seconds)
    return "warm-up"


def slow_setup() -> str:
    time.sleep(0.3)
    return "warm-up"


def noted_slow_call(folder: Path, items: list[Any]) -> list[Any]:
    if items != ["warm-up"]:
        note(folder, f"{items}")
        time.sleep(0.2)
    return items


def spawned_pool(workers: int) -> ProcessPoolExecutor:
    """A user's executor."""
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def slow_but_for_poison(items: list[Any]) -> list[Any]:
    """Take a while. A batch that contains poison fails as a whole."""
    if items == ["warm-up"]:
        return items
    time.sleep(0.05)
    if "poison" in items:
        raise Refused("cannot handle poison")
    return items


def exit_on_item(items: list[Any]) -> list[Any]:
    if "exit" in items:
        os._exit(1)
    return items


def was_imported_before(module: str, items: list[Any]) -> list[bool]:
    return [module in sys.modules for _ in items]
