"""The call runs in a pool of child processes: an interpreter lock and a copy of the model for each.

Items, results and exceptions are pickled. One worker that dies breaks the pool for good: `submit` raises
`BrokenProcessPool` from then on, and so does `open` when it happens there.

Spawned by default, not forked: a fork of a process in which a model has run can deadlock. A fork server is a
process in which none has: it imports ``preload`` once, and each worker starts as its copy, soon and sharing
its memory.
"""

import multiprocessing
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from threading import Barrier

from strategies import Call, Options, Setup, Submit, as_many_as_asked_for, works_everywhere
from strategies._child import follow_parent
from strategies._outcome import Outcome
from strategies._pool import serving, warm_up

SUMMARY = "in a pool of child processes, each with its own interpreter and its own model"
WHEN_FULL = (
    "nothing is refused: items wait, first in first out, in a queue without a bound, "
    "the first workers + 1 of them too near the workers to be cancelled"
)
WHEN_WORKER_DIES = "the pool is broken for good, and so is the service until it is restarted"
TAKES = frozenset({"workers", "start_method", "preload"})
why_not = works_everywhere
worker_count = as_many_as_asked_for


@asynccontextmanager
async def open(setup: Setup, call: Call, options: Options) -> AsyncIterator[Submit]:
    """See the contract in `strategies`."""
    context = multiprocessing.get_context(options.start_method)
    if options.start_method == "forkserver":
        context.set_forkserver_preload(list(options.preload))
    everyone = context.Barrier(worker_count(options))
    pool = ProcessPoolExecutor(everyone.parties, context, _begin, (setup, call, everyone))
    async with serving(pool, _warm_up, everyone, call) as submit:
        yield submit


# The rest runs in the worker. A barrier cannot be pickled into a task, only handed to a process that is being
# started; so the initializer leaves it here for the warm-up to find.
_everyone: Barrier
_outcome: Outcome


def _begin(setup: Setup, call: Call, everyone: Barrier) -> None:
    """Initialize a worker: tie its life to its parent's, then load and warm up.

    What goes wrong is kept: out of an initializer it would only be "BrokenProcessPool".
    """
    global _everyone, _outcome
    follow_parent()
    _everyone = everyone
    _outcome = warm_up(setup, call)


def _warm_up() -> Outcome:
    """Meet the other workers; what came of it when this one began."""
    _everyone.wait()
    return _outcome
