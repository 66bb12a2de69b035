"""The best of several arms, and how much its figure owes to luck. Pure: one figure per block and arm goes in.

The best of many arms is partly the luckiest: its figures are too good. The module answers two questions:

* *Which arms may be the best?* All but those that another arm beats by more than chance, in Dunnett's
  one-sided comparisons of all other arms with it (subset selection: Gupta 1965, Technometrics 7:225; the same
  comparisons as Hsu 1984, Ann. Statist. 12:1136). The remaining arms include the truly best one at the stated
  level, whatever the number of arms, so no further correction is needed. Blocks are paired. The largest t is
  compared with that of sign flips of whole blocks, which preserve the correlation between the arms' figures.
* *How lucky is the best one?* Blocks are resampled and the choice repeated in each resample. The optimism is
  how much better the choice looks in its own resample than in all blocks (Efron 1983, J. Am. Stat. Assoc.
  78:316). Reports state it in addition to the figure, which stays that of the tables. It is 0 if the choice
  is clear. `tests/verdicts/test_best_arm.py` simulates how often the interval covers the truth when its lower
  end is lower by the optimism.
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

_EXACT = 12  # up to this number of blocks, all sign flips are tried
_RANDOM_FLIPS = 4096
_RESAMPLES = 999
_TINY = 1e-24  # a smaller variance is a rounding error


class Best(NamedTuple):
    """The arm with the best mean."""

    arm: str
    rivals: tuple[str, ...]  # may be the best as well, the best first
    judged: tuple[str, ...]  # all arms with figures, in the order given
    blocks: int


def decisive(summary: pd.DataFrame) -> tuple[str, Metric]:
    """The load and the metric that decide which arm is the best.

    With closed loops, the throughput with the most users; else the median latency at the highest rate, or
    under the last load by name if no rate is known. With loads that are shares of an arm's own throughput,
    the throughput, as that is what the load follows.
    """
    closed = summary[summary["concurrency"].notna()].sort_values("concurrency", kind="stable")
    if len(closed):
        return str(closed["load"].iloc[-1]), RATES
    rates = summary[summary["rate_per_s"].notna() & ~summary["load"].astype(str).str.startswith("own(")]
    if len(rates):
        return str(rates.sort_values("rate_per_s", kind="stable")["load"].iloc[-1]), LATENCIES
    load = max(summary["load"].astype(str))
    return load, RATES if load.startswith("own(") else LATENCIES


def figures(side: Side, arms: list[str], load: str, metric: Metric) -> pd.DataFrame:
    """Logs of the metric, blocks x arms, the higher the better.

    Leaves out arms that lost a trial or are invalid under this load: their good blocks may be the lucky ones.
    """
    cells = {arm: side.cell(arm, load) for arm in arms}
    whole = {arm: cell for arm, cell in cells.items() if cell.blocks and not cell.lost and not cell.invalid}
    sign = -1.0 if metric.lower_is_better else 1.0
    with np.errstate(divide="ignore"):
        return pd.DataFrame({arm: sign * np.log(cell.by_block(metric)) for arm, cell in whole.items()})


def find(logs: pd.DataFrame, alpha: float = ALPHA) -> Best | None:
    """The best of the columns (arms); rows are blocks, cells logs, the higher the better.

    `alpha`: the chance that the truly best arm is neither the best nor a rival; less in a run with looks.

    Leaves out arms without any figure, and blocks that one of the other arms lacks; None if nothing is left.
    With fewer than `FEWEST_BLOCKS_FOR_VERDICT` blocks every arm may be the best.
    """
    finite = _finite(logs)
    if finite.empty:
        return None
    values = finite.to_numpy(dtype=np.float64)
    order = np.argsort(-values.mean(axis=0), kind="stable")
    names = [str(name) for name in finite.columns]
    beaten = _beaten(values, alpha)
    return Best(
        arm=names[order[0]],
        rivals=tuple(names[place] for place in order[1:] if not beaten[place]),
        judged=tuple(names),
        blocks=len(values),
    )


def optimism(logs: pd.DataFrame) -> float:
    """How much of the best arm's figure, on the log scale, is luck: see the module's docstring.

    The mean over resamples of how much better the arm chosen in a resample looks there than in all blocks.
    """
    values = _finite(logs).to_numpy(dtype=np.float64)
    blocks = len(values)
    if blocks < 2:
        return 0.0
    values = values - values.mean(
        axis=1, keepdims=True
    )  # what all arms of a block share does not affect the choice
    weights = resamples(blocks, _RESAMPLES, np.random.default_rng(1)) / blocks
    chosen = (weights @ values).argmax(axis=1)
    there = np.einsum("rb,br->r", weights, values[:, chosen])
    # a resample varies less than new blocks would, by (n - 1) / n
    return float((there - values.mean(axis=0)[chosen]).mean() * math.sqrt(blocks / (blocks - 1)))


def _finite(logs: pd.DataFrame) -> pd.DataFrame:
    """`logs` without arms that have no figure, and without blocks that one of the other arms lacks."""
    return logs.where(np.isfinite(logs)).dropna(axis="columns", how="all").dropna(axis="index")


def _beaten(values: Floats, alpha: float) -> list[bool]:
    """For each arm, whether another arm is better by more than chance."""
    arms = values.shape[1]
    if len(values) < FEWEST_BLOCKS_FOR_VERDICT:
        return [False] * arms
    flipped = _flips(len(values)) @ values / len(values)
    return [_chance_of_lead(values, flipped, arm) <= alpha for arm in range(arms)]


def _chance_of_lead(values: Floats, flipped: Floats, arm: int) -> float:
    """How often chance alone gives another arm such a lead over this one.

    `flipped`: means for each choice of signs, the observed first.
    """
    gaps = np.delete(values, arm, axis=1) - values[:, [arm]]
    largest = _t(np.delete(flipped, arm, axis=1) - flipped[:, [arm]], gaps).max(axis=1, initial=-math.inf)
    return float(np.mean(largest >= largest[0] - 1e-9 * abs(largest[0])))


def _t(means: Floats, gaps: Floats) -> Floats:
    """Student's t of means of `gaps` with some signs flipped."""
    variance = np.maximum((gaps**2).mean(axis=0) - means**2, _TINY)
    return np.asarray(means * math.sqrt(len(gaps) - 1) / np.sqrt(variance), dtype=np.float64)


@functools.lru_cache(maxsize=4)
def _flips(blocks: int) -> Floats:
    """Choices of signs, a row each, the observed ones first: all choices, or `_RANDOM_FLIPS` drawn ones."""
    if blocks <= _EXACT:
        bits = np.arange(2**blocks)[:, None] >> np.arange(blocks) & 1
        return np.asarray(1.0 - 2.0 * bits, dtype=np.float64)
    drawn = 1.0 - 2.0 * np.random.default_rng(1).integers(2, size=(_RANDOM_FLIPS, blocks))
    drawn[0] = 1.0
    return np.asarray(drawn, dtype=np.float64)
