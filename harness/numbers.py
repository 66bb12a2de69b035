"""Numbers for people: how many decimals, what stands for a missing one, ratios with their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

MISSING = "-"


def rounded(value: float, *bounds: float, sign: str = "") -> str:
    """`value` with one decimal for each of `bounds` that it is below: rounded(9.46, 100, 10) is "9.46".

    `sign` as in a format: "+" shows it of positive numbers too. There is no "-0.0".
    """
    digits = sum(abs(value) < bound for bound in bounds)
    return f"{value:{sign}z.{digits}f}"


def short(value: float) -> str:
    """Two digits that count: "4.6", "46"."""
    return rounded(value, 10)


def three_digits(value: float) -> str:
    """Three digits that count: "4.63", "46.3", "463"."""
    return rounded(value, 100, 10)


def rate(value: float) -> str:
    """Of requests/s, and of ms in a table or a chart: "46.3", "463"."""
    return rounded(value, 100)


def milliseconds(value: float) -> str:
    """In a chart: "46.3", "463", "4,630"."""
    return f"{value:,.{int(value < 100)}f}"


def ratio(value: float) -> str:
    """A ratio in a table or a sentence: "1.59", "15.9"."""
    return rounded(value, math.inf, 9.995)


def fine_ratio(value: float) -> str:
    """With three decimals near 1, where two would hide on which side of it a bound lies."""
    return f"{value:.3f}" if 0.9 < value < 1.1 else f"{value:.2f}"


def figure(value: float, sign: str = "") -> str:
    """A figure of any unit in a sentence: "4.63", "46.3", "4630"; `sign` as in `rounded`."""
    return rounded(value, 1000, 10, sign=sign)


def interval(low: float, high: float, show: Callable[[float], str] = ratio) -> str:
    """Such as " [1.56, 1.63]", with its space; "" where it is not known."""
    return f" [{show(low)}, {show(high)}]" if math.isfinite(low + high) else ""


def ratio_interval(value: float, low: float, high: float, between: str = "") -> str:
    """Such as "1.59 [1.56, 1.63]", `between` before the bracket; "-" for NaN."""
    return MISSING if math.isnan(value) else f"{ratio(value)}{between}{interval(low, high)}"


def times(value: float, low: float, high: float) -> str:
    """Such as "1.59 times [1.56, 1.63]"."""
    return ratio_interval(value, low, high, " times")


def or_missing(value: float, show: Callable[[float], str]) -> str:
    """As `show` writes it; "-" for NaN."""
    return MISSING if math.isnan(value) else show(value)


def cell(value: Any, digits: int = 1) -> str:
    """A cell of a table: words and whole numbers as they are, "-" for NaN, no decimals from 1000 on."""
    if isinstance(value, int | str):
        return str(value)
    return or_missing(value, lambda number: rounded(number, *[1000] * digits))


def share(value: float) -> str:
    """A share in a table, such as "38 %"; "-" for NaN."""
    return or_missing(value, lambda number: percent(number, 0))


def counted(number: int, what: str) -> str:
    """Such as "1 block", "2 blocks"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def percent(share: float, digits: int = 1) -> str:
    """0.034 is "3.4 %"."""
    return f"{100 * share:.{digits}f} %"


def users(load: object) -> str:
    """A load for people: "c = 32" for "closed(32)", any other law as it is."""
    law, _, rest = str(load).partition("(")
    return f"c = {rest.removesuffix(')')}" if law == "closed" and rest[:-1].isdigit() else str(load)


def plain(data: Any) -> Any:
    """Data as JSON takes it: NaN and infinity are None, an enum's member is its word."""
    if isinstance(data, Mapping):
        return {str(name): plain(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [plain(value) for value in data]
    value = data.item() if hasattr(data, "item") else data
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, str) else value


def plain_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame, for JSON."""
    return [plain(row) for row in table.to_dict("records")]
