"""What to do after a capacity run: the last words of its report. Pure; every line follows from its table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from harness.analysis import stats
from harness.capacity.arms import AT_LEAST
from harness.capacity.breaking import Part
from harness.capacity.walk import Ways
from harness.capacity.words import doubt
from harness.numbers import three_digits
from harness.report import next_command
from harness.report.advice import Advice

WIDE = 0.2  # of the capacity, from one end of its interval to the other: more blocks are worth their time
TIMES_AS_MANY = 2  # blocks, where that is so
WORTH_A_WARNING = 1.1  # closed loop over promise

Row = Mapping[Any, Any]

_BREAKS = {
    Part.QUEUE: "requests wait for the model, so a call that costs less (a faster backend, batches) "
    "or more cores",
    Part.MODEL: "a call of the model takes longer under load, so more cores, or fewer calls at once",
    Part.LOOP: "requests wait for the event loop, so an arm that keeps the model off it",
    Part.IO: "the awaited I/O takes longer under load, so whatever serves it, or more connections to it",
    Part.DATABASE: "the database itself takes longer under load, so a faster query, or more of it",
    Part.CLIENT: "the load generator was late, so another machine to send from",
    Part.SERVER: "the server takes longer, and its answers do not say where; server_timing.py makes them "
    "say it",
}


def advise(
    table: pd.DataFrame, record: Mapping[str, Any], folder: Path, reference: str, withheld: str
) -> Advice:
    """Which arm to take, what it promises and against what, what would raise it, and what to run next."""
    rows = {str(row["arm"]): row for row in table.to_dict("records")}
    doubts = [*_doubts(rows)]
    # so many make the intervals narrower; the usual number at least
    blocks = max(TIMES_AS_MANY * int(record["capacity"]["blocks"]), Ways().blocks)
    more = next_command.run(record, folder, blocks=blocks, command="capacity")
    sure = {arm: row for arm, row in rows.items() if row["promise_per_s"] > 0 and not doubt(row)}
    if not sure and not doubts:
        words = "No rate can be promised with any arm: see the sentences above."
        return Advice((words,), reference=reference)
    if withheld:
        words = "No strategy is advised: this session cannot tell a faster one from a luckier one."
        return Advice((words,), reference=reference, command=more)
    row = _taken(sure, rows, reference)
    if row is None:
        words = (
            f"No strategy is advised yet: none is told apart from {reference} as better."
            if sure
            else "No rate and no strategy are advised yet: no arm has a promise that one can plan with."
        )
        return Advice((words, *doubts), reference=reference, command=more)
    width = float(row["high_per_s"]) - float(row["low_per_s"])
    return Advice(
        (_what(row, rows, reference, record), *_beside(row), *doubts),
        take=str(row["arm"]),
        reference=reference,
        load="poisson",
        metric="capacity_per_s",
        ratio=row["ratio"],
        low=row["ratio_low"],
        high=row["ratio_high"],
        command=more if doubts or not width <= WIDE * float(row["capacity_per_s"]) else "",
    )


def _taken(sure: Mapping[str, Row], rows: Mapping[str, Row], reference: str) -> Row | None:
    """The highest promise of those told apart from the reference as better; a change costs something.

    `sure` has the arms whose promise one can plan with. None without any, or where the reference is in doubt
    and no other is told apart from it.
    """
    better = [row for row in sure.values() if _is_better(row)]
    if not better and reference in sure:
        return sure[reference]
    if not better and doubt(rows[reference]):
        return None
    return max(better or sure.values(), key=lambda row: float(row["promise_per_s"]), default=None)


def _doubts(rows: Mapping[str, Row]) -> Iterator[str]:
    """One line for each reason, which names every arm that has it."""
    arms: dict[str, list[str]] = {}
    for arm, row in rows.items():
        arms.setdefault(doubt(row), []).append(arm)
    for why, its in arms.items():
        if why:
            yield f"Do not plan with {' or '.join(filter(None, [', '.join(its[:-1]), its[-1]]))} yet: {why}."


def _is_better(row: Row) -> bool:
    return row["verdict"] in stats.FASTER


def _what(row: Row, rows: Mapping[str, Row], reference: str, record: Mapping[str, Any]) -> str:
    promised = f"promise {three_digits(row['promise_per_s'])} requests/s"
    if len(rows) == 1:
        return (
            f"With {reference}, {promised}. Only it was tried, so nothing here says which strategy is best."
        )
    if row["arm"] == reference:
        better = [str(other["arm"]) for other in rows.values() if _is_better(other)]
        if better:
            unsure = " and ".join(better)
            return f"Stay with {reference} for now: {promised}. What {unsure} can promise is not known yet."
        return f"Stay with {reference}: {promised}. No arm is told apart from it as better."
    said = f"Take {row['arm']}{_setting(record, str(row['arm']))}: {promised}"
    if math.isnan(row["ratio"]):
        return f"{said}; of {reference} there is nothing to compare with."
    interval = f"[{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]"
    return f"{said}. It holds {row['ratio']:.2f} times {interval} what {reference} holds."


def _setting(record: Mapping[str, Any], arm: str) -> str:
    """What `--strategy` says of it, where its name does not."""
    arms = (record.get("plan") or {}).get("arms") or []
    text = next_command.strategy(next((one for one in arms if one["name"] == arm), {}))
    return f" (--strategy {text})" if text not in ("", arm) else ""


def _beside(row: Row) -> Iterator[str]:
    if row["closed_per_s"] >= WORTH_A_WARNING * row["promise_per_s"]:
        yield (
            f"Do not plan with the {three_digits(row['closed_per_s'])} requests/s that its closed loop "
            "answers: users who do not wait for each other come in bursts."
        )
    if row["bound"] == AT_LEAST and math.isnan(row["broke_at_per_s"]):
        yield "It was in danger at no rate that was tried, so it may hold more."
    elif row["broke_first"] in _BREAKS:
        yield f"What would raise it: beyond it {_BREAKS[row['broke_first']]}."
    elif isinstance(row["broke_first"], str) and row["broke_first"]:
        yield f"Beyond it requests fail first: {row['broke_first']}."
