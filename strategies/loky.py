"""The call runs in loky's process pool, which joblib uses too.

When a worker dies, loky marks the pool as broken, like the standard library. Users of loky then request a new
pool, and so does this strategy. Items in the broken pool are lost.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.util import find_spec

from strategies import Call, Options, Setup, Submit, workers_or_one
from strategies._adapter import ThirdPartyExecutor, adapted
from strategies._child import follow_parent

SUMMARY = "in loky's process pool, which is replaced when it breaks (extra: loky)"
WHEN_FULL = "nothing is refused: items wait in an unbounded first-in, first-out queue"
WHEN_WORKER_DIES = (
    "all items in the pool fail; the next item starts a new pool and waits until it loads the model"
)
TAKES = frozenset({"workers"})
worker_count = workers_or_one


def why_not() -> str | None:
    """Return why it cannot run if the package is missing."""
    return None if find_spec("loky") else "loky is not installed; install the extra loky"


@asynccontextmanager
async def open(setup: Setup, call: Call, options: Options) -> AsyncIterator[Submit]:
    """See the contract in `strategies`."""
    workers = worker_count(options)
    async with adapted(partial(_pool, workers), workers, setup, call, follow_parent, revives=True) as submit:
        yield submit


def _pool(workers: int) -> ThirdPartyExecutor:
    """Create loky's pool behind the interface of `concurrent.futures.Executor`."""
    from loky import ProcessPoolExecutor

    # timeout: by default idle workers exit; env: loky does not pass on the flag -P of this process
    safe_path = {"PYTHONSAFEPATH": "1"} if sys.flags.safe_path else None
    pool = ProcessPoolExecutor(workers, timeout=None, env=safe_path)
    return ThirdPartyExecutor(pool.submit, pool.shutdown)
