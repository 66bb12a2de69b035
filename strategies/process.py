"""The call runs in a pool of child processes. Each has its own interpreter lock and its own model.

Items, results and exceptions are pickled. When a worker dies, the pool is broken for good: `submit` raises
`BrokenProcessPool` from then on, and so does `open` if a worker dies during the opening.

Workers are spawned by default, not forked: a fork of a process that has run a model can deadlock. A fork
server has never run a model. It imports ``preload`` once, and each worker is a fork of it, so that it starts
quickly and shares its memory.
"""

import multiprocessing
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from threading import Barrier

from strategies import Call, Options, Setup, Submit, always_available, workers_or_one
from strategies._child import follow_parent
from strategies._outcome import Outcome
from strategies._pool import serving, warm_up

SUMMARY = "in a pool of child processes, each with its own interpreter and its own model"
WHEN_FULL = (
    "nothing is refused: items wait in an unbounded first-in, first-out queue; "
    "the first workers + 1 of them can no longer be cancelled"
)
WHEN_WORKER_DIES = "the pool breaks for good, and every request fails until the service restarts"
TAKES = frozenset({"workers", "start_method", "preload"})
why_not = always_available
worker_count = workers_or_one


@asynccontextmanager
async def open(setup: Setup, call: Call, options: Options) -> AsyncIterator[Submit]:
    """See the contract in `strategies`."""
    context = multiprocessing.get_context(options.start_method)
    if options.start_method == "forkserver":
        context.set_forkserver_preload(list(options.preload))
    all_workers = context.Barrier(worker_count(options))
    pool = ProcessPoolExecutor(all_workers.parties, context, _begin, (setup, call, all_workers))
    async with serving(pool, _warm_up, all_workers, call) as submit:
        yield submit


# The rest runs in the worker. A barrier cannot be pickled as an argument of a call, only be passed to a
# process at its start. So the initializer stores it here for the warm-up.
_all_workers: Barrier
_outcome: Outcome


def _begin(setup: Setup, call: Call, all_workers: Barrier) -> None:
    """Initialize a worker: make it end with its parent, then load and warm up.

    Store an exception instead of raising it: raised in an initializer, it would become "BrokenProcessPool".
    """
    global _all_workers, _outcome
    follow_parent()
    _all_workers = all_workers
    _outcome = warm_up(setup, call)


def _warm_up() -> Outcome:
    """Wait until every worker is here, then return the outcome of this worker's initializer."""
    _all_workers.wait()
    return _outcome
