"""Pin the load generator and the servers to different CPUs, so that they do not compete. Linux only."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NamedTuple

import psutil

from harness.errors import HarnessError


class Pinning(NamedTuple):
    """The CPUs that each side may use."""

    client: tuple[int, ...]
    server: tuple[int, ...]


def split() -> Pinning:
    """Return one usable CPU for the load generator and the others for the servers.

    The load generator gets the last CPU: most interrupts run on the first one and would delay its timestamps.
    Raises HarnessError if the system cannot pin processes or fewer than two CPUs are usable.
    """
    if sys.platform != "linux":
        raise HarnessError(
            "This system cannot pin processes to CPUs.", stage="pin", hint="Run without --pin."
        )
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise HarnessError(
            f"Pinning needs at least two usable CPUs; this process may use {len(usable)}.",
            stage="pin",
            hint="Run without --pin, or allow this process more CPUs (taskset, docker --cpuset-cpus).",
        )
    return Pinning(client=(usable[-1],), server=tuple(usable[:-1]))


def apply(pid: int, cpus: tuple[int, ...]) -> None:
    """Pin a process, its descendants and all their threads to `cpus`. Ignore processes that have ended.

    Call it before the process loads the model's library, which counts the CPUs then to size its thread pool.
    Raises HarnessError if the system refuses.
    """
    try:
        for _ in range(
            2
        ):  # the second round catches children started in the first by a parent not yet pinned
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
    """Return the ids of all threads of `pid` and its descendants: an affinity applies to one thread only."""
    found: list[int] = []
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                found += [thread.id for thread in process.threads()]
    return found
