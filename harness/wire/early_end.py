"""A signal with which the run makes the load generator end a trial early and return what it has measured."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

SIGNAL = signal.SIGUSR1  # not a line on stdin, which the load generator does not read during a trial


@contextmanager
def cancel_on_signal(task: asyncio.Task[None]) -> Iterator[None]:
    """Cancel a task of the running loop when the signal arrives. Call it in the main thread only."""
    loop = asyncio.get_running_loop()
    before = signal.signal(SIGNAL, lambda *_: loop.call_soon_threadsafe(task.cancel))
    try:
        yield
    finally:
        signal.signal(SIGNAL, before)
