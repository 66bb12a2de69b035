"""Frames for plots of one's own, with the same columns for every kind of run. Pure: frames in, frames out."""

from __future__ import annotations

import numpy as np
import pandas as pd

from harness.analysis.rows import Rows

RATIO_COLUMNS = ["load", "arm", "reference", "metric", "ratio", "low", "high", "verdict"]


def measured(rows: Rows, trials: pd.DataFrame) -> pd.DataFrame:
    """The requests of the measured windows, with `elapsed_s`: from the start of the run until each was due.

    The loads become an ordered category: closed loops by users, then open loops by rate.
    """
    frame = rows.measured().frame()
    begun = pd.to_datetime(trials["started_at"], errors="coerce", utc=True, format="ISO8601")
    starts_s = dict(zip(trials["trial"], (begun - begun.min()).dt.total_seconds(), strict=True))
    tried = trials[trials["load"].isin(frame["load"].unique())]
    loads = tried.sort_values(["concurrency", "rate_per_s", "load"])["load"].unique()
    return frame.assign(
        load=pd.Categorical(frame["load"], categories=loads, ordered=True),
        elapsed_s=frame["trial"].map(starts_s) + frame["due_ms"] / 1e3,
    )


def ratios(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a comparison that have a finite ratio, with `RATIO_COLUMNS`."""
    known = np.isfinite(table["ratio"].astype("float64"))
    return table.loc[known, RATIO_COLUMNS].reset_index(drop=True)
