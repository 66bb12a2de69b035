"""The sentences of a capacity report. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from harness.analysis import stats
from harness.analysis.slo import Objective
from harness.capacity.arms import AT_LEAST, AT_MOST, SEPARATOR, TOO_FEW, TOO_WIDE
from harness.capacity.breaking import Part
from harness.numbers import counted, three_digits


def finding(table: pd.DataFrame, objectives: Sequence[Objective]) -> str:
    """The headline: the highest promise that can be planned with, and the objectives it covers."""
    rows = table.to_dict("records")
    promised = [row for row in rows if row["promise_per_s"] > 0 and not doubt(row)]
    if not promised:
        return _no_promise(rows, " and ".join(map(str, objectives)))
    best = max(promised, key=lambda row: float(row["promise_per_s"]))
    rate = three_digits(best["promise_per_s"])
    return f"{best['arm']} can promise {rate} requests/s with {kept([best], objectives)}."


def _no_promise(rows: Sequence[Mapping[Any, Any]], wanted: str) -> str:
    doubted = [row for row in rows if doubt(row)]
    if doubted:
        best = max(doubted, key=lambda row: float(row["capacity_per_s"]))
        which = "The highest estimate" if len(rows) > 1 else "The estimate"
        estimate = f"{three_digits(best['capacity_per_s'])} requests/s with {best['arm']}"
        return f"No rate can be promised yet. {which} is {estimate}, but {doubt(best)}."
    limited = [str(row["arm"]) for row in rows if _is_limited(row)]
    if limited:
        return f"No rate can be promised: the load generator was the limit with {' and '.join(limited)}."
    if all(pd.isna(row["promise_per_s"]) for row in rows):
        return f"No arm could be judged by {wanted}: see the warnings."
    return f"No arm keeps {wanted} at any rate tried."


def doubt(row: Mapping[Any, Any]) -> str:
    """Why not to plan with an arm's promise; empty without a reason."""
    if row.get("doubt") == TOO_FEW:
        blocks = f"{counted(int(row['blocks']), 'confirming block')} {'is' if row['blocks'] == 1 else 'are'}"
        return f"{blocks} too few for a promise, which needs at least {stats.FEWEST_BLOCKS_FOR_VERDICT}"
    if row.get("doubt") == TOO_WIDE:
        return f"the 95 % interval is too wide for a promise ({_width(row)})"
    return ""


def _width(row: Mapping[Any, Any]) -> str:
    if math.isinf(row["high_per_s"]):
        return "it has no upper end"
    return f"its upper end is {row['high_per_s'] / row['low_per_s']:.1f} times the lower"


def notes(table: pd.DataFrame) -> list[str]:
    """For each arm in doubt, why not to plan with its promise."""
    return [f"{row['arm']}: {doubt(row)}" for row in table.to_dict("records") if doubt(row)]


_GREW = {
    Part.QUEUE: "the wait in the queue",
    Part.MODEL: "the model",
    Part.LOOP: "the wait for the event loop",
    Part.IO: "the I/O",
    Part.CLIENT: "the wait in the load generator",
    Part.DATABASE: "the database",
    Part.SERVER: "the server",
}


def kept(rows: Sequence[Mapping[Any, Any]], objectives: Sequence[Objective]) -> str:
    """The objectives that all these arms keep at their capacities, then those not judged in every arm."""
    cells = [row.get("not_judged") for row in rows]
    missing = {one for text in cells if isinstance(text, str) for one in text.split(SEPARATOR)}
    judged = " and ".join(one for one in map(str, objectives) if one not in missing)
    unjudged = " and ".join(one for one in map(str, objectives) if one in missing)
    return f"{judged} (not judged, too few requests: {unjudged})" if unjudged else judged


def sentences(row: Mapping[Any, Any], reference: str) -> str:
    """Describe one arm: its capacity, its ratio to the reference, and why it missed an objective."""
    parts = [_capacity_words(row), _ratio_words(row, reference), _failure_words(row)]
    return " ".join(f"{part}." for part in parts if part)


def _capacity_words(row: Mapping[Any, Any]) -> str:
    arm = row["arm"]
    if pd.isna(row["capacity_per_s"]):
        if row["bound"] == AT_MOST:
            lowest = three_digits(row["high_per_s"])
            return f"{arm} missed an objective at every rate tried; the lowest was {lowest} requests/s"
        return f"The capacity of {arm} is unknown"
    rate = three_digits(row["capacity_per_s"])
    if row["bound"] == AT_LEAST:
        doubted = f"; do not plan with it: {doubt(row)}" if doubt(row) else ""
        return f"{arm} handles at least {rate} requests/s, {_why_at_least(row)}{doubted}"
    if row["bound"] == AT_MOST:
        return f"{arm} handles less than {rate} requests/s, the lowest rate tried"
    low, high = _end(row["low_per_s"]), _end(row["high_per_s"])
    handles = f"{arm} handles {rate} requests/s (95 % interval {low} to {high}), limited by {row['binds']}"
    if pd.isna(row["promise_per_s"]):
        return f"{arm} handles about {rate} requests/s; one block gives no interval, so there is no promise"
    promise = three_digits(row["promise_per_s"])
    if doubt(row):
        return f"{handles}; do not plan with {promise}, the lower end: {doubt(row)}"
    return f"{handles}; promise {promise}, the lower end"


def _why_at_least(row: Mapping[Any, Any]) -> str:
    if pd.isna(row["broke_at_per_s"]):
        return "the highest rate tried, and kept every objective there"
    if _is_limited(row):
        return "beyond which the load generator is the limit"
    return "the highest rate at which it kept every objective"


def _is_limited(row: Mapping[Any, Any]) -> bool:
    """Whether the load generator missed the objectives, so that the arm's capacity is a lower bound."""
    return bool(row["bound"] == AT_LEAST and row["broke_first"] == Part.CLIENT)


def _ratio_words(row: Mapping[Any, Any], reference: str) -> str:
    if pd.isna(row["ratio"]):
        return ""
    low, high = _ratio_end(row["ratio_low"]), _ratio_end(row["ratio_high"])
    return f"Its capacity is {row['ratio']:.2f} times ({low} to {high}) that of {reference}: {row['verdict']}"


def _failure_words(row: Mapping[Any, Any]) -> str:
    if pd.isna(row["broke_at_per_s"]) or not row["broke_first"]:
        return ""
    part = str(row["broke_first"])
    how = str(row["how_it_broke"])
    head, _, words = how.partition(": ")  # the part, or "errors"
    if part == Part.CLIENT != head:
        words = f"an objective was missed because {how}"
    elif part in set(Part):
        words = f"{_GREW[Part(part)]} grew most: {words}"
    return f"At {three_digits(row['broke_at_per_s'])} requests/s, {words}"


def _end(rate_per_s: float) -> str:
    if math.isinf(rate_per_s):
        return "beyond the rates tried"
    return three_digits(rate_per_s) if rate_per_s else "below the rates tried"


def _ratio_end(ratio: float) -> str:
    return f"{ratio:.2f}" if math.isfinite(ratio) else "unknown"
