"""The mean time per request by where it is spent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.analysis.arrays import Floats
from harness.analysis.rows import Requests, column
from harness.numbers import milliseconds
from harness.report.charts.page import arm_rows, name_panel, page, panels_of, rows_of, without_chart
from harness.report.charts.rows import Shown, load_words, needed_for, with_timings
from harness.report.charts.style import SMALL_PT, STRETCHES, TEXT_PT, UNSPLIT, Stretch, look, patches


def draw(requests: Requests) -> Figure:
    """Stacked means of a request's parts: one panel per load (each on its own scale), one bar per arm.

    Means, because the parts of a mean add up and medians do not. The stack leaves out rows without server
    timings; if no row has them, the bar is the mean service time.
    """
    shown = Shown(requests)
    loads = shown.loads
    if not loads:
        return without_chart("No chart: no measured request got a good answer.")
    arms = shown.arms(loads)
    means = {load: [mean_parts(shown, arm, load) for arm in arms] for load in loads}
    drawn = {part.column for panel in means.values() for parts in panel for part in parts}
    fig = page(
        "Mean time per request, by where it is spent",
        "Means, because parts add up to a mean and not to a median; a bar ends at the mean service time.\n"
        "Each panel has its own scale.",
        shown.left_out(loads),
        height_in=rows_of(len(loads)) * (1.0 + 0.46 * len(arms)),
        handles=patches(part for part in (*STRETCHES, UNSPLIT) if part.column in drawn),
    )
    for panel, load in zip(panels_of(fig, len(loads), sharey=True), loads, strict=True):
        _draw_stack(panel, arms, means[load])
        name_panel(panel, load_words(load))
    return fig


def mean_parts(shown: Shown, arm: str, load: str) -> dict[Stretch, float]:
    """Mean ms of every part of one bar; empty if the arm did not run under this load."""
    rows = shown.rows(arm, load, [*needed_for(STRETCHES), UNSPLIT.column])
    complete = with_timings(rows, STRETCHES)
    if not len(complete):
        return {}
    if not complete.any():
        return {UNSPLIT: float(pd.Series(column(rows, UNSPLIT.column)).mean())}
    return {part: float(pd.Series(column(rows, part.column)[complete]).mean()) for part in STRETCHES}


def _draw_stack(ax: Axes, arms: list[str], means: list[dict[Stretch, float]]) -> None:
    widest = max(sum(parts.values()) for parts in means)
    done = np.zeros(len(arms))
    for part in (*STRETCHES, UNSPLIT):
        rows = [row for row, parts in enumerate(means) if part in parts]
        lengths = np.array([means[row][part] for row in rows])
        if rows:
            ax.barh(rows, lengths, left=done[rows], height=0.68, **look(part))
            _write_in_bars(ax, part, rows, done[rows], lengths, widest)
            done[rows] += lengths
    for row, total in enumerate(done):
        text, weight = (f" {milliseconds(total)}", "bold") if means[row] else (" not measured", "normal")
        ax.text(total, row, text, va="center", fontsize=TEXT_PT, fontweight=weight)
    arm_rows(ax, arms)
    ax.set_xlim(0, widest * 1.16)
    ax.set_xlabel("mean time per request (ms)")


def _write_in_bars(
    ax: Axes, part: Stretch, rows: list[int], begins: Floats, lengths: Floats, widest: float
) -> None:
    """Write each length into its bar if there is room."""
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": SMALL_PT}
    style["color"] = "black" if part.hatch else "white"
    style["bbox"] = {"facecolor": part.colour, "edgecolor": "none", "pad": 1.5}
    for row, begin, length in zip(rows, begins, lengths, strict=True):
        text = milliseconds(length)
        if length > 0.027 * len(text) * widest:
            ax.text(begin + length / 2, row, text, **style)
