"""What a capacity run says, in sentences. Pure."""

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
    """The highest promise to plan with, of the objectives that its arm was judged by."""
    rows = table.to_dict("records")
    promised = [row for row in rows if row["promise_per_s"] > 0 and not doubt(row)]
    if not promised:
        return _no_promise(rows, " and ".join(map(str, objectives)))
    best = max(promised, key=lambda row: float(row["promise_per_s"]))
    with_ = f" with {best['arm']}" if len(table) > 1 else ""
    return f"Promise {three_digits(best['promise_per_s'])} requests/s{with_}: {kept([best], objectives)}."


def _no_promise(rows: Sequence[Mapping[Any, Any]], wanted: str) -> str:
    doubted = [row for row in rows if doubt(row)]
    if doubted:
        best = max(doubted, key=lambda row: float(row["capacity_per_s"]))
        which = "The highest estimate" if len(rows) > 1 else "The estimate"
        estimate = f"{three_digits(best['capacity_per_s'])} requests/s with {best['arm']}"
        return f"No rate can be promised yet. {which} is {estimate}, but {doubt(best)}."
    if all(pd.isna(row["promise_per_s"]) for row in rows):
        return f"No arm was judged by {wanted}: see the warnings."
    return f"No arm keeps {wanted} at any rate that was tried."


def doubt(row: Mapping[Any, Any]) -> str:
    """Why not to plan with an arm's promise; empty without a reason."""
    if row.get("doubt") == TOO_FEW:
        blocks = f"{counted(int(row['blocks']), 'confirming block')} {'is' if row['blocks'] == 1 else 'are'}"
        return f"{blocks} too few for a promise, which takes at least {stats.FEWEST_BLOCKS_FOR_VERDICT}"
    if row.get("doubt") == TOO_WIDE:
        return f"an interval {_width(row)} is too wide for a promise"
    return ""


def _width(row: Mapping[Any, Any]) -> str:
    if math.isinf(row["high_per_s"]):
        return "without an upper end"
    return f"whose upper end is {row['high_per_s'] / row['low_per_s']:.1f} times the lower"


def notes(table: pd.DataFrame) -> list[str]:
    """Why not to plan with a promise, arm by arm; empty where every promise can be planned with."""
    return [f"{row['arm']}: {doubt(row)}" for row in table.to_dict("records") if doubt(row)]


def kept(rows: Sequence[Mapping[Any, Any]], objectives: Sequence[Objective]) -> str:
    """What these arms keep at their capacities, and what of it was not judged in one of them at least."""
    said = [row.get("not_judged") for row in rows]
    missing = {one for text in said if isinstance(text, str) for one in text.split(SEPARATOR)}
    judged = " and ".join(one for one in map(str, objectives) if one not in missing)
    unjudged = " and ".join(one for one in map(str, objectives) if one in missing)
    return f"{judged} (not judged, as the requests were too few: {unjudged})" if unjudged else judged


def sentence(row: Mapping[Any, Any], reference: str) -> str:
    parts = [_capacity_words(row), _ratio_words(row, reference), _broken_words(row)]
    return f"{'; '.join(filter(None, parts))}."


def _capacity_words(row: Mapping[Any, Any]) -> str:
    arm = row["arm"]
    if pd.isna(row["capacity_per_s"]):
        if row["bound"] == AT_MOST:
            lowest = three_digits(row["high_per_s"])
            return f"{arm} kept the objectives at no rate that was tried: the lowest was {lowest}/s"
        return f"Of {arm} nothing can be said"
    rate = three_digits(row["capacity_per_s"])
    if row["bound"] == AT_LEAST:
        unbroken = pd.isna(row["broke_at_per_s"])
        which = "tried: it was never in danger there" if unbroken else "that held"
        doubted = f"; do not plan with it: {doubt(row)}" if doubt(row) else ""
        return f"{arm} holds at least {rate} requests/s, the highest rate {which}{doubted}"
    if row["bound"] == AT_MOST:
        return f"{arm} holds less than {rate} requests/s, the lowest rate tried"
    low, high = _end(row["low_per_s"]), _end(row["high_per_s"])
    held = f"{arm} holds {rate} requests/s (95 % interval {low} to {high}) before {row['binds']} breaks"
    if pd.isna(row["promise_per_s"]):
        return f"{arm} holds about {rate} requests/s; one block gives no interval, so nothing to promise"
    promise = three_digits(row["promise_per_s"])
    if doubt(row):
        return f"{held}; do not plan with {promise}, the lower end: {doubt(row)}"
    return f"{held}: promise {promise}, the lower end"


def _ratio_words(row: Mapping[Any, Any], reference: str) -> str:
    if pd.isna(row["ratio"]):
        return ""
    low, high = _ratio_end(row["ratio_low"]), _ratio_end(row["ratio_high"])
    return f"{row['ratio']:.2f}x {reference} ({low} to {high}): {row['verdict']}"


def _broken_words(row: Mapping[Any, Any]) -> str:
    if pd.isna(row["broke_at_per_s"]) or not row["broke_first"]:
        return ""
    the = "the " if row["broke_first"] in set(Part) else ""  # a part, and no error
    return f"at {three_digits(row['broke_at_per_s'])}/s broke first {the}{row['how_it_broke']}"


def _end(rate_per_s: float) -> str:
    if math.isinf(rate_per_s):
        return "beyond the rates tried"
    return three_digits(rate_per_s) if rate_per_s else "below the rates tried"


def _ratio_end(ratio: float) -> str:
    return f"{ratio:.2f}" if math.isfinite(ratio) else "unknown"
