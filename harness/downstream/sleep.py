"""The article's control: the awaited I/O is a sleep. A timer of the loop, no wake-up from outside."""

from __future__ import annotations

import asyncio


async def ask(io_ms: float) -> None:
    """Take `io_ms`, rounded up to the timer's whole milliseconds."""
    await asyncio.sleep(io_ms / 1e3)
