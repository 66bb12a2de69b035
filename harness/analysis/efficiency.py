"""Compare each arm's throughput with that of the bare model and of an ideal service.

A pure function of the report's summary and the dict of `run.json`, which returns a frame. Both marks come
from measurements:

* The limit is the bare model, alone, called with the best batch that the load's users could fill.
* The ideal runs the requests of all c users as one batch, then all their I/O at once. Then come, one after
  another, the times that service and client take for a request without a model: c / (T(c) + I/O + c x null).

An arm can exceed both: the limit is one process whose library has all cores, and in the ideal nothing
overlaps. Several processes may use the cores better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis import nominal
from harness.analysis.summaries import THROUGHPUT

MEANINGS = {  # column → what it means; docs/reference/csv.md shows it
    "arm": "Name of the arm.",
    "load": "The closed loop; in an open loop the load sets the throughput.",
    "concurrency": "Number of users.",
    THROUGHPUT: "Good answers per second.",
    "limit_per_s": "The model limit: the maximum of b / T(b) for batches of b from 1 to the number of users.",
    "limit_batch": "The b of that maximum.",
    "efficiency": "throughput_per_s / limit_per_s.",
    "call_ms": "T(c): the time of the bare model for one item of each user.",
    "io_ms": "Nominal duration of the I/O.",
    "null_ms": "Time of a request without model and I/O.",
    "ideal_per_s": "c / (T(c) + I/O + c * null_ms): one batch, then all I/O at once.",
    "of_ideal": "throughput_per_s / ideal_per_s.",
}
COLUMNS = list(MEANINGS)


def table(summary: pd.DataFrame, record: Mapping[str, Any]) -> pd.DataFrame:
    """One row (`COLUMNS`) per arm and closed loop, in the summary's order; none without a measured limit."""
    batches = _batches(record)
    if summary.empty or not batches:
        return pd.DataFrame(columns=COLUMNS)
    null_ms = float(record.get("null_ms") or math.nan)
    io_ms = {arm: nominal.of_summary(summary, arm, _asked_io_ms(arm, record)).ms for arm in batches}
    rows = [
        {**row, **_marks(batches[row["arm"]], int(row["concurrency"]), io_ms[row["arm"]], null_ms)}
        for row in summary[["arm", "load", "concurrency", THROUGHPUT]].to_dict("records")
        if row["arm"] in batches and not math.isnan(row["concurrency"])
    ]
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.assign(
        concurrency=table["concurrency"].astype(int),
        efficiency=table[THROUGHPUT] / table["limit_per_s"],
        of_ideal=table[THROUGHPUT] / table["ideal_per_s"],
    )


def call_ms(batches: Mapping[int, float], items: int) -> float:
    """The time of the bare model for `items` items, interpolated between two measured batch sizes.

    More items than the largest batch count as several calls of that size, one after another.
    """
    sizes = sorted(batches)
    if items > sizes[-1]:
        return items / sizes[-1] * batches[sizes[-1]]
    return float(np.interp(items, sizes, [batches[size] for size in sizes]))


def _batches(record: Mapping[str, Any]) -> dict[str, dict[int, float]]:
    """Arm → batch size → milliseconds."""
    return {
        arm: {int(size): float(took_ms) for size, took_ms in limit["batches"].items()}
        for limit in record.get("limits") or []
        for arm in limit["arms"]
    }


def _asked_io_ms(arm: str, record: Mapping[str, Any]) -> pd.Series[float]:
    """The I/O duration of the arm's server options, as trials lack it for kinds without a set duration."""
    arm_record = (record.get("arms") or {}).get(arm) or {}
    workload = (arm_record.get("options") or {}).get("workload") or {}
    own_io = (arm_record.get("about") or {}).get("own_io")  # the user's own I/O has no known duration
    return pd.Series([math.nan if own_io else workload.get("io_ms", math.nan)], dtype="float64")


def _marks(batches: Mapping[int, float], users: int, io_ms: float, null_ms: float) -> dict[str, float]:
    rates = {size: size / call_ms(batches, size) * 1e3 for size in range(1, users + 1)}
    best = max(rates, key=lambda size: rates[size])
    whole_ms = call_ms(batches, users)
    return {
        "limit_per_s": rates[best],
        "limit_batch": best,
        "call_ms": whole_ms,
        "io_ms": io_ms,
        "null_ms": null_ms,
        "ideal_per_s": users / (whole_ms + io_ms + users * null_ms) * 1e3,
    }
