"""Pictures of a run. Pure: a DataFrame goes in, a matplotlib `Figure` comes out; nothing is saved here.

`derived` is the frame of `analysis.derive`: one row a request, durations in ms. Only good requests of the
measured window are drawn, and a caption counts the failed ones. Arms stand in the order of the `arm` column's
categories if it is categorical, of first appearance otherwise. Every figure is made with matplotlib's
object interface and explicit sizes: no pyplot, no change of rcParams. What carries meaning differs in
lightness (and in hatch where it has an area), so it survives grey printing.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from harness.analysis import nominal
from harness.analysis.percentiles import FEWEST_REQUESTS
from harness.report.charts.literal_page import Page, label
from harness.wire.records import MEASURE

Floats = npt.NDArray[np.float64]


class Stretch(NamedTuple):
    """One part of a request's time, and how it looks wherever it is drawn."""

    column: str
    label: str
    colour: str
    hatch: str
    ink: str  # colour of the hatch lines


# In the order in which a request lives through them, but for the last, which surrounds the others.
# The first three make up the article's "Model".
STRETCHES = (
    Stretch("queue_ms", "queue", "#DCEEF9", "///", "#7FA8C2"),
    Stretch("model_ms", "model", "#005A91", "", "#FFFFFF"),
    Stretch("resume_ms", "way back", "#111111", "", "#FFFFFF"),
    Stretch("io_ms", "I/O", "#E69F00", "\\\\\\", "#FFDE9C"),
    Stretch("outside_ms", "outside", "#FFFFFF", "xxx", "#8C8C8C"),
)
UNSPLIT = Stretch("service_ms", "sent to answered, not split", "#A8A8A8", "|||", "#707070")
_ON_SERVER = STRETCHES[:4]

_MAX_BARS = 64  # of one arm in the time-line; more are thinner than a printed line
_MAX_BARS_IN_ALL = 360  # of all arms together, which keeps the SVG below 300 kB
_HATCHED_BARS = 24  # of one arm; a longer burst's are thin: no gaps, no hatch, lightness alone
_MAX_DOTS = 120  # of one arm in the I/O distribution: evenly spaced quantiles, the extremes included

_LONGEST_TITLE, _LONGEST_CAPTION = 90, 1200  # characters
_WIDTH_IN = 10.0
_HIGHEST_IN = 500.0  # matplotlib draws no picture higher than 65,535 pixels
_TITLE_PT, _TEXT_PT, _SMALL_PT = 16.0, 12.0, 10.0
_GREY = "#555555"
_DOTS_COLOUR = "#56B4E9"
_MARK_COLOUR = "#D55E00"


# --- the four pictures -----------------------------------------------------------------------------------


def timeline(derived: pd.DataFrame) -> Figure:
    """One burst of consecutive requests per arm, at the highest concurrency, at real server times.

    A row is a request: 2c of them by server entry (64 at most, 45 with eight arms), from the trial whose
    median latency is nearest the arm's. x counts ms from the burst's first entry, on one scale for all arms.
    The thin line behind a bar runs from sent to answered at the client; an arm without server timings shows
    that span only.
    """
    good = _at_highest_concurrency(_good(derived))
    if good.empty:
        return _sorry("No time-line: no good measured request.")
    arms = _arms(good)
    if len(arms) > _MAX_BARS_IN_ALL:
        return _sorry("No time-line: more arms than a page has room for.")
    size = min(_burst_size(good), _MAX_BARS_IN_ALL // len(arms))
    bursts = {arm: _burst(good[good["arm"] == arm], size) for arm in arms}
    split = [_is_split(burst, _ON_SERVER) for burst in bursts.values()]
    handles = _patches(_legend_of(_ON_SERVER, split))
    if any(split):
        handles.append(Line2D([], [], color=_GREY, linewidth=1.2, label="sent to answered"))
    burst_in = min(0.12 * size, 2.6, 14 / len(arms))
    fig = _page(
        f"Where requests spend their time, {_load_words(good)}",
        "One burst per arm. A row is a request, in order of entry; parts stand at their time on the server.",
        f"Trial: the one whose median latency is nearest the arm's. {_left_out(derived, good)}",
        height_in=len(arms) * (0.5 + burst_in) + 0.5,
        handles=handles,
    )
    panels = fig.subplots(len(arms), 1, sharex=True, squeeze=False)[:, 0]
    for panel, (arm, burst) in zip(panels, bursts.items(), strict=True):
        _draw_burst(panel, burst)
        _name_panel(panel, arm)
        panel.set_title(f"trial {burst['trial'].iloc[0]}", loc="right", fontsize=_SMALL_PT, color=_GREY)
    panels[-1].set_xlabel("time since the burst's first entry (ms)", fontsize=_TEXT_PT)
    return fig


def split(derived: pd.DataFrame) -> Figure:
    """Mean of every stretch, stacked: one panel per load (each on its own scale), one bar per arm.

    Means, because the parts of a mean add up and medians do not. Rows without server timings are left
    out of the stack; where no row has them, the bar is the mean from sent to answered.
    """
    good = _good(derived)
    if good.empty:
        return _sorry("No split: no good measured request.")
    arms, loads = _arms(good), _loads(good)
    means = {load: [_mean_parts(good, arm, load) for arm in arms] for load in loads}
    columns = min(2, len(loads))
    rows = math.ceil(len(loads) / columns)
    drawn = {part.column for panel in means.values() for parts in panel for part in parts}
    fig = _page(
        "Mean time per request, by where it is spent",
        "Means, because they add up and medians do not; a bar's end is the whole, sent to answered.\n"
        "Every panel has its own scale.",
        _left_out(derived, good),
        height_in=rows * (1.0 + 0.46 * len(arms)),
        handles=_patches(part for part in (*STRETCHES, UNSPLIT) if part.column in drawn),
    )
    panels = fig.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for panel, load in zip(panels, loads, strict=False):
        _draw_stack(panel, arms, means[load])
        _name_panel(panel, _load_words(good[good["load"] == load]))
    for unused in panels[len(loads) :]:
        unused.set_visible(False)
    return fig


def io_distribution(derived: pd.DataFrame) -> Figure:
    """How long the awaited I/O took, by arm, at the highest concurrency; log scale.

    A row is an arm: dots are evenly spaced quantiles, the box p25 to p75 with the median, the line p5 to p95
    (from 64 requests on). Nominal is the arm's own median at concurrency 1, else the I/O it was asked for.
    """
    everything = _good(derived)
    good = _at_highest_concurrency(everything)
    if not (good.get("io_ms", pd.Series(dtype=float)) > 0).any():
        return _sorry("No I/O latency: no good measured request tells how long its I/O took.")
    arms = _arms(good)
    values = [_positive(good.loc[good["arm"] == arm, "io_ms"]) for arm in arms]
    alone = [nominal.alone(everything[everything["arm"] == arm]) for arm in arms]
    told = {arm: one.source for arm, io_ms, one in zip(arms, values, alone, strict=True) if len(io_ms)}
    fig = _page(
        f"I/O latency by strategy, {_load_words(good)}",
        "Dots are evenly spaced quantiles, smallest and largest included.",
        f"{_nominal_words(told)} {_left_out(derived, good)}",
        height_in=1.0 + 0.62 * len(arms),
        handles=_distribution_legend(),
    )
    ax = fig.subplots()
    _log_axis(ax, "x", np.concatenate([*values, _positive([one.ms for one in alone])]))
    for row, (io_ms, one) in enumerate(zip(values, alone, strict=True)):
        _draw_distribution(ax, row, io_ms, one.ms)
    _arm_rows(ax, arms)
    ax.set_xlabel("I/O as the route sees it (ms, log scale)", fontsize=_TEXT_PT)
    return fig


def published(tables: pd.DataFrame) -> Figure:
    """Published figures against ours, one place per published table; log scale.

    `tables` has `table, arm, load_text, concurrency`, lists `published_model_ms, published_io_ms`, and for
    `model` and `io` the measured `_p5_ms, _p50_ms, _p95_ms` (NaN: not measured). Published points stand in
    their order.
    """
    if tables.empty:
        return _sorry("Nothing published to compare with.")
    dots, bar = _published_style()
    fig = _page(
        "Published and measured times, table by table",
        "Dots stand in the order in which they were published, so a staircase shows as one.",
        "Model is the article's figure: queue + model + way back. "
        "The machines differ: compare shapes and ratios.",
        height_in=8.6,
        handles=[
            Line2D([], [], label="published", **dots),
            Line2D([], [], label="measured: median, p5 to p95", **bar),
        ],
    )
    panels = fig.subplots(2, 1, sharex=True)
    for panel, metric, title in zip(panels, ("model", "io"), ("Model", "io task"), strict=True):
        _draw_published(panel, tables, metric)
        _name_panel(panel, title)
        panel.set_ylabel("ms (log scale)", fontsize=_TEXT_PT)
    names = [_table_name(row) for row in tables.to_dict("records")]
    panels[-1].set_xticks(range(len(names)), names, fontsize=_TEXT_PT)
    return fig


# --- choosing rows ---------------------------------------------------------------------------------------


def _good(derived: pd.DataFrame) -> pd.DataFrame:
    if derived.empty:
        return derived
    return derived[(derived["phase"] == MEASURE) & derived["ok"].astype(bool)]


def _closed(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows under a closed loop, or all of them when there is none: only there is concurrency a setting."""
    closed = rows[rows["load"].str.startswith("closed")]
    return rows if closed.empty else closed


def _at_highest_concurrency(rows: pd.DataFrame) -> pd.DataFrame:
    if rows.empty:
        return rows
    cells = rows[["load", "concurrency"]].drop_duplicates()
    return rows[rows["load"] == _loads(_closed(cells))[-1]]


def _loads(rows: pd.DataFrame) -> list[str]:
    """Loads by rising concurrency."""
    cells = rows[["load", "concurrency"]].drop_duplicates()
    return [str(load) for load in cells.sort_values("concurrency", kind="stable")["load"].unique()]


def _arms(rows: pd.DataFrame) -> list[str]:
    arm = rows["arm"]
    if isinstance(arm.dtype, pd.CategoricalDtype):
        arm = arm.cat.remove_unused_categories()
        return [str(name) for name in arm.cat.categories]
    return [str(name) for name in arm.unique()]


def _is_split(rows: pd.DataFrame, parts: Sequence[Stretch]) -> bool:
    needed = ["entered_ms", *(part.column for part in parts)]
    return bool(rows[needed].notna().all(axis=None)) and not rows.empty


def _with_timings(rows: pd.DataFrame, parts: Sequence[Stretch]) -> pd.DataFrame:
    """The rows that have all parts; all rows when none has."""
    complete = rows.dropna(subset=["entered_ms", *(part.column for part in parts)])
    return rows if complete.empty else complete


def _left_out(derived: pd.DataFrame, drawn: pd.DataFrame) -> str:
    here = (derived["phase"] == MEASURE) & derived["load"].isin(drawn["load"].unique())
    failed = int((here & ~derived["ok"].astype(bool)).sum())
    shown = set(drawn["arm"].unique())
    missing = [arm for arm in _arms(derived) if arm not in shown]
    said = f"{len(drawn):,} good measured requests; failed and left out: {failed:,}."
    return said + (f" Nothing to draw here for: {', '.join(missing)}." if missing else "")


def _load_words(rows: pd.DataFrame) -> str:
    load, concurrency = str(rows["load"].iloc[0]), rows["concurrency"].iloc[0]
    return f"closed loop, c = {concurrency:.0f}" if load.startswith("closed") else load


# --- time-line -------------------------------------------------------------------------------------------


def _burst_size(rows: pd.DataFrame) -> int:
    concurrency = rows["concurrency"].iloc[0]
    return min(_MAX_BARS, 2 * int(concurrency)) if concurrency >= 1 else 16


def _burst(rows: pd.DataFrame, size: int) -> pd.DataFrame:
    """`size` consecutive requests from the middle of a representative trial, by server entry.

    Near the middle it begins where the fewest earlier requests are still on the server, so that a burst
    of the inline strategy begins with the first step of its staircase.
    """
    rows = _with_timings(rows, _ON_SERVER)
    rows = rows[rows["trial"] == _representative_trial(rows)]
    begin, end = "sent_ms", rows["done_ms"]
    if _is_split(rows, _ON_SERVER):
        begin, end = "entered_ms", rows["entered_ms"] + _server_ms(rows)
    rows = rows.assign(_end_ms=end).sort_values(begin, kind="stable")
    latest = max(0, len(rows) - size)
    middle = latest // 2
    begins, ends = rows[begin].to_numpy(float), rows["_end_ms"].to_numpy(float)

    def untidiness(start: int) -> tuple[int, int]:
        return int((ends[:start] > begins[start]).sum()), abs(start - middle)

    start = min(range(max(0, middle - size), min(latest, middle + size) + 1), key=untidiness)
    return rows.iloc[start : start + size]


def _representative_trial(rows: pd.DataFrame) -> int:
    medians = rows.groupby("trial")["latency_ms"].median()
    return cast(int, (medians - rows["latency_ms"].median()).abs().idxmin())


def _server_ms(rows: pd.DataFrame) -> pd.Series[float]:
    return rows[[part.column for part in _ON_SERVER]].sum(axis=1)


def _spans(burst: pd.DataFrame) -> Iterator[tuple[Stretch, Floats, Floats]]:
    """Per stretch: begin of every request's, in ms since the burst's first entry, and its length."""
    if not _is_split(burst, _ON_SERVER):
        sent = burst["sent_ms"].to_numpy(float)
        yield UNSPLIT, sent - sent[0], burst[UNSPLIT.column].to_numpy(float)
        return
    begin = burst["entered_ms"].to_numpy(float)
    begin = begin - begin[0]
    for part in _ON_SERVER:
        length = burst[part.column].to_numpy(float)
        yield part, begin, length
        begin = begin + length


def _draw_burst(ax: Axes, burst: pd.DataFrame) -> None:
    at = np.arange(len(burst), dtype=float)
    thin = len(burst) > _HATCHED_BARS
    if _is_split(burst, _ON_SERVER):
        origin = burst["entered_ms"].iloc[0]
        there = np.stack([burst["sent_ms"], burst["done_ms"], np.full(len(burst), np.nan)], axis=1) - origin
        width = 0.4 if thin else 0.8
        ax.plot(there.ravel(), at.repeat(3), color=_GREY, linewidth=width, zorder=1)  # NaN lifts the pen
    for part, begin, length in _spans(burst):
        bars = ax.add_patch(_bars(part, at, begin, length, height=1.0 if thin else 0.8))
        if thin:
            bars.set(hatch=None, linewidth=0)
    ax.set_ylim(len(burst) - 0.3, -0.7)
    ax.set_yticks([])
    ax.autoscale_view(scaley=False)
    _tidy(ax, grid="x")
    ax.spines["left"].set_visible(False)


def _bars(part: Stretch, at: Floats, begin: Floats, length: Floats, height: float) -> PathPatch:
    """All bars of one stretch as a single path: hundreds of separate patches would swell the SVG."""
    left, right, low, high = begin, begin + length, at - height / 2, at + height / 2
    corners = np.array([[left, low], [right, low], [right, high], [left, high]])  # corner, x and y, bar
    path = Path.make_compound_path_from_polys(corners.transpose(2, 0, 1))
    return PathPatch(path, zorder=2, **_look(part))


# --- split -----------------------------------------------------------------------------------------------


def _mean_parts(good: pd.DataFrame, arm: str, load: str) -> dict[Stretch, float]:
    """Mean ms of every stretch of one bar; empty when the arm did not run under this load."""
    rows = _with_timings(good[(good["arm"] == arm) & (good["load"] == load)], STRETCHES)
    if rows.empty:
        return {}
    parts = STRETCHES if _is_split(rows, STRETCHES) else (UNSPLIT,)
    return {part: float(rows[part.column].mean()) for part in parts}


def _draw_stack(ax: Axes, arms: list[str], means: list[dict[Stretch, float]]) -> None:
    widest = max(sum(parts.values()) for parts in means)
    done = np.zeros(len(arms))
    for part in (*STRETCHES, UNSPLIT):
        rows = [row for row, parts in enumerate(means) if part in parts]
        lengths = np.array([means[row][part] for row in rows])
        if rows:
            ax.barh(rows, lengths, left=done[rows], height=0.68, **_look(part))
            _write_in_bars(ax, part, rows, done[rows], lengths, widest)
            done[rows] += lengths
    for row, total in enumerate(done):
        said, weight = (f" {_ms(total)}", "bold") if means[row] else (" not measured", "normal")
        ax.text(total, row, said, va="center", fontsize=_TEXT_PT, fontweight=weight)
    _arm_rows(ax, arms)
    ax.set_xlim(0, widest * 1.16)
    ax.set_xlabel("mean (ms)", fontsize=_TEXT_PT)


def _write_in_bars(
    ax: Axes, part: Stretch, rows: list[int], begins: Floats, lengths: Floats, widest: float
) -> None:
    """The length, where the bar has room for it."""
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": _SMALL_PT}
    style["color"] = "black" if part.hatch else "white"
    style["bbox"] = {"facecolor": part.colour, "edgecolor": "none", "pad": 1.5}
    for row, begin, length in zip(rows, begins, lengths, strict=True):
        said = _ms(length)
        if length > 0.027 * len(said) * widest:
            ax.text(begin + length / 2, row, said, **style)


# --- I/O distribution ------------------------------------------------------------------------------------


def _nominal_words(sources: dict[str, nominal.Source]) -> str:
    words = {
        nominal.Source.MEASURED: "the arm's own median at c = 1",
        nominal.Source.ASKED: "the I/O asked for",
        nominal.Source.UNKNOWN: "not known without c = 1",
    }
    by_source = {source: [arm for arm, own in sources.items() if own == source] for source in words}
    told = {words[source]: who for source, who in by_source.items() if who}
    if len(told) == 1:
        return f"Nominal: {next(iter(told))}."
    each = [f"{said} ({', '.join(who)})" for said, who in told.items()]
    return f"Nominal: {'; '.join(each)}."


def _draw_distribution(ax: Axes, row: int, io_ms: Floats, nominal_ms: float) -> None:
    beside: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": _TEXT_PT}
    if not len(io_ms):
        ax.text(1.015, row, "no server timings", color=_GREY, **beside)
        return
    if nominal_ms > 0:
        ax.plot([nominal_ms] * 2, [row - 0.42, row + 0.42], color=_MARK_COLOUR, linewidth=2.4, zorder=4)
    dots = np.quantile(io_ms, np.linspace(0, 1, min(len(io_ms), _MAX_DOTS)))
    jitter = np.modf(np.arange(len(dots)) * 0.618)[0] * 0.24  # golden ratio: even, and the same every time
    ax.plot(dots, row + 0.12 + jitter, "o", color=_DOTS_COLOUR, markersize=3.2, markeredgewidth=0, zorder=2)
    p5, p25, p50, p75, p95 = np.quantile(io_ms, [0.05, 0.25, 0.5, 0.75, 0.95])
    said = f"median {_ms(p50)}"
    if len(io_ms) >= FEWEST_REQUESTS[95]:
        ax.plot([p5, p95], [row - 0.12] * 2, color="black", linewidth=1.6, zorder=3)
        said += f", p95 {_ms(p95)}"
    ax.barh(row - 0.12, p75 - p25, left=p25, height=0.3, color="#D5D5D5", edgecolor="black", zorder=3)
    ax.plot([p50] * 2, [row - 0.27, row + 0.03], color="black", linewidth=3, zorder=5)
    ax.text(1.015, row, f"{said} ms", **beside)


def _distribution_legend() -> list[Artist]:
    return [
        Line2D([], [], color=_MARK_COLOUR, linewidth=2.4, label="nominal"),
        Line2D([], [], color=_DOTS_COLOUR, marker="o", linestyle="", markersize=5, label="requests"),
        Line2D([], [], color="black", linewidth=3, label="median"),
        Patch(facecolor="#D5D5D5", edgecolor="black", label="p25 to p75"),
        Line2D([], [], color="black", linewidth=1.6, label="p5 to p95"),
    ]


# --- published and measured ------------------------------------------------------------------------------


def _published_style() -> tuple[dict[str, Any], dict[str, Any]]:
    dots = {"color": _MARK_COLOUR, "marker": "o", "linestyle": "", "markersize": 6.5}
    bar = {"color": "#00324F", "marker": "s", "linestyle": "-", "linewidth": 2.2, "markersize": 9}
    return dots, bar


def _draw_published(ax: Axes, tables: pd.DataFrame, metric: str) -> None:
    dots, _ = _published_style()
    points = [np.array(told, dtype=float) for told in tables[f"published_{metric}_ms"]]
    measured = tables[[f"{metric}_p5_ms", f"{metric}_p50_ms", f"{metric}_p95_ms"]].to_numpy(float)
    _log_axis(ax, "y", _positive(np.concatenate([measured.ravel(), *points])))
    for place, (told, ours) in enumerate(zip(points, measured, strict=True)):
        offsets = np.linspace(-0.36, 0.08, len(told)) if len(told) > 1 else np.array([-0.14] * len(told))
        ax.plot(place + offsets, told, **dots)
        _draw_ours(ax, place + 0.24, ours)
    for edge in np.arange(len(tables) - 1) + 0.5:
        ax.axvline(edge, color="#BBBBBB", linewidth=0.8)
    ax.set_xlim(-0.5, len(tables) - 0.5)
    _tidy(ax, grid="y")


def _draw_ours(ax: Axes, at: float, ours: Floats) -> None:
    """Our p5, p50 and p95 at one place; says so where nothing was measured."""
    _, bar = _published_style()
    low, middle, high = ours
    if not middle > 0:
        style: dict[str, Any] = {"transform": ax.get_xaxis_transform(), "ha": "center", "color": _GREY}
        ax.text(at, 0.03, "not\nmeasured", fontsize=_SMALL_PT, **style)
        return
    ax.plot([at, at], [low, high], color=bar["color"], linewidth=bar["linewidth"])
    ax.plot(at, middle, **bar)
    ax.text(at + 0.06, middle, _ms(middle), va="center", fontsize=_TEXT_PT)


def _table_name(row: dict[Any, Any]) -> str:
    lines = [str(row["table"])]
    for words in (row["arm"], f"there: {row['load_text']}", f"here: c = {row['concurrency']}"):
        lines += textwrap.wrap(words, 17)
    return "\n".join(label(line) for line in lines)


# --- drawing ---------------------------------------------------------------------------------------------


def _page(
    title: str, subtitle: str, caption: str, *, height_in: float, handles: Sequence[Artist] = ()
) -> Figure:
    """A figure with its writing at fixed places; the panels share the `height_in` that is left."""
    caption = textwrap.fill(label(caption.strip(), _LONGEST_CAPTION), 120)
    above = 0.5 + 0.22 * (subtitle.count("\n") + 1) + (0.42 if handles else 0.1)
    below = 0.2 + 0.17 * (caption.count("\n") + 1)
    height_in = min(height_in, _HIGHEST_IN)
    height = height_in + above + below
    fig = Page(figsize=(_WIDTH_IN, height), facecolor="white")
    fig.set_layout_engine(
        "constrained", rect=(0.008, below / height, 0.984, height_in / height), h_pad=0.06, w_pad=0.08
    )
    fig.text(
        0.015,
        1 - 0.12 / height,
        label(title, _LONGEST_TITLE),
        va="top",
        fontsize=_TITLE_PT,
        fontweight="bold",
    )
    fig.text(0.015, 1 - 0.47 / height, subtitle, va="top", fontsize=_TEXT_PT - 1, color=_GREY)
    fig.text(0.015, 0.1 / height, caption, va="bottom", fontsize=_SMALL_PT, color=_GREY)
    if handles:
        fig.legend(
            handles=list(handles),
            loc="upper left",
            bbox_to_anchor=(0.008, 1 - (above - 0.4) / height),
            ncols=len(handles),
            frameon=False,
            fontsize=_TEXT_PT,
            handlelength=1.8,
            columnspacing=1.4,
            borderaxespad=0,
        )
    return fig


def _sorry(why: str) -> Figure:
    fig = Page(figsize=(_WIDTH_IN, 1.6), facecolor="white")
    fig.text(0.5, 0.5, why, ha="center", va="center", fontsize=_TEXT_PT)
    return fig


def _legend_of(parts: Sequence[Stretch], split: list[bool]) -> list[Stretch]:
    return [*(parts if any(split) else ()), *(() if all(split) else (UNSPLIT,))]


def _patches(parts: Iterable[Stretch]) -> list[Artist]:
    return [Patch(**_look(part)) for part in parts]


def _look(part: Stretch) -> dict[str, Any]:
    # a patch draws its hatch in the colour of its edge
    return {
        "facecolor": part.colour,
        "edgecolor": part.ink if part.hatch else part.colour,
        "hatch": part.hatch,
        "linewidth": 0.6,
        "label": part.label,
    }


def _name_panel(ax: Axes, name: str) -> None:
    ax.set_title(label(name), loc="left", fontsize=_TEXT_PT, fontweight="bold")


def _tidy(ax: Axes, grid: str) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=_TEXT_PT)
    ax.set_axisbelow(True)
    (ax.xaxis if grid == "x" else ax.yaxis).grid(True, color="#DDDDDD", linewidth=0.8)


def _arm_rows(ax: Axes, arms: list[str]) -> None:
    ax.set_yticks(range(len(arms)), [label(arm) for arm in arms])
    ax.set_ylim(len(arms) - 0.45, -0.55)
    _tidy(ax, grid="x")
    ax.tick_params(axis="y", length=0)


def _log_axis(ax: Axes, which: Literal["x", "y"], values: Floats) -> None:
    """Log scale around `values`, with ticks at round numbers, written out."""
    low, high = (values.min() / 1.3, values.max() * 1.3) if len(values) else (1.0, 10.0)
    decades = math.log10(high / low)
    steps = (1, 2, 3, 4, 5, 6, 7, 8) if decades < 0.9 else (1, 2, 5) if decades < 3 else (1,)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ax.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_major_locator(FixedLocator([step * 10.0**exponent for exponent in exponents for step in steps]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_locator(NullLocator())


def _positive(values: npt.ArrayLike) -> Floats:
    numbers: Floats = np.asarray(values, dtype=np.float64)
    return numbers[np.isfinite(numbers) & (numbers > 0)]


def _ms(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
