"""How the panels of a page are drawn: as wide as a phone, so that they can stand side by side on a desk."""

from __future__ import annotations

import functools
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from harness.analysis.arrays import Floats
from harness.report.charts.page import Page, label, positive, tidy
from harness.report.charts.style import SMALL_PT, TEXT_PT, Stretch, look
from harness.report.page import svg
from harness.report.page.parts import Key

# 324 points: on a phone of 360 px, 336 px wide, so that no text is smaller than 10 px
WIDTH_IN = 4.5
ROW_IN = 0.46  # of a row with its name above its mark
NAME_AT, MARK_AT = -0.22, 0.16  # of a row: nearer to each other than to the next row
BAR_ROWS = 0.26  # the height of a bar
LONGEST_NAME = 48  # characters of a line above a row; a longer name takes two
_FOOT_IN = 0.5  # below the axes: ticks and the name of the axis
_SIDES_IN = (0.72, 0.12)  # beside the axes: ticks and the name of the axis on the left
_MOST_TICKS = 6

# Eight colours that people with any kind of colour vision can tell apart by lightness or hue, each ≥ 3 : 1 on
# white; the page has lighter ones for dark screens. The marker tells arms apart without any colour.
PALETTE = ("#0072b2", "#c44e00", "#007a5a", "#9c3f80", "#7a5c00", "#3c3c3c", "#1c8fc0", "#b0203a")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h", "*")
_COLOURS = svg.COLOURS | {colour: f"arm-{number}" for number, colour in enumerate(PALETTE, 1)}


_PLAIN = FuncFormatter(lambda value, _: f"{value:,.10g}")


class Look(NamedTuple):
    """An arm's colour and marker, the same in every picture of a page."""

    colour: str
    marker: str

    @property
    def dot(self) -> dict[str, Any]:
        return {"color": self.colour, "marker": self.marker, "markersize": 7.0, "markeredgewidth": 0.0}


def looks(arms: Sequence[str]) -> dict[str, Look]:
    """A look for each arm. Colours repeat after eight arms, markers after eleven: 88 arms differ."""
    return {
        arm: Look(PALETTE[number % len(PALETTE)], _MARKERS[number % len(_MARKERS)])
        for number, arm in enumerate(arms)
    }


def markup(figure: Figure, name: str) -> str:
    """The figure as <svg>, with the page's colours."""
    return svg.inline(figure, name, colours=_COLOURS)


def figure(height_in: float) -> tuple[Figure, Axes]:
    """A panel of the page's width, with one pair of axes."""
    fig = Page(figsize=(WIDTH_IN, height_in))
    left, right = _SIDES_IN
    ends = {"top": 1 - 0.06 / height_in, "bottom": _FOOT_IN / height_in}
    fig.subplots_adjust(left=left / WIDTH_IN, right=1 - right / WIDTH_IN, **ends)
    return fig, fig.subplots()


def rows_figure(names: Sequence[str], axis: str, row_in: float = ROW_IN) -> tuple[Figure, Axes]:
    """A panel with a row for each name, the first at the top; the mark of row i belongs at i + MARK_AT."""
    shown = [textwrap.fill(label(name, 2 * LONGEST_NAME - 4), LONGEST_NAME) for name in names]
    is_high = any("\n" in name for name in shown)
    fig, ax = figure(len(names) * (1.4 * row_in if is_high else row_in) + _FOOT_IN)
    fig.subplots_adjust(left=0.12 / WIDTH_IN)  # no ticks
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_yticks([])
    for row, name in enumerate(shown):
        write(ax, 0.0, row + NAME_AT, name, linespacing=1.05)
    tidy(ax, grid="x")
    ax.spines["left"].set_visible(False)
    name_axes(ax, x=axis)
    return fig, ax


def write(ax: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Write beside a row: x as a share of the panel's width, y in rows."""
    backed = {"facecolor": "#ffffff", "edgecolor": "none", "pad": 0.8}
    style = {"fontsize": TEXT_PT - 1, "va": "center", "bbox": backed, "zorder": 9, **style}
    ax.text(x, y, text, transform=ax.get_yaxis_transform(), clip_on=False, **style)


def name_axes(ax: Axes, x: str = "", y: str = "") -> None:
    ax.tick_params(labelsize=SMALL_PT)
    ax.set_xlabel(x, fontsize=SMALL_PT + 0.5)
    ax.set_ylabel(y, fontsize=SMALL_PT + 0.5)


def span(ax: Axes, row: float, low: float, high: float, colour: str, width: float = 2.4) -> None:
    """An interval with its ends, in a row; nothing if it is not known. Infinite ends leave the panel."""
    if math.isnan(low) or math.isnan(high):
        return
    left, right = ax.get_xlim()
    ends = [left if low == -math.inf else low, right if high == math.inf else high]
    ax.plot(ends, [row, row], color=colour, linewidth=width, solid_capstyle="butt", zorder=4)
    ax.plot(ends, [row, row], "|", color=colour, markersize=9, markeredgewidth=1.6, zorder=4)


def ratio_axis(ax: Axes, values: Iterable[float]) -> None:
    """A log axis for ratios around 1, with ticks at ratios that people use."""
    known = positive([*values, 1.0])
    low, high = float(known.min()) / 1.06, float(known.max()) * 1.06
    low, high = min(low, 0.9), max(high, 1.1)
    ax.set(xscale="log", xlim=(low, high))
    steps = next(steps for least, steps in _RATIOS.items() if high / low >= least)
    _ticks(ax, "x", [tick for tick in steps if low <= tick <= high])
    ax.axvline(1.0, color="#555555", linewidth=1.2, zorder=1)


# how wide the axis is, as a ratio → its ticks
_RATIOS: dict[float, list[float]] = {
    50.0: [10.0**exponent for exponent in range(-9, 10)],
    6.0: [step * 10.0**exponent for exponent in range(-3, 3) for step in (1.0, 2.0, 5.0)],
    2.0: [0.2, 0.33, 0.5, 0.67, 1.0, 1.5, 2.0, 3.0, 5.0],
    1.4: [0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 1.75, 2.0],
    0.0: [0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.3],
}


def size_axis(ax: Axes, which: Literal["x", "y"], values: Floats) -> None:
    """An axis for sizes: from 0 if the values are alike, log if the largest is over eight times the least."""
    known = positive(values)
    if not len(known) or known.max() <= 8 * known.min():
        linear_axis(ax, which, 1.08 * float(known.max(initial=0.0)))
        return
    log_ticks(ax, which, float(known.min()) / 1.25, float(known.max()) * 1.25)


def linear_axis(ax: Axes, which: Literal["x", "y"], top: float) -> None:
    """An axis from 0 with a few round ticks."""
    ax.set(**{f"{which}lim": (0.0, top or 1.0)})
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(_PLAIN)


def log_ticks(
    ax: Axes, which: Literal["x", "y"], low: float, high: float, *, at: Sequence[float] = ()
) -> None:
    """A log axis with a few ticks: at these places if they are few, else at round numbers."""
    ax.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    if at and len(at) <= _MOST_TICKS:
        _ticks(ax, which, [*at])
        return
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [step * 10.0**exponent for exponent in exponents for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= _MOST_TICKS:
            break
    if len(ticks) < 2:  # a narrow range
        ticks = [tick for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high]
    _ticks(ax, which, ticks)


def _ticks(ax: Axes, which: Literal["x", "y"], ticks: list[float]) -> None:
    """At most `_MOST_TICKS`: every second, third, … of them, so that 1 stays if it is among them."""
    every = math.ceil(len(ticks) / _MOST_TICKS)
    first = ticks.index(1.0) % every if every and 1.0 in ticks else 0
    shown = ticks[first::every] if every else ticks
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_major_locator(FixedLocator(shown))
    axis.set_major_formatter(_PLAIN)
    axis.set_minor_locator(NullLocator())


def finite(values: Iterable[float]) -> Floats:
    known = np.asarray([*values], dtype=np.float64)
    return known[np.isfinite(known)]


# -- legends -------------------------------------------------------------------------------------------


def arm_keys(shown: Mapping[str, Look]) -> list[Key]:
    """A legend of arms."""
    return [Key(_mark(look.colour, marker=look.marker), name) for name, look in shown.items()]


def mark_key(name: str, colour: str, *, marker: str = "", line: float = 0.0, hollow: bool = False) -> Key:
    """A legend entry for a mark, a line of this width, or both."""
    return Key(_mark(colour, marker=marker, line=line, hollow=hollow), name)


def part_keys(picture: str, parts: Iterable[Stretch]) -> list[Key]:
    """A legend of the parts of a request. `picture` is its name, so that no two hatches have one id."""
    return [Key(_hatched(part).replace(_OWN, picture), part.label) for part in parts]


_OWN = "of-picture"  # in ids of a drawing that is made once for several pictures


def _mark(colour: str, *, marker: str = "", line: float = 1.8, hollow: bool = False) -> str:
    """A small drawing of a line with a mark on it, 40 by 20 points."""
    stroke = f"var(--{_COLOURS[colour]})"
    rule = f'<path d="M3 10H37" style="stroke: {stroke}; stroke-width: {line}"/>' if line else ""
    fill = f"fill: var(--paper); stroke: {stroke}; stroke-width: 1.8" if hollow else f"fill: {stroke}"
    shape = f'<path d="{_outline(marker)}" style="{fill}"/>' if marker else ""
    return f'<svg viewBox="0 0 40 20" aria-hidden="true">{rule}{shape}</svg>'


@functools.cache
def _outline(marker: str) -> str:
    """The outline of one of matplotlib's markers as an SVG path in the middle of a legend's mark."""
    style = MarkerStyle(marker)
    shape = style.get_path().transformed(style.get_transform())
    polygons = shape.to_polygons(width=0, height=0) or [shape.vertices]
    points = np.concatenate(polygons) * (7.0, -7.0) + (20.0, 10.0)
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + "Z"


@functools.cache
def _hatched(part: Stretch) -> str:
    fig = Page(figsize=(0.4, 0.2))
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.add_patch(Rectangle((0.08, 0.14), 0.84, 0.72, **look(part)))
    return markup(fig, f"{_OWN}-{part.column}")


def bar(ax: Axes, row: float, left: float, length: float, part: Stretch) -> None:
    """One part of a stacked bar."""
    ax.barh(row, length, left=left, height=BAR_ROWS, **(look(part) | {"label": None}))
