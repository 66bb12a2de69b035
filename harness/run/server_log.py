"""The log of one arm's server: both of its output streams, appended by each of its starts."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

_TAIL_LINES = 40


class ServerLog(NamedTuple):
    """The part of a log that one start of a server has written."""

    path: Path
    begins: int  # offset; earlier servers of this arm wrote the part before it

    def lines(self) -> list[str]:
        """Its lines; none if the run's folder was removed."""
        try:
            with self.path.open("rb") as stream:
                stream.seek(self.begins)
                return stream.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            return []

    def tail(self) -> str:
        """The last lines, as the end of a message; "" if there are none."""
        lines = self.lines()[-_TAIL_LINES:]
        return "".join(f"\n  | {line}" for line in ["The end of its log:", *lines]) if lines else ""
