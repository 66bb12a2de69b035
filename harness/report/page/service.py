"""What the rest of the service feels while the model runs: a route without a model, and the loop's lag."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from harness.numbers import cell, milliseconds, users
from harness.report.page.context import Context, cell_of
from harness.report.page.drawing import (
    MARK_AT,
    NAME_AT,
    finite,
    markup,
    rows_figure,
    size_axis,
    write,
)
from harness.report.page.parts import Panel, Picture, Table

# caption → (axis, the columns drawn as a bar's start and end, what they are)
_PANELS = {
    "A route without a model: median to p90": ("latency (ms)", "ping_p50_ms", "ping_p90_ms"),
    "Lag of the event loop: p99 to the largest": ("lag (ms)", "server_lag_p99_ms", "server_lag_max_ms"),
}
_HEADS = {
    "ping_p50_ms": "ping p50, ms",
    "ping_p90_ms": "ping p90, ms",
    "server_lag_p99_ms": "loop lag p99, ms",
    "server_lag_max_ms": "loop lag max, ms",
}

# the first of these that is known makes the title
_TITLES = {
    "ping_p50_ms": "a route without a model takes",
    "server_lag_p99_ms": "the event loop is late by",
}


def picture(found: Context) -> Picture | None:
    """Per arm: pings from p50 to p90, and the loop's lag from p99 to its maximum."""
    costs = found.report.costs
    here = {arm: row for arm in found.arms if (row := cell_of(costs, arm, found.load))}
    panels = [
        Panel(caption, _panel(found, here, caption))
        for caption, (_, first, _) in _PANELS.items()
        if any(math.isfinite(row[first]) for row in here.values())
    ]
    if not panels:
        return None
    return Picture(
        title=_title(found, here),
        alt=f"What other routes wait at {users(found.load)}: {_in_words(here)}",
        panels=panels,
        table=_table(costs),
        note="Pings ask a route without a model beside the load. The lag is how late the event loop runs a "
        "timer that is due every 5 ms; up to about 1 ms is rounding. The lines are ranges of requests, not "
        "intervals.",
    )


def _panel(found: Context, here: Mapping[str, Mapping[str, float]], caption: str) -> str:
    axis, first, last = _PANELS[caption]
    fig, ax = rows_figure(list(here), axis)
    size_axis(ax, "x", finite([row[name] for row in here.values() for name in (first, last)]))
    left, right = ax.get_xlim()
    for row, (arm, its) in enumerate(here.items()):
        look = found.looks[arm]
        begin, end = its[first], its[last]
        shown = [value for value in (begin, end) if not math.isnan(value)]
        if len(shown) == 2:
            ax.plot([begin, min(end, right)], [row + MARK_AT] * 2, color=look.colour, linewidth=2.4)
            ax.plot(
                [min(end, right)], [row + MARK_AT], "|", color=look.colour, markersize=10, markeredgewidth=2
            )
        if math.isfinite(begin):
            ax.plot(max(begin, left), row + MARK_AT, zorder=5, **look.dot)
        write(ax, 1.0, row + NAME_AT, " to ".join(map(_ms, shown)) + " ms", ha="right", color="#555555")
    return markup(fig, f"service-{first.partition('_')[0]}")


def _ms(value: float) -> str:
    return "failed" if value == math.inf else milliseconds(value)


def _title(found: Context, here: Mapping[str, Mapping[str, float]]) -> str:
    finite = {
        words: {arm: row[name] for arm, row in here.items() if math.isfinite(row[name])}
        for name, words in _TITLES.items()
    }
    words, known = next((words, known) for words, known in finite.items() if known)
    worst, least = (pick(known, key=lambda arm: known[arm]) for pick in (max, min))
    if known[worst] < 2 * known[least] or len(known) == 1:
        return f"{found.at}, {words} at most {milliseconds(known[worst])} ms in every arm"
    take = found.report.choice.take
    other = take if take in known and take != worst else least
    return (
        f"{found.at}, {words} {milliseconds(known[worst])} ms with {worst}, "
        f"{milliseconds(known[other])} ms with {other}"
    )


def _in_words(here: Mapping[str, Mapping[str, float]]) -> str:
    return "; ".join(
        f"{arm}: " + ", ".join(f"{head} {cell(row[name])}" for name, head in _HEADS.items())
        for arm, row in here.items()
    )


def _table(costs: pd.DataFrame) -> Table:
    return Table(
        ["arm", "load", *_HEADS.values()],
        [
            [str(row["arm"]), users(row["load"]), *(cell(row[name]) for name in _HEADS)]
            for row in costs.to_dict("records")
        ],
        words=2,
    )
