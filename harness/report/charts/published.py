"""The published figures and ours, table by table."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.analysis.arrays import Floats
from harness.numbers import milliseconds
from harness.report.charts.page import key, label, log_axis, name_panel, page, positive, tidy, without_chart
from harness.report.charts.style import GREY, INK, MARK_COLOUR, SMALL_PT, TEXT_PT

_DOTS: dict[str, Any] = {"color": MARK_COLOUR, "marker": "o", "linestyle": "", "markersize": 6.5}
_BAR: dict[str, Any] = {"color": INK, "marker": "s", "linestyle": "-", "linewidth": 2.2, "markersize": 9}


def draw(tables: pd.DataFrame) -> Figure:
    """The published figures next to ours, one place per published table; log scale.

    `tables` has `table, arm, load_text, concurrency`, lists `published_model_ms, published_io_ms`, and for
    `model` and `io` the measured `_p5_ms, _p50_ms, _p95_ms` (NaN: not measured). Published points are
    drawn in their order.
    """
    if tables.empty:
        return without_chart("No published figures to compare with.")
    fig = page(
        "Published and measured times, table by table",
        "Dots are in the order of publication, so that a staircase is visible.",
        "Model and io task are the article's names: Model = queue + worker + way back. "
        "The machines differ: compare shapes and ratios.",
        height_in=8.6,
        handles=[key("published", **_DOTS), key("measured: median, p5 to p95", **_BAR)],
    )
    panels = fig.subplots(2, 1, sharex=True)
    for panel, metric, title in zip(panels, ("model", "io"), ("Model", "io task"), strict=True):
        _draw_published(panel, tables, metric)
        name_panel(panel, title)
        panel.set_ylabel("ms (log scale)")
    names = [_table_name(row) for row in tables.to_dict("records")]
    panels[-1].set_xticks(range(len(names)), names, fontsize=TEXT_PT)
    return fig


def _draw_published(ax: Axes, tables: pd.DataFrame, metric: str) -> None:
    points = [np.array(figures, dtype=float) for figures in tables[f"published_{metric}_ms"]]
    measured = tables[[f"{metric}_p5_ms", f"{metric}_p50_ms", f"{metric}_p95_ms"]].to_numpy(float)
    log_axis(ax, "y", positive(np.concatenate([measured.ravel(), *points])))
    for place, (theirs, ours) in enumerate(zip(points, measured, strict=True)):
        offsets = (
            np.linspace(-0.36, 0.08, len(theirs)) if len(theirs) > 1 else np.array([-0.14] * len(theirs))
        )
        ax.plot(place + offsets, theirs, **_DOTS)
        _draw_ours(ax, place + 0.24, ours)
    for edge in np.arange(len(tables) - 1) + 0.5:
        ax.axvline(edge, color="#BBBBBB", linewidth=0.8)
    ax.set_xlim(-0.5, len(tables) - 0.5)
    tidy(ax, grid="y")


def _draw_ours(ax: Axes, at: float, ours: Floats) -> None:
    """Our p5, p50 and p95 at one place, or "not measured"."""
    low, middle, high = ours
    if not middle > 0:
        style: dict[str, Any] = {"transform": ax.get_xaxis_transform(), "ha": "center", "color": GREY}
        ax.text(at, 0.03, "not\nmeasured", fontsize=SMALL_PT, **style)
        return
    ax.plot([at, at], [low, high], color=INK, linewidth=_BAR["linewidth"])
    ax.plot(at, middle, **_BAR)
    ax.text(at + 0.06, middle, milliseconds(middle), va="center", fontsize=TEXT_PT)


def _table_name(row: dict[Any, Any]) -> str:
    lines = [str(row["table"])]
    for words in (row["arm"], f"article: {row['load_text']}", f"here: c = {row['concurrency']}"):
        lines += textwrap.wrap(words, 17)
    return "\n".join(label(line) for line in lines)
