"""Compare each arm's throughput with that of the bare model and of an ideal service.

A pure function of the report's summary, the dict of `run.json` and the throughput of each block, which
returns a frame. Both marks come from measurements:

* The limit is the bare model, alone, called with the best batch that the load's users could fill.
* The ideal runs the requests of all c users as one batch, then all their I/O at once. Then come, one after
  another, the times that service and client take for a request without a model: c / (T(c) + I/O + c x null).

A run times the bare model in each block, so the shares are medians over blocks, with an interval: a call that
another program disturbs in one block does not count much. Older runs timed the model once, before the first
block: their shares have no interval.

An arm can exceed both: the limit is one process whose library has all cores, and in the ideal nothing
overlaps. Several processes may use the cores better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from harness.analysis import nominal
from harness.analysis.percentiles import median_interval
from harness.analysis.summaries import THROUGHPUT

MEANINGS = {  # column → what it means; docs/reference/csv.md shows it
    "arm": "Name of the arm.",
    "load": "The closed loop; in an open loop the load sets the throughput.",
    "concurrency": "Number of users.",
    THROUGHPUT: "Good answers per second.",
    "limit_per_s": "The model limit: the maximum of b / T(b) for batches of b from 1 to the number of users.",
    "limit_batch": "The b of that maximum.",
    "efficiency": "Throughput over the limit: the median over blocks of the share within a block, which may "
    "differ a little from throughput_per_s / limit_per_s; just that if the model was timed only once.",
    "efficiency_low": "95 % interval over blocks; empty with fewer than 6, or if the model was timed once.",
    "efficiency_high": "See efficiency_low.",
    "call_ms": "T(c): the time of the bare model for one item of each user.",
    "io_ms": "Nominal duration of the I/O.",
    "null_ms": "Time of a request without model and I/O.",
    "ideal_per_s": "c / (T(c) + I/O + c * null_ms): one batch, then all I/O at once.",
    "of_ideal": "Throughput over the ideal, as efficiency.",
    "of_ideal_low": "As efficiency_low.",
    "of_ideal_high": "As efficiency_low.",
}
COLUMNS = list(MEANINGS)
_SHARES = {"efficiency": "limit_per_s", "of_ideal": "ideal_per_s"}  # share → of which mark


# arm, load → good answers per second in each block that counts
Rates = Mapping[tuple[str, str], "pd.Series[float]"]


def table(summary: pd.DataFrame, record: Mapping[str, Any], rates: Rates, level: float) -> pd.DataFrame:
    """One row (`COLUMNS`) per arm and closed loop, in the summary's order; none without a measured limit.

    `level` is that of the intervals.
    """
    models = _models(record)
    if summary.empty or not models:
        return pd.DataFrame(columns=COLUMNS)
    null_ms = float(record.get("null_ms") or math.nan)
    io_ms = {arm: nominal.of_summary(summary, arm, _asked_io_ms(arm, record)).ms for arm in models}
    rows = [
        {**row, **_marks(models[row["arm"]], int(row["concurrency"]), io_ms[row["arm"]], null_ms)}
        for row in summary[["arm", "load", "concurrency", THROUGHPUT]].to_dict("records")
        if row["arm"] in models and not math.isnan(row["concurrency"])
    ]
    shares = [_shares(row, models[row["arm"]], rates[row["arm"], row["load"]], level) for row in rows]
    table = pd.DataFrame([row | share for row, share in zip(rows, shares, strict=True)], columns=COLUMNS)
    return table.assign(concurrency=table["concurrency"].astype(int))


def _shares(row: Mapping[str, Any], model: _Model, rates: pd.Series[float], level: float) -> dict[str, float]:
    """The arm's shares of the limit and of the ideal, with intervals if the model was timed in the blocks."""
    timed = [block for block in rates.index if block in model.by_block]
    if not timed:
        return {name: row[THROUGHPUT] / row[mark] for name, mark in _SHARES.items()}
    users, batch = int(row["concurrency"]), int(row["limit_batch"])
    marks = [
        {
            "limit_per_s": _limit_per_s(model.by_block[block], batch),
            "ideal_per_s": _ideal_per_s(model.by_block[block], users, row["io_ms"], row["null_ms"]),
        }
        for block in timed
    ]
    found: dict[str, float] = {}
    for name, mark in _SHARES.items():
        shares = rates[timed].to_numpy(dtype=np.float64) / [each[mark] for each in marks]
        low, high = median_interval(shares, level=level)
        found |= {name: float(np.median(shares)), f"{name}_low": low, f"{name}_high": high}
    return found


def call_ms(batches: Mapping[int, float], items: int) -> float:
    """The time of the bare model for `items` items, interpolated between two measured batch sizes.

    More items than the largest batch count as several calls of that size, one after another.
    """
    sizes = sorted(batches)
    if items > sizes[-1]:
        return items / sizes[-1] * batches[sizes[-1]]
    return float(np.interp(items, sizes, [batches[size] for size in sizes]))


class _Model(NamedTuple):
    """The milliseconds of a bare model's calls by batch size: over blocks, and in each block."""

    batches: dict[int, float]
    by_block: dict[int, dict[int, float]]


def _models(record: Mapping[str, Any]) -> dict[str, _Model]:
    """Arm → its bare model."""
    return {
        arm: _Model(
            _times(limit["batches"]),
            {int(block): _times(found) for block, found in (limit.get("by_block") or {}).items()},
        )
        for limit in record.get("limits") or []
        for arm in limit["arms"]
    }


def _times(batches: Mapping[str, float]) -> dict[int, float]:
    return {int(size): float(took_ms) for size, took_ms in batches.items()}


def _asked_io_ms(arm: str, record: Mapping[str, Any]) -> pd.Series[float]:
    """The I/O duration of the arm's server options, as trials lack it for kinds without a set duration."""
    arm_record = (record.get("arms") or {}).get(arm) or {}
    workload = (arm_record.get("options") or {}).get("workload") or {}
    own_io = (arm_record.get("about") or {}).get("own_io")  # the user's own I/O has no known duration
    return pd.Series([math.nan if own_io else workload.get("io_ms", math.nan)], dtype="float64")


def _marks(model: _Model, users: int, io_ms: float, null_ms: float) -> dict[str, float]:
    rates = {size: _limit_per_s(model.batches, size) for size in range(1, users + 1)}
    best = max(rates, key=lambda size: rates[size])
    return {
        "limit_per_s": rates[best],
        "limit_batch": best,
        "call_ms": call_ms(model.batches, users),
        "io_ms": io_ms,
        "null_ms": null_ms,
        "ideal_per_s": _ideal_per_s(model.batches, users, io_ms, null_ms),
    }


def _limit_per_s(batches: Mapping[int, float], size: int) -> float:
    return size / call_ms(batches, size) * 1e3


def _ideal_per_s(batches: Mapping[int, float], users: int, io_ms: float, null_ms: float) -> float:
    return users / (call_ms(batches, users) + io_ms + users * null_ms) * 1e3
