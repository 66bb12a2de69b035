"""The call runs in your own executor: any implementation of `concurrent.futures.Executor`.

``factory`` names the function that creates it, as ``package.module:function``. It is called with the number
of workers and must be importable wherever the calls run. An example with Dask, which needs ``pure=False``:
without it, Dask runs equal calls only once.

    def dask(workers):
        cluster = distributed.LocalCluster(n_workers=workers, threads_per_worker=1)
        return distributed.Client(cluster).get_executor(pure=False)
"""

from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from functools import partial
from importlib import import_module

from strategies import Call, Options, Setup, Submit, always_available, workers_or_one
from strategies._adapter import adapted

SUMMARY = "in your own executor: executor:package.module:factory, called with the number of workers"
WHEN_FULL = "nothing is refused: items go to the executor immediately, and it decides how they wait"
WHEN_WORKER_DIES = "it depends on the executor"
TAKES = frozenset({"workers", "factory"})
why_not = always_available  # opening reports a factory that does not work
worker_count = workers_or_one


@asynccontextmanager
async def open(setup: Setup, call: Call, options: Options) -> AsyncIterator[Submit]:
    """See the contract in `strategies`. Raises ValueError if the factory cannot be imported."""
    make = partial(_factory(options.factory), worker_count(options))
    async with adapted(make, worker_count(options), setup, call) as submit:
        yield submit


def _factory(name: str | None) -> Callable[[int], Executor]:
    module, _, attribute = (name or "").partition(":")
    if not module or not attribute:
        raise ValueError("executor needs a factory: executor:package.module:function")
    try:
        factory: Callable[[int], Executor] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"the factory {name!r} cannot be imported: {error}") from error
    return factory
