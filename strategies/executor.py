"""The call runs in an executor of your own: anything that implements `concurrent.futures.Executor`.

``factory`` names what makes it, as ``package.module:function``; it is called with the number of workers and
must be importable wherever the calls run. Dask, for example, whose ``pure=False`` is needed, or equal calls
are run once and answered twice:

    def dask(workers):
        cluster = distributed.LocalCluster(n_workers=workers, threads_per_worker=1)
        return distributed.Client(cluster).get_executor(pure=False)
"""

from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from functools import partial
from importlib import import_module

from strategies import Call, Options, Setup, Submit, as_many_as_asked_for, works_everywhere
from strategies._adapter import adapted

SUMMARY = "in an executor of your own: executor:package.module:factory, called with the number of workers"
WHEN_FULL = "nothing is refused: items are given to the executor at once, and it has them wait as it likes"
WHEN_WORKER_DIES = "as the executor has it"
TAKES = frozenset({"workers", "factory"})
why_not = works_everywhere  # whether the factory works is seen when it is called
worker_count = as_many_as_asked_for


@asynccontextmanager
async def open(setup: Setup, call: Call, options: Options) -> AsyncIterator[Submit]:
    """See the contract in `strategies`. ValueError for a factory that is none."""
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
