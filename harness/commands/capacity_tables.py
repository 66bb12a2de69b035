"""A capacity report as the terminal shows it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Column, Table
from rich.text import Text

from harness.capacity.arms import AT_MOST
from harness.commands.ranking_tables import advised
from harness.commands.screen import spaced
from harness.commands.tables import opening
from harness.numbers import or_missing, three_digits
from harness.system.printable import one_line

if TYPE_CHECKING:
    from rich.console import RenderableType

    from harness.capacity.report import Report


def render(report: Report) -> Iterator[RenderableType]:
    """The promise, how good the machine was, the arms, each in a sentence, and what to do."""
    yield from opening(report.finding, report.machine, (), report.warnings)
    rows = report.capacity.to_dict("records")
    yield _rates(rows, report.reference)
    yield _how(rows)
    yield Text()
    yield from (Text(one_line(sentence)) for sentence in report.sentences)
    yield from advised(report.advised)


def _rates(rows: list[dict[Any, Any]], reference: str) -> Table:
    figures = [Column(head, justify="right") for head in ("promise", "capacity [95 %]", "x")]
    title = f"Requests a second, Poisson; x: times {reference} [95 % interval]"
    table = spaced(title, "arm", *figures, "verdict")
    for row in rows:
        table.add_row(row["arm"], _promise(row), _capacity(row), _ratio(row), str(row["verdict"]))
    return table


def _how(rows: list[dict[Any, Any]]) -> Table:
    figures = {
        "at": "broke_at_per_s",
        "knee": "knee_per_s",
        "good": "goodput_per_s",
        "closed loop": "closed_per_s",
        "lone ms": "lone_ms",
    }
    title = "How it comes to its end (good: good answers in time, a second, at the capacity)"
    heads = (Column(head, justify="right") for head in figures)
    table = spaced(title, "arm", "binds", "broke first", *heads)
    for row in rows:
        texts = (_text(row[name]) for name in ("binds", "broke_first"))
        table.add_row(row["arm"], *texts, *(_rate(row[name]) for name in figures.values()))
    return table


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
