"""Latency against rate, an arm a panel. Pure: DataFrames go in, a matplotlib `Figure` comes out.

What carries meaning differs in shape or in words: a filled dot confirmed, a hollow one was of the search, a
cross gave up; the dashed line is the objective, the band the capacity's interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from harness import slo
from harness.capacity import words
from harness.charts import (
    _GREY,
    _MARK_COLOUR,
    _SMALL_PT,
    _TEXT_PT,
    _log_axis,
    _name_panel,
    _page,
    _sorry,
    _tidy,
)
from harness.slo import Objective

_INK, _BAND = "#00324F", "#CFE3F0"
_PANEL_IN = 2.7


def capacity(windows: pd.DataFrame, table: pd.DataFrame, objectives: Sequence[Objective]) -> Figure:
    """A panel an arm, each with its own rates: every window, the objective, the capacity and its interval."""
    drawn = windows[np.isfinite(windows["latency_ms"].astype(float))]
    if drawn.empty:
        return _sorry("No latency against rate: no window with good answers.")
    objective = slo.shown(objectives)
    arms = [row for row in table.to_dict("records") if (drawn["arm"] == row["arm"]).any()]
    columns = min(2, len(arms))
    lines = math.ceil(len(arms) / columns)
    what = "mean" if objective.percent is None else f"p{objective.percent:g}"
    fig = _page(
        "How much load each arm holds",
        f"{what} latency of each window against its Poisson rate; every panel has its own rates.",
        f"Capacity: the highest rate that keeps {words.kept(arms, objectives)}, 95 % interval. "
        "Knee: most good answers a second per mean latency (Kleinrock's power).",
        height_in=lines * _PANEL_IN,
        handles=_legend(objective),
    )
    panels = fig.subplots(lines, columns, squeeze=False).ravel()
    for panel, row in zip(panels, arms, strict=False):
        _draw(panel, drawn[drawn["arm"] == row["arm"]], row, objective)
        _log_axis(panel, "y", _latencies(drawn, objective))
        panel.set_ylabel(f"{what} (ms)", fontsize=_TEXT_PT)
    for panel in panels[max(0, len(arms) - columns) : len(arms)]:
        panel.set_xlabel("requests a second", fontsize=_TEXT_PT)
    for unused in panels[len(arms) :]:
        unused.set_visible(False)
    return fig


def _latencies(drawn: pd.DataFrame, objective: Objective) -> Any:
    values = drawn["latency_ms"].to_numpy(dtype=float)
    return np.append(values, objective.limit) if math.isfinite(objective.limit) else values


def _draw(ax: Axes, windows: pd.DataFrame, row: Mapping[Any, Any], objective: Objective) -> None:
    confirms, gave_up = windows["confirms"].astype(bool), windows["gave_up"].astype(bool)
    low, high = _ends(row, windows)
    if low < high:
        ax.axvspan(low, high, color=_BAND, linewidth=0, zorder=1)
    if math.isfinite(row["capacity_per_s"]):
        ax.axvline(row["capacity_per_s"], color=_INK, linewidth=2, zorder=2)
    if math.isfinite(objective.limit):
        ax.axhline(objective.limit, color=_MARK_COLOUR, linewidth=1.4, linestyle="--", zorder=2)
    for rows, style in (
        (windows[~confirms & ~gave_up], _dot("white")),
        (windows[confirms], _dot(_INK)),
        (windows[gave_up], {"marker": "x", "color": _INK, "linestyle": ""}),
    ):
        ax.plot(rows["rate_per_s"], rows["latency_ms"], zorder=4, **style)
    if math.isfinite(row["knee_per_s"]):
        ax.plot(row["knee_per_s"], 0.03, transform=ax.get_xaxis_transform(), zorder=5, **_knee())
    _tidy(ax, grid="y")
    ax.set_xlim(left=0)
    _name_panel(ax, str(row["arm"]))
    ax.set_title(_said(row), loc="right", fontsize=_SMALL_PT, color=_GREY)


def _ends(row: Mapping[Any, Any], windows: pd.DataFrame) -> tuple[float, float]:
    """The interval, as far as rates were tried; an empty one where there is none."""
    low, high = row["low_per_s"], row["high_per_s"]
    if math.isnan(low) or math.isnan(high) or math.isnan(row["capacity_per_s"]):
        return math.nan, math.nan
    return max(low, windows["rate_per_s"].min()), min(high, windows["rate_per_s"].max())


def _said(row: Mapping[Any, Any]) -> str:
    if math.isnan(row["capacity_per_s"]):
        return "no capacity"
    bound = f"{row['bound']} " if row["bound"] else ""
    return f"{bound}{row['capacity_per_s']:.3g}/s"


def _dot(face: str) -> dict[str, Any]:
    ink = {"markerfacecolor": face, "markeredgecolor": _INK, "markeredgewidth": 1.2}
    return {"marker": "o", "linestyle": "", "markersize": 6, **ink}


def _knee() -> dict[str, Any]:
    return {"marker": "^", "color": "#E69F00", "markeredgecolor": "black", "markersize": 9, "linestyle": ""}


def _legend(objective: Objective) -> list[Artist]:
    handles: list[Artist] = [
        Line2D([], [], label="search", **_dot("white")),
        Line2D([], [], label="confirming", **_dot(_INK)),
        Line2D([], [], color=_INK, linewidth=2, label="capacity"),
        Patch(color=_BAND, label="its interval"),
        Line2D([], [], label="knee", **_knee()),
    ]
    if math.isfinite(objective.limit):
        line = Line2D([], [], color=_MARK_COLOUR, linestyle="--", linewidth=1.4, label="objective")
        handles.insert(0, line)
    return handles
