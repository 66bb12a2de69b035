"""The settings of a sweep: every combination with its intervals, the best first."""

from __future__ import annotations

import math
from typing import Any

from harness.numbers import cell, interval, ratio_interval, users
from harness.report import halving, sweep
from harness.report.page.context import Context
from harness.report.page.drawing import MARK_AT, NAME_AT, finite, markup, rows_figure, size_axis, span, write
from harness.report.page.parts import Panel, Picture, Section, Table

_MOST_ROWS = 24  # of the picture; the table has all settings
_INK, _MARK = "#00324f", "#d55e00"


def section(found: Context) -> Section:
    """The settings at the load that decides, and the effect of each option."""
    swept = found.report.swept
    assert swept is not None, "only of a sweep"
    here = swept.table[swept.table["load"] == swept.load]
    rows: list[dict[Any, Any]] = here.to_dict("records")
    names = {"throughput_per_s": "requests/s", "latency_p50_ms": "median latency (ms)"}
    picture = Picture(
        title=swept.sentences[0].rstrip(".") if swept.sentences else f"Settings at {users(swept.load)}",
        alt=f"Settings at {users(swept.load)}, the best first: "
        + "; ".join(
            f"{sweep.words(row, swept.axes)}: {_within(row, 'throughput_per_s')} requests/s, {row['place']}"
            for row in rows[:_MOST_ROWS]
        ),
        panels=[Panel(words, _panel(swept, rows[:_MOST_ROWS], name, words)) for name, words in names.items()],
        table=_table(swept, rows),
        note="Geometric mean over blocks with its interval. Orange: the best; hollow: the blocks do not "
        "separate it from the best."
        + (
            f" The picture has the first {_MOST_ROWS} of {len(rows)} settings."
            if len(rows) > _MOST_ROWS
            else ""
        ),
    )
    tables = [_effects(swept)] if len(swept.effects) else []
    lines = list(swept.sentences[1:])
    if (halved := found.report.halved) is not None:
        lines += halving.sentences(halved, found.report.choice.take)
        tables.append(_rounds(halved))
    return Section("settings", "The settings", [picture], tables=tables, lines=lines)


def _panel(swept: sweep.Swept, rows: list[dict[Any, Any]], name: str, axis: str) -> str:
    fig, ax = rows_figure([sweep.words(row, swept.axes) for row in rows], axis)
    ends = [row[f"{name}{end}"] for row in rows for end in ("", "_low", "_high")]
    size_axis(ax, "x", finite(ends))
    for place, row in enumerate(rows):
        colour = _MARK if row["place"] == sweep.BEST else _INK
        span(ax, place + MARK_AT, row[f"{name}_low"], row[f"{name}_high"], colour)
        face = "#ffffff" if row["place"] == sweep.RIVAL else colour
        dot: dict[str, Any] = {
            "marker": "o",
            "markersize": 7,
            "markerfacecolor": face,
            "markeredgecolor": colour,
        }
        if math.isfinite(row[name]):
            ax.plot(row[name], place + MARK_AT, zorder=5, **dot)
        write(ax, 1.0, place + NAME_AT, cell(row[name]), ha="right", color="#555555")
    return markup(fig, f"settings-{name.partition('_')[0]}")


def _within(row: dict[Any, Any], name: str) -> str:
    return cell(row[name]) + interval(row[f"{name}_low"], row[f"{name}_high"], cell)


def _table(swept: sweep.Swept, rows: list[dict[Any, Any]]) -> Table:
    figures = {
        "throughput_per_s": "requests/s",
        "latency_p50_ms": "median latency, ms",
        "latency_p99_ms": "p99 latency, ms",
    }
    return Table(
        [*swept.axes, "place", *figures.values()],
        [
            [
                *(str(row[axis]) for axis in swept.axes),
                str(row["place"]),
                *(_within(row, name) for name in figures),
            ]
            for row in rows
        ],
        words=len(swept.axes) + 1,
    )


def _effects(swept: sweep.Swept) -> Table:
    return Table(
        ["option", "value", "against", "figure", "ratio [interval]", "verdict"],
        [
            [
                str(row["axis"]),
                str(row["value"]),
                str(row["against"]),
                "requests/s" if row["metric"] == "throughput_per_s" else "latency",
                ratio_interval(row["ratio"], row["low"], row["high"]),
                str(row["verdict"]),
            ]
            for row in swept.effects.to_dict("records")
        ],
        words=4,
    )


def _rounds(halved: halving.Halved) -> Table:
    figures = {"throughput_per_s": "requests/s", "latency_p50_ms": "median latency, ms"}
    return Table(
        ["round", "setting", "kept", "blocks so far", *figures.values()],
        [
            [
                str(row["round"]),
                str(row["arm"]),
                "yes" if row["kept"] else "no",
                str(row["blocks"]),
                *(cell(row[name]) for name in figures),
            ]
            for row in halved.rounds.to_dict("records")
        ],
        words=3,
    )
