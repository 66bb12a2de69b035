"""When a comparison should stop a merge: rules over the rows of `comparison`. Pure.

A gate looks at the median latency and the throughput. It fails on a row only when three things agree: the
interval lies wholly on the worse side of 1, and the difference reaches a relative and an absolute floor. On
throughput, which is not the primary metric, Holm's correction has to leave p below 0.05 too.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.stats import ALPHA, FEWEST_BLOCKS_FOR_VERDICT, Verdict
from harness.analysis.summaries import THROUGHPUT
from harness.verdicts.comparison import LOST
from harness.verdicts.metrics import Rules, label

WITHHELD = (Verdict.INVALID, Verdict.NOISY, Verdict.CLIENT_LIMITED)  # a level that is none passes no gate


@dataclasses.dataclass(frozen=True)
class Floors:
    """A smaller difference fails no gate, however sure it is. `share` None: δ of the rules."""

    ms: float = 1.0
    per_s: float = 1.0
    share: float | None = None


def gated(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that a gate looks at; the twin is the reference itself, so it is none of them."""
    candidates = table["primary"].astype(bool) | (table["metric"] == THROUGHPUT)
    return table[candidates & ~table["twin"].astype(bool)]


def slower(table: pd.DataFrame, floors: Floors, rules: Rules) -> pd.DataFrame:
    """The gated rows that fail. One that is in doubt never does: see `doubts`."""
    rows = gated(table)
    return rows[np.array([_fails(row, floors, rules) for row in rows.to_dict("records")], dtype=bool)]


def doubts(table: pd.DataFrame) -> list[str]:
    """Why a gate cannot pass these rows honestly; empty when it can.

    A verdict that is withheld, invalid or limited by the client, blocks lost to trials that are not ok, no
    ratio at all, or fewer than 6 blocks: each can hide what the gate is there to find. An inconclusive row of
    enough blocks is no doubt.
    """
    return [said for row in gated(table).to_dict("records") if (said := _doubt(row))]


def _fails(row: dict[Any, Any], floors: Floors, rules: Rules) -> bool:
    if row["verdict"] in WITHHELD or row["blocks"] < FEWEST_BLOCKS_FOR_VERDICT:
        return False
    if not (row["primary"] or row["p_holm"] < ALPHA):
        return False
    is_rate = row["metric"] == THROUGHPUT
    surely = row["high"] < 1.0 if is_rate else row["low"] > 1.0
    share = rules.delta(row["metric"]) if floors.share is None else floors.share
    floor = floors.per_s if is_rate else floors.ms
    return bool(surely and abs(row["ratio"] - 1.0) >= share and abs(row["difference"]) >= floor)


def _doubt(row: dict[Any, Any]) -> str:
    where = f"{row['arm']} at {row['load']}, {label(row['metric'], row['stat'])}"
    withheld = row["verdict"] in WITHHELD
    if withheld or row[LOST] or not 0 < row["ratio"] < math.inf:
        return f"{where}: {row['reason'] or row['why'] or row['verdict']}"
    if row["blocks"] < FEWEST_BLOCKS_FOR_VERDICT:
        return f"{where}: only {row['blocks']} blocks, and a verdict takes {FEWEST_BLOCKS_FOR_VERDICT}"
    return ""
