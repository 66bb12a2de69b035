"""The page that a chart is drawn on: its texts at fixed places, its panels and their axes."""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from harness.analysis.arrays import Floats
from harness.report.charts.style import GREY, SMALL_PT, TEXT_PT
from harness.system.printable import one_line

LONGEST_LABEL, _LONGEST_TITLE, _LONGEST_CAPTION = 60, 90, 1200  # characters
_WIDTH_IN = 10.0
_HIGHEST_IN = 500.0  # matplotlib draws no picture higher than 65,535 pixels
_TITLE_PT = 16.0


def label(text: str, longest: int = LONGEST_LABEL) -> str:
    """A text from outside on one line, without hidden characters; a long one is cut in the middle."""
    text = one_line(text)
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}…{text[half + 1 - longest :]}"


class Page(Figure):
    """A figure that shows its texts as they are, without mathtext and TeX; a missing sign becomes a box.

    Labels that leave no room for the axes are drawn over them.
    """

    def draw(self, renderer: Any) -> None:
        """Called for every way to save or show the figure; tick labels exist only from here on."""
        for text in self.findobj(Text):
            text.set_parse_math(False)
            text.set_usetex(False)
        plain = matplotlib.rc_context({"text.parse_math": False, "text.usetex": False})
        with plain, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from|constrained_layout not", UserWarning)
            super().draw(renderer)


def page(
    title: str, subtitle: str, caption: str, *, height_in: float, handles: Sequence[Artist] = ()
) -> Figure:
    """A figure with its texts at fixed places; its panels share `height_in`."""
    caption = textwrap.fill(label(caption.strip(), _LONGEST_CAPTION), 120)
    above = 0.5 + 0.22 * (subtitle.count("\n") + 1) + (0.42 if handles else 0.1)
    below = foot_in(caption)
    height_in = min(height_in, _HIGHEST_IN)
    height = height_in + above + below
    fig = Page(figsize=(_WIDTH_IN, height), facecolor="white")
    fig.set_layout_engine(
        "constrained", rect=(0.008, below / height, 0.984, height_in / height), h_pad=0.06, w_pad=0.08
    )
    title = label(title, _LONGEST_TITLE)
    fig.text(0.015, 1 - 0.12 / height, title, va="top", fontsize=_TITLE_PT, fontweight="bold")
    fig.text(0.015, 1 - 0.47 / height, subtitle, va="top", fontsize=TEXT_PT - 1, color=GREY)
    fig.text(0.015, 0.1 / height, caption, va="bottom", fontsize=SMALL_PT, color=GREY)
    if handles:
        fig.legend(
            handles=list(handles),
            loc="upper left",
            bbox_to_anchor=(0.008, 1 - (above - 0.4) / height),
            ncols=len(handles),
            frameon=False,
            fontsize=TEXT_PT,
            handlelength=1.8,
            columnspacing=1.4,
            borderaxespad=0,
        )
    return fig


def foot_in(caption: str) -> float:
    """The height of the page's foot for a caption already broken into lines."""
    return 0.2 + 0.17 * (caption.count("\n") + 1)


def without_chart(why: str) -> Figure:
    """A page that says why there is no chart."""
    fig = Page(figsize=(_WIDTH_IN, 1.6), facecolor="white")
    fig.text(0.5, 0.5, why, ha="center", va="center", fontsize=TEXT_PT)
    return fig


def key(name: str, **style: Any) -> Line2D:
    """A legend entry for a line or a mark."""
    return Line2D([], [], label=name, **style)


def rows_of(panels: int) -> int:
    """Number of rows of panels, with two panels in a row."""
    return math.ceil(panels / 2)


def panels_of(fig: Figure, panels: int, **shared: Any) -> list[Axes]:
    """Panels, two in a row; `shared` is passed to `subplots`."""
    axes: list[Axes] = list(fig.subplots(rows_of(panels), min(2, panels), squeeze=False, **shared).flat)
    for unused in axes[panels:]:
        unused.set_visible(False)
    return axes[:panels]


def name_panel(ax: Axes, name: str, aside: str = "") -> None:
    """Write `name` above the panel on the left, `aside` on the right."""
    ax.set_title(label(name), loc="left", fontsize=TEXT_PT, fontweight="bold")
    ax.set_title(aside, loc="right", fontsize=SMALL_PT, color=GREY)


def tidy(ax: Axes, grid: Literal["x", "y"]) -> None:
    """Give the axes the look of all charts: no box, a pale grid along one axis, texts of one size."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=TEXT_PT)
    ax.xaxis.label.set_fontsize(TEXT_PT)
    ax.yaxis.label.set_fontsize(TEXT_PT)
    ax.set_axisbelow(True)
    (ax.xaxis if grid == "x" else ax.yaxis).grid(True, color="#DDDDDD", linewidth=0.8)


def arm_rows(ax: Axes, arms: list[str]) -> None:
    """Label a row for each arm, the first at the top."""
    ax.set_yticks(range(len(arms)), [label(arm) for arm in arms])
    ax.set_ylim(len(arms) - 0.45, -0.55)
    tidy(ax, grid="x")
    ax.tick_params(axis="y", length=0)


def log_axis(ax: Axes, which: Literal["x", "y"], values: Floats) -> None:
    """Set a log scale around `values`, with ticks at round numbers, written in full."""
    low, high = (values.min() / 1.3, values.max() * 1.3) if len(values) else (1.0, 10.0)
    decades = math.log10(high / low)
    steps = (1, 2, 3, 4, 5, 6, 7, 8) if decades < 0.9 else (1, 2, 5) if decades < 3 else (1,)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ax.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_major_locator(FixedLocator([step * 10.0**exponent for exponent in exponents for step in steps]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_locator(NullLocator())


def positive(values: npt.ArrayLike) -> Floats:
    """The values that a log axis can show."""
    numbers: Floats = np.asarray(values, dtype=np.float64)
    return numbers[np.isfinite(numbers) & (numbers > 0)]
