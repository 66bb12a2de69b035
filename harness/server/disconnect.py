"""Cancel a request when its client closes the connection, even while the request waits for a worker.

ASGI reports a disconnect only to an app that awaits `receive()`, and Starlette does not await it in a plain
route. Otherwise the request of a client that has left would still run and keep a worker busy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

WATCH_DELAY_S = 0.05  # most requests are answered by then, so that watching them would be a waste
STATUS_CLIENT_LEFT = 499  # as in nginx; no client receives it


class ClientLeft(Exception):
    """The client closed its connection before it got an answer."""


class HasReceive(Protocol):
    """The part of a Starlette request that is used here."""

    @property
    def receive(self) -> Callable[[], Awaitable[MutableMapping[str, Any]]]:
        """A function that awaits the next ASGI message."""


async def or_client_leaves(request: HasReceive, answer: Awaitable[Any]) -> Any:
    """Await ``answer`` and return its result. If the client leaves first, cancel it and raise `ClientLeft`.

    Read the request's body before: after it, the next ASGI message is the disconnect.
    """
    task = asyncio.current_task()
    assert task is not None, "a request is handled in a task"
    has_left = False
    watching: asyncio.Task[None] | None = None

    async def watch() -> None:
        nonlocal has_left
        while (await request.receive())["type"] != "http.disconnect":
            pass
        has_left = True
        task.cancel()

    def start_watching() -> None:
        nonlocal watching
        watching = asyncio.create_task(watch())

    timer = task.get_loop().call_later(WATCH_DELAY_S, start_watching)
    try:
        return await answer
    except asyncio.CancelledError:
        if has_left and task.uncancel() == 0:
            raise ClientLeft from None
        raise
    finally:
        timer.cancel()
        if watching is not None:
            watching.cancel()
