"""The load generator ends a trial early when it is asked to, and answers with what it has measured."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

ASKED_BY = signal.SIGUSR1  # and not by a line on stdin, which nobody reads during a trial


@contextmanager
def ends_when_asked(task: asyncio.Task[None]) -> Iterator[None]:
    """Cancel the task of the running loop when the signal comes. In the main thread only."""
    loop = asyncio.get_running_loop()
    before = signal.signal(ASKED_BY, lambda *_: loop.call_soon_threadsafe(task.cancel))
    try:
        yield
    finally:
        signal.signal(ASKED_BY, before)
