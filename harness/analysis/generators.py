"""How each load generator did over a run: the rows of generators.csv, put together."""

from __future__ import annotations

import pandas as pd

COLUMNS = [
    "generator",
    "host",
    "trials",
    "requests",
    "dispatch_lag_p50_ms",
    "client_lag_p99_ms",
    "cpu_ms_per_request",
    "offset_ms",
    "drift_ms",
    "bound_ms",
    "ended",
]


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return `COLUMNS`, a row per generator and host: medians over trials, but sums of requests and CPU.

    `offset_ms` is what its clock showed more than that of the run, `drift_ms` the largest change of it within
    a trial, `bound_ms` the largest possible error of an offset. `ended` counts the trials in which it ended.
    """
    if rows.empty:
        return pd.DataFrame(columns=COLUMNS)
    drift_ms = (rows["offset_after_ms"] - rows["offset_before_ms"]).abs()
    grouped = rows.assign(drift_ms=drift_ms, ended=rows["error"].notna() & rows["error"].ne("")).groupby(
        ["generator", "host"], as_index=False
    )
    found = grouped.agg(
        trials=("trial", "size"),
        requests=("requests", "sum"),
        dispatch_lag_p50_ms=("dispatch_lag_p50_ms", "median"),
        client_lag_p99_ms=("client_lag_p99_ms", "median"),
        client_cpu_ms=("client_cpu_ms", "sum"),
        offset_ms=("offset_before_ms", "median"),
        drift_ms=("drift_ms", "max"),
        bound_ms=("bound_ms", "max"),
        ended=("ended", "sum"),
    )
    return found.assign(cpu_ms_per_request=found["client_cpu_ms"] / found["requests"])[COLUMNS]
