"""Which rows of a run a chart shows, in which order, and the caption that counts them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from harness.analysis.arrays import Bools
from harness.analysis.rows import Cells, Requests, arms_of, good, in_parts, measured
from harness.numbers import users
from harness.report.charts.style import Stretch


class _Counts(NamedTuple):
    good: int
    failed: int
    concurrency: float  # NaN in an open loop


class Shown:
    """The good requests of the measured windows, by arm and load; those of one cell at a time are read."""

    def __init__(self, requests: Requests) -> None:
        if isinstance(requests, pd.DataFrame) and requests.empty:
            requests = pd.DataFrame(columns=["arm", "load"])
        self._requests, self._cells = requests, Cells(requests)
        self._counts = {(str(arm), str(load)): self._count(arm, load) for arm, load in self._cells}

    def _count(self, arm: str, load: str) -> _Counts:
        parts = in_parts(measured(self._cells.rows((arm, load), ["phase", "ok"])), ["ok"])
        oks = [np.asarray(part["ok"], dtype=bool) for part in parts]
        answered = sum(int(ok.sum()) for ok in oks)
        concurrency = float(self._cells.fact((arm, load), "concurrency"))
        return _Counts(answered, sum(map(len, oks)) - answered, concurrency)

    @property
    def loads(self) -> list[str]:
        """The loads with a good request by rising concurrency; open loops last."""
        known = {load: counts.concurrency for (_, load), counts in self._counts.items() if counts.good}
        return sorted(known, key=lambda load: (math.isnan(known[load]), known[load]))

    @property
    def heaviest(self) -> str:
        """The closed loop with the most users; without a closed loop, any one load."""
        closed = [load for load in self.loads if load.startswith("closed")]
        return (closed or self.loads)[-1]

    def concurrency(self, load: str) -> float:
        """The number of users; NaN in an open loop."""
        return next(counts.concurrency for (_, other), counts in self._counts.items() if other == load)

    def arms(self, loads: Sequence[str]) -> list[str]:
        """The arms with a good request under one of these loads, in the run's order."""
        there = {arm for (arm, load), counts in self._counts.items() if counts.good and load in loads}
        return [arm for arm in arms_of(self._requests) if arm in there]

    def rows(self, arm: str, load: str, names: Sequence[str]) -> Requests:
        """The good requests of an arm under a load."""
        return good(self._cells.rows((arm, load), ["phase", "ok", *names]))

    def of_arm(self, arm: str, names: Sequence[str]) -> Requests:
        """The good requests of an arm under every load."""
        return good(Cells(self._requests, ("arm",)).rows((arm,), ["phase", "ok", *names]))

    def left_out(self, loads: Sequence[str]) -> str:
        """For the caption: how many requests are drawn, how many failed, and which arms have none to draw."""
        here = [counts for (_, load), counts in self._counts.items() if load in loads]
        drawn, failed = sum(counts.good for counts in here), sum(counts.failed for counts in here)
        shown = self.arms(loads)
        missing = [arm for arm in arms_of(self._requests) if arm not in shown]
        counts = f"{drawn:,} requests with good answers; {failed:,} failed requests are not shown."
        return counts + (f" No requests to show for: {', '.join(missing)}." if missing else "")


def needed_for(parts: Sequence[Stretch]) -> list[str]:
    """The columns of a request's parts."""
    return ["entered_ms", *(part.column for part in parts)]


def is_split(rows: pd.DataFrame, parts: Sequence[Stretch]) -> bool:
    """Whether every row has all parts."""
    return bool(rows[needed_for(parts)].notna().all(axis=None)) and not rows.empty


def with_timings(rows: Requests, parts: Sequence[Stretch]) -> Bools:
    """Which rows have all parts."""
    names = needed_for(parts)
    return np.concatenate([np.asarray(part[names].notna().all(axis=1)) for part in in_parts(rows, names)])


def load_words(load: str) -> str:
    """A load for people."""
    return f"closed loop, {users(load)}" if load.startswith("closed") else load
