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
    watch = _Watch(request, task)
    try:
        return await answer
    except asyncio.CancelledError:
        if watch.saw_leave and task.uncancel() == 0:
            raise ClientLeft from None
        raise
    finally:
        watch.end()


class _Watch:
    def __init__(self, request: Receives, task: asyncio.Task[Any]) -> None:
        self._request = request
        self._task = task
        self._watching: asyncio.Task[None] | None = None
        self._timer = task.get_loop().call_later(WATCHED_AFTER_S, self._begin)
        self.saw_leave = False

    def end(self) -> None:
        self._timer.cancel()
        if self._watching is not None:
            self._watching.cancel()

    def _begin(self) -> None:
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self.saw_leave = True
        self._task.cancel()
