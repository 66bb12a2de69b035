"""A load generator as a child process of the run."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from contextlib import suppress

import psutil

from harness.errors import HarnessError
from harness.run.channel import Place
from harness.run.clocks import Exchange
from harness.run.supervisor import Supervisor
from harness.system import streams
from harness.wire import early_end
from harness.wire.clock import now_ms
from harness.wire.generator_messages import CLOCK

ENDS_WITHIN_S = 5.0
STARTS_WITHIN_S = 60.0  # a cold disk reads its libraries for some seconds


class LocalProcess:
    """A `Channel` to a `python -m harness.client` on this host."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def open(self) -> None:
        """See `Channel`."""
        self._process: subprocess.Popen[bytes] = self._supervisor.spawn(
            "harness.client", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None
        )
        assert self._process.stdout is not None
        streams.enlarge_pipe(self._process.stdout.fileno())
        self._lines = _Lines(self._process.stdout.fileno())

    def place(self) -> Place:
        """See `Channel`."""
        return Place("localhost", self._process.pid)

    def send(self, line: bytes) -> None:
        """See `Channel`."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        self._process.stdin.flush()

    def peek(self, within_s: float) -> bytes | None:
        """See `Channel`."""
        return self._lines.peek(within_s)

    def drop(self) -> None:
        """See `Channel`."""
        self._lines.drop()

    def exchange_clocks(self) -> Exchange:
        """See `Channel`."""
        sent_ms = now_ms()
        self.send(json.dumps({CLOCK: None}).encode())
        line = self.peek(STARTS_WITHIN_S)
        received_ms = now_ms()
        if not line:
            raise BrokenPipeError
        self.drop()
        return Exchange(sent_ms, json.loads(line)[CLOCK], received_ms)

    def end_early(self) -> None:
        """See `Channel`."""
        self._process.send_signal(early_end.SIGNAL)

    def start_limit(self, transport: str) -> None:
        """See `Channel`."""

    def is_stopped(self) -> bool:
        """See `Channel`."""
        try:
            return psutil.Process(self._process.pid).status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess:
            return False

    def died(self, rows: str) -> HarnessError:
        """See `Channel`."""
        code = self._process.wait(ENDS_WITHIN_S)
        return HarnessError(
            f"The load generator ended during the run (exit code {code}).",
            stage="load",
            hint=f"Its last output is above. {rows}",
        )

    def kill(self) -> None:
        """See `Channel`."""
        self._process.kill()

    def close(self) -> None:
        """See `Channel`. Between trials it holds no data; the rest of an unfinished trial is not needed."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):  # options that it has not read
                pipe.close()


class _Lines:
    """The lines of a pipe. An interrupted read loses nothing: the next read returns the same line."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._read = bytearray()
        self._searched = 0
        self._poll = select.poll()
        self._poll.register(pipe, select.POLLIN)

    def peek(self, within_s: float) -> bytes | None:
        """The next line; None if it does not arrive in time, empty if the pipe ends before it is complete."""
        deadline = time.monotonic() + within_s
        while (end := self._read.find(b"\n", self._searched)) < 0:
            self._searched = len(self._read)
            if not self._poll.poll(1e3 * max(0.0, deadline - time.monotonic())):
                return None
            chunk = os.read(self._pipe, 1 << 20)
            if not chunk:
                return b""
            self._read += chunk
        self._searched = end
        return bytes(self._read[:end])

    def drop(self) -> None:
        """Remove the line that `peek` returned."""
        del self._read[: self._searched + 1]
        self._searched = 0
