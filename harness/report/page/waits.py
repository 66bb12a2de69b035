"""What a user waits: the share of requests that take at least a time, down into the tail."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from harness.analysis import exceedance
from harness.analysis.exceedance import Curve
from harness.analysis.percentiles import percentile_if_enough
from harness.analysis.stats import LEVEL
from harness.numbers import cell, milliseconds, users
from harness.numbers import percent as percent_of
from harness.report.charts.page import tidy
from harness.report.charts.rows import load_words
from harness.report.page.context import Context, cell_of
from harness.report.page.drawing import arm_keys, figure, log_ticks, markup, name_axes
from harness.report.page.parts import Panel, Picture, Table
from harness.report.page.time_split import chosen_loads, loads_left_out

_HEIGHT_IN = 3.0
_PERCENTS = (50, 90, 95, 99, 99.9)  # columns of the table
_TICKS = {1.0: "100 %", 0.5: "50 %", 0.1: "10 %", 0.01: "1 %", 0.001: "0.1 %"}

_ONE_IN = {
    "latency_p99_ms": "1 request in 100",
    "latency_p95_ms": "1 request in 20",
    "latency_p50_ms": "every second request",
}


class _Waits(NamedTuple):
    curve: Curve
    percentiles: dict[float, float]  # NaN for too few requests


Curves = dict[str, _Waits]


def picture(found: Context) -> Picture | None:
    """Log–log curves of each arm, a panel for each load; all panels have one scale."""
    of_loads = {load: _curves(found, load) for load in chosen_loads(found)}
    of_loads = {load: curves for load, curves in of_loads.items() if curves}
    if not of_loads:
        return None
    ends = [its.curve.ms for curves in of_loads.values() for its in curves.values()]
    low, high = (float(pick(np.concatenate(ends))) for pick in (np.min, np.max))
    least = min(float(its.curve.share[-1]) for curves in of_loads.values() for its in curves.values())
    panels = [
        Panel(
            load_words(load),
            _panel(found, curves, (max(low, 0.01) / 1.1, high * 1.1), least, f"waits-{number}"),
        )
        for number, (load, curves) in enumerate(of_loads.items())
    ]
    level = found.report.evidence.facts.rules.at(LEVEL)
    return Picture(
        title=_title(found),
        alt=f"Share of requests that take at least a time. {_in_words(of_loads.get(found.load, {}))}",
        panels=panels,
        table=_table(of_loads),
        keys=arm_keys(found.shown()),
        note=f"Latency of all counted requests{_if_failed(of_loads)}. The bands are pointwise "
        f"{100 * level:.3g} % intervals over blocks. A curve ends where there are too few requests for its "
        f"share: 1 % needs 662. {loads_left_out(found, [*of_loads])}".rstrip(),
    )


def _curves(found: Context, load: str) -> Curves:
    side, level = found.report.evidence.side, found.report.evidence.facts.rules.at(LEVEL)
    made = {}
    for arm in found.arms:
        one = side.cell(arm, load)
        blocks = one.latencies(one.blocks).blocks
        curve = exceedance.curve(blocks, level=level)
        if curve is not None:
            ordered = np.sort(np.concatenate(blocks))
            known = {percent: percentile_if_enough(ordered, percent) for percent in _PERCENTS}
            made[arm] = _Waits(curve, known)
    return made


def _panel(found: Context, curves: Curves, ends: tuple[float, float], least: float, name: str) -> str:
    fig, ax = figure(_HEIGHT_IN)
    log_ticks(ax, "x", *ends)
    ax.set(yscale="log", ylim=(least / 1.4, 1.25))
    ticks = {tick: text for tick, text in _TICKS.items() if tick >= least / 1.4}
    ax.set_yticks(list(ticks), list(ticks.values()))
    ax.minorticks_off()
    for number, (arm, (curve, _)) in enumerate(curves.items()):
        look = found.looks[arm]
        if not np.isnan(curve.low).any():
            bounds = np.maximum(curve.low, least / 2), np.maximum(curve.high, least / 2)
            ax.fill_between(curve.ms, *bounds, color=look.colour, alpha=0.14, linewidth=0)
        ax.plot(curve.ms, curve.share, color=look.colour, linewidth=1.7, zorder=3)
        marks = _marks(curve, number, len(curves))
        ax.plot(curve.ms[marks], curve.share[marks], linestyle="", zorder=4, **look.dot)
    tidy(ax, grid="y")
    name_axes(ax, x="latency (ms, log scale)", y="requests as slow or slower")
    return markup(fig, name)


def _marks(curve: Curve, number: int, arms: int) -> list[int]:
    """Where a curve has its arm's mark: at three places, shifted so that the marks of arms do not meet."""
    shift = (number + 0.5) / arms / 4
    shares = [curve.share[-1] ** (part + shift) for part in (0.15, 0.4, 0.7)]
    return sorted({int(np.argmin(np.abs(np.log(curve.share) - math.log(share)))) for share in shares})


def _title(found: Context) -> str:
    """The slowest requests of the advised arm beside those of the arm where they are slowest."""
    of_arms = {arm: cell_of(found.report.summary, arm, found.load) for arm in found.arms}
    finite = {
        words: {arm: row[name] for arm, row in of_arms.items() if row and math.isfinite(row[name])}
        for name, words in _ONE_IN.items()
    }
    whole = [words for words, known in finite.items() if len(known) == len(of_arms)]
    if not whole:
        return f"{found.at}, most requests to an arm fail"
    words, known = whole[0], finite[whole[0]]
    first = (
        found.report.choice.take
        if found.report.choice.take in known
        else min(known, key=lambda arm: known[arm])
    )
    worst = max(known, key=lambda arm: known[arm])
    sentence = f"{found.at}, {words} takes longer than {milliseconds(known[first])} ms with {first}"
    return sentence if worst == first else f"{sentence}, {milliseconds(known[worst])} ms with {worst}"


def _if_failed(of_loads: dict[str, Curves]) -> str:
    """What a failure is in the curves, if there is one."""
    failed = any(its.curve.failed for curves in of_loads.values() for its in curves.values())
    return "; a failure takes longer than any time, so a curve ends at their share" if failed else ""


def _in_words(curves: Curves) -> str:
    each = [
        f"{arm}: " + ", ".join(f"p{percent:g} {_shown(its, percent)} ms" for percent in (50, 95, 99))
        for arm, its in curves.items()
    ]
    return "; ".join(each) + "."


def _table(of_loads: dict[str, Curves]) -> Table:
    return Table(
        ["load", "arm", *(f"p{percent:g}, ms" for percent in _PERCENTS), "failed"],
        [
            [users(load), arm, *(_shown(its, percent) for percent in _PERCENTS), percent_of(its.curve.failed)]
            for load, curves in of_loads.items()
            for arm, its in curves.items()
        ],
        words=2,
    )


def _shown(its: _Waits, percent: float) -> str:
    """A percentile; "-" for too few requests."""
    value = its.percentiles[percent]
    return "failed" if value == math.inf else cell(value)
