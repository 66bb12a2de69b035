"""The interface through which a run reports its progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from harness.plans.plan import Cell
    from harness.wire.records import Trial


class Listener(Protocol):
    """Receives the progress of a run, such as the terminal."""

    def stage(self, text: str) -> None:
        """The run is doing `text`; it measures nothing yet."""

    def trial_begins(self, cell: Cell, number: int, total: int) -> None:
        """Trial `number` of `total` begins, counted from 1."""

    def progress(self, answered: int, median_ms: float) -> None:
        """`answered` requests of the trial have been answered; `median_ms` is their recent median latency."""

    def trial_ends(self, trial: Trial) -> None:
        """The trial is saved."""


class SilentListener:
    """A Listener that ignores everything."""

    def stage(self, text: str) -> None: ...

    def trial_begins(self, cell: Cell, number: int, total: int) -> None: ...

    def progress(self, answered: int, median_ms: float) -> None: ...

    def trial_ends(self, trial: Trial) -> None: ...
