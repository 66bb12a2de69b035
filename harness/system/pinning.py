"""CPUs apart for the load generator and the servers, so that neither takes the other's. Linux only."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NamedTuple

import psutil

from harness.errors import HarnessError


class Pinning(NamedTuple):
    """Which CPUs each side may use."""

    client: tuple[int, ...]
    server: tuple[int, ...]


def split() -> Pinning:
    """One usable CPU for the client, the rest for the servers; HarnessError where that cannot be.

    The client gets the last one: interrupts mostly land on the first, and would delay its stamps.
    """
    if sys.platform != "linux":
        raise HarnessError(
            "This system cannot pin processes to CPUs.", stage="pin", hint="Run without --pin."
        )
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise HarnessError(
            f"Pinning takes two usable CPUs, and here is {len(usable)}.",
            stage="pin",
            hint="Run without --pin, or allow this process more CPUs (taskset, docker --cpuset-cpus).",
        )
    return Pinning(client=(usable[-1],), server=tuple(usable[:-1]))


def apply(pid: int, cpus: tuple[int, ...]) -> None:
    """Let the process, its descendants and all their threads run on `cpus` only; what has ended is let be.

    Call it before the model's library is loaded: that counts the CPUs then, for its threads. Raises
    HarnessError when the system refuses.
    """
    try:
        for _ in range(2):  # what was born during the first round, of a parent not yet pinned
            for thread in _threads(pid):
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(thread, cpus)
    except (OSError, psutil.AccessDenied) as error:
        raise HarnessError(
            f"Process {pid} cannot be pinned to CPU {', '.join(map(str, cpus))}: {error}.",
            stage="pin",
            hint="Run without --pin.",
        ) from error


def _threads(pid: int) -> list[int]:
    """The ids of every thread in the tree of `pid`; a process's affinity is that of its main thread only."""
    found: list[int] = []
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                found += [thread.id for thread in process.threads()]
    return found
