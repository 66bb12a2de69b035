"""Format numbers for people: decimals, missing values, ratios with intervals. Prepare data for JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

MISSING = "-"


def rounded(value: float, *bounds: float, sign: str = "") -> str:
    """Format with one decimal for each of `bounds` that `value` is below: rounded(9.46, 100, 10) is "9.46".

    `sign` is as in a format specification: "+" also shows the sign of positive numbers. The result is never
    "-0.0".
    """
    digits = sum(abs(value) < bound for bound in bounds)
    return f"{value:{sign}z.{digits}f}"


def short(value: float) -> str:
    """Format with two significant digits: "4.6", "46"."""
    return rounded(value, 10)


def three_digits(value: float) -> str:
    """Format with three significant digits: "4.63", "46.3", "463"."""
    return rounded(value, 100, 10)


def rate(value: float) -> str:
    """Format requests/s, or ms in a table or a chart: "46.3", "463"."""
    return rounded(value, 100)


def milliseconds(value: float) -> str:
    """Format ms in a chart: "46.3", "463", "4,630"."""
    return f"{value:,.{int(value < 100)}f}"


def ratio(value: float) -> str:
    """Format a ratio in a table or a sentence: "1.59", "15.9"."""
    return rounded(value, math.inf, 9.995)


def fine_ratio(value: float) -> str:
    """Format a ratio with three decimals near 1, where two would hide whether it is above or below 1."""
    return f"{value:.3f}" if 0.9 < value < 1.1 else f"{value:.2f}"


def figure(value: float, sign: str = "") -> str:
    """Format a number of any unit in a sentence: "4.63", "46.3", "4630"; `sign` as in `rounded`."""
    return rounded(value, 1000, 10, sign=sign)


def interval(low: float, high: float, show: Callable[[float], str] = ratio) -> str:
    """Format an interval with a leading space: " [1.56, 1.63]"; "" if it is unknown."""
    return f" [{show(low)}, {show(high)}]" if math.isfinite(low + high) else ""


def ratio_interval(value: float, low: float, high: float, between: str = "") -> str:
    """Format a ratio with its interval: "1.59 [1.56, 1.63]", `between` before the bracket; "-" for NaN."""
    return MISSING if math.isnan(value) else f"{ratio(value)}{between}{interval(low, high)}"


def times(value: float, low: float, high: float) -> str:
    """Format a ratio with its interval in a sentence: "1.59 times [1.56, 1.63]"."""
    return ratio_interval(value, low, high, " times")


def or_missing(value: float, show: Callable[[float], str]) -> str:
    """Format `value` with `show`; "-" for NaN."""
    return MISSING if math.isnan(value) else show(value)


def cell(value: Any, digits: int = 1) -> str:
    """Format a cell of a table: text and whole numbers unchanged, "-" for NaN, no decimals from 1000 on."""
    if isinstance(value, int | str):
        return str(value)
    return or_missing(value, lambda number: rounded(number, *[1000] * digits))


def share(value: float) -> str:
    """Format a share in a table: "38 %"; "-" for NaN."""
    return or_missing(value, lambda number: percent(number, 0))


def counted(number: int, what: str) -> str:
    """Format a number with its noun: "1 block", "2 blocks"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def percent(share: float, digits: int = 1) -> str:
    """Format a share as a percentage: 0.034 is "3.4 %"."""
    return f"{100 * share:.{digits}f} %"


def users(load: object) -> str:
    """Format a load: "c = 32" for "closed(32)", any other law unchanged."""
    law, _, rest = str(load).partition("(")
    return f"c = {rest.removesuffix(')')}" if law == "closed" and rest[:-1].isdigit() else str(load)


def plain(data: Any) -> Any:
    """Convert data to JSON types: NaN and infinity become None, enum members their values."""
    if isinstance(data, Mapping):
        return {str(name): plain(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [plain(value) for value in data]
    value = data.item() if hasattr(data, "item") else data
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, str) else value


def plain_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Convert the rows of a frame to JSON types."""
    return [plain(row) for row in table.to_dict("records")]
