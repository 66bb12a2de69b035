"""The claims in one chart: the published ratio, the measured one with its interval, and the bounds.

A diamond is published, a square is measured, and the grey band is where the claim would be confirmed.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from harness.analysis import stats
from harness.numbers import MISSING, ratio
from harness.report.charts.page import foot_in, key, label, log_axis, page, positive, without_chart
from harness.report.charts.style import GREY, INK, MARK_COLOUR, SMALL_PT, TEXT_PT
from harness.verdicts import claims

_BAND = "#E4E4E4"
_BAND_EDGE = "#8C8C8C"
_HOLLOW = {"markerfacecolor": "white", "markeredgecolor": MARK_COLOUR, "markeredgewidth": 1.8}
_PUBLISHED: dict[str, Any] = {"marker": "D", "linestyle": "", "markersize": 7, **_HOLLOW}
_VERDICT_INK = {claims.CONFIRMED: "#1B6E3A", claims.REFUTED: "#A3200D"}

_LABEL_CHARS, _TEXT_CHARS = 44, 108  # of a check's name, and of a claim's words
_LINE_IN, _GAP_IN = 0.18, 0.13
_APART_IN = 0.085  # published is above the row's middle, measured below: they often coincide
_ABOVE_IN, _BELOW_IN = 0.3, 0.55  # of the rows: ticks and headings; ticks and the axis's name
_LEFT, _RIGHT = 0.36, 0.735  # the ends of the axis, as shares of the page's width


class _Row(NamedTuple):
    """One row of the chart: a claim's text, or one of its checks."""

    lines: list[str]
    check: dict[Any, Any] | None  # None: a claim
    verdict: str

    @property
    def height_in(self) -> float:
        shown = max(len(self.lines), 2) if self.check is not None else len(self.lines)
        return shown * _LINE_IN + _GAP_IN


def draw(evaluated: pd.DataFrame) -> Figure:
    """The forest chart of `claims.evaluate`: one row a check, under its claim, on one log scale.

    The check is on the left. The axis shows the published ratio, the measured one with its interval, and a
    band between the bounds. The figures and the verdict are on the right. A check that does not decide is
    lighter, with its verdict in brackets. A check that was not measured still has its band and its published
    ratio.
    """
    if evaluated.empty:
        return without_chart("No claims to judge.")
    rows = list(_rows(evaluated))
    height = sum(row.height_in for row in rows)
    fig = page(
        "The article's claims: published and measured",
        "Confirmed: the whole interval is inside the band. Refuted: the whole interval is outside.\n"
        "A check with its verdict in brackets is shown for context; it does not decide the claim.",
        _caption(evaluated),
        height_in=height + _ABOVE_IN + _BELOW_IN,
        handles=[
            key("published", **_PUBLISHED),
            key("measured, with interval", linewidth=2.2, **_measured_style(INK)),
            Patch(facecolor=_BAND, edgecolor=_BAND_EDGE, linewidth=0.8, label="claim holds"),
        ],
    )
    fig.set_layout_engine("none")
    ax = _axis(fig, evaluated, height)
    at = 0.0
    for place, heading, side in ((_RIGHT + 0.015, "measured", "left"), (0.985, "verdict", "right")):
        _write(ax, place, -0.16, heading, color=GREY, ha=side)
    for row in rows:
        if row.check is None:
            _draw_claim(ax, row, at)
        else:
            _draw_check(ax, row, row.check, at)
        at += row.height_in
    return fig


def _rows(evaluated: pd.DataFrame) -> Iterable[_Row]:
    together = claims.verdicts(evaluated).set_index("claim")["verdict"]
    for claim, checks in evaluated.groupby("claim", sort=False):
        words = f"{claim}  {checks['text'].iloc[0]}"
        yield _Row(textwrap.wrap(words, _TEXT_CHARS), None, str(together[claim]))
        for check in checks.to_dict("records"):
            yield _Row(textwrap.wrap(str(check["check"]), _LABEL_CHARS), check, str(check["verdict"]))


def _caption(evaluated: pd.DataFrame) -> str:
    blocks = evaluated.loc[evaluated["blocks"] > 0, "blocks"]
    if blocks.empty:
        return "Nothing was measured for these claims."
    fewest, most = blocks.min(), blocks.max()
    over = f"{most}" if fewest == most else f"{fewest} to {most}"
    words = f"95 % intervals over {over} blocks"
    if (evaluated["level"] > stats.LEVEL).any():
        words += "; wider for a check that any one of several comparisons can refute"
    return f"{words}."


def _measured_style(ink: str) -> dict[str, Any]:
    return {"color": ink, "marker": "s", "markersize": 6.5, "markeredgewidth": 0}


def _axis(fig: Figure, evaluated: pd.DataFrame, height: float) -> Axes:
    """The axis; y counts inches from the top, so that a row is as high as its text."""
    page = fig.get_size_inches()[1]
    foot = foot_in(fig.texts[-1].get_text()) + _BELOW_IN  # the caption comes last
    ax = fig.add_axes((_LEFT, foot / page, _RIGHT - _LEFT, height / page))
    names = ["published", "measured", "low", "high", "at_least", "at_most"]
    ratios = positive(evaluated[names].to_numpy(dtype=float).ravel())
    log_axis(ax, "x", np.append(ratios, 1.0))
    ax.set_ylim(height, 0)
    ax.set_yticks([])
    ax.spines[["left", "right"]].set_visible(False)
    ax.tick_params(labelsize=SMALL_PT, top=True, labeltop=True)
    ax.set_axisbelow(True)
    ax.xaxis.grid(True, color="#EEEEEE", linewidth=0.8)
    ax.axvline(1, color=_BAND_EDGE, linewidth=1.0, zorder=1)
    ax.set_xlabel("ratio (log scale)", fontsize=TEXT_PT)
    return ax


def _draw_claim(ax: Axes, row: _Row, at: float) -> None:
    """The claim's text over the whole width, on white, with a rule above it."""
    ax.axhspan(at, at + row.height_in, facecolor="white", edgecolor="none", zorder=1.5)
    if at > 0:
        ends = [_across(0.015), _across(0.985)]
        ax.plot(
            ends, [at] * 2, transform=ax.get_yaxis_transform(), color="#BBBBBB", linewidth=0.8, clip_on=False
        )
    _write(ax, 0.015, at + row.height_in / 2 + 0.03, "\n".join(row.lines), fontweight="bold")


def _draw_check(ax: Axes, row: _Row, check: dict[Any, Any], at: float) -> None:
    ink = INK if check["decides"] else "#6F8796"
    middle = at + row.height_in / 2
    _draw_band(ax, check, at + 0.04, row.height_in - 0.08)
    if math.isfinite(check["published"]):
        ax.plot(check["published"], middle - _APART_IN, zorder=4, **_PUBLISHED)
    if math.isfinite(check["measured"]):
        _draw_measured(ax, check, middle + _APART_IN, ink)
    _write(ax, 0.035, middle, "\n".join(row.lines), color="black" if check["decides"] else GREY)
    _write_verdict(ax, row, check, middle)


def _draw_measured(ax: Axes, check: dict[Any, Any], at: float, ink: str) -> None:
    ends = [check["low"], check["high"]]
    ax.plot(ends, [at] * 2, color=ink, linewidth=2.2, zorder=5)
    ax.plot(ends, [at] * 2, "|", color=ink, markersize=8, markeredgewidth=1.6, zorder=5)
    ax.plot(check["measured"], at, zorder=6, **_measured_style(ink))


def _draw_band(ax: Axes, check: dict[Any, Any], top: float, height: float) -> None:
    """The band between the bounds, up to the axis's end on an open side; an edge marks each bound."""
    left, right = ax.get_xlim()
    bounds = [check["at_least"], check["at_most"]]
    begin, end = (
        edge if math.isnan(bound) else bound for bound, edge in zip(bounds, (left, right), strict=True)
    )
    ax.add_patch(Rectangle((begin, top), end - begin, height, facecolor=_BAND, edgecolor="none", zorder=2))
    for bound in bounds:
        if not math.isnan(bound):
            ax.plot([bound] * 2, [top, top + height], color=_BAND_EDGE, linewidth=1.4, zorder=3)


def _write_verdict(ax: Axes, row: _Row, check: dict[Any, Any], middle: float) -> None:
    decides = bool(check["decides"])
    verdict = row.verdict if decides else f"({row.verdict})"
    ink = _VERDICT_INK.get(row.verdict, "black") if decides else GREY
    figures = MISSING
    if math.isfinite(check["measured"]):
        known = math.isfinite(check["low"] + check["high"])
        ends = f"\n{ratio(check['low'])} to {ratio(check['high'])}" if known else ""
        figures = f"{ratio(check['measured'])}{ends}"
    _write(ax, _RIGHT + 0.015, middle, figures, color="black" if decides else GREY)
    _write(ax, 0.985, middle, verdict, color=ink, fontweight="bold" if decides else "normal", ha="right")


def _write(ax: Axes, page_x: float, y: float, text: str, **style: Any) -> None:
    """Write `text` at a place of the page's width and a height of the axis."""
    style = {"fontsize": SMALL_PT, "va": "center", "linespacing": 1.15, "zorder": 7, **style}
    ax.text(
        _across(page_x),
        y,
        "\n".join(label(line, _TEXT_CHARS) for line in text.split("\n")),
        transform=ax.get_yaxis_transform(),
        clip_on=False,
        **style,
    )


def _across(page_x: float) -> float:
    """A place of the page's width, in widths of the axis from its left end."""
    return (page_x - _LEFT) / (_RIGHT - _LEFT)
