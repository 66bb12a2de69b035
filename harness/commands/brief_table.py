"""The one table of the short report: the arms under the load that decides."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.table import Column
from rich.text import Text

from harness.analysis.stats import Verdict
from harness.analysis.summaries import THROUGHPUT
from harness.commands.screen import plain_table, titled
from harness.commands.terminal import PIPED_WIDTH
from harness.numbers import MISSING, or_missing, rate, ratio_interval, users
from harness.system.printable import one_line
from harness.verdicts import best_arm
from harness.verdicts.environments import MARK

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType

    from harness.report.report import Report
    from harness.verdicts.admissible import Evidence

MOST_ARMS = 10
MOST_ENVIRONMENTS, ENVIRONMENT_LINES = 2, 3
MOST_FACTS = 3  # of an environment
NARROWEST_NAME = 12
WIDEST_IN_TITLE = 20
LATENCIES = ("p50", "p95", "p99")
LEFT = ("ratio", "verdict")  # the other columns are aligned to the right

_MARKS = {
    Verdict.FASTER_SIZE_UNCERTAIN: f"{Verdict.FASTER}*",
    Verdict.SLOWER_SIZE_UNCERTAIN: f"{Verdict.SLOWER}*",
    Verdict.CLIENT_LIMITED: "limited",
}

Row = Mapping[Any, Any]


def arms(report: Report) -> Iterator[RenderableType]:
    """The arms under the load that decides; the loads, if there is only one arm. Nothing without figures."""
    summary = report.summary
    if summary.empty:
        return
    load = report.choice.load or best_arm.decisive(summary)[0]
    if summary["arm"].nunique() == 1:
        arm, rows = summary["arm"].iloc[0], summary.to_dict("records")
        yield _table(
            report,
            "load",
            [_shown(users(row["load"])) for row in rows],
            rows,
            cut(_shown(arm), WIDEST_IN_TITLE),
        )
        return
    rows = summary[summary["load"] == load].to_dict("records")
    shown = _first(report, rows)
    yield _table(
        report,
        "arm",
        [_shown(row["arm"]) for row in shown],
        shown,
        f"At {cut(_shown(users(load)), WIDEST_IN_TITLE)}",
    )
    if more := len(rows) - len(shown):
        yield Text(f"… {more} more: --full")
    yield from environments_of(report.evidence)


def environments_of(evidence: Evidence) -> Iterator[RenderableType]:
    """How the environments of the arms differ, in a few lines."""
    sentences = evidence.environments(MOST_FACTS)
    for sentence in sentences[:MOST_ENVIRONMENTS]:
        yield Text(shorten(f"{MARK} {one_line(sentence)}", ENVIRONMENT_LINES * PIPED_WIDTH, placeholder=" …"))
    if more := len(sentences) - MOST_ENVIRONMENTS:
        yield from [Text(f"{MARK} {more} more environments: --full")] if more > 0 else []


def _shown(arm: object) -> str:
    return one_line(str(arm))


def _first(report: Report, rows: Sequence[Row]) -> list[Row]:
    """The rows in the plan's order; of many, those of the choice and the reference, then the best."""
    if len(rows) <= MOST_ARMS:
        return [*rows]
    metric = report.choice.metric
    name, sign = ("latency_p50_ms", 1) if metric.lower_is_better else (THROUGHPUT, -1)
    best = sorted(rows, key=lambda row: (row["failed_trials"] > 0, _last_if_unknown(sign * row[name])))
    named = (report.choice.take, report.evidence.facts.reference)
    kept = [row for row in best if row["arm"] in named]
    kept += [row for row in best if row["arm"] not in named][: MOST_ARMS - len(kept)]
    return [row for row in best if any(row is one for one in kept)]


def _last_if_unknown(value: float) -> float:
    return math.inf if math.isnan(value) else value


# -- the table -----------------------------------------------------------------------------------------


def _table(
    report: Report, head: str, names: Sequence[str], rows: Sequence[Row], about: str
) -> RenderableType:
    columns = _columns(report, rows)
    room = PIPED_WIDTH - sum(max(map(cell_len, (name, *cells))) + 1 for name, cells in columns.items())
    names = [cut(name, max(NARROWEST_NAME, room)) for name in names]
    heads = [
        Column(name, justify="left" if name in LEFT else "right", no_wrap=True, overflow="fold")
        for name in columns
    ]
    shown = plain_table(Column(head, no_wrap=True, overflow="fold"), *heads)
    for row in zip(names, *columns.values(), strict=True):
        shown.add_row(*row)
    return titled("\n".join(_title(report, about, columns)), shown)


def cut(name: str, width: int) -> str:
    """The name, without its middle if it is wider than so many columns."""
    if cell_len(name) <= width:
        return name
    kept = len(name)
    while cell_len(short := f"{name[: -(-kept // 2)]}…{name[len(name) - kept // 2 :]}") > width:
        kept -= 1
    return short


def _columns(report: Report, rows: Sequence[Row]) -> dict[str, list[str]]:
    """The cells of each column that has figures."""
    lags = {(str(row["arm"]), str(row["load"])): row for row in report.costs.to_dict("records")}
    compared = _compared(report)
    places = [(str(row["arm"]), str(row["load"])) for row in rows]
    any_failed = any(row["failed"] for row in rows)
    rates, latencies = _bounded(rows, "≥"), _bounded(rows, "≤")
    columns = {
        "good/s" if any_failed else "req/s": rates(THROUGHPUT),
        "p50": latencies("latency_p50_ms"),
        "p95": latencies("latency_p95_ms"),
        "p99": latencies("latency_p99_ms"),
        "I/O": [or_missing(row["io_p50_ms"], rate) for row in rows],
        "loop": [or_missing(lags[place]["server_lag_p99_ms"], rate) for place in places],
        "fail": [str(row["failed"]) if any_failed else MISSING for row in rows],
        "ratio": [_ratio(compared.get(place)) for place in places],
        "verdict": [_verdict(report, place, compared.get(place)) for place in places],
    }
    return {name: cells for name, cells in columns.items() if set(cells) != {MISSING}}


def _bounded(rows: Sequence[Row], mark: str) -> Callable[[str], list[str]]:
    """Return how to format a figure of each row: `mark` precedes those that the load generator limits."""

    def cells(name: str) -> list[str]:
        return [
            (mark if row["client_limited"] and not math.isnan(row[name]) else "")
            + or_missing(row[name], rate)
            for row in rows
        ]

    return cells


def _compared(report: Report) -> dict[tuple[str, str], Row]:
    """The comparisons by the metric that decides, by arm and load."""
    table, metric = report.comparisons, report.choice.metric
    if table.empty:
        return {}
    rows: pd.DataFrame = table[(table["metric"] == metric.name) & (table["stat"] == metric.stat)]
    return {(str(row["arm"]), str(row["load"])): row for row in rows.to_dict("records")}


def _ratio(row: Row | None) -> str:
    return MISSING if row is None else ratio_interval(row["ratio"], row["low"], row["high"])


def _verdict(report: Report, place: tuple[str, str], row: Row | None) -> str:
    if row is not None:
        mark = MARK if report.evidence.apart(place[0]) else ""
        return _MARKS.get(row["verdict"], str(row["verdict"])) + mark
    arm, compared = place[0], len(report.comparisons)
    if arm == report.evidence.facts.reference and compared:
        return "reference"
    return "other work" if arm in report.evidence.other_work() else MISSING


def _title(report: Report, about: str, columns: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """What the figures are, and what the marks mean that occur."""
    known = [name for name in LATENCIES if name in columns]
    explained = {
        "p50": f"p50 to {known[-1]}: latency" if known[1:] else "p50: latency",
        "I/O": "I/O: median",
        "loop": "loop: p99 of the loop lag",
    }
    yield f"{about}, in ms; {'; '.join(words for name, words in explained.items() if name in columns)}"
    if "ratio" in columns:
        what = "median latency" if report.choice.metric.lower_is_better else "requests/s"
        level = f"{100 * report.comparisons['level'].iloc[0]:g} %"
        reference = cut(_shown(report.evidence.facts.reference), WIDEST_IN_TITLE)
        yield f"ratio: {what}, arm / {reference} [{level} interval]"
    if marks := "; ".join(_marks(report, columns)):
        yield marks


def _marks(report: Report, columns: Mapping[str, Iterable[str]]) -> Iterator[str]:
    cells = "".join(text for cells in columns.values() for text in cells)
    if "*" in cells:
        delta = 100 * report.evidence.facts.rules.delta(report.choice.metric.name)
        yield f"*: size uncertain, perhaps under {delta:g} %"
    if any(MISSING in columns.get(name, ()) for name in LATENCIES):
        yield f"{MISSING}: too few requests"
    if "≥" in cells or "≤" in cells:
        yield "≥ ≤: limited by the client"
