"""How latency changes within a load: for a run of a single trial, which has no blocks to compare."""

from __future__ import annotations

import numpy as np
import pandas as pd

from harness.analysis.rows import Cells, in_parts, measured
from harness.analysis.summaries import LATENCY
from harness.numbers import cell, milliseconds, users
from harness.report.charts.page import tidy
from harness.report.page.context import Context
from harness.report.page.drawing import figure, finite, mark_key, markup, name_axes, size_axis
from harness.report.page.parts import Panel, Picture, Table

_HEIGHT_IN = 2.7
_BINS = 60
_MIDDLE, _SLOWEST = "#00324f", "#d55e00"


def picture(found: Context) -> Picture | None:
    """The median and the slowest good answer of each sixtieth of the window, over seconds."""
    bins = _bins(found)
    if len(bins) < 2:
        return None
    early, late = bins.iloc[: len(bins) // 4], bins.iloc[-len(bins) // 4 :]
    first, last = early["median_ms"].median(), late["median_ms"].median()
    return Picture(
        title=f"The median latency is {milliseconds(first)} ms in the first quarter of the load and "
        f"{milliseconds(last)} ms in the last",
        alt=f"Latency over {bins['second'].iloc[-1]:.0f} s at {users(found.load)}: medians of "
        f"{milliseconds(bins['median_ms'].min())} to {milliseconds(bins['median_ms'].max())} ms, "
        f"slowest answer {milliseconds(bins['slowest_ms'].max())} ms.",
        panels=[Panel(f"Latency over the load, {users(found.load)}", _panel(bins))],
        table=Table(
            ["second", "median, ms", "slowest, ms", "answers"],
            [
                [
                    f"{row['second']:.2f}",
                    cell(row["median_ms"]),
                    cell(row["slowest_ms"]),
                    str(int(row["answers"])),
                ]
                for row in bins.to_dict("records")
            ],
        ),
        keys=[mark_key("median", _MIDDLE, line=1.8), mark_key("slowest", _SLOWEST, line=1.0)],
        note="Good answers by when each was due, in equal parts of the window.",
    )


def _bins(found: Context) -> pd.DataFrame:
    """second, median_ms, slowest_ms and answers of each part of the window that has an answer."""
    rows = measured(Cells(found.rows).rows((found.arms[0], found.load), ["phase", "ok", "due_ms", LATENCY]))
    parts = [part[part["ok"]] for part in in_parts(rows, ["ok", "due_ms", LATENCY])]
    due = np.concatenate([part["due_ms"].to_numpy(float) for part in parts])
    latency = pd.Series(np.concatenate([part[LATENCY].to_numpy(float) for part in parts]))
    if not len(due) or due.max() == due.min():
        return pd.DataFrame()
    place = np.minimum((_BINS * (due - due.min()) / (due.max() - due.min())).astype(int), _BINS - 1)
    figures = latency.groupby(place).agg(["median", "max", "size"])
    seconds = (figures.index.to_numpy() + 0.5) * (due.max() - due.min()) / _BINS / 1e3
    return pd.DataFrame(
        {
            "second": seconds,
            "median_ms": figures["median"].to_numpy(),
            "slowest_ms": figures["max"].to_numpy(),
            "answers": figures["size"].to_numpy(),
        }
    )


def _panel(bins: pd.DataFrame) -> str:
    fig, ax = figure(_HEIGHT_IN)
    size_axis(ax, "y", finite([*bins["median_ms"], *bins["slowest_ms"]]))
    ax.plot(bins["second"], bins["slowest_ms"], color=_SLOWEST, linewidth=1.0)
    ax.plot(bins["second"], bins["median_ms"], color=_MIDDLE, linewidth=1.8)
    tidy(ax, grid="y")
    name_axes(ax, x="seconds since the window began", y="latency (ms)")
    return markup(fig, "one-trial")
