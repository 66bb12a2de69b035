"""The result of `execbench compare` in one line, and that of its gate. Pure."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.stats import FASTER, FEWEST_BLOCKS_FOR_VERDICT, SLOWER
from harness.analysis.summaries import LATENCY
from harness.errors import shortened
from harness.numbers import counted, short, users
from harness.verdicts import gate, session_noise
from harness.verdicts.gate import WITHHELD
from harness.verdicts.metrics import label


def of(table: pd.DataFrame, judged: gate.Outcome | None = None) -> str:
    """The line for these rows of `comparison`, with the result of the gate if there was one.

    It names the row where an arm is slower by most, else the one where an arm is faster by most. Only primary
    rows count, and with a gate also those that fail it.
    """
    verdict = _verdict(table, judged)
    return f"{verdict}. {_of_gate(judged)}" if judged else verdict


def _verdict(table: pd.DataFrame, judged: gate.Outcome | None) -> str:
    if noisy := session_noise.noisy(table):
        clause = re.split(r"[:(]|\. ", noisy.removeprefix("No verdict is given, because "))[0].strip()
        return f"No verdict: {clause[:1].lower()}{clause[1:]}"
    rows = table[~table["twin"].astype(bool)]
    rows = rows[rows["primary"].astype(bool)] if rows["primary"].any() else rows
    if judged is not None and len(judged.failed):
        return _different("Slower", judged.failed)
    for name, verdicts in (("Slower", SLOWER), ("Faster", FASTER)):
        if len(found := rows[rows["verdict"].isin(verdicts)]):
            more = f" ({len(found)} of {counted(len(rows), 'comparison')})" if len(rows) > 1 else ""
            return f"{_different(name, found)}{more}{_also_faster(name, rows)}"
    return _alike(rows)


def _different(name: str, found: pd.DataFrame) -> str:
    """The row with the largest difference."""
    worst = found.iloc[int(np.argmax(found["ratio"].map(_size)))]
    where = f"{shortened(worst['arm'])} at {users(worst['load'])}"
    of_what = "" if worst["metric"] == LATENCY and worst["stat"] == "median" else f" in {_label(worst)}"
    unsure = ", size uncertain" if worst["verdict"] != worst["verdict"].split(",")[0] else ""
    return f"{name}{unsure}: {where}{_by(worst)}{of_what}"


def _also_faster(name: str, rows: pd.DataFrame) -> str:
    count = int(rows["verdict"].isin(FASTER).sum()) if name == "Slower" else 0
    return f"; faster in {count}" if count else ""


def _size(ratio: float) -> float:
    return abs(math.log(ratio)) if 0 < ratio < math.inf else math.inf


def _by(row: pd.Series[Any]) -> str:
    """How large the difference is, such as " by 12 % [8, 16]", in percent of the reference."""
    bounds = [row["ratio"], row["low"], row["high"]]
    if not all(map(math.isfinite, bounds)):
        return ""
    size, one, other = (short(100 * abs(bound - 1.0)) for bound in bounds)
    low, high = (one, other) if row["ratio"] > 1 else (other, one)
    return f", by {size} % [{low}, {high}]"


def _label(row: pd.Series[Any]) -> str:
    return label(row["metric"], row["stat"])


def _alike(rows: pd.DataFrame) -> str:
    enough = (rows["blocks"] >= FEWEST_BLOCKS_FOR_VERDICT) & np.isfinite(rows["ratio"].astype(float))
    judged = rows[enough & ~rows["verdict"].isin(WITHHELD)]
    if judged.empty:
        return f"No verdict: {_why_none(rows)}"
    parts = [f"{count} {verdict}" for verdict, count in Counter(judged["verdict"]).items()]
    if silent := len(rows) - len(judged):
        parts.append(f"{silent} without a verdict")
    return f"No change found in {counted(len(rows), 'comparison')} ({', '.join(parts)})"


def _why_none(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "nothing was compared"
    first = rows.iloc[0]
    if first["verdict"] not in WITHHELD and first["blocks"] < FEWEST_BLOCKS_FOR_VERDICT:
        return f"only {counted(int(first['blocks']), 'block')}, and it needs {FEWEST_BLOCKS_FOR_VERDICT}"
    return str(first["reason"] or first["why"] or first["verdict"])


def _of_gate(judged: gate.Outcome) -> str:
    compared = counted(judged.compared, "comparison")
    if judged.noisy:
        return "The gate cannot pass."
    if len(judged.failed):
        return f"The gate failed on {len(judged.failed)} of {compared}."
    if judged.hindrances:
        return f"The gate cannot pass: {'; '.join(judged.hindrances)}."
    return f"The gate passed in {compared}."
