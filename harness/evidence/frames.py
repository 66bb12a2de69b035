"""Rows of a study or of the faults as a frame, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, TypeVar

import pandas as pd

from harness.numbers import percent

Row = TypeVar("Row")


def frame(row_type: type[Any], rows: Iterable[Any]) -> pd.DataFrame:
    """A line for each row, a column for every field of the dataclass."""
    columns = [field.name for field in dataclasses.fields(row_type)]
    return pd.DataFrame([dataclasses.asdict(row) for row in rows], columns=columns)


def rows(row_type: type[Row], found: pd.DataFrame) -> list[Row]:
    """The rows of such a frame."""
    return [row_type(**{str(name): value for name, value in row.items()}) for row in found.to_dict("records")]


def range_of(shares: pd.Series[float]) -> str:
    """Such as "4.1 % to 5.3 %"."""
    return f"{percent(shares.min())} to {percent(shares.max())}" if len(shares) else "nothing"
