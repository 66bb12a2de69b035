"""The page of a capacity run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from harness.analysis import slo
from harness.capacity import cells, chart
from harness.capacity.report import Report
from harness.numbers import three_digits
from harness.report.charts.page import log_axis
from harness.report.page import again, terms, trust
from harness.report.page.drawing import (
    MARK_AT,
    NAME_AT,
    figure,
    finite,
    looks,
    mark_key,
    markup,
    name_axes,
    rows_figure,
    size_axis,
    span,
    write,
)
from harness.report.page.parts import Page, Panel, Picture, Section, Table, Tile

_HEIGHT_IN = 2.7


def page(report: Report, files: list[str]) -> Page:
    """The page of a capacity report. `files`: the names of the files in the run's folder."""
    rows = report.capacity.to_dict("records")
    sections = [
        Section(
            "capacity",
            "The capacity of each arm",
            [_capacity(report, rows)],
            tables=[_rates(report, rows)],
            lines=report.evidence.environments(),
            terms=terms.of("capacity", "promise", "interval", "open loop"),
        ),
        Section("rates", "Latency against rate", _latency(report, rows)),
        Section("limits", "What limits each arm", tables=[_limits(report, rows)], lines=report.sentences),
        Section("advice", "What to do", lines=list(report.advised.lines), command=report.advised.command),
        again.section(report.record, report.folder, files, command="capacity"),
    ]
    return Page(
        title="capacity: executor-bench report",
        about=f"objectives: {', '.join(map(str, report.objectives))}",
        answer=report.finding,
        take=report.advised.take,
        how="",
        reasons=[],
        tiles=[*trust.machine_tile(report), *trust.blocks_tile(report), _client(report)],
        warnings=report.warnings,
        notes=[],
        sections=[
            section for section in sections if section.heading != "Latency against rate" or section.pictures
        ],
    )


def _client(report: Report) -> Tile:
    if report.limited:
        return Tile("Load generator", "is the limit", f"of {', '.join(report.limited)}", "bad")
    return Tile("Load generator", "not the limit", "every capacity is the server's own", "good")


def _capacity(report: Report, rows: list[dict[Any, Any]]) -> Picture:
    """A row for each arm: its capacity with its interval, on one scale."""
    shown = looks([str(row["arm"]) for row in rows])
    fig, ax = rows_figure([str(row["arm"]) for row in rows], "requests/s under Poisson arrivals")
    names = ("capacity_per_s", "low_per_s", "high_per_s")
    size_axis(ax, "x", finite([row[name] for row in rows for name in names]))
    for place, row in enumerate(rows):
        look = shown[str(row["arm"])]
        span(ax, place + MARK_AT, row["low_per_s"], row["high_per_s"], look.colour)
        if math.isfinite(row["capacity_per_s"]):
            ax.plot(row["capacity_per_s"], place + MARK_AT, zorder=5, **look.dot)
        write(ax, 1.0, place + NAME_AT, cells.capacity(row), ha="right", color="#555555")
    return Picture(
        title=report.finding.rstrip("."),
        alt="Capacity of each arm with its interval: "
        + "; ".join(f"{row['arm']} {cells.capacity(row)} requests/s" for row in rows)
        + ".",
        panels=[Panel("Capacity [95 % interval]", markup(fig, "capacity"))],
        table=_rates(report, rows),
    )


def _latency(report: Report, rows: list[dict[Any, Any]]) -> list[Picture]:
    """Each window's latency against its rate, a panel for each arm; all panels share both scales."""
    windows = report.windows
    drawn = windows[np.isfinite(windows["latency_ms"].astype(float))]
    arms = [row for row in rows if (drawn["arm"] == row["arm"]).any()]
    if not arms:
        return []
    objective = slo.charted(report.objectives)
    marks = [chart.marks_of(drawn[drawn["arm"] == row["arm"]], row, objective) for row in arms]
    right = max(chart.right_edge(its) for its in marks)
    latencies = finite([*drawn["latency_ms"].astype(float), objective.limit])
    what = "mean" if objective.percent is None else f"p{objective.percent:g}"
    panels = [
        Panel(str(row["arm"]), _panel(its, right, latencies, what, f"rate-{number}"))
        for number, (row, its) in enumerate(zip(arms, marks, strict=True))
    ]
    best = max(arms, key=lambda row: -1.0 if math.isnan(row["capacity_per_s"]) else row["capacity_per_s"])
    best_per_s = cells.rate(best["capacity_per_s"])
    return [
        Picture(
            title=f"{best['arm']} keeps every objective up to {best_per_s} requests/s",
            alt=f"{what} latency of each window against its rate. "
            + " ".join(
                f"{row['arm']}: {int((drawn['arm'] == row['arm']).sum())} windows, "
                f"capacity {cells.capacity(row)} requests/s."
                for row in arms
            ),
            panels=panels,
            table=Table(
                ["arm", "window", "requests/s", f"{what}, ms", "failed"],
                [
                    [
                        str(row["arm"]),
                        "confirming" if row["confirms"] else "given up" if row["gave_up"] else "search",
                        three_digits(row["rate_per_s"]),
                        three_digits(row["latency_ms"]),
                        str(int(row["failed"])),
                    ]
                    for row in drawn.to_dict("records")
                ],
                words=2,
            ),
            keys=[
                mark_key("objective", "#d55e00", line=1.6),
                mark_key("window of the search", "#00324f", marker="o", hollow=True),
                mark_key("confirming window", "#00324f", marker="o"),
                mark_key("capacity, in the band of its interval", "#00324f", line=2.0),
            ],
            note="Knee (triangle): the rate with the most good answers per second per mean latency.",
        )
    ]


def _panel(marks: Mapping[str, Any], right: float, latencies: Any, what: str, name: str) -> str:
    fig, ax = figure(_HEIGHT_IN)
    chart.draw_panel(ax, marks, right)
    log_axis(ax, "y", latencies)
    _name(ax, what)
    return markup(fig, name)


def _name(ax: Axes, what: str) -> None:
    name_axes(ax, x="requests/s", y=f"{what} latency (ms, log scale)")


def _rates(report: Report, rows: list[dict[Any, Any]]) -> Table:
    return Table(
        ["arm", "verdict", "promise", "capacity [95 %]", f"ratio to {report.reference}"],
        [
            [str(row["arm"]), str(row["verdict"]), cells.promise(row), cells.capacity(row), cells.ratio(row)]
            for row in rows
        ],
        words=2,
    )


def _limits(report: Report, rows: list[dict[Any, Any]]) -> Table:
    figures = {
        "fails at, requests/s": "broke_at_per_s",
        "knee, requests/s": "knee_per_s",
        "in time at the capacity, requests/s": "goodput_per_s",
        "closed loop, requests/s": "closed_per_s",
        "one user, ms": "lone_ms",
    }
    return Table(
        ["arm", "limiting objective", "grew most", *figures],
        [[str(row["arm"]), *cells.limits(row, figures.values(), report.closed_limited)] for row in rows],
        words=3,
    )
