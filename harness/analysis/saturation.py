"""Where an open load is more than an arm can take: then a latency says as much of the window as of the arm.

Pure: frames in, frames and words out.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import pandas as pd

from harness.wire.records import MEASURE, OK, PILOT_BLOCK

# of the requests that came due in the window, left unanswered at its end beyond those at its start
GROWTH = 0.05
FEWEST = 10  # and at least so many: a short window may end in mid-burst

COLUMNS = [
    "arm",
    "load",
    "rate_per_s",  # asked for
    "answered_per_s",  # well or not, within the windows of the saturated trials, or else of all
    "trials",
    "overrun",  # of these, trials in which the backlog grew
    "capped",  # requests that were sent late because as many as the cap were in flight
    "in_flight_max",
    "saturated",
]


def per_cell(derived: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """One row per arm and open load (`COLUMNS`); closed loops slow down with the server, so they have none.

    A trial is overrun when more came due within its window than was answered in it, by 5 % and by ten
    requests. A refusal (such as a 503) is an answer: nobody waits for it any more, and failures are reported
    by themselves. An arm is saturated under a load when a trial is overrun or the cap held requests back.
    """
    is_open = trials["concurrency"].isna() & (trials["block"] > PILOT_BLOCK) & (trials["state"] == OK)
    if not is_open.any():
        return pd.DataFrame(columns=COLUMNS)
    found = trials[is_open].merge(_counts(derived), on="trial", how="inner")
    rows = [
        _row(str(arm), str(load), cell)
        for (arm, load), cell in found.groupby(["arm", "load"], sort=False, observed=True)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def warnings(cells: pd.DataFrame) -> Iterator[str]:
    """A sentence for each arm and load whose rate was not held, or whose requests a cap held back."""
    for row in cells[cells["saturated"].astype(bool)].to_dict("records"):
        told = "; ".join(filter(None, [_not_held(row), _held_back(row)]))
        yield f"{row['load']} on {row['arm']}: {told}."


def _not_held(row: Mapping[Hashable, Any]) -> str:
    if not row["overrun"]:
        return ""
    rates = f"{row['answered_per_s']:.1f} of {row['rate_per_s']:.4g} requests/s"
    some = "" if row["overrun"] == row["trials"] else f" in {row['overrun']} of {row['trials']} trials"
    return f"only {rates} were answered{some}: saturated, latencies grow with the window's length"


def _held_back(row: Mapping[Hashable, Any]) -> str:
    if not row["capped"]:
        return ""
    return f"{row['capped']} requests were sent late because {row['in_flight_max']} were in flight (cap)"


def _counts(derived: pd.DataFrame) -> pd.DataFrame:
    """Per trial: how many requests came due in its window [start, end), and how many were answered in it."""
    begin, end = derived["window_start_ms"], derived["window_end_ms"]
    due = derived["phase"] == MEASURE
    answered = derived["status"].notna() & derived["done_ms"].between(begin, end, inclusive="right")
    counted = pd.DataFrame({"trial": derived["trial"], "due": due, "answered": answered})
    return counted.groupby("trial", as_index=False).sum()


def _row(arm: str, load: str, cell: pd.DataFrame) -> dict[str, object]:
    backlog = cell["due"] - cell["answered"]
    overrun = (backlog > GROWTH * cell["due"]) & (backlog > FEWEST)
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
