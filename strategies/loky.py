"""The call runs in loky's pool of processes, the one beneath joblib.

loky notices a worker's death and breaks that pool, as the standard library does; its users ask for a new one,
and so does this strategy. What was in the broken one is lost.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.util import find_spec

from strategies import Call, Options, Setup, Submit, as_many_as_asked_for
from strategies._adapter import Foreign, adapted
from strategies._child import follow_parent

SUMMARY = "in loky's pool of processes, which is made anew when it breaks (extra: loky)"
WHEN_FULL = "nothing is refused: items wait, first in first out, in a queue without a bound"
WHEN_WORKER_DIES = "everything in the pool fails; the next item gets a new pool, and waits for its model"
TAKES = frozenset({"workers"})
worker_count = as_many_as_asked_for


def why_not() -> str | None:
    """It needs its package."""
    return None if find_spec("loky") else "loky is not installed; install the extra: loky"


@asynccontextmanager
async def open(setup: Setup, call: Call, options: Options) -> AsyncIterator[Submit]:
    """See the contract in `strategies`."""
    workers = worker_count(options)
    async with adapted(partial(_pool, workers), workers, setup, call, follow_parent, revives=True) as submit:
        yield submit


def _pool(workers: int) -> Foreign:
    """loky's pool with the names of the standard library."""
    from loky import ProcessPoolExecutor

    # its workers would leave when idle, and are started without the flag -P of this process
    safe_path = {"PYTHONSAFEPATH": "1"} if sys.flags.safe_path else None
    pool = ProcessPoolExecutor(workers, timeout=None, env=safe_path)
    return Foreign(pool.submit, pool.shutdown)
