"""How near each arm comes to what is possible: its throughput beside the bare model's and an ideal service's.

Pure: the report's summary and the dict of `run.json` go in, a frame comes out. Two marks, both measured:

* the limit: the bare model, alone, called with the best batch that so many users could fill;
* the ideal: all c users' requests as one batch, then the I/O of all at once, then what each request takes of
  service and client with nothing to do, one after another: c / (T(c) + I/O + c x null).

Neither is a law of nature: the limit is one process whose library has all cores, the ideal lets nothing
overlap. An arm that uses the cores better than that, by several processes, can be above 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis import nominal
from harness.analysis.summaries import THROUGHPUT

COLUMNS = [
    "arm",
    "load",  # closed ones: an open load says itself how much comes
    "concurrency",
    THROUGHPUT,
    "limit_per_s",  # the most of b / T(b), b from 1 to the number of users
    "limit_batch",  # … and the b where it is
    "efficiency",  # throughput / limit
    "call_ms",  # T(c): the bare model on as many items as there are users
    "io_ms",  # `nominal.alone_in`
    "null_ms",  # of a request with nothing to do
    "ideal_per_s",
    "of_ideal",  # throughput / ideal
]


def table(summary: pd.DataFrame, record: Mapping[str, Any]) -> pd.DataFrame:
    """One row (`COLUMNS`) per arm and closed load, in the summary's order; none without a measured limit."""
    batches = _batches(record)
    if summary.empty or not batches:
        return pd.DataFrame(columns=COLUMNS)
    null_ms = float(record.get("null_ms") or math.nan)
    io_ms = {arm: nominal.alone_in(summary, arm, _asked_io_ms(arm, record)).ms for arm in batches}
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
    """What the bare model takes for so many items: in proportion between two measured batch sizes.

    More than the largest are several calls of that size, one after another.
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
    """What the arm's server was started with; its trials know less of an I/O that takes what it takes."""
    told = (record.get("arms") or {}).get(arm) or {}
    workload = (told.get("options") or {}).get("workload") or {}
    of_the_users_own = (told.get("about") or {}).get("own_io")  # nobody knows what that takes
    return pd.Series([math.nan if of_the_users_own else workload.get("io_ms", math.nan)], dtype="float64")


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
