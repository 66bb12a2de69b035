"""Hand the rows of a trial over while it runs."""

from __future__ import annotations

from collections.abc import Callable

from harness.wire.records import Shot
from harness.wire.row_lines import line_of

BATCH_CHARS = 48_000  # as JSON less than 64 KiB: a pipe without a reader takes 16 of them, for seconds


class RowBatches:
    """Collects the lines of finished requests, and sends them when they are many.

    Call `flush` now and then, and at the end, for the rows of a slow server.
    """

    def __init__(self, send: Callable[[str], None]) -> None:
        self._send = send
        self._lines: list[str] = []
        self._chars = 0

    def add(self, shot: Shot) -> None:
        """Add a finished request."""
        line = line_of(shot)
        self._lines.append(line)
        self._chars += len(line)
        if self._chars >= BATCH_CHARS:
            self.flush()

    def flush(self) -> None:
        """Send what was collected, if anything."""
        if self._lines:
            lines = "".join(self._lines)
            self._lines, self._chars = [], 0
            self._send(lines)
