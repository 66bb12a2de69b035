"""Convert the rows of a study or of faults to a frame and back; format shares and their bounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import pandas as pd
from scipy import stats as scipy_stats

from harness.analysis.stats import LEVEL
from harness.numbers import percent
from harness.report import markdown

Row = TypeVar("Row")


def frame(row_type: type[Any], rows: Iterable[Any]) -> pd.DataFrame:
    """A frame with one line per row and one column per field of the dataclass."""
    columns = [field.name for field in dataclasses.fields(row_type)]
    return pd.DataFrame([dataclasses.asdict(row) for row in rows], columns=columns)


def rows(row_type: type[Row], found: pd.DataFrame) -> list[Row]:
    """The rows of such a frame."""
    return [row_type(**row) for row in records(found)]


def records(found: pd.DataFrame) -> list[dict[str, Any]]:
    """The lines of a frame as dicts."""
    return [{str(name): value for name, value in row.items()} for row in found.to_dict("records")]


def table_of(lines: Sequence[Mapping[str, object]]) -> str:
    """A Markdown table of at least one line; all lines must have the same columns."""
    return markdown.table(list(lines[0]), [list(line.values()) for line in lines])


def range_of(shares: pd.Series[float]) -> str:
    """Such as "4.1 % to 5.3 %"."""
    return f"{percent(shares.min())} to {percent(shares.max())}" if len(shares) else "nothing"


def by_blocks(found: pd.DataFrame, column: str) -> str:
    """A share for each number of blocks, such as "4.1% (10), 5.3% (16) of (blocks)"."""
    shares = zip(found[column], found["blocks"], strict=True)
    return ", ".join(f"{share:.1%} ({blocks})" for share, blocks in shares) + " of (blocks)"


def exact_bounds(which: Any) -> tuple[float, float]:
    """The exact binomial 95 % bounds of the share of true values; the column must not be empty."""
    bounds = scipy_stats.binomtest(int(which.sum()), len(which)).proportion_ci(LEVEL)
    return float(bounds.low), float(bounds.high)
