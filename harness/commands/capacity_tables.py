"""Show a capacity report in the terminal."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from harness.capacity import cells
from harness.commands import brief as brief_
from harness.commands.brief_table import cut, environments_of
from harness.commands.ranking_tables import advised
from harness.commands.screen import plain_table, right, spaced, titled
from harness.commands.tables import opening
from harness.system.printable import one_line

if TYPE_CHECKING:
    from rich.console import RenderableType

    from harness.capacity.report import Report


def render(report: Report) -> Iterator[RenderableType]:
    """Yield the headline, the state of the machine, the tables, a text for each arm, and the advice."""
    yield from opening(report.finding, report.machine, (), report.warnings)
    rows = _records(report)
    yield _rates(rows, report.reference)
    yield from (Text(line) for line in RATES_LEGEND)
    yield _limits(rows, report.closed_limited)
    yield from (Text(line) for line in LIMITS_LEGEND)
    if report.closed_limited:
        yield Text(CLOSED_LIMITED)
    yield from environments_of(report.evidence)
    yield Text()
    yield from (Text(one_line(text)) for text in report.sentences)
    yield from advised(report.advised)


def brief(report: Report) -> Iterator[RenderableType]:
    """Yield the answer, how far to trust it, the rates, and the advice; without one, a text for each arm."""
    yield from brief_.opening(report)
    rows = [row | {"arm": cut(one_line(str(row["arm"])), WIDEST_NAME)} for row in _records(report)]
    yield _rates(rows, cut(one_line(report.reference), WIDEST_NAME))
    yield from (Text(line) for line in RATES_LEGEND)
    yield from environments_of(report.evidence)
    if not report.advised.take:
        yield from (Text(brief_.shortened(text, SENTENCE_LINES)) for text in report.sentences)
    yield from brief_.advised(report.advised)


def _records(report: Report) -> list[dict[Any, Any]]:
    return report.capacity.to_dict("records")


WIDEST_NAME = 18  # of an arm in the short report
SENTENCE_LINES = 2  # of an arm in the short report, which has them if no arm is advised
RATES_LEGEND = (
    "capacity: the highest rate that keeps every objective",
    "promise: the lower end of that interval, rounded down: the rate to plan with",
)
LIMITS_LEGEND = (
    "limiting objective: the first that fails as the rate rises",
    "fails at: the rate near the capacity at which an objective failed",
    "grew most: the part of a request that grew most there, or the commonest error",
    "knee: the rate above which latency rises steeply",
    "in time: good answers/s within the latency objective, at the capacity",
    "closed: requests/s of the closed loop, where users wait for their answers",
    "1 user ms: mean latency of a single user",
)
CLOSED_LIMITED = "≥: the load generator was the limit in the closed loop"


def _rates(rows: list[dict[Any, Any]], reference: str) -> Table:
    heads = ("promise", "capacity [95 %]", f"ratio to {reference}")
    columns = [Column(head, justify="right") for head in heads]
    table = spaced("Requests/s under Poisson arrivals", "arm", *columns, "verdict")
    for row in rows:
        figures = (cells.promise(row), cells.capacity(row), cells.ratio(row))
        table.add_row(row["arm"], *figures, str(row["verdict"]))
    return table


def _limits(rows: list[dict[Any, Any]], closed_limited: Collection[str]) -> Group:
    figures = {
        "fails at": "broke_at_per_s",
        "knee": "knee_per_s",
        "in time": "goodput_per_s",
        "closed": "closed_per_s",
        "1 user ms": "lone_ms",
    }
    table = plain_table("arm", "limiting objective", "grew most", *map(right, figures))
    for row in rows:
        table.add_row(row["arm"], *cells.limits(row, figures.values(), closed_limited))
    return titled("What limits each arm (requests/s)", table)
