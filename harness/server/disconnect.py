"""A client that closes its connection gives up its request, also while that still waits for a worker.

ASGI tells of it only to who asks, and Starlette does not ask for a plain route: the request of a client that
has long gone would take its turn and keep a worker busy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

WATCHED_AFTER_S = 0.05  # most answers are there by then, and need no watch
CLIENT_LEFT = 499  # nobody reads it; nginx calls it so


class ClientLeft(Exception):
    """The client has closed its connection before it had an answer."""


class Receives(Protocol):
    """A request, as far as it is needed here."""

    @property
    def receive(self) -> Callable[[], Awaitable[MutableMapping[str, Any]]]:
        """Awaits the next ASGI message."""


async def unless_the_client_leaves(request: Receives, answer: Awaitable[Any]) -> Any:
    """What ``answer`` gives; if the client leaves first, ``answer`` is cancelled and `ClientLeft` raised.

    The body must have been read.
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

    def begin() -> None:
        nonlocal watching
        watching = asyncio.create_task(watch())

    timer = task.get_loop().call_later(WATCHED_AFTER_S, begin)
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
