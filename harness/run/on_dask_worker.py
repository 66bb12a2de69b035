"""What runs in a Dask worker: a load generator as a child process, and the way of its lines.

The load generator is a process of its own, as everywhere, so that the worker's threads do not delay requests.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from harness.wire import early_end

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PIDS = Path("/proc/self/ns/pid")


def process_table() -> str:
    """Return a text that two processes share only if they see the same process under a pid; "" if unknown.

    It names the boot of the machine and the pid namespace, as a container on this host has pids of its own.
    """
    try:
        return f"{_BOOT_ID.read_text().strip()} {_PIDS.readlink()}"
    except OSError:
        return ""


class OnDaskWorker:
    """A Dask actor with one `python -m harness.client`. It ends with the actor, or with the worker."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "harness.client"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self._lines = _Lines()
        # the thread must not know the actor, which ends when nobody knows it any more
        threading.Thread(target=self._lines.collect, args=(self._process.stdout,), daemon=True).start()

    def facts(self) -> dict[str, Any]:
        """Return what the run needs to know: the worker's `pid` and its `process_table`."""
        return {"process_table": process_table(), "pid": os.getpid()}

    async def clock_ms(self) -> float:
        """Return the time on the monotonic clock of this host, which the load generator reads as well."""
        return time.perf_counter_ns() / 1e6

    async def read(self, within_s: float) -> list[bytes]:
        """Return the lines that have arrived, after `within_s` at the latest; an empty line is the end."""
        return await self._lines.take(within_s)

    async def write(self, line: bytes) -> bool:
        """Write a line to the load generator; return whether it still runs."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return False
        return True

    async def limit(self, transport: str) -> dict[str, float]:
        """Measure the limit of a load generator on this host (see `client_limit.Quick`)."""
        words = [sys.executable, "-P", "-m", "harness.run.client_limit", transport]
        process = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE)
        written, _ = await process.communicate()
        found: dict[str, float] = json.loads(written)
        return found

    async def end_early(self) -> None:
        """Make the load generator end the trial and return what it has measured."""
        self._process.send_signal(early_end.SIGNAL)

    async def exit_code(self) -> int | None:
        """Return the exit code of the load generator; None while it runs."""
        return self._process.poll()

    async def kill(self) -> None:
        """End the load generator."""
        self._process.kill()

    def __del__(self) -> None:
        self._process.kill()
        self._process.wait()


class _Lines:
    """Lines that a thread reads and the worker's event loop takes."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque()  # an empty one is the end
        self._arrived = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def collect(self, pipe: IO[bytes]) -> None:
        """Read all lines of the pipe."""
        for line in pipe:
            self._add(line.removesuffix(b"\n"))
        self._add(b"")

    def _add(self, line: bytes) -> None:
        self._lines.append(line)
        if self._loop is not None:
            with suppress(RuntimeError):  # the worker has ended
                self._loop.call_soon_threadsafe(self._arrived.set)

    async def take(self, within_s: float) -> list[bytes]:
        """Return all lines so far; if there are none, wait for one at most this long."""
        self._loop = asyncio.get_running_loop()
        self._arrived.clear()
        if not self._lines:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), within_s)
        return [self._lines.popleft() for _ in range(len(self._lines))]
