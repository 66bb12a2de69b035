"""What a load generator and the run tell each other during a trial whose load several generators share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from harness.wire.generator_messages import BEGIN, STOP


class Follower(Protocol):
    """Follows what all generators have agreed on."""

    def begin_at(self, at_ms: float) -> None:
        """All generators are warm: measure requests that are sent from this time on."""

    def release(self) -> None:
        """All generators are done, so the load may end."""


def _ignore(message: dict[str, Any]) -> None: ...


class Link:
    """Tells the run how far this generator is, and its trial how far the others are.

    `receive` may be called in any thread. Messages without a trial that they could be for are dropped.
    """

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        self._send = send
        self._loop: asyncio.AbstractEventLoop | None = None
        self._follower: Follower | None = None

    @classmethod
    def alone(cls) -> Link:
        """Return the link of a generator that sends the whole load."""
        return cls(_ignore)

    def attach(self, follower: Follower) -> None:
        """Let `follower` know from now on. Call it in the loop of the trial."""
        self._loop, self._follower = asyncio.get_running_loop(), follower

    def detach(self) -> None:
        """Drop messages from now on, as the trial is over."""
        self._loop = self._follower = None

    def say(self, what: str, at_ms: float) -> None:
        """Tell the run that this generator is `WARM`, or `DONE`."""
        self._send({what: at_ms})

    def receive(self, message: dict[str, Any]) -> None:
        """Hand a message of the run to the trial."""
        loop, follower = self._loop, self._follower
        if loop is None or follower is None:
            return
        if BEGIN in message:
            loop.call_soon_threadsafe(follower.begin_at, message[BEGIN])
        elif STOP in message:
            loop.call_soon_threadsafe(follower.release)
