"""The cells of a capacity run's tables, on the screen and on the page."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from harness.capacity.arms import AT_MOST
from harness.numbers import MISSING, or_missing, three_digits

Row = Mapping[Any, Any]  # of `arms.COLUMNS`


def promise(row: Row) -> str:
    """The promise, with the doubt in it."""
    doubt = row["doubt"]
    return rate(row["promise_per_s"]) + (f" ({doubt})" if isinstance(doubt, str) and doubt else "")


def capacity(row: Row) -> str:
    """The capacity with its interval."""
    if math.isnan(row["capacity_per_s"]):
        return f"below {rate(row['high_per_s'])}" if row["bound"] == AT_MOST else MISSING
    bound = f"{row['bound']} " if row["bound"] else ""
    return f"{bound}{rate(row['capacity_per_s'])} [{rate(row['low_per_s'])}, {rate(row['high_per_s'])}]"


def ratio(row: Row) -> str:
    """The ratio to the reference with its interval."""
    if math.isnan(row["ratio"]):
        return MISSING
    return f"{row['ratio']:.2f} [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]"


def limits(row: Row, names: Collection[str], closed_limited: Collection[str]) -> list[str]:
    """What limits the arm, and these figures; the client may have been the limit of the closed loop."""
    texts = [text(row[name]) for name in ("binds", "broke_first")]
    least = {"closed_per_s": "≥"} if row["arm"] in closed_limited else {}
    return [*texts, *(f"{least.get(name, '')}{rate(row[name])}" for name in names)]


def rate(value: float) -> str:
    return or_missing(value, three_digits)


def text(value: Any) -> str:
    return value if isinstance(value, str) and value else MISSING
