"""Each arm against the reference: the ratios of latency and throughput with their intervals."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from harness.analysis.stats import DIFFERENT
from harness.analysis.summaries import LATENCY, THROUGHPUT
from harness.numbers import cell, ratio_interval, times, users
from harness.report.page.context import Context
from harness.report.page.drawing import (
    MARK_AT,
    NAME_AT,
    mark_key,
    markup,
    ratio_axis,
    rows_figure,
    span,
    write,
)
from harness.report.page.parts import Panel, Picture, Table
from harness.verdicts.metrics import label

METRICS = {LATENCY: ("median", "median latency"), THROUGHPUT: ("rate", "requests/s")}
AXES = {
    LATENCY: "← better · ratio of median latency · worse →",
    THROUGHPUT: "← worse · ratio of requests/s · better →",
}
_BAND = "#e4e4e4"
_MOST_ROWS = 16  # of a panel; of more arms it has those of the other pictures


def picture(found: Context) -> Picture | None:
    """A panel for latency and one for throughput, on one scale; a row is an arm. The twin comes last."""
    rows = _primary(found.report.comparisons)
    here = rows[rows["load"].astype(str) == found.load] if len(rows) else rows
    if here.empty:
        return None
    if here["arm"].nunique() > _MOST_ROWS:
        here = here[here["arm"].isin(found.arms) | here["twin"].astype(bool)]
    values = here[["ratio", "low", "high"]].to_numpy(dtype=float).ravel()
    panels = [
        Panel(
            f"{words}, over {found.reference}", _panel(found, here[here["metric"] == metric], metric, values)
        )
        for metric, (_, words) in METRICS.items()
        if (here["metric"] == metric).any()
    ]
    rules = found.report.evidence.facts.rules
    deltas = (f"±{100 * rules.delta(metric):g} % of {words}" for metric, (_, words) in METRICS.items())
    keys = [mark_key(f"too small to matter: {' or '.join(deltas)}", _BAND, line=9)]
    title = _title(found, here)
    return Picture(
        title=title,
        alt=f"Ratios to {found.reference} at {users(found.load)}, with intervals. {_in_words(here)}",
        panels=panels,
        table=table(rows),
        keys=keys,
        note="The twin is the reference once more: its distance from 1 is noise."
        if any(here["twin"])
        else "",
    )


def table(rows: pd.DataFrame) -> Table:
    """Every load, arm and metric, with values, ratio, interval and verdict."""
    return Table(
        ["load", "arm / reference", "figure", "verdict", "arm", "reference", "ratio [interval]"],
        [
            [
                users(row["load"]),
                f"{row['arm']} / {row['reference']}",
                label(row["metric"], row["stat"]),
                f"{row['verdict']}" + (f": {row['why']}" if row["why"] else ""),
                cell(row["arm_value"]),
                cell(row["reference_value"]),
                ratio_interval(row["ratio"], row["low"], row["high"]),
            ]
            for row in rows.to_dict("records")
        ],
        words=4,
    )


def _primary(rows: pd.DataFrame) -> pd.DataFrame:
    if rows.empty:
        return rows
    wanted = {(metric, stat) for metric, (stat, _) in METRICS.items()}
    keys = zip(rows["metric"].astype(str), rows["stat"].astype(str), strict=True)
    return rows[[key in wanted for key in keys]]


def _panel(found: Context, rows: pd.DataFrame, metric: str, values: Any) -> str:
    rows = rows.sort_values("twin", kind="stable")
    fig, ax = rows_figure([str(arm) for arm in rows["arm"]], AXES[metric])
    ratio_axis(ax, values)
    delta = found.report.evidence.facts.rules.delta(metric)
    ax.axvspan(1 / (1 + delta), 1 + delta, color=_BAND, linewidth=0, zorder=0)
    for row, one in enumerate(rows.to_dict("records")):
        look = found.looks[str(one["arm"])]
        span(ax, row + MARK_AT, one["low"], one["high"], look.colour)
        if math.isfinite(one["ratio"]):
            ax.plot(one["ratio"], row + MARK_AT, zorder=5, **look.dot)
        write(ax, 1.0, row + NAME_AT, str(one["verdict"]), ha="right", color="#555555")
    return markup(fig, f"ratio-{metric.partition('_')[0]}")


def _title(found: Context, here: pd.DataFrame) -> str:
    """The advised arm by the metric that decides; else the largest difference, or that there is none."""
    if found.report.withheld:
        return "No verdict is given: see the warning"
    metric = found.report.choice.metric
    mine = here[(here["metric"] == metric.name) & ~here["twin"].astype(bool)]
    taken = mine[mine["arm"].astype(str) == found.report.choice.take]
    if len(taken):
        row = taken.iloc[0]
        return f"{_has(found, row)} ({row['verdict']})"
    clear = mine[mine["verdict"].isin(DIFFERENT) & mine["ratio"].gt(0)]
    if clear.empty:
        return f"{found.at}, no arm is shown to differ from {found.reference}"
    far = clear.assign(size=clear["ratio"].map(lambda ratio: abs(math.log(ratio))))
    row = far.sort_values("size", ascending=False).iloc[0]
    return _has(found, row)


def _has(found: Context, row: Any) -> str:
    ratio = times(row["ratio"], row["low"], row["high"])
    return f"{found.at}, {row['arm']} has {ratio} the {METRICS[row['metric']][1]} of {row['reference']}"


def _in_words(here: pd.DataFrame) -> str:
    return " ".join(
        f"{row['arm']}, {METRICS[row['metric']][1]}: "
        f"{ratio_interval(row['ratio'], row['low'], row['high'])}, {row['verdict']}."
        for row in here.to_dict("records")
    )
