"""The call runs on the event loop, like a blocking call in an ``async def`` route. This is the baseline."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from strategies import Call, Item, Options, Result, Setup, Submit, always_available
from strategies._outcome import attempt
from strategies._pool import warm_up

SUMMARY = "on the event loop itself: no hand-over, and nothing else runs during a call"
WHEN_FULL = "nothing is refused: each call blocks the event loop, and all other requests wait for their turn"
WHEN_WORKER_DIES = "the server dies with it"
TAKES: frozenset[str] = frozenset()
why_not = always_available


def worker_count(options: Options) -> int:  # noqa: ARG001  there is always one event loop
    """Return 1: the event loop is the only worker."""
    return 1


@asynccontextmanager
async def open(setup: Setup, call: Call, options: Options) -> AsyncIterator[Submit]:  # noqa: ARG001  it takes no options
    """See the contract in `strategies`. Setup blocks the loop too."""
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
