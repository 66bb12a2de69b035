"""Latency against rate, one panel per arm. Pure: DataFrames go in, a matplotlib `Figure` comes out.

Marks differ in shape, not only in colour: a filled dot is a confirming window, a hollow dot a window of the
search, a cross a window that was given up. The dashed line is the objective, the band is the capacity's
interval from the table, and an arrow marks an open end of the interval. `marks_of` lists what a panel shows;
the legend names the same marks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from harness.analysis import slo
from harness.analysis.slo import Objective
from harness.capacity import words
from harness.capacity.arms import AT_MOST
from harness.report.charts.page import (
    key,
    log_axis,
    name_panel,
    page,
    panels_of,
    rows_of,
    tidy,
    without_chart,
)
from harness.report.charts.style import INK, MARK_COLOUR, SMALL_PT

_BAND = "#CFE3F0"
_PANEL_IN = 2.7
_ROOM = 1.05  # to the right of the highest rate or end
_ARROW_HEIGHT = 0.93  # of the panel
_MOST_MARKS = 7  # that fit on one line of the legend

OBJECTIVE, SEARCH, GIVEN_UP, CONFIRMING = "objective", "search", "given up", "confirming"
CAPACITY, INTERVAL, OPEN_END, KNEE = "capacity", "interval", "open end", "knee"


def _dot(face: str) -> dict[str, Any]:
    ink = {"markerfacecolor": face, "markeredgecolor": INK, "markeredgewidth": 1.2}
    return {"marker": "o", "linestyle": "", "markersize": 6, **ink}


# in the order of the legend
_LOOKS: dict[str, dict[str, Any]] = {
    OBJECTIVE: {"color": MARK_COLOUR, "linewidth": 1.4, "linestyle": "--"},
    SEARCH: _dot("white"),
    GIVEN_UP: {"marker": "x", "color": INK, "linestyle": ""},
    CONFIRMING: _dot(INK),
    CAPACITY: {"color": INK, "linewidth": 2},
    INTERVAL: {"color": _BAND, "linewidth": 0},
    OPEN_END: {"marker": ">", "color": INK, "markersize": 8, "linestyle": ""},
    KNEE: {"marker": "^", "color": "#E69F00", "markeredgecolor": "black", "markersize": 9, "linestyle": ""},
}


def draw(windows: pd.DataFrame, table: pd.DataFrame, objectives: Sequence[Objective]) -> Figure:
    """Draw one panel per arm: all windows, the objective, the capacity and its interval."""
    drawn = windows[np.isfinite(windows["latency_ms"].astype(float))]
    if drawn.empty:
        return without_chart("No latency against rate: no window with good answers.")
    objective = slo.charted(objectives)
    arms = [row for row in table.to_dict("records") if (drawn["arm"] == row["arm"]).any()]
    marks = [marks_of(drawn[drawn["arm"] == row["arm"]], row, objective) for row in arms]
    what = "mean" if objective.percent is None else f"p{objective.percent:g}"
    fig = page(
        "The capacity of each arm",
        f"{what} latency of each window against its Poisson rate; each panel has its own rates.",
        f"Capacity: the highest rate that keeps {words.kept(arms, objectives)}, with its 95 % interval. "
        "Knee: the rate with the most good answers per second per mean latency (Kleinrock's power).",
        height_in=rows_of(len(arms)) * _PANEL_IN,
        handles=[
            Patch(label=name, **look) if name == INTERVAL else key(name, **look)
            for name, look in _LOOKS.items()
            if any(name in one for one in marks)
        ],
    )
    latencies = drawn["latency_ms"].to_numpy(dtype=float)
    if math.isfinite(objective.limit):
        latencies = np.append(latencies, objective.limit)
    _fit_legend(fig)
    panels = panels_of(fig, len(arms))
    for panel, row, its in zip(panels, arms, marks, strict=True):
        draw_panel(panel, its)
        name_panel(panel, str(row["arm"]), _shown_capacity(row))
        log_axis(panel, "y", latencies)
        panel.set_ylabel(f"{what} (ms)")
    for panel in panels[-2:]:
        panel.set_xlabel("requests/s")
    return fig


def marks_of(windows: pd.DataFrame, row: Mapping[Any, Any], objective: Objective) -> dict[str, Any]:
    """The marks of one panel: points as (rates, latencies), ends as (low, high), all others as one number."""
    confirms, gave_up = windows["confirms"].astype(bool), windows["gave_up"].astype(bool)
    points = {
        SEARCH: windows[~confirms & ~gave_up],
        GIVEN_UP: windows[~confirms & gave_up],
        CONFIRMING: windows[confirms],
    }
    low, high = float(row["low_per_s"]), float(row["high_per_s"])
    numbers = {OBJECTIVE: objective.limit, CAPACITY: row["capacity_per_s"], KNEE: row["knee_per_s"]}
    marks: dict[str, Any] = {
        name: (rows["rate_per_s"], rows["latency_ms"]) for name, rows in points.items() if len(rows)
    }
    marks |= {name: number for name, number in numbers.items() if math.isfinite(number)}
    if low < high:
        marks[INTERVAL] = low, high
    if low < high and (low == 0 or math.isinf(high)):
        marks[OPEN_END] = low, high
    return marks


def draw_panel(ax: Axes, marks: Mapping[str, Any], right: float = math.nan) -> None:
    """Draw the marks of one panel, up to a rate: its own right edge, or another one."""
    right = right_edge(marks) if math.isnan(right) else right
    ax.set_xlim(0, right)
    for name in (name for name in (SEARCH, GIVEN_UP, CONFIRMING) if name in marks):
        ax.plot(*marks[name], zorder=4, label=name, **_LOOKS[name])
    if INTERVAL in marks:
        low, high = marks[INTERVAL]
        ax.axvspan(low, min(high, right), zorder=1, label=INTERVAL, **_LOOKS[INTERVAL])
    if CAPACITY in marks:
        ax.axvline(marks[CAPACITY], zorder=2, label=CAPACITY, **_LOOKS[CAPACITY])
    if OBJECTIVE in marks:
        ax.axhline(marks[OBJECTIVE], zorder=2, label=OBJECTIVE, **_LOOKS[OBJECTIVE])
    if KNEE in marks:
        foot = ax.get_xaxis_transform()
        ax.plot(marks[KNEE], 0.03, transform=foot, zorder=5, label=KNEE, **_LOOKS[KNEE])
    _draw_open_ends(ax, *marks.get(OPEN_END, (math.nan, math.nan)))
    tidy(ax, grid="y")


def _draw_open_ends(ax: Axes, low: float, high: float) -> None:
    """Draw an arrow at the left edge if no rate held, at the right edge if nothing bounds the capacity."""
    for is_open, place, marker in ((low == 0, 0.0, "<"), (math.isinf(high), 1.0, ">")):
        if is_open:
            look = _LOOKS[OPEN_END] | {"marker": marker, "transform": ax.transAxes, "clip_on": False}
            ax.plot(place, _ARROW_HEIGHT, zorder=6, label=OPEN_END, **look)


def right_edge(marks: Mapping[str, Any]) -> float:
    """A rate above every rate tried, the capacity, and the interval's end if it has one."""
    rates = [rate for name in (SEARCH, GIVEN_UP, CONFIRMING) if name in marks for rate in marks[name][0]]
    ends = [*marks.get(INTERVAL, ()), marks.get(CAPACITY, math.nan)]
    return _ROOM * float(max([*rates, *(end for end in ends if math.isfinite(end))]))


def _shown_capacity(row: Mapping[Any, Any]) -> str:
    if math.isnan(row["capacity_per_s"]):
        return f"below {row['high_per_s']:.3g}/s" if row["bound"] == AT_MOST else "no capacity"
    bound = f"{row['bound']} " if row["bound"] else ""
    return f"{bound}{row['capacity_per_s']:.3g}/s"


def _fit_legend(fig: Figure) -> None:
    """Use smaller letters if all marks are drawn, so that the legend stays on one line."""
    for legend in fig.legends:
        if len(legend.get_texts()) > _MOST_MARKS:
            for text in legend.get_texts():
                text.set_fontsize(SMALL_PT)
