"""How long the awaited I/O took, by arm."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from harness.analysis import nominal
from harness.analysis.arrays import Floats
from harness.analysis.nominal import Source
from harness.analysis.percentiles import FEWEST_REQUESTS
from harness.analysis.rows import Requests, column
from harness.numbers import milliseconds
from harness.report.charts.page import arm_rows, key, log_axis, page, positive, without_chart
from harness.report.charts.rows import Shown, load_words
from harness.report.charts.style import GREY, MARK_COLOUR, TEXT_PT

_MAX_DOTS = 120  # per arm: evenly spaced quantiles, including the smallest and the largest
_DOTS_COLOUR = "#56B4E9"

_NOMINAL = {
    Source.MEASURED: "the arm's own median at c = 1",
    Source.ASKED: "the I/O that was asked for",
    Source.UNKNOWN: "unknown, because c = 1 was not run",
}


def draw(requests: Requests) -> Figure:
    """How long the awaited I/O took, by arm, at the highest concurrency; log scale.

    A row is an arm: dots are evenly spaced quantiles, the box is p25 to p75 with the median, the line p5 to
    p95 (from 64 requests on). Nominal is the arm's own median at concurrency 1, else the I/O that was asked
    for.
    """
    shown = Shown(requests)
    load = shown.heaviest if shown.loads else ""
    arms = shown.arms([load])
    values = [positive(column(shown.rows(arm, load, ["io_ms"]), "io_ms")) for arm in arms]
    if not any(map(len, values)):
        return without_chart("No I/O chart: no answer reports how long its I/O took.")
    alone = [nominal.of_rows(shown.of_arm(arm, ["concurrency", "io_nominal_ms", "io_ms"])) for arm in arms]
    sources = {arm: one.source for arm, io_ms, one in zip(arms, values, alone, strict=True) if len(io_ms)}
    fig = page(
        f"Duration of the awaited I/O, {load_words(load)}",
        "Dots are evenly spaced quantiles of the requests, from the smallest to the largest.",
        f"{_nominal_words(sources)} {shown.left_out([load])}",
        height_in=1.0 + 0.62 * len(arms),
        handles=[
            key("nominal", color=MARK_COLOUR, linewidth=2.4),
            key("requests", color=_DOTS_COLOUR, marker="o", linestyle="", markersize=5),
            key("median", color="black", linewidth=3),
            Patch(facecolor="#D5D5D5", edgecolor="black", label="p25 to p75"),
            key("p5 to p95", color="black", linewidth=1.6),
        ],
    )
    ax = fig.subplots()
    log_axis(ax, "x", np.concatenate([*values, positive([one.ms for one in alone])]))
    for row, (io_ms, one) in enumerate(zip(values, alone, strict=True)):
        _draw_distribution(ax, row, io_ms, one.ms)
    arm_rows(ax, arms)
    ax.set_xlabel("I/O as the route sees it (ms, log scale)")
    return fig


def _nominal_words(sources: dict[str, Source]) -> str:
    by_source = {source: [arm for arm, own in sources.items() if own is source] for source in _NOMINAL}
    known = {_NOMINAL[source]: arms for source, arms in by_source.items() if arms}
    if len(known) == 1:
        return f"Nominal: {next(iter(known))}."
    each = [f"{words} ({', '.join(arms)})" for words, arms in known.items()]
    return f"Nominal: {'; '.join(each)}."


def _draw_distribution(ax: Axes, row: int, io_ms: Floats, nominal_ms: float) -> None:
    at_right: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": TEXT_PT}
    if not len(io_ms):
        ax.text(1.015, row, "no server timings", color=GREY, **at_right)
        return
    if nominal_ms > 0:
        ax.plot([nominal_ms] * 2, [row - 0.42, row + 0.42], color=MARK_COLOUR, linewidth=2.4, zorder=4)
    dots = np.quantile(io_ms, np.linspace(0, 1, min(len(io_ms), _MAX_DOTS)))
    jitter = np.modf(np.arange(len(dots)) * 0.618)[0] * 0.24  # golden ratio: even, and the same every time
    ax.plot(dots, row + 0.12 + jitter, "o", color=_DOTS_COLOUR, markersize=3.2, markeredgewidth=0, zorder=2)
    p5, p25, p50, p75, p95 = np.quantile(io_ms, [0.05, 0.25, 0.5, 0.75, 0.95])
    text = f"median {milliseconds(p50)}"
    if len(io_ms) >= FEWEST_REQUESTS[95]:
        ax.plot([p5, p95], [row - 0.12] * 2, color="black", linewidth=1.6, zorder=3)
        text += f", p95 {milliseconds(p95)}"
    ax.barh(row - 0.12, p75 - p25, left=p25, height=0.3, color="#D5D5D5", edgecolor="black", zorder=3)
    ax.plot([p50] * 2, [row - 0.27, row + 0.03], color="black", linewidth=3, zorder=5)
    ax.text(1.015, row, f"{text} ms", **at_right)
