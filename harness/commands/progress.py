"""The progress of a run: a live bar with the time left on a terminal, else plain lines."""

from __future__ import annotations

import time
from types import TracebackType

from rich import progress as bars
from rich.console import Console
from rich.table import Column
from rich.text import Text

from harness.plans.plan import Cell
from harness.system.printable import one_line
from harness.wire.records import OK, Trial

PLAIN_EVERY_S = 10.0
DRAWN_PER_S = 4  # the CPU is the measurement's
BAR_WIDTH = 12


class Progress:
    """A `run.Listener`; a context manager, so that the live bar goes away in any case.

    A run has trials, whose mean duration gives the time left. For the single window of a `load`, give its
    `seconds`, or how many `requests` end it.
    """

    def __init__(
        self, console: Console, *, seconds: float | None = None, requests: int | None = None
    ) -> None:
        self._console = console
        self._live: bars.Progress | None = None
        self._seconds, self._requests = seconds, requests
        self._last_plain = -PLAIN_EVERY_S
        self._began: float | None = None  # of the first trial
        self._stage_began = self._trial_began = time.monotonic()
        self._trial, self._where, self._short = "", "", ""
        self._left_s: float | None = None  # when the trial began

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live = bars.Progress(
                bars.BarColumn(BAR_WIDTH, table_column=Column(min_width=BAR_WIDTH, no_wrap=True)),
                bars.TextColumn(
                    "{task.fields[line]}",
                    markup=False,
                    table_column=Column(no_wrap=True, overflow="ellipsis"),
                ),
                console=self._console,
                transient=True,
                refresh_per_second=DRAWN_PER_S,
            )
            self._live.add_task("", total=None, line="starting")
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def stage(self, text: str) -> None:
        self._stage_began = time.monotonic()
        self._trial, self._where, self._left_s = "", text, None
        self._draw(f"{text} …")
        self._print(f"{text} …", always=True)

    def trial_begins(self, cell: Cell, number: int, total: int) -> None:
        now = self._trial_began = time.monotonic()
        if self._began is None:
            self._began = now
        done = number - 1
        self._left_s = (now - self._began) / done * (total - done) if done else None
        left = "" if self._left_s is None else _clock(self._left_s)
        self._trial = f"{number}/{total}"
        self._short = f"block {cell.block}: {cell.arm.name}, {cell.law}"
        self._where = f"trial {self._trial}, {self._short}"
        self._draw(" · ".join(filter(None, [self._trial, left and f"{left} left", self._short])), done, total)
        self._print(f"{self._where} · {left} left" if left else self._where, always=number == 1)

    def progress(self, answered: int, median_ms: float) -> None:
        now, median = time.monotonic(), f"median {median_ms:.1f} ms"
        if self._trial:
            left_s = None if self._left_s is None else max(0.0, self._left_s - (now - self._trial_began))
            left = f"{answered} answered" if left_s is None else f"{_clock(left_s)} left"
            self._draw(f"{self._trial} · {left} · {self._short} · {median}")
            state = f"{answered} answered" if self._left_s is None else f"{_clock(self._left_s)} left"
            self._print(f"{self._where} · {state} · {median}")
            return
        share = self._share_of_window(answered, now - self._stage_began)
        if share is None:
            self._draw(f"{self._where} · {answered} answered · {median}")
        else:
            left = _clock((now - self._stage_began) * (1 - share) / share)
            self._draw(f"{left} left · {answered} answered · {median} · {self._where}", share, 1.0)
        self._print(f"{self._where} · {answered} answered · {median}")

    def trial_ends(self, trial: Trial) -> None:
        if trial.state != OK:
            self._console.print(one_line(f"trial {trial.trial} failed: {trial.error}"), soft_wrap=True)

    def _share_of_window(self, answered: int, passed_s: float) -> float | None:
        """How much of a load has passed; None if that is unknown."""
        shares = [
            done / whole
            for done, whole in ((passed_s, self._seconds), (answered, self._requests))
            if whole and done
        ]
        return min(1.0, *shares) if shares else None

    def _draw(self, line: str, done: float | None = None, total: float | None = None) -> None:
        """On a terminal, show the line beside the bar, which stays as it is if `total` is None."""
        if self._live is None:
            return
        (task,) = self._live.task_ids
        if total is not None:
            self._live.update(task, completed=done, total=total)
        self._live.update(task, line=one_line(line))

    def _print(self, line: str, *, always: bool = False) -> None:
        """Without a terminal, print the line, but not more often than every 10 s."""
        if self._live is None and (always or time.monotonic() - self._last_plain >= PLAIN_EVERY_S):
            self._last_plain = time.monotonic()
            self._console.print(Text(one_line(line)), soft_wrap=True)


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"
