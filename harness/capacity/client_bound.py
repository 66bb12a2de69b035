"""Find the arms whose capacity the load generator limits: such a capacity is a lower bound. Pure.

A late or busy load generator only adds to a latency. So a window that kept every objective shows that the arm
can do it, even if the load generator was slow. A window that missed one shows nothing about the arm if the
load generator may be the reason.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis import machine
from harness.analysis.percentiles import percentile
from harness.analysis.rows import Cells, measured
from harness.capacity import windows
from harness.capacity.arms import Arm
from harness.numbers import three_digits
from harness.verdicts.admissible import Evidence
from harness.wire import reasons
from harness.wire.records import INVALID, PILOT_BLOCK

BELOW_ROOFLINE = 0.9  # of the rate at which the client counts as the bottleneck, to leave room for chance
AT_MOST_OF_IT = 0.98  # of the highest rate that the walk may ask for; rates are rounded
LATE = "the load generator sent requests late, and without that delay every objective is kept"

_NEEDED = ["trial", "ok", "latency_ms", "io_ms", "dispatch_lag_ms"]


def most_per_s(roofline_per_s: float) -> float:
    """The highest rate that the walk may ask for; infinite if the roofline is unknown (NaN)."""
    most = BELOW_ROOFLINE * machine.MOST_OF_CLIENT_LIMIT * roofline_per_s
    return math.inf if math.isnan(most) else most


def bounded(arm: Arm, found: Evidence) -> Arm:
    """The arm; if the client is its limit, with a lower bound as its capacity and the reason in `limited`."""
    why = _why(arm, found)
    if not why:
        return arm
    held = arm.crossing is not None and arm.crossing.held_per_s > 0
    crossing = arm.crossing.as_lower_bound() if arm.crossing is not None and held else None
    return dataclasses.replace(arm, crossing=crossing, limited=why)


def _why(arm: Arm, found: Evidence) -> str:
    trials = found.run.trials
    its = trials[(trials["arm"] == arm.name) & (trials["block"] > PILOT_BLOCK)]
    if why := _own_limit(its, found.run.record["capacity"]["searched"]):
        return why
    missed = arm.trials[np.array([not window.keeps(arm.judged) for window in arm.windows], dtype=bool)]
    confirming = missed[missed["confirms"].astype(bool)]
    if len(missed):
        decisive = missed if confirming.empty else confirming
        of_client = [*filter(None, _of_windows(arm, decisive, its, found))]
        if 2 * len(of_client) >= len(decisive):
            return Counter(of_client).most_common(1)[0][0]
    if confirming.empty and (why := _without_a_window(its)):
        return why
    return _of_the_roofline(arm, found) if missed.empty else ""


def _own_limit(its: pd.DataFrame, searched: int | None) -> str:
    """Why a confirming window could not be run, if the load generator reached a limit of its own process."""
    confirming = its[its["block"] > (math.inf if searched is None else searched)]
    return next(filter(reasons.is_own_limit, confirming["error"].astype(str)), "")


def _of_windows(arm: Arm, missed: pd.DataFrame, its: pd.DataFrame, found: Evidence) -> Iterator[str]:
    """For each of these windows, why the load generator may be the reason that it missed; "" if it is not."""
    by_number = its.set_index("trial")
    cells = Cells(measured(found.derived), by=("trial",))
    for row in missed.to_dict("records"):
        trial = by_number.loc[row["trial"]]
        busy = found.limited.get((arm.name, str(trial["load"])), "")
        yield busy or _of_lateness(arm, row, trial, cells.select((row["trial"],), _NEEDED), found.run.record)


def _of_lateness(
    arm: Arm,
    row: Mapping[Any, Any],
    trial: pd.Series[Any],
    rows: pd.DataFrame,
    record: Mapping[str, Any],
) -> str:
    """`LATE` if its requests were sent late, and it keeps every objective from when they were sent.

    A window at the capacity misses an objective by little, so any delay would turn it. Not judged if the cap
    held requests back: then they waited for the server.
    """
    if trial["capped"] or not _is_late(rows):
        return ""
    sent = windows.window(
        block=row["block"],
        rate_per_s=row["rate_per_s"],
        confirms=row["confirms"],
        latency_ms=np.asarray(rows["latency_ms"] - rows["dispatch_lag_ms"], dtype=np.float64),
        io_ms=np.asarray(rows["io_ms"], dtype=np.float64),
        good=np.asarray(rows["ok"], dtype=bool),
        objectives=arm.judged,
        timeout_s=record["plan"]["timeout_s"],
        gave_up=row["gave_up"],
    )
    return LATE if sent.keeps(arm.judged) else ""


def _is_late(rows: pd.DataFrame) -> bool:
    """Whether the delay of the load generator is a part of the window's latency that counts (p95 of both)."""
    lag_ms, latency_ms = (
        percentile(np.asarray(rows[name], dtype=np.float64), 95) for name in ("dispatch_lag_ms", "latency_ms")
    )
    return lag_ms > machine.LATE_CELL_SHARE * latency_ms


def _without_a_window(its: pd.DataFrame) -> str:
    """Why the load generator could not run any window at one of the rates; "" if it ran one at each."""
    for _, at_rate in its.groupby("rate_per_s"):
        if (at_rate["state"] == INVALID).all():
            return str(at_rate["error"].iloc[0])
    return ""


def _of_the_roofline(arm: Arm, found: Evidence) -> str:
    """Why no higher rate was tried, if the roofline of the load generator is the reason."""
    roofline_per_s = machine.client_limit_per_s(found.run.record)
    highest = max((window.rate_per_s for window in arm.windows), default=0.0)
    if highest < AT_MOST_OF_IT * most_per_s(roofline_per_s):
        return ""
    share = f"{100 * BELOW_ROOFLINE * machine.MOST_OF_CLIENT_LIMIT:.0f} %"
    return (
        f"the load generator is not asked for more than {share} of the {three_digits(roofline_per_s)} "
        "requests/s that it can send"
    )
