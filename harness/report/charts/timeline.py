"""A time-line of one burst of requests per arm, in server time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from harness.analysis.arrays import Bools, Counts, Floats
from harness.analysis.rows import Requests, at, column
from harness.analysis.summaries import LATENCY
from harness.report.charts.page import key, name_panel, page, tidy, without_chart
from harness.report.charts.rows import Shown, is_split, load_words, needed_for, with_timings
from harness.report.charts.style import GREY, STRETCHES, UNSPLIT, Stretch, look, patches

_ON_SERVER = STRETCHES[:4]
_NEEDED = [*needed_for(_ON_SERVER), UNSPLIT.column, "trial", "sent_ms", "done_ms", LATENCY]
_MAX_BARS = 64  # per arm; more would be thinner than a printed line
_MAX_BARS_IN_ALL = 360  # of all arms together: keeps the SVG below 300 kB
_HATCHED_BARS = 24  # per arm; in longer bursts bars are too thin for gaps and hatches


def draw(requests: Requests) -> Figure:
    """One burst of consecutive requests per arm, at the highest concurrency, at real server times.

    A row is a request. A burst has 2c of them in order of server entry (at most 64, or 45 with eight arms),
    from the trial whose median latency is closest to the arm's. x counts ms from the burst's first entry, on
    one scale for all arms. The thin line behind a bar is the service time as the client sees it; an arm
    without server timings shows only that.
    """
    shown = Shown(requests)
    if not shown.loads:
        return without_chart("No time-line: no measured request got a good answer.")
    load = shown.heaviest
    arms = shown.arms([load])
    if len(arms) > _MAX_BARS_IN_ALL:
        return without_chart("No time-line: too many arms for one page.")
    bursts = bursts_of(shown, arms, load)
    size = max(map(len, bursts.values()))
    parts = parts_of(bursts)
    handles = patches(parts)
    if parts != [UNSPLIT]:
        handles.append(key("service time", color=GREY, linewidth=1.2))
    burst_in = min(0.12 * size, 2.6, 14 / len(arms))
    fig = page(
        f"Where requests spend their time, {load_words(load)}",
        "One burst of requests per arm. Each row is a request, in order of arrival at the server.",
        f"From the trial whose median latency is closest to the arm's. {shown.left_out([load])}",
        height_in=len(arms) * (0.5 + burst_in) + 0.5,
        handles=handles,
    )
    panels = fig.subplots(len(arms), 1, sharex=True, squeeze=False)[:, 0]
    for panel, (arm, burst) in zip(panels, bursts.items(), strict=True):
        draw_burst(panel, burst)
        name_panel(panel, arm, f"trial {burst['trial'].iloc[0]}")
    panels[-1].set_xlabel("time since the burst's first entry (ms)")
    return fig


def bursts_of(shown: Shown, arms: list[str], load: str) -> dict[str, pd.DataFrame]:
    """A burst of each arm under a load: 2c consecutive requests, fewer for many users or arms."""
    concurrency = shown.concurrency(load)
    wanted = 2 * int(concurrency) if concurrency >= 1 else 16
    size = min(wanted, _MAX_BARS, _MAX_BARS_IN_ALL // len(arms))
    return {arm: _burst(shown.rows(arm, load, _NEEDED), size) for arm in arms}


def parts_of(bursts: dict[str, pd.DataFrame]) -> list[Stretch]:
    """The parts that are drawn: those on the server, or the service time of bursts without server timings."""
    split = [is_split(burst, _ON_SERVER) for burst in bursts.values()]
    return [*(_ON_SERVER if any(split) else ()), *(() if all(split) else (UNSPLIT,))]


def _burst(rows: Requests, size: int) -> pd.DataFrame:
    """`size` consecutive requests from the middle of a representative trial, in order of server entry.

    The burst begins near the middle, where the fewest earlier requests are still on the server, so that a
    burst of the inline strategy begins with the first step of its staircase.
    """
    timed = with_timings(rows, _ON_SERVER)
    places = np.flatnonzero(timed if timed.any() else ~timed)
    places = places[_of_typical_trial(column(rows, LATENCY)[places], column(rows, "trial")[places])]
    if timed.any():
        begins = column(rows, "entered_ms")[places]
        ends = _sum(column(rows, part.column)[places] for part in _ON_SERVER)
        ends += begins
    else:
        begins, ends = (column(rows, name)[places] for name in ("sent_ms", "done_ms"))
    order = np.argsort(begins, kind="stable")
    start = _tidiest(begins[order], ends[order], size)
    return at(rows, places[order[start : start + size]], _NEEDED)


def _of_typical_trial(latency: Floats, trial: Counts) -> Bools:
    """The requests of the trial whose median latency is closest to that of all."""
    if (trial == trial[0]).all():
        return np.ones(len(trial), dtype=bool)
    medians = pd.Series(latency).groupby(trial).median()
    return np.asarray(trial == (medians - np.median(latency)).abs().idxmin())


def _sum(columns: Iterator[Floats]) -> Floats:
    """The sum of columns, of which only two at a time are in memory."""
    total = next(columns)
    for values in columns:
        total += values
    return total


def _tidiest(begins: Floats, ends: Floats, size: int) -> int:
    """Where a burst begins: near the middle, with the fewest earlier requests that have not ended."""
    latest = max(0, len(begins) - size)
    middle = latest // 2

    def untidiness(start: int) -> tuple[int, int]:
        return int((ends[:start] > begins[start]).sum()), abs(start - middle)

    return min(range(max(0, middle - size), min(latest, middle + size) + 1), key=untidiness)


def _spans(burst: pd.DataFrame) -> Iterator[tuple[Stretch, Floats, Floats]]:
    """Per part: where it begins in each request, in ms since the burst's first entry, and its length."""
    if not is_split(burst, _ON_SERVER):
        sent = burst["sent_ms"].to_numpy(float)
        yield UNSPLIT, sent - sent[0], burst[UNSPLIT.column].to_numpy(float)
        return
    begin = burst["entered_ms"].to_numpy(float)
    begin = begin - begin[0]
    for part in _ON_SERVER:
        length = burst[part.column].to_numpy(float)
        yield part, begin, length
        begin = begin + length


def draw_burst(ax: Axes, burst: pd.DataFrame) -> None:
    """A bar for each request of a burst, in ms since the burst's first entry."""
    at = np.arange(len(burst), dtype=float)
    thin = len(burst) > _HATCHED_BARS
    if is_split(burst, _ON_SERVER):
        origin = burst["entered_ms"].iloc[0]
        there = np.stack([burst["sent_ms"], burst["done_ms"], np.full(len(burst), np.nan)], axis=1) - origin
        width = 0.4 if thin else 0.8
        ax.plot(there.ravel(), at.repeat(3), color=GREY, linewidth=width, zorder=1)  # NaN lifts the pen
    for part, begin, length in _spans(burst):
        bars = ax.add_patch(_bars(part, at, begin, length, height=1.0 if thin else 0.8))
        if thin:
            bars.set(hatch=None, linewidth=0)
    ax.set_ylim(len(burst) - 0.3, -0.7)
    ax.set_yticks([])
    ax.autoscale_view(scaley=False)
    tidy(ax, grid="x")
    ax.spines["left"].set_visible(False)


def _bars(part: Stretch, at: Floats, begin: Floats, length: Floats, height: float) -> PathPatch:
    """All bars of one part as a single path: hundreds of separate patches would swell the SVG."""
    left, right, low, high = begin, begin + length, at - height / 2, at + height / 2
    corners = np.array([[left, low], [right, low], [right, high], [left, high]])  # corner, x and y, bar
    path = Path.make_compound_path_from_polys(corners.transpose(2, 0, 1))
    return PathPatch(path, zorder=2, **look(part))
