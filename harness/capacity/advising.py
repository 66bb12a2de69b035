"""The advice at the end of a capacity report. Pure; every line follows from the report's table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from harness.analysis import stats
from harness.capacity.arms import AT_LEAST
from harness.capacity.breaking import Part
from harness.capacity.walk import WalkSettings
from harness.capacity.words import doubt
from harness.numbers import three_digits
from harness.report import next_command
from harness.report.advice import Advice

WIDE = 0.2  # interval width / capacity above which more blocks are worth their time
MORE_BLOCKS = 2  # times the blocks of this run, to make a wide interval narrower
WORTH_A_WARNING = 1.1  # closed-loop throughput / promise

Row = Mapping[Any, Any]

_REMEDIES = {
    Part.QUEUE: "requests wait for the model. Make calls cheaper (a faster backend, batches) or add cores",
    Part.MODEL: "each call of the model takes longer. Add cores, or run fewer calls at once",
    Part.LOOP: "requests wait for the event loop. Use a strategy that keeps the model off it",
    Part.IO: "the awaited I/O takes longer. Speed up the service behind it, or open more connections to it",
    Part.DATABASE: "the database itself takes longer. Use a faster query or a larger database",
    Part.SERVER: "the server takes longer, but its answers do not show where. Add server_timing.py to see it",
}
_OF_CLIENT = "the load generator is the limit. Send the load from another machine to find that of the arm"


def advise(
    table: pd.DataFrame, record: Mapping[str, Any], folder: Path, reference: str, withheld: str
) -> Advice:
    """Advise which arm to take, what it can promise, how to raise its capacity, and what to run next."""
    rows = {str(row["arm"]): row for row in table.to_dict("records")}
    doubts = [*_doubts(rows)]
    blocks = max(MORE_BLOCKS * int(record["capacity"]["blocks"]), WalkSettings().blocks)
    more = next_command.run(record, folder, blocks=blocks, command="capacity")
    sure = {arm: row for arm, row in rows.items() if row["promise_per_s"] > 0 and not doubt(row)}
    if not sure and not doubts:
        words = "No arm can promise a rate: see the sentences above."
        return Advice((words,), reference=reference)
    if withheld:
        words = "No strategy is advised: this session cannot tell a faster strategy from a lucky one."
        return Advice((words,), reference=reference, command=more)
    row = _choose(sure, rows, reference)
    if row is None:
        words = (
            f"No strategy is advised yet: none is clearly better than {reference}."
            if sure
            else "No rate and no strategy are advised yet: no arm has a promise to plan with."
        )
        return Advice((words, *doubts), reference=reference, command=more)
    width = float(row["high_per_s"]) - float(row["low_per_s"])
    return Advice(
        (_recommendation(row, rows, reference, record), *_remarks(row), *doubts),
        take=str(row["arm"]),
        reference=reference,
        load="poisson",
        metric="capacity_per_s",
        ratio=row["ratio"],
        low=row["ratio_low"],
        high=row["ratio_high"],
        command=more if doubts or not width <= WIDE * float(row["capacity_per_s"]) else "",
    )


def _choose(sure: Mapping[str, Row], rows: Mapping[str, Row], reference: str) -> Row | None:
    """Choose the highest promise among the arms that are better than the reference, or keep the reference.

    An arm with a higher promise but no verdict does not win, because a change of strategy costs something.
    `sure` has the arms whose promise can be planned with. Returns None if it is empty, or if the promise of
    the reference is in doubt and no other arm is clearly better.
    """
    better = [row for row in sure.values() if _is_better(row)]
    if not better and reference in sure:
        return sure[reference]
    if not better and doubt(rows[reference]):
        return None
    return max(better or sure.values(), key=lambda row: float(row["promise_per_s"]), default=None)


def _doubts(rows: Mapping[str, Row]) -> Iterator[str]:
    """One line for each reason, with the names of all arms that it concerns."""
    arms: dict[str, list[str]] = {}
    for arm, row in rows.items():
        arms.setdefault(doubt(row), []).append(arm)
    for why, names in arms.items():
        if why:
            listed = " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
            yield f"Do not plan with {listed} yet: {why}."


def _is_better(row: Row) -> bool:
    return row["verdict"] in stats.FASTER


def _recommendation(row: Row, rows: Mapping[str, Row], reference: str, record: Mapping[str, Any]) -> str:
    promise = f"promise {three_digits(row['promise_per_s'])} requests/s"
    if len(rows) == 1:
        return (
            f"With {reference}, {promise}. It is the only arm, so this run cannot say which strategy is best."
        )
    if row["arm"] == reference:
        better = [str(other["arm"]) for other in rows.values() if _is_better(other)]
        if better:
            unsure = " and ".join(better)
            return f"Stay with {reference} for now: {promise}. What {unsure} can promise is not known yet."
        return f"Stay with {reference}: {promise}. No other arm is clearly better."
    choice = f"Take {row['arm']}{_setting(record, str(row['arm']))}: {promise}"
    if math.isnan(row["ratio"]):
        return f"{choice}. {reference} has no capacity to compare with."
    interval = f"[{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]"
    return f"{choice}. Its capacity is {row['ratio']:.2f} times {interval} that of {reference}."


def _setting(record: Mapping[str, Any], arm: str) -> str:
    """The arm's `--strategy` value in parentheses, unless it equals the arm's name."""
    arms = (record.get("plan") or {}).get("arms") or []
    text = next_command.strategy(next((one for one in arms if one["name"] == arm), {}))
    return f" (--strategy {text})" if text not in ("", arm) else ""


def _remarks(row: Row) -> Iterator[str]:
    if row["closed_per_s"] >= WORTH_A_WARNING * row["promise_per_s"]:
        yield (
            f"Do not plan with the {three_digits(row['closed_per_s'])} requests/s of the closed loop, where "
            "each user waits for an answer before sending again: independent users arrive in bursts."
        )
    if row["bound"] == AT_LEAST and math.isnan(row["broke_at_per_s"]):
        yield "It kept every objective at every rate tried, so its capacity may be higher."
    elif row["broke_first"] == Part.CLIENT:
        yield f"Beyond it, {_OF_CLIENT}."
    elif row["broke_first"] in _REMEDIES:
        yield f"To raise the capacity: beyond it, {_REMEDIES[row['broke_first']]}."
    elif isinstance(row["broke_first"], str) and row["broke_first"]:
        yield f"Beyond the capacity, requests fail: {row['broke_first']}."
