"""Whether an arm keeps objectives, such as "p95 < 100 ms", under one load. Pure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from harness.analysis import stats
from harness.analysis.percentiles import RESAMPLES, resamples
from harness.analysis.rows import Requests, in_parts, measured
from harness.analysis.slo import Objective
from harness.analysis.summaries import LATENCY

KEEPS, MISSES, NOT_CERTAIN = "keeps", "misses", "not certain"
_NEEDED = ["block", "ok", LATENCY, "io_ms"]


@dataclasses.dataclass(frozen=True)
class Judged:
    """An objective, and the mean score by which an arm keeps it (`analysis.slo`)."""

    objective: Objective
    score: float  # NaN without requests
    low: float  # the interval over blocks; NaN below two blocks
    high: float
    requests: int

    @property
    def misses(self) -> bool:
        """Whether the arm misses it, by the score alone."""
        return not self.score < self.objective.target

    @property
    def is_certain(self) -> bool:
        """Whether the whole interval says the same, and it rests on enough requests."""
        beyond = self.low >= self.objective.target if self.misses else self.high < self.objective.target
        return beyond and self.requests >= self.objective.fewest_requests

    @property
    def verdict(self) -> str:
        word = MISSES if self.misses else KEEPS
        return word if self.is_certain else f"{word}, {NOT_CERTAIN}"

    @property
    def share_of_target(self) -> float:
        """The score over its target: from 1 on the objective is missed; infinite without requests."""
        return math.inf if math.isnan(self.score) else self.score / self.objective.target

    def __str__(self) -> str:
        """Such as "keeps p95 latency < 100 ms (0.4 % above 100 ms)"."""
        word, _, doubt = self.verdict.partition(", ")
        figure = "no request" if math.isnan(self.score) else self.objective.describe(self.score)
        return f"{word} {self.objective} ({', '.join(filter(None, [figure, doubt]))})"


def judge(rows: Requests, objectives: Sequence[Objective], timeout_s: float) -> tuple[Judged, ...]:
    """Judge each objective by the measured requests among these rows of an arm under one load."""
    found: dict[int, list[pd.DataFrame]] = {number: [] for number in range(len(objectives))}
    for part in in_parts(measured(rows), _NEEDED):
        times = (np.asarray(part[name], dtype=np.float64) for name in (LATENCY, "io_ms"))
        latency_ms, io_ms = times
        good = np.asarray(part["ok"], dtype=bool)
        for number, one in enumerate(objectives):
            scores = pd.Series(one.scores(latency_ms, io_ms, good, 1e3 * timeout_s))
            by_block = scores.groupby(np.asarray(part["block"]))
            found[number].append(by_block.agg(["sum", "count"]))  # without requests that have no score
    return tuple(_judged(one, pd.concat(found[number])) for number, one in enumerate(objectives))


def _judged(objective: Objective, parts: pd.DataFrame) -> Judged:
    blocks = parts.groupby(level=0).sum()
    blocks = blocks[blocks["count"] > 0]
    sums, counts = (blocks[name].to_numpy(dtype=np.float64) for name in ("sum", "count"))
    if not len(blocks):
        return Judged(objective, math.nan, math.nan, math.nan, 0)
    drawn = resamples(len(blocks), RESAMPLES, np.random.default_rng(1))
    low, high = stats.tail_interval((drawn @ sums) / (drawn @ counts), len(blocks))
    return Judged(objective, float(sums.sum() / counts.sum()), low, high, int(counts.sum()))
