"""What each arm costs: CPU a request, memory of its own, and the time until it is ready."""

from __future__ import annotations

import math
from collections.abc import Mapping

from harness.analysis import servers
from harness.numbers import cell, short, users
from harness.report.page.context import Context, cell_of
from harness.report.page.drawing import BAR_ROWS, MARK_AT, NAME_AT, linear_axis, markup, rows_figure, write
from harness.report.page.parts import Panel, Picture, Table

# name → (caption, axis, unit)
_FIGURES = {
    "cpu_ms_per_request": ("CPU of the server", "ms of CPU a request", "ms"),
    "memory_uss_mb": ("Memory of its own", "MB that no other process shares", "MB"),
    "ready_s": ("Time until ready", "s until every worker is warm; a command: until it answers", "s"),
}


def picture(found: Context) -> Picture | None:
    """A panel for each cost, a bar for each arm."""
    costs = {arm: _costs(found, arm) for arm in found.arms}
    shown = [name for name in _FIGURES if any(math.isfinite(its[name]) for its in costs.values())]
    if not shown:
        return None
    return Picture(
        title=_title(found, costs, shown),
        alt=f"Costs at {users(found.load)}. "
        + " ".join(
            f"{arm}: "
            + ", ".join(f"{_FIGURES[name][0]} {cell(its[name])} {_FIGURES[name][2]}" for name in shown)
            + "."
            for arm, its in costs.items()
        ),
        panels=[Panel(_FIGURES[name][0], _panel(found, costs, name)) for name in shown],
        table=Table(
            ["arm", *(f"{_FIGURES[name][0]}, {_FIGURES[name][2]}" for name in shown)],
            [[arm, *(cell(its[name]) for name in shown)] for arm, its in costs.items()],
        ),
        note="CPU of whole trials, divided by all their requests."
        + (" Servers start side by side and slow each other down." if "ready_s" in shown else ""),
    )


def _costs(found: Context, arm: str) -> dict[str, float]:
    known = cell_of(found.report.costs, arm, found.load)
    of_costs = {name: float(known.get(name, math.nan)) for name in ("cpu_ms_per_request", "memory_uss_mb")}
    return {**of_costs, "ready_s": servers.ready_s(found.report.record).get(arm, math.nan)}


def _panel(found: Context, costs: Mapping[str, Mapping[str, float]], name: str) -> str:
    _, axis, unit = _FIGURES[name]
    fig, ax = rows_figure(list(costs), axis)
    top = max(its[name] for its in costs.values() if math.isfinite(its[name]))
    linear_axis(ax, "x", 1.03 * top)
    for row, (arm, its) in enumerate(costs.items()):
        if math.isfinite(its[name]):
            ax.barh(row + MARK_AT, its[name], height=BAR_ROWS, color=found.looks[arm].colour, linewidth=0)
        write(ax, 1.0, row + NAME_AT, f"{cell(its[name])} {unit}", ha="right", color="#555555")
    return markup(fig, f"costs-{name.partition('_')[0]}")


def _title(found: Context, costs: Mapping[str, Mapping[str, float]], shown: list[str]) -> str:
    """The costs of the advised arm beside those of the reference."""
    take = found.report.choice.take or found.arms[0]
    other = found.reference if take != found.reference else ""
    parts = []
    for name, words in (("cpu_ms_per_request", "ms of CPU a request"), ("memory_uss_mb", "MB of memory")):
        mine, theirs = (costs.get(arm, {}).get(name, math.nan) for arm in (take, other))
        if name in shown and math.isfinite(mine):
            against = f" ({other}: {short(theirs)})" if math.isfinite(theirs) else ""
            parts.append(f"{short(mine)} {words}{against}")
    return f"{take} costs {' and '.join(parts)}" if parts else "What each arm costs"
