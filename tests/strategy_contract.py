"""What tests of the contract of `strategies` share: every strategy, its options, what it may leave."""

import threading
from typing import Any

import psutil
import pytest

import strategies
from strategies import Options

# those whose package is not installed are told apart by name: CI installs every extra
every_strategy = pytest.mark.parametrize("name", strategies.available())
one_and_three_workers = pytest.mark.parametrize("workers", [1, 3])
LOOPS_OWN = {"default_pool": ("asyncio_",), "anyio_limiter": ("AnyIO",)}
HELPERS = ("resource_tracker", "forkserver")  # each serves the process for life


def threads_and_children(name: str) -> set[str]:
    """Everything that `name` could leave behind, without what the contract exempts.

    Held with <= against what was there before: nothing may be new. What an earlier test's loop has left may
    end meanwhile, which == would take for a fault of this one.
    """
    threads = {f"thread {thread.name}" for thread in threading.enumerate()}
    for prefix in LOOPS_OWN.get(name, ()):  # they are the loop's, and end with it
        threads = {thread for thread in threads if not thread.startswith(f"thread {prefix}")}
    children = {
        f"child {child.pid} {child.cmdline()}"
        for child in psutil.Process().children(recursive=True)
        if not any(helper in " ".join(child.cmdline()) for helper in HELPERS)
    }
    return threads | children


def told(name: str, workers: int | None = None, **more: Any) -> Options:
    """Options with what the strategy cannot do without."""
    factory = {"executor": "strategy_calls:spawned_pool"}.get(name)
    return Options(workers=workers, factory=factory, **more)
