"""The staircase law of the article's table T2, for each request: its I/O waits for other requests' models.

Pure functions: frames in, frames out.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from harness.analysis import nominal
from harness.analysis.arrays import Floats
from harness.analysis.rows import Cells, Requests, arms_of, measured, sound, trial_facts

INPUT = ["entered_ms", "queue_ms", "model_ms", "resume_ms", "io_ms"]
NEEDED = [
    *INPUT,
    "arm",
    "block",
    "trial",
    "seq",
    "concurrency",
    "io_nominal_ms",
    "phase",
    "ok",
    "trial_state",
]
COLUMNS = [
    "arm",
    "block",
    "trial",
    "seq",
    "concurrency",
    "io_ms",
    "others_model_ms",
    "predicted_ms",
    "error",
]


def laws(requests: Requests) -> pd.DataFrame:
    """How well the law holds for inline arms, at c > 1: a lone request waits for no other.

    A row of `summarise` for each arm and concurrency. One at a time is in memory.
    """
    cells = Cells(requests, ("arm", "concurrency"))
    facts = trial_facts(requests)
    inline = set(facts.loc[facts["strategy"] == "inline", "arm"])
    found = []
    for arm in (arm for arm in arms_of(requests) if arm in inline):
        lone = cells.select((arm, 1), NEEDED)
        for users in sorted(users for other, users in cells if other == arm and users > 1):
            rows = cells.select((arm, users), NEEDED)
            rows = pd.concat([lone, rows], ignore_index=True) if len(lone) else rows
            law = summarise(table(rows, arm))
            found.append(law[law["concurrency"] > 1])
    found = [law for law in found if len(law)]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def table(derived: pd.DataFrame, arm: str) -> pd.DataFrame:
    """The law of table T2 for each request: io ≈ max(nominal, time the loop spent in other requests' models).

    For arms that run the model on the event loop. One row per good measured request of `arm` with arm, block,
    trial, seq, concurrency, io_ms, others_model_ms (model time of other requests, including warm-ups, between
    the start and the end of this request's I/O), predicted_ms, and error = io / predicted − 1. The nominal
    I/O is `nominal.of_rows`; there are no rows if it is not known. The sum omits requests without timings.
    """
    rows = sound(derived[derived["arm"] == arm])
    timed = rows[NEEDED].dropna(subset=INPUT)
    others = [_others_model_ms(trial) for _, trial in timed.groupby("trial")]
    timed = timed.assign(others_model_ms=pd.concat(others) if others else math.nan)
    predicted = np.maximum(nominal.of_rows(timed).ms, timed["others_model_ms"])
    timed = timed.assign(predicted_ms=predicted, error=timed["io_ms"] / predicted - 1.0)
    good = measured(timed.dropna(subset="predicted_ms"))
    return good.loc[good["ok"], COLUMNS].reset_index(drop=True)


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Summarise `table` per arm and concurrency, in rising order: rows, median_error, share_within_20pct."""
    within = table.assign(within=table["error"].abs() <= 0.2).sort_values("concurrency", kind="stable")
    return within.groupby(["arm", "concurrency"], as_index=False, sort=False).agg(
        rows=("error", "size"), median_error=("error", "median"), share_within_20pct=("within", "mean")
    )


def _others_model_ms(trial: pd.DataFrame) -> pd.Series[float]:
    """Other requests' model time during each request's I/O, when the request's own model has ended."""
    starts = trial["entered_ms"] + trial["queue_ms"]
    ends = starts + trial["model_ms"]
    io_start = ends + trial["resume_ms"]
    io_end = io_start + trial["io_ms"]
    models = np.asarray(starts, dtype=np.float64), np.asarray(ends, dtype=np.float64)
    before = _busy_until(np.asarray(io_start, dtype=np.float64), *models)
    after = _busy_until(np.asarray(io_end, dtype=np.float64), *models)
    return pd.Series(after - before, index=trial.index)


def _busy_until(moments: Floats, starts: Floats, ends: Floats) -> Floats:
    """Model time before each moment: Σ clip(moment − start, 0, end − start)."""
    return _since(moments, starts) - _since(moments, ends)


def _since(moments: Floats, marks: Floats) -> Floats:
    """Σ over the marks of max(0, moment − mark), with prefix sums instead of a table of moments × marks."""
    ordered = np.sort(marks)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    passed = np.searchsorted(ordered, moments)
    return np.asarray(passed * moments - sums[passed], dtype=np.float64)
