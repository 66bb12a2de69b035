"""The page of a comparison: of two runs, or of the arms of one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from harness.analysis.stats import DIFFERENT, Verdict
from harness.analysis.summaries import LATENCY, THROUGHPUT
from harness.numbers import ratio_interval, users
from harness.report.page import ratios, terms
from harness.report.page.drawing import (
    MARK_AT,
    NAME_AT,
    mark_key,
    markup,
    ratio_axis,
    rows_figure,
    span,
    write,
)
from harness.report.page.parts import Page, Panel, Picture, Section, Tile
from harness.verdicts import session_noise
from harness.verdicts.metrics import Rules

_MOST_ROWS = 24  # of a panel; the table has all
_FIGURES = {(metric, stat): words for metric, (stat, words) in ratios.METRICS.items()}
_INK, _BETTER, _WORSE, _BAND = "#3c3c3c", "#007a5a", "#c44e00", "#e4e4e4"


def page(table: pd.DataFrame, notes: Sequence[str], rules: Rules, *, answer: str, about: str) -> Page:
    """The page of the rows of `comparison.COLUMNS`; `answer` is its first line."""
    rows: list[dict[Any, Any]] = table.to_dict("records")
    pictures = [_picture(rows, rules, answer)] if _drawn(rows, LATENCY) + _drawn(rows, THROUGHPUT) else []
    primary = [str(row["sentence"]) for row in rows if row["primary"]]
    noisy = session_noise.noisy(table)
    return Page(
        title="executor-bench comparison",
        about=about,
        answer=answer,
        take="",
        how="",
        reasons=[],
        tiles=_tiles(rows, withheld=bool(noisy)),
        warnings=[noisy] if noisy else [],
        notes=list(notes),
        sections=[
            Section(
                "ratios",
                "The ratios",
                pictures,
                tables=[] if pictures else [ratios.table(table)],
                terms=terms.of("ratio", "interval", "block", *terms.VERDICTS),
            ),
            Section("sentences", "In words", lines=primary),
        ],
    )


def _tiles(rows: list[dict[Any, Any]], *, withheld: bool) -> list[Tile]:
    if withheld:
        return [Tile("Verdicts", "withheld", "see the warning", "bad")]
    blocks = [int(row["blocks"]) for row in rows]
    fewest = f"{min(blocks)}" if blocks else "0"
    unsure = sum(row["verdict"] not in (*DIFFERENT, Verdict.EQUIVALENT) for row in rows)
    twins = {users(row["load"]) for row in rows if row["twin"]}
    return [
        Tile(
            "Blocks",
            fewest,
            "the fewest that a ratio is from",
            "good" if min(blocks, default=0) >= 6 else "bad",
        ),
        Tile("Inconclusive", f"{unsure} of {len(rows)}", "ratios that the runs cannot judge", ""),
        *(
            [
                Tile(
                    "Twin",
                    "quiet",
                    f"the reference, run twice, does not differ at {', '.join(sorted(twins))}",
                    "good",
                )
            ]
            if twins
            else []
        ),
    ]


def _drawn(rows: list[dict[Any, Any]], metric: str) -> list[dict[Any, Any]]:
    return [row for row in rows if (row["metric"], row["stat"]) in _FIGURES and row["metric"] == metric]


def _picture(rows: list[dict[Any, Any]], rules: Rules, answer: str) -> Picture:
    shown = {metric: _drawn(rows, metric)[:_MOST_ROWS] for metric in (LATENCY, THROUGHPUT)}
    values = [row[name] for its in shown.values() for row in its for name in ("ratio", "low", "high")]
    ends = [value for value in values if math.isfinite(value) and value > 0]
    more = max(len(_drawn(rows, metric)) for metric in shown) - _MOST_ROWS
    return Picture(
        title=answer.rstrip("."),
        alt="Ratios with intervals. "
        + " ".join(
            f"{_name(row)}, {_figure(row)}: {_within(row)}, {row['verdict']}."
            for its in shown.values()
            for row in its
        ),
        panels=[
            Panel(
                _figure(its[0]),
                _panel(its, ends, rules.delta(metric), f"compared-{metric.partition('_')[0]}"),
            )
            for metric, its in shown.items()
            if its
        ],
        table=ratios.table(pd.DataFrame(rows)),
        keys=[
            mark_key("too small to matter", _BAND, line=9),
            mark_key("better", _BETTER, marker="o"),
            mark_key("worse", _WORSE, marker="s"),
            mark_key("no clear difference", _INK, marker="D", hollow=True),
        ],
        note=f"{more} more rows are in the table." if more > 0 else "",
    )


def _panel(rows: list[dict[Any, Any]], ends: Sequence[float], delta: float, name: str) -> str:
    fig, ax = rows_figure([_name(row) for row in rows], ratios.AXES[rows[0]["metric"]])
    ratio_axis(ax, ends)
    ax.axvspan(1 / (1 + delta), 1 + delta, color=_BAND, linewidth=0, zorder=0)
    for place, row in enumerate(rows):
        colour, marker = _look(row)
        span(ax, place + MARK_AT, row["low"], row["high"], colour)
        face = colour if colour != _INK else "#ffffff"
        if math.isfinite(row["ratio"]):
            dot: dict[str, Any] = {"marker": marker, "markerfacecolor": face, "markeredgecolor": colour}
            ax.plot(row["ratio"], place + MARK_AT, markersize=7, zorder=5, **dot)
        write(ax, 1.0, place + NAME_AT, str(row["verdict"]), ha="right", color="#555555")
    return markup(fig, name)


def _look(row: dict[Any, Any]) -> tuple[str, str]:
    verdict = str(row["verdict"])
    if verdict not in DIFFERENT:
        return _INK, "D"
    return (_BETTER, "o") if verdict.startswith(Verdict.FASTER) else (_WORSE, "s")


def _name(row: dict[Any, Any]) -> str:
    return f"{row['arm']} / {row['reference']}, {users(row['load'])}"


def _figure(row: dict[Any, Any]) -> str:
    return _FIGURES[row["metric"], row["stat"]]


def _within(row: dict[Any, Any]) -> str:
    return ratio_interval(row["ratio"], row["low"], row["high"])
