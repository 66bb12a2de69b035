"""One burst of requests of each arm as a time-line."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.numbers import milliseconds, users
from harness.report.charts import timeline
from harness.report.charts.page import tidy
from harness.report.charts.rows import Shown
from harness.report.charts.style import STRETCHES
from harness.report.page.context import Context
from harness.report.page.drawing import figure, mark_key, markup, name_axes, part_keys
from harness.report.page.parts import Panel, Picture, Table

_BAR_IN, _LEAST_IN, _MOST_IN = 0.085, 1.1, 2.6
_MOST_ROWS = 16  # of the table, per arm


def picture(found: Context) -> Picture | None:
    """A panel for each arm, all on one scale of time; a row is a request, in order of arrival."""
    shown = Shown(found.rows)
    arms = [arm for arm in found.arms if arm in shown.arms([found.load])]
    if not arms:
        return None
    bursts = timeline.bursts_of(shown, arms, found.load)
    parts = timeline.parts_of(bursts)
    drawn = {arm: _draw(burst) for arm, burst in bursts.items()}
    right = max(ax.get_xlim()[1] for _, ax in drawn.values())
    left = min(ax.get_xlim()[0] for _, ax in drawn.values())
    panels = []
    for number, (arm, (fig, ax)) in enumerate(drawn.items()):
        ax.set_xlim(left, right)
        panels.append(Panel(arm, markup(fig, f"burst-{number}")))
    keys = part_keys("burst", parts)
    if any("entered_ms" in burst and burst["entered_ms"].notna().all() for burst in bursts.values()):
        keys.append(mark_key("sent until answered", "#555555", line=1.2))
    spans = {arm: _span_ms(burst) for arm, burst in bursts.items()}
    size = max(map(len, bursts.values()))
    return Picture(
        title=_title(found, spans, size),
        alt=f"Time-line of {size} requests of each arm at {users(found.load)}: "
        + "; ".join(f"{arm}, first arrival to last answer {milliseconds(ms)} ms" for arm, ms in spans.items())
        + ".",
        panels=panels,
        table=_table(bursts),
        keys=keys,
        note="Each row is a request, in order of arrival at the server, at real server times. From the trial "
        "whose median latency is closest to the arm's.",
    )


def _title(found: Context, spans: dict[str, float], size: int) -> str:
    """The advised arm, or the quickest, beside the reference, or the slowest."""
    by_span = sorted(spans, key=lambda arm: spans[arm])
    first = next(arm for arm in (found.report.choice.take, *by_span) if arm in spans)
    others = [arm for arm in (found.reference, *reversed(by_span)) if arm in spans and arm != first]
    sentence = f"{found.at}, a burst of {size} requests takes {milliseconds(spans[first])} ms with {first}"
    return sentence + (f", {milliseconds(spans[others[0]])} ms with {others[0]}" if others else "")


def _draw(burst: pd.DataFrame) -> tuple[Figure, Axes]:
    fig, ax = figure(min(max(_LEAST_IN, _BAR_IN * len(burst) + 0.5), _MOST_IN))
    timeline.draw_burst(ax, burst)
    tidy(ax, grid="x")
    name_axes(ax, x="ms since the burst's first arrival")
    return fig, ax


def _span_ms(burst: pd.DataFrame) -> float:
    begins = burst["entered_ms"] if burst["entered_ms"].notna().all() else burst["sent_ms"]
    return float(burst["done_ms"].max() - begins.min())


def _table(bursts: dict[str, pd.DataFrame]) -> Table:
    names = ["sent_ms", "entered_ms", *(part.column for part in STRETCHES[:4]), "done_ms"]
    heads = ["sent", "entered", *(part.label for part in STRETCHES[:4]), "done"]
    return Table(
        ["arm", *(f"{head}, ms" for head in heads)],
        [
            [arm, *("-" if pd.isna(row[name]) else milliseconds(float(row[name])) for name in names)]
            for arm, burst in bursts.items()
            for row in burst.head(_MOST_ROWS).to_dict("records")
        ],
    )
