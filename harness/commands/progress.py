"""The progress of a run: one live line on a terminal, else plain lines."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.status import Status
from rich.text import Text

from harness.plans.plan import Cell
from harness.system.printable import one_line
from harness.wire.records import OK, Trial

PLAIN_EVERY_S = 10.0
SPINNER_WIDTH = 2


class Progress:
    """A `run.Listener`; a context manager, so that the live line goes away in any case."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Status | None = None
        self._last_plain = -PLAIN_EVERY_S
        self._began: float | None = None
        self._where = ""
        self._left = ""

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live = self._console.status("starting")
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def stage(self, text: str) -> None:
        self._where = text
        self._show(f"{text} …", always=True)

    def trial_begins(self, cell: Cell, number: int, total: int) -> None:
        now = time.monotonic()
        if self._began is None:
            self._began = now
        done = number - 1
        self._left = _clock((now - self._began) / done * (total - done)) if done else ""
        self._where = f"trial {number}/{total}, block {cell.block}: {cell.arm.name}, {cell.law}"
        self._show(f"{self._where} · {self._left} left" if done else self._where, always=number == 1)

    def progress(self, answered: int, median_ms: float) -> None:
        state = f"{self._left} left" if self._left else f"{answered} answered"
        self._show(f"{self._where} · {state} · median {median_ms:.1f} ms")

    def trial_ends(self, trial: Trial) -> None:
        if trial.state != OK:
            self._console.print(one_line(f"trial {trial.trial} failed: {trial.error}"), soft_wrap=True)

    def _show(self, text: str, *, always: bool = False) -> None:
        """Update the live line; without one, print, but not more often than every 10 s."""
        if self._live is not None:
            line = Text(one_line(text))
            line.truncate(self._console.width - SPINNER_WIDTH, overflow="ellipsis")
            self._live.update(line)
        elif always or time.monotonic() - self._last_plain >= PLAIN_EVERY_S:
            self._last_plain = time.monotonic()
            self._console.print(one_line(text), soft_wrap=True)


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"
