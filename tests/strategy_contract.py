"""Helpers for tests of the strategies' contract: the strategies, their options and their leftovers."""

import threading
from contextlib import suppress
from typing import Any

import clusters
import psutil
import pytest

import strategies
from strategies import Options

# omits strategies whose package is missing; CI installs every extra
every_strategy = pytest.mark.parametrize("name", strategies.available())
one_and_three_workers = pytest.mark.parametrize("workers", [1, 3])
LOOPS_OWN = {"default_pool": ("asyncio_",), "anyio_limiter": ("AnyIO",), "dask": ("Dask-Offload",)}
HELPERS = ("resource_tracker", "forkserver")  # each runs until the process ends


def threads_and_children(name: str) -> set[str]:
    """Return everything that `name` could leave behind, without the exceptions in the contract.

    The clusters that tests share are no leftovers.

    Compare it with <= to the state before: nothing may be new. Leftovers of an earlier test may end in
    between, so that == could fail without reason.
    """
    threads = {f"thread {thread.name}" for thread in threading.enumerate()}
    for prefix in LOOPS_OWN.get(name, ()):  # they belong to the loop and end with it
        threads = {thread for thread in threads if not thread.startswith(f"thread {prefix}")}
    children = psutil.Process().children(recursive=True)
    shared = clusters.processes()
    commands: dict[int, str] = {}
    for child in children:
        with suppress(psutil.NoSuchProcess):  # it has ended since it was listed
            commands[child.pid] = " ".join(child.cmdline())
    return threads | {
        f"child {pid} {command}"
        for pid, command in commands.items()
        if pid not in shared and not any(helper in command for helper in HELPERS)
    }


def options_for(name: str, workers: int | None = None, **more: Any) -> Options:
    """Return Options, with those that the strategy requires, and the cluster that tests share."""
    factory = {"executor": "strategy_calls:spawned_pool"}.get(name)
    address = clusters.address(name) if name in clusters.PROGRAMS else None
    return Options(workers=workers, factory=factory, address=address, **more)
