"""Requests/s and latency against the load, with intervals."""

from __future__ import annotations

import math

import pandas as pd

from harness.analysis.stats import LEVEL
from harness.numbers import cell, interval, rate, short, users
from harness.report.charts.page import tidy
from harness.report.page.context import Context, cell_of
from harness.report.page.drawing import (
    arm_keys,
    figure,
    finite,
    log_ticks,
    markup,
    name_axes,
    size_axis,
)
from harness.report.page.parts import Panel, Picture, Table

_FIGURES = {
    "throughput_per_s": "requests/s",
    "latency_p50_ms": "median latency (ms)",
    "latency_p99_ms": "p99 latency (ms)",
}
_HEIGHT_IN = 2.9
_ROOM = 1.3  # beside the lowest and the highest load
_APART = 0.04  # of the axis, from the first to the last arm at one load, so that no interval hides another


def pictures(found: Context) -> list[Picture]:
    """One picture for closed loops and one for open loops, if there are several loads of the kind."""
    table = found.report.levels
    table = table[table["arm"].astype(str).isin(found.arms)]
    kinds = (("concurrency", "users"), ("rate_per_s", "arrivals/s"))
    made = []
    for name, axis in kinds:
        rows = table[table[name].notna() & ~table["load"].astype(str).str.startswith("own(")]
        if name == "rate_per_s":
            rows = rows[rows["concurrency"].isna()]
        if rows[name].nunique() > 1:
            made.append(_picture(found, rows.sort_values(name, kind="stable"), name, axis))
    return made


def _picture(found: Context, rows: pd.DataFrame, name: str, axis: str) -> Picture:
    kind = "closed" if name == "concurrency" else "open"
    panels = [
        Panel(words, _panel(found, rows, name, axis, column, f"{kind}-{column}"))
        for column, words in _FIGURES.items()
        if rows[column].notna().any()
    ]
    level = found.report.evidence.facts.rules.at(LEVEL)
    return Picture(
        title=_title(found, rows),
        alt=f"Requests/s, median and p99 latency of {', '.join(found.arms)} against {axis}: "
        + _in_words(found, rows),
        panels=panels,
        table=_table(rows),
        keys=arm_keys(found.shown()),
        note=f"{100 * level:.3g} % intervals over blocks. Requests/s are medians over blocks, latencies are "
        "of all counted requests; p99 only from 662 requests on.",
    )


def _panel(found: Context, rows: pd.DataFrame, name: str, axis: str, column: str, picture: str) -> str:
    fig, ax = figure(_HEIGHT_IN)
    sizes = rows[[column, f"{column}_high"]].to_numpy(dtype=float).ravel()
    size_axis(ax, "y", finite(sizes))
    loads = rows[name].astype(float)
    wide = float(loads.max() / loads.min()) * _ROOM**2
    log_ticks(ax, "x", float(loads.min()) / _ROOM, float(loads.max()) * _ROOM, at=sorted(set(loads)))
    for number, arm in enumerate(found.arms):
        its = rows[rows["arm"].astype(str) == arm]
        shift = _APART * (number / max(1, len(found.arms) - 1) - 0.5)
        places = its[name].astype(float) * wide**shift
        look = found.looks[arm]
        values = its[column].to_numpy(dtype=float)
        ends = its[[f"{column}_low", f"{column}_high"]].to_numpy(dtype=float)
        ax.plot(places, values, linewidth=1.6, zorder=4, **look.dot)
        ax.vlines(places, ends[:, 0], ends[:, 1], color=look.colour, linewidth=1.6, zorder=3)
    tidy(ax, grid="y")
    name_axes(ax, x=f"{axis} (log scale)", y=_FIGURES[column])
    return markup(fig, picture)


def _title(found: Context, rows: pd.DataFrame) -> str:
    """What more load does to the arm that is advised, or else to the first."""
    arm = found.report.choice.take if found.report.choice.take in found.arms else found.arms[0]
    its = rows[rows["arm"].astype(str) == arm]
    if its.empty:
        return "Requests/s and latency against the load"
    first, last = its.iloc[0], its.iloc[-1]
    loads = f"From {users(first['load'])} to {users(last['load'])}"
    what = (
        f"{arm} goes from {short(first['throughput_per_s'])} to {short(last['throughput_per_s'])} requests/s"
    )
    latency = (
        f"its median latency from {short(first['latency_p50_ms'])} to {short(last['latency_p50_ms'])} ms"
    )
    return f"{loads}, {what}, and {latency}"


def _in_words(found: Context, rows: pd.DataFrame) -> str:
    last = str(rows["load"].iloc[-1])
    parts = []
    for arm in found.arms:
        row = cell_of(rows, arm, last)
        if row:
            parts.append(
                f"{arm} {cell(row['throughput_per_s'])} requests/s, p50 {cell(row['latency_p50_ms'])} ms, "
                f"p99 {cell(row['latency_p99_ms'])} ms"
            )
    return f"at {users(last)} {'; '.join(parts)}."


def _table(rows: pd.DataFrame) -> Table:
    def within(row: pd.Series[float], column: str) -> str:
        value = row[column]
        if math.isnan(value):
            return "-"
        return cell(value) + interval(row[f"{column}_low"], row[f"{column}_high"], rate)

    return Table(
        ["arm", "load", *_FIGURES.values()],
        [
            [str(row["arm"]), users(row["load"]), *(within(row, column) for column in _FIGURES)]
            for _, row in rows.sort_values("arm", kind="stable").iterrows()
        ],
        words=2,
    )
