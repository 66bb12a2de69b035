"""Show a capacity report in the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from harness.capacity.arms import AT_MOST
from harness.commands.ranking_tables import advised
from harness.commands.screen import plain_table, right, spaced, titled
from harness.commands.tables import opening
from harness.numbers import or_missing, three_digits
from harness.system.printable import one_line

if TYPE_CHECKING:
    from rich.console import RenderableType

    from harness.capacity.report import Report


def render(report: Report) -> Iterator[RenderableType]:
    """Yield the headline, the state of the machine, the tables, a text for each arm, and the advice."""
    yield from opening(report.finding, report.machine, (), report.warnings)
    rows = report.capacity.to_dict("records")
    yield _rates(rows, report.reference)
    yield from (Text(line) for line in RATES_LEGEND)
    yield _limits(rows)
    yield from (Text(line) for line in LIMITS_LEGEND)
    yield Text()
    yield from (Text(one_line(text)) for text in report.sentences)
    yield from advised(report.advised)


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


def _rates(rows: list[dict[Any, Any]], reference: str) -> Table:
    heads = ("promise", "capacity [95 %]", f"ratio to {reference}")
    figures = [Column(head, justify="right") for head in heads]
    table = spaced("Requests/s under Poisson arrivals", "arm", *figures, "verdict")
    for row in rows:
        table.add_row(row["arm"], _promise(row), _capacity(row), _ratio(row), str(row["verdict"]))
    return table


def _limits(rows: list[dict[Any, Any]]) -> Group:
    figures = {
        "fails at": "broke_at_per_s",
        "knee": "knee_per_s",
        "in time": "goodput_per_s",
        "closed": "closed_per_s",
        "1 user ms": "lone_ms",
    }
    table = plain_table("arm", "limiting objective", "grew most", *map(right, figures))
    for row in rows:
        texts = (_text(row[name]) for name in ("binds", "broke_first"))
        table.add_row(row["arm"], *texts, *(_rate(row[name]) for name in figures.values()))
    return titled("What limits each arm (requests/s)", table)


def _promise(row: Mapping[Any, Any]) -> str:
    doubt = row["doubt"]
    return _rate(row["promise_per_s"]) + (f" ({doubt})" if isinstance(doubt, str) and doubt else "")


def _capacity(row: Mapping[Any, Any]) -> str:
    if math.isnan(row["capacity_per_s"]):
        return f"below {_rate(row['high_per_s'])}" if row["bound"] == AT_MOST else "-"
    bound = f"{row['bound']} " if row["bound"] else ""
    ends = f" [{_rate(row['low_per_s'])}, {_rate(row['high_per_s'])}]"
    return f"{bound}{_rate(row['capacity_per_s'])}{ends}"


def _ratio(row: Mapping[Any, Any]) -> str:
    if math.isnan(row["ratio"]):
        return "-"
    return f"{row['ratio']:.2f} [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]"


def _rate(value: float) -> str:
    return or_missing(value, three_digits)


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value else "-"
