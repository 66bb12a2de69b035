"""The call runs in a pool of spawned child processes: an interpreter lock and a copy of the model for each.

Items, results and exceptions are pickled. One worker that dies breaks the pool for good: `submit` raises
`BrokenProcessPool` from then on, and so does `open` when it happens there. Spawned, not forked: a fork of a
process in which a model has run can deadlock.
"""

import multiprocessing
import os
import signal
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from threading import Barrier, Thread

from strategies import Call, Options, Setup, Submit
from strategies._pool import serving

SUMMARY = "in a pool of child processes, each with its own interpreter and its own model"
WHEN_FULL = (
    "nothing is refused: items wait, first in first out, in a queue without a bound, "
    "the first workers + 1 of them too near the workers to be cancelled"
)
TAKES = frozenset({"workers"})


def worker_count(options: Options) -> int:
    """As many processes as asked for."""
    return options.workers


@asynccontextmanager
async def open(setup: Setup, call: Call, options: Options) -> AsyncIterator[Submit]:
    """See the contract in `strategies`."""
    spawn = multiprocessing.get_context("spawn")
    everyone = spawn.Barrier(worker_count(options))
    pool = ProcessPoolExecutor(everyone.parties, spawn, _begin, (setup, call, everyone))
    async with serving(pool, _warm_up, everyone, call) as submit:
        yield submit


# The rest runs in the worker. A barrier cannot be pickled into a task, only handed to a process that is being
# spawned; so the initializer leaves it here for the warm-up to find.
_everyone: Barrier
_failure: BaseException | None = None


def _begin(setup: Setup, call: Call, everyone: Barrier) -> None:
    """Initialize a worker: tie its life to its parent's, then load and warm up."""
    global _everyone, _failure
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole group, and is the parent's to handle
    Thread(target=_follow_parent, name="strategy-follow-parent", daemon=True).start()
    _everyone = everyone
    try:
        call([setup()])
    except BaseException as failure:  # noqa: BLE001  out of an initializer it would only be "BrokenProcessPool"
        _failure = failure


def _warm_up() -> None:
    """Meet the other workers; raise what went wrong when this one began."""
    _everyone.wait()
    if _failure:
        raise _failure


def _follow_parent() -> None:
    """Exit as soon as the parent has gone: a worker would outlive one that was killed (cpython #111873)."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a child has a parent to follow"
    parent.join()
    os._exit(1)
