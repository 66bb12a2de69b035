"""When a comparison should stop a merge: rules for the rows of `comparison`. Pure.

A gate checks the median latency and the throughput. A row fails only if the whole interval is on the worse
side of 1, and the difference reaches both a relative and an absolute floor. For throughput, which is not the
primary metric, p must also be below 0.05 after Holm's correction.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.stats import ALPHA, FEWEST_BLOCKS_FOR_VERDICT, Verdict
from harness.analysis.summaries import THROUGHPUT
from harness.numbers import counted, users
from harness.verdicts import session_noise
from harness.verdicts.comparison import LOST
from harness.verdicts.metrics import Rules, label

WITHHELD = (Verdict.INVALID, Verdict.NOISY, Verdict.CLIENT_LIMITED)  # without a verdict the gate cannot pass


@dataclasses.dataclass(frozen=True)
class Floors:
    """Smaller differences never fail the gate, however certain. `share` None means δ of the rules."""

    ms: float = 1.0
    per_s: float = 1.0
    share: float | None = None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a gate found."""

    noisy: str  # why no verdict is given; "" if verdicts are given
    failed: pd.DataFrame  # the rows that fail it
    compared: int  # rows that it checked
    doubts: list[str]
    missing: list[str]  # arms and loads that it should have checked

    @property
    def hindrances(self) -> list[str]:
        """Why it cannot pass, in short."""
        few = f"{len(self.doubts)} of its comparisons are inconclusive" if self.doubts else ""
        lacks = "arms or loads are missing (select with RUN:ARM, --load or --metric)" if self.missing else ""
        return [*filter(None, [few, lacks])]


def judge(table: pd.DataFrame, floors: Floors, rules: Rules, missing: list[str]) -> Outcome:
    """Apply the gate to these rows; `missing` are the arms and loads that it should also have."""
    return Outcome(
        session_noise.noisy(table),
        slower(table, floors, rules),
        len(gated(table)),
        doubts(table),
        missing,
    )


def gated(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that a gate checks; not the twin's, which is the reference itself."""
    candidates = table["primary"].astype(bool) | (table["metric"] == THROUGHPUT)
    return table[candidates & ~table["twin"].astype(bool)]


def slower(table: pd.DataFrame, floors: Floors, rules: Rules) -> pd.DataFrame:
    """The gated rows that fail. A row in doubt never fails: see `doubts`."""
    rows = gated(table)
    return rows[np.array([_fails(row, floors, rules) for row in rows.to_dict("records")], dtype=bool)]


def doubts(table: pd.DataFrame) -> list[str]:
    """Why a gate cannot pass these rows honestly; empty if it can.

    Each of these can hide a slow-down: a verdict that is withheld, invalid or limited by the client, blocks
    lost to trials that are not ok, a missing ratio, or fewer than 6 blocks. An inconclusive row with enough
    blocks is not in doubt.
    """
    return [doubt for row in gated(table).to_dict("records") if (doubt := _doubt(row))]


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
    where = f"{row['arm']} at {users(row['load'])}, {label(row['metric'], row['stat'])}"
    withheld = row["verdict"] in WITHHELD
    if withheld or row[LOST] or not 0 < row["ratio"] < math.inf:
        return f"{where}: {row['reason'] or row['why'] or row['verdict']}"
    if row["blocks"] < FEWEST_BLOCKS_FOR_VERDICT:
        return f"{where}: only {counted(row['blocks'], 'block')}; a verdict needs {FEWEST_BLOCKS_FOR_VERDICT}"
    return ""
