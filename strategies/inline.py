"""The call runs right on the event loop, as a blocking call in an ``async def`` route does: the baseline."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from strategies import Call, Item, Options, Result, Setup, Submit, works_everywhere
from strategies._outcome import attempt
from strategies._pool import warm_up

SUMMARY = "on the event loop itself: no hand-over, and nothing else runs meanwhile"
WHEN_FULL = (
    "nothing is refused: the event loop stands still until the call is done, and everyone waits in turn"
)
WHEN_WORKER_DIES = "it is the server itself that dies"
TAKES: frozenset[str] = frozenset()
why_not = works_everywhere


def worker_count(options: Options) -> int:  # noqa: ARG001  there is one event loop, whatever they say
    """One: the event loop."""
    return 1


@asynccontextmanager
async def open(setup: Setup, call: Call, options: Options) -> AsyncIterator[Submit]:  # noqa: ARG001  it takes none
    """See the contract in `strategies`. Setup, too, stops the loop."""
    warm_up(setup, call).get()
    yield _Inline(call)


class _Inline:
    def __init__(self, call: Call) -> None:
        self._call = call

    async def __call__(self, item: Item) -> Result:
        (result,) = attempt(self._call, [item]).get()
        return result

    def is_able(self) -> bool:
        return True
