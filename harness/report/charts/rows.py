"""Which rows of a run a chart shows, in which order, and the caption that counts them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from harness.numbers import users
from harness.report.charts.style import Stretch
from harness.wire.records import MEASURE


def good_requests(derived: pd.DataFrame) -> pd.DataFrame:
    """The good requests of the measured windows."""
    if derived.empty:
        return derived
    return derived[(derived["phase"] == MEASURE) & derived["ok"].astype(bool)]


def at_highest_concurrency(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the closed loop with the most users; without a closed loop, of any one load."""
    if rows.empty:
        return rows
    loads = loads_of(rows)
    closed = [load for load in loads if load.startswith("closed")]
    return rows[rows["load"] == (closed or loads)[-1]]


def loads_of(rows: pd.DataFrame) -> list[str]:
    """Loads by rising concurrency."""
    cells = rows[["load", "concurrency"]].drop_duplicates()
    return [str(load) for load in cells.sort_values("concurrency", kind="stable")["load"].unique()]


def arms_of(rows: pd.DataFrame) -> list[str]:
    """In the order of their categories if they are categorical, else of first appearance."""
    arm = rows["arm"]
    if isinstance(arm.dtype, pd.CategoricalDtype):
        arm = arm.cat.remove_unused_categories()
        return [str(name) for name in arm.cat.categories]
    return [str(name) for name in arm.unique()]


def is_split(rows: pd.DataFrame, parts: Sequence[Stretch]) -> bool:
    """Whether every row has all parts."""
    needed = ["entered_ms", *(part.column for part in parts)]
    return bool(rows[needed].notna().all(axis=None)) and not rows.empty


def with_timings(rows: pd.DataFrame, parts: Sequence[Stretch]) -> pd.DataFrame:
    """The rows that have all parts; all rows when none has."""
    complete = rows.dropna(subset=["entered_ms", *(part.column for part in parts)])
    return rows if complete.empty else complete


def left_out(derived: pd.DataFrame, drawn: pd.DataFrame) -> str:
    """For the caption: how many requests are drawn, how many failed, and which arms have none to draw."""
    here = (derived["phase"] == MEASURE) & derived["load"].isin(drawn["load"].unique())
    failed = int((here & ~derived["ok"].astype(bool)).sum())
    shown = set(drawn["arm"].unique())
    missing = [arm for arm in arms_of(derived) if arm not in shown]
    counts = f"{len(drawn):,} requests with good answers; {failed:,} failed requests are not shown."
    return counts + (f" No requests to show for: {', '.join(missing)}." if missing else "")


def load_words(rows: pd.DataFrame) -> str:
    """The load of these rows, which all have the same one."""
    load = str(rows["load"].iloc[0])
    return f"closed loop, {users(load)}" if load.startswith("closed") else load
