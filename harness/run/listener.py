"""What a run says of its progress, and to whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from harness.plans.plan import Cell
    from harness.wire.records import Trial


class Listener(Protocol):
    """Who wants to know how a run gets on (the terminal)."""

    def stage(self, text: str) -> None:
        """The run does `text` now; nothing is measured."""

    def trial_begins(self, cell: Cell, number: int, total: int) -> None:
        """Trial `number` of `total`, from 1, begins."""

    def progress(self, answered: int, median_ms: float) -> None:
        """So many requests of the trial have been answered, their latest median latency."""

    def trial_ends(self, trial: Trial) -> None:
        """The trial is on the disk."""


class SilentListener:
    """A Listener that nobody listens to."""

    def stage(self, text: str) -> None: ...

    def trial_begins(self, cell: Cell, number: int, total: int) -> None: ...

    def progress(self, answered: int, median_ms: float) -> None: ...

    def trial_ends(self, trial: Trial) -> None: ...
