"""Find the arms that an open load saturates: their latency depends on the length of the window.

Pure functions: frames in, frames and sentences out.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import pandas as pd

from harness.analysis.rows import Requests, in_parts
from harness.wire.records import MEASURE, PILOT_BLOCK, SOUND

# In an overrun trial, the backlog grows during the window by more than both of these.
LEAST_BACKLOG_SHARE = 0.05  # of the requests that came due in the window
LEAST_BACKLOG_REQUESTS = 10  # because a short window may end during a burst

COLUMNS = [
    "arm",
    "load",
    "rate_per_s",  # of the load
    "answered_per_s",  # good or not; within the windows of the overrun trials, or of all if none is overrun
    "trials",
    "overrun",  # trials in which the backlog grew
    "capped",  # requests that were sent late because the cap of requests in flight was reached
    "in_flight_max",
    "saturated",
]


def per_cell(requests: Requests, trials: pd.DataFrame) -> pd.DataFrame:
    """One row per arm and open load (`COLUMNS`). Closed loops slow down with the server, so they have no row.

    A trial is overrun if more requests came due within its window than were answered in it, by more than 5 %
    and by more than ten requests. A refusal (such as a 503) is an answer, as the client stops waiting;
    failures are reported separately. An arm is saturated under a load if a trial is overrun or the cap
    delayed requests.
    """
    is_open = trials["concurrency"].isna() & (trials["block"] > PILOT_BLOCK) & trials["state"].isin(SOUND)
    if not is_open.any():
        return pd.DataFrame(columns=COLUMNS)
    counted = trials[is_open].merge(_counts(requests), on="trial", how="inner")
    rows = [
        _row(str(arm), str(load), cell)
        for (arm, load), cell in counted.groupby(["arm", "load"], sort=False, observed=True)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def warnings(cells: pd.DataFrame) -> Iterator[str]:
    """A sentence for each arm and load with an overrun trial or with requests that the cap delayed."""
    for row in cells[cells["saturated"].astype(bool)].to_dict("records"):
        reasons = "; ".join(filter(None, [_overrun(row), _capped(row)]))
        yield f"{row['load']} on {row['arm']}: {reasons}."


def _overrun(row: Mapping[Hashable, Any]) -> str:
    if not row["overrun"]:
        return ""
    rates = f"{row['answered_per_s']:.1f} of {row['rate_per_s']:.4g} requests/s"
    some = "" if row["overrun"] == row["trials"] else f" in {row['overrun']} of {row['trials']} trials"
    return (
        f"only {rates} were answered{some}, so the arm is saturated and latency grows with the length of "
        "the window"
    )


def _capped(row: Mapping[Hashable, Any]) -> str:
    if not row["capped"]:
        return ""
    cap = row["in_flight_max"]
    return f"{row['capped']} requests were sent late because the cap of {cap} requests in flight was reached"


def _counts(requests: Requests) -> pd.DataFrame:
    """For each trial, the requests that came due in its window [start, end) and those answered in it."""
    names = ["trial", "phase", "status", "done_ms", "window_start_ms", "window_end_ms"]
    counted = [_counts_of(part) for part in in_parts(requests, names)]
    return pd.concat(counted).groupby("trial", as_index=False).sum()


def _counts_of(part: pd.DataFrame) -> pd.DataFrame:
    begin, end = part["window_start_ms"], part["window_end_ms"]
    due = part["phase"] == MEASURE
    answered = part["status"].notna() & part["done_ms"].between(begin, end, inclusive="right")
    counted = pd.DataFrame({"trial": part["trial"], "due": due, "answered": answered})
    return counted.groupby("trial", as_index=False).sum()


def _row(arm: str, load: str, cell: pd.DataFrame) -> dict[str, object]:
    backlog = cell["due"] - cell["answered"]
    overrun = (backlog > LEAST_BACKLOG_SHARE * cell["due"]) & (backlog > LEAST_BACKLOG_REQUESTS)
    shown = cell[overrun] if overrun.any() else cell
    windows_s = (shown["window_end_ms"] - shown["window_start_ms"]).sum() / 1000
    capped = int(cell["capped"].sum())
    return {
        "arm": arm,
        "load": load,
        "rate_per_s": float(cell["rate_per_s"].mean()),
        "answered_per_s": float(shown["answered"].sum() / windows_s) if windows_s else math.nan,
        "trials": len(cell),
        "overrun": int(overrun.sum()),
        "capped": capped,
        "in_flight_max": int(cell["in_flight_max"].max()),
        "saturated": bool(overrun.any() or capped),
    }
