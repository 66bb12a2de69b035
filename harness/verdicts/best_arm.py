"""Which of several arms is the best, and what choosing it gives. Pure: one figure a block and arm goes in.

The best of many is partly the luckiest of many: its own figures are too good. Two answers to that:

* *which may it be*: an arm is told apart from the best when some other arm beats it by more than chance, in
  Dunnett's one-sided comparisons of all others with it (subset selection: Gupta 1965, Technometrics 7:225;
  the same comparisons as Hsu 1984, Ann. Statist. 12:1136). What remains holds the truly best arm at the
  level, however many arms there are, so no further correction is needed. Blocks are paired; the largest t is
  held against that of sign flips of whole blocks, which keep how the arms' figures hang together.
* *how lucky it is*: blocks are resampled with the choice inside; by how much the choice looks better in its
  own resample than in all blocks is its optimism (Efron 1983, J. Am. Stat. Assoc. 78:316). It is stated
  beside the figure, which stays that of the tables. Where the choice is clear, it is 0.
  `tests/verdicts/test_best_arm.py` simulates how often the interval covers the truth when its lower end is
  lower by the optimism.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from harness.analysis.arrays import Floats
from harness.analysis.percentiles import resamples
from harness.analysis.stats import ALPHA, FEWEST_BLOCKS_FOR_VERDICT
from harness.verdicts.metrics import METRICS, Metric
from harness.verdicts.sides import Side

LATENCIES, RATES = METRICS[:2]

_EXACT = 12  # blocks whose sign flips are all tried
_RANDOM_FLIPS = 4096
_RESAMPLES = 999
_TINY = 1e-24  # a variance below it is rounding


class Best(NamedTuple):
    """The arm with the best mean."""

    arm: str
    rivals: tuple[str, ...]  # not told apart from it, the best first
    judged: tuple[str, ...]  # all that could be, in the order given
    blocks: int


def decisive(summary: pd.DataFrame) -> tuple[str, Metric]:
    """The load and the metric that arms are chosen by.

    In closed loop throughput at the most users, else the median latency at the highest rate, or, where no
    rate is known, under the last load by name.
    """
    closed = summary[summary["concurrency"].notna()].sort_values("concurrency", kind="stable")
    if len(closed):
        return str(closed["load"].iloc[-1]), RATES
    rates = summary[summary["rate_per_s"].notna() & ~summary["load"].astype(str).str.startswith("own(")]
    if len(rates):
        return str(rates.sort_values("rate_per_s", kind="stable")["load"].iloc[-1]), LATENCIES
    return max(summary["load"].astype(str)), LATENCIES


def figures(side: Side, arms: list[str], load: str, metric: Metric) -> pd.DataFrame:
    """Logs of the metric, blocks x arms, the higher the better. Arms that lost a trial, or are invalid there,
    are left out: their good blocks may be the lucky ones."""
    cells = {arm: side.cell(arm, load) for arm in arms}
    whole = {arm: cell for arm, cell in cells.items() if cell.blocks and not cell.lost and not cell.invalid}
    sign = -1.0 if metric.lower_is_better else 1.0
    with np.errstate(divide="ignore"):
        return pd.DataFrame({arm: sign * np.log(cell.by_block(metric)) for arm, cell in whole.items()})


def find(logs: pd.DataFrame) -> Best | None:
    """The best of the columns (arms); rows are blocks, cells logs, the higher the better.

    Blocks that an arm lacks do not count, nor an arm that has a figure nowhere. None where nothing is left.
    With fewer than `FEWEST_BLOCKS_FOR_VERDICT` blocks no arm is told apart.
    """
    finite = _finite(logs)
    if finite.empty:
        return None
    values = finite.to_numpy(dtype=np.float64)
    order = np.argsort(-values.mean(axis=0), kind="stable")
    names = [str(name) for name in finite.columns]
    beaten = _beaten(values)
    return Best(
        arm=names[order[0]],
        rivals=tuple(names[place] for place in order[1:] if not beaten[place]),
        judged=tuple(names),
        blocks=len(values),
    )


def optimism(logs: pd.DataFrame) -> float:
    """By how much, on the log scale, being chosen as the best of these arms flatters the best one's figure.

    How much better the arm chosen in a resample of blocks looks there than in all blocks, on the mean.
    """
    values = _finite(logs).to_numpy(dtype=np.float64)
    blocks = len(values)
    if blocks < 2:
        return 0.0
    values = values - values.mean(axis=1, keepdims=True)  # what all arms of a block share chooses none
    weights = resamples(blocks, _RESAMPLES, np.random.default_rng(1)) / blocks
    chosen = (weights @ values).argmax(axis=1)
    there = np.einsum("rb,br->r", weights, values[:, chosen])
    # a resample varies less than new blocks would, by (n - 1) / n
    return float((there - values.mean(axis=0)[chosen]).mean() * math.sqrt(blocks / (blocks - 1)))


def _finite(logs: pd.DataFrame) -> pd.DataFrame:
    """Without the arms that have a figure nowhere, and the blocks that one of the others lacks."""
    return logs.where(np.isfinite(logs)).dropna(axis="columns", how="all").dropna(axis="index")


def _beaten(values: Floats) -> list[bool]:
    """Of each arm, whether some other one is better by more than chance."""
    arms = values.shape[1]
    if len(values) < FEWEST_BLOCKS_FOR_VERDICT:
        return [False] * arms
    flipped = _flips(len(values)) @ values / len(values)
    return [_is_beaten(values, flipped, arm) for arm in range(arms)]


def _is_beaten(values: Floats, flipped: Floats, arm: int) -> bool:
    """`flipped`: the arms' means under each choice of signs of the blocks, the observed ones first."""
    gaps = np.delete(values, arm, axis=1) - values[:, [arm]]
    largest = _t(np.delete(flipped, arm, axis=1) - flipped[:, [arm]], gaps).max(axis=1, initial=-math.inf)
    return bool(np.mean(largest >= largest[0] - 1e-9 * abs(largest[0])) <= ALPHA)


def _t(means: Floats, gaps: Floats) -> Floats:
    """Student's t of means whose values are those of `gaps` but for their signs."""
    variance = np.maximum((gaps**2).mean(axis=0) - means**2, _TINY)
    return np.asarray(means * math.sqrt(len(gaps) - 1) / np.sqrt(variance), dtype=np.float64)


@functools.lru_cache(maxsize=4)
def _flips(blocks: int) -> Floats:
    """Choices of signs, a row each, the observed ones first: all of them, or so many drawn."""
    if blocks <= _EXACT:
        bits = np.arange(2**blocks)[:, None] >> np.arange(blocks) & 1
        return np.asarray(1.0 - 2.0 * bits, dtype=np.float64)
    drawn = 1.0 - 2.0 * np.random.default_rng(1).integers(2, size=(_RANDOM_FLIPS, blocks))
    drawn[0] = 1.0
    return np.asarray(drawn, dtype=np.float64)
