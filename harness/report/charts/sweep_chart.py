"""A sweep in one chart.

One axis gives a line with intervals, two axes a line for each value of the second, more axes a list of the
settings, the best first. Several strategies count as an axis. Lines differ in marker and dash as well as in
colour, so that the chart can be printed in grey.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.numbers import users
from harness.report.charts.page import arm_rows, key, label, page, positive, tidy, without_chart
from harness.report.charts.style import MARK_COLOUR, SMALL_PT
from harness.report.sweep import BEST, RIVAL, Swept, words
from harness.verdicts import best_arm

_INK = "#005A91"
_LOOKS = (
    {"color": "#005A91", "marker": "o", "linestyle": "-"},
    {"color": "#D55E00", "marker": "s", "linestyle": "--"},
    {"color": "#E69F00", "marker": "D", "linestyle": "-."},
    {"color": "#111111", "marker": "^", "linestyle": ":"},
    {"color": "#56B4E9", "marker": "v", "linestyle": "-"},
    {"color": "#7A7A7A", "marker": "P", "linestyle": "--"},
)
_MOST_LISTED = 40


def draw(swept: Swept) -> Figure:
    """The figure that decides, with its interval, for each setting under the load that decides."""
    here = swept.table[swept.table["load"] == swept.load]
    name = "throughput_per_s" if swept.metric is best_arm.RATES else "latency_p50_ms"
    figure = here[name].astype(float)
    here = here[np.isfinite(figure) & (figure > 0)]
    if here.empty:
        return without_chart("No setting of the sweep gave good answers.")
    figures = here.rename(columns={name: "at", f"{name}_low": "low", f"{name}_high": "high"})
    if len(swept.axes) > 2 or (len(swept.axes) == 2 and len(set(here[swept.axes[1]])) > len(_LOOKS)):
        return _listed(swept, figures)
    return _lines(swept, figures)


def _lines(swept: Swept, here: pd.DataFrame) -> Figure:
    """x is the axis with the most values; a line for each value of the other axis."""
    along, *others = sorted(swept.axes, key=lambda axis: (axis == "strategy", -here[axis].nunique()))
    lines = list(dict.fromkeys(here[others[0]])) if others else [None]
    handles: list[Artist] = [
        key(label(f"{others[0]} = {value}"), markersize=8, **_look(number))
        for number, value in enumerate(lines)
        if value is not None
    ]
    fig = _titled(swept, height_in=4.6, handles=handles)
    ax = fig.subplots()
    ticks = _in_order(here[along])
    for number, value in enumerate(lines):
        mine = here if value is None else here[here[others[0]] == value]
        _draw_line(ax, mine.set_index(along), ticks, number, len(lines))
    ax.set_xticks(range(len(ticks)), [label(str(tick)) for tick in ticks])
    ax.set_xlim(-0.5, len(ticks) - 0.5)
    ax.set_ylim(0, 1.08 * float(positive(here[["at", "high"]].to_numpy(dtype=float)).max()))
    tidy(ax, grid="y")
    ax.set_xlabel(label(along))
    ax.set_ylabel(_unit(swept))
    return fig


def _draw_line(ax: Axes, rows: pd.DataFrame, ticks: list[Any], number: int, lines: int) -> None:
    """Draw one line, shifted aside if there are several, so that intervals do not hide each other."""
    aside = 0.06 * (number - (lines - 1) / 2)
    known = [tick for tick in ticks if tick in rows.index]
    at = [ticks.index(tick) + aside for tick in known]
    ordered = rows.loc[known]
    ax.plot(at, ordered["at"], markersize=8, linewidth=1.6, **_look(number))
    ax.vlines(at, ordered["low"], ordered["high"], color=_look(number)["color"], linewidth=2.2)


def _listed(swept: Swept, here: pd.DataFrame) -> Figure:
    shown = here.head(_MOST_LISTED)
    names = [
        words({str(axis): value for axis, value in row.items() if value != ""}, swept.axes)
        for row in shown.to_dict("records")
    ]
    left_out = f" Shows the best {_MOST_LISTED} of {len(here)} settings." if len(here) > len(shown) else ""
    marks: list[Artist] = [key(place, markersize=8, **_mark(place)) for place in (BEST, RIVAL, "other")]
    fig = _titled(swept, height_in=1.0 + 0.3 * len(shown), handles=marks, more=left_out)
    ax = fig.subplots()
    for at, row in enumerate(shown.to_dict("records")):
        look = _mark(str(row["place"]))
        ax.hlines(at, row["low"], row["high"], color=look["color"], linewidth=2.2)
        ax.plot(row["at"], at, markersize=7, **look)
    arm_rows(ax, names)
    ax.tick_params(labelsize=SMALL_PT)
    ax.set_xlim(left=0)
    ax.set_xlabel(_unit(swept))
    return fig


def _mark(place: str) -> dict[str, Any]:
    if place == BEST:
        return {"color": MARK_COLOUR, "marker": "D", "linestyle": ""}
    face = "white" if place == RIVAL else _INK
    return {"color": _INK, "marker": "o", "linestyle": "", "markerfacecolor": face}


def _titled(swept: Swept, *, height_in: float, handles: list[Artist], more: str = "") -> Figure:
    what = "Throughput" if swept.metric is best_arm.RATES else "Median latency"
    return page(
        f"{what} of each setting, {users(swept.load)}",
        "Geometric mean over blocks, with its 95 % interval.",
        f"Each interval is of one setting alone; comparing settings within blocks is more precise.{more}",
        height_in=height_in,
        handles=handles,
    )


def _look(number: int) -> dict[str, Any]:
    return dict(_LOOKS[number % len(_LOOKS)])


def _unit(swept: Swept) -> str:
    return "requests/s" if swept.metric is best_arm.RATES else "ms"


def _in_order(values: pd.Series[Any]) -> list[Any]:
    """Numbers by size, anything else in order of appearance."""
    found = list(dict.fromkeys(values))
    numbers = [one for one in found if isinstance(one, int | float) and not math.isnan(one)]
    return sorted(found) if len(numbers) == len(found) else found
