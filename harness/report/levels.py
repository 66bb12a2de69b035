"""The figures of each arm under each load with their intervals over blocks."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from harness.analysis import stats
from harness.analysis.percentiles import FEWEST_REQUESTS, Pool, median_interval
from harness.report.choice import Inputs
from harness.verdicts.best_arm import LATENCIES, RATES

FIGURES = [
    f"{name}{end}"
    for name in ("throughput_per_s", "latency_p50_ms", "latency_p99_ms")
    for end in ("", "_low", "_high")
]


def of_cell(found: Inputs, arm: str, load: str) -> dict[str, float]:
    """`FIGURES` of an arm under a load; NaN for what is not known.

    Throughput and p50 are geometric means over blocks, p99 is of the pooled requests.
    """
    cell = found.side.cell(arm, load)
    rate, latency = (_middle(found, cell.by_block(metric)) for metric in (RATES, LATENCIES))
    p99 = _pooled(cell.latencies(cell.blocks), 99, found.rules.at(stats.LEVEL))
    return dict(zip(FIGURES, (*rate, *latency, *p99), strict=True))


def table(found: Inputs, summary: pd.DataFrame) -> pd.DataFrame:
    """A row for each row of the summary: arm, load, concurrency, rate_per_s, and `FIGURES`.

    The figures are those of the summary: the median throughput over blocks, with an interval of order
    statistics, and p50 and p99 of the pooled requests, with an interval from resampling blocks.
    """
    facts = summary[["arm", "load", "concurrency", "rate_per_s"]].to_dict("records")
    rows = [{**fact, **_levels(found, str(fact["arm"]), str(fact["load"]))} for fact in facts]
    return pd.DataFrame(rows, columns=["arm", "load", "concurrency", "rate_per_s", *FIGURES])


def _levels(found: Inputs, arm: str, load: str) -> dict[str, float]:
    cell, level = found.side.cell(arm, load), found.rules.at(stats.LEVEL)
    pool = cell.latencies(cell.blocks)
    tails = (_pooled(pool, percent, level) for percent in (50, 99))
    rate = _median(cell.by_block(RATES), level)
    return dict(zip(FIGURES, (value for figure in (rate, *tails) for value in figure), strict=True))


def _median(by_block: pd.Series[float], level: float) -> tuple[float, float, float]:
    """The median over blocks, with its interval; NaN for an end that so few blocks do not have."""
    values = by_block.to_numpy(dtype=np.float64)
    middle = float(np.median(values)) if len(values) else math.nan
    return middle, *median_interval(values, level=level)


def _middle(found: Inputs, by_block: pd.Series[float]) -> tuple[float, float, float]:
    """The geometric mean over blocks, with its interval."""
    with np.errstate(divide="ignore"):
        effect = found.rules.effect(np.log(by_block.to_numpy(dtype=np.float64)))
    return effect.ratio, effect.low, effect.high


def _pooled(pool: Pool, percent: int, level: float) -> tuple[float, float, float]:
    """A percentile of the pooled requests, with its interval; NaN for too few requests."""
    blocks = len(pool.blocks)
    if sum(map(len, pool.blocks)) < FEWEST_REQUESTS[percent]:
        return math.nan, math.nan, math.nan
    low, high = stats.tail_interval(np.log(pool.resampled(percent, 1)), blocks, level=level)
    return pool.whole(percent), math.exp(low), math.exp(high)
