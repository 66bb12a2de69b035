"""Helpers for tests of the strategies' contract: the strategies, their options and their leftovers."""

import threading
from typing import Any

import psutil
import pytest

import strategies
from strategies import Options

# omits strategies whose package is missing; CI installs every extra
every_strategy = pytest.mark.parametrize("name", strategies.available())
one_and_three_workers = pytest.mark.parametrize("workers", [1, 3])
LOOPS_OWN = {"default_pool": ("asyncio_",), "anyio_limiter": ("AnyIO",)}
HELPERS = ("resource_tracker", "forkserver")  # each runs until the process ends


def threads_and_children(name: str) -> set[str]:
    """Return everything that `name` could leave behind, without the exceptions in the contract.

    Compare it with <= to the state before: nothing may be new. Leftovers of an earlier test may end in
    between, so that == could fail without reason.
    """
    threads = {f"thread {thread.name}" for thread in threading.enumerate()}
    for prefix in LOOPS_OWN.get(name, ()):  # they belong to the loop and end with it
        threads = {thread for thread in threads if not thread.startswith(f"thread {prefix}")}
    children = {
        f"child {child.pid} {child.cmdline()}"
        for child in psutil.Process().children(recursive=True)
        if not any(helper in " ".join(child.cmdline()) for helper in HELPERS)
    }
    return threads | children


def options_for(name: str, workers: int | None = None, **more: Any) -> Options:
    """Return Options, with those that the strategy requires."""
    factory = {"executor": "strategy_calls:spawned_pool"}.get(name)
    return Options(workers=workers, factory=factory, **more)
