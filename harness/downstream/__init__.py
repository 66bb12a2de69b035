"""What a request awaits once the model is done: a database, a service, or a sleep that stands for them.

One file a kind. It runs in the server's process, on its event loop; a service that must be there for it is
started by the run, beside the servers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from harness.downstream import sleep
from harness.options import WorkloadOptions
from harness.workloads import Workload


class Found(NamedTuple):
    """What came of one awaited call."""

    value: Any  # the answer's body: JSON-able, small
    server_ms: float | None = None  # what the other side says it took itself; None: it does not say


Ask = Callable[[Any], Awaitable[Found]]  # the model's result for one item → what was found with it


@asynccontextmanager
async def opened(workload: Workload, options: WorkloadOptions) -> AsyncIterator[Ask]:
    """What each request awaits, connected before the first of them; closed on leaving.

    A workload that has I/O of its own is asked itself.
    """
    if workload.io is not None:
        yield _own(workload.io)
        return

    async def ask(result: Any) -> Found:
        await sleep.ask(options.io_ms)
        return Found(workload.answer(result))

    yield ask


def _own(io: Callable[[Any], Awaitable[Any]]) -> Ask:
    async def ask(result: Any) -> Found:
        return Found(await io(result))

    return ask
