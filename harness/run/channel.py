"""The interface to one load generator, wherever it runs: lines of JSON to it, and lines of JSON from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from harness.errors import HarnessError
from harness.run.clocks import Exchange


class Place(NamedTuple):
    """Where a load generator runs."""

    host: str
    pid: int | None  # None: on another host


class Channel(Protocol):
    """Lines to and from a load generator. `open` comes first; `close` ends the load generator."""

    def open(self) -> None:
        """Start the load generator. Raises HarnessError if that fails."""

    def place(self) -> Place:
        """Where it runs."""

    def send(self, line: bytes) -> None:
        """Write a line. Raises BrokenPipeError if the load generator has ended."""

    def peek(self, within_s: float) -> bytes | None:
        """Return its next line, which stays until `drop`; None if none arrives in time, empty at the end."""

    def drop(self) -> None:
        """Remove the line that `peek` returned."""

    def exchange_clocks(self) -> Exchange:
        """Ask for its time, between trials. Raises BrokenPipeError if the load generator has ended."""

    def end_early(self) -> None:
        """Make it end the trial and return what it has measured."""

    def start_limit(self, transport: str) -> Callable[[], dict[str, float]] | None:
        """Start to measure the limit of a load generator there; None if it runs on this host as a child.

        The function that this returns waits for the result (see `client_limit.Quick`).
        """

    def is_stopped(self) -> bool:
        """Whether a signal has stopped it."""

    def died(self, rows: str) -> HarnessError:
        """Return the error for its end. `rows` says where the rows of the trial are."""

    def kill(self) -> None:
        """End it at once, so that its lines end."""

    def close(self) -> None:
        """End it, and the way to it."""
