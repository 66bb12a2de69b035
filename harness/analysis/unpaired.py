"""Effects between two runs, whose blocks are not paired. Pure functions of numbers, like `stats`.

A machine changes more between two sessions than between two blocks of one session. An interval over blocks
cannot include that: the ratio contains whatever changed between the two runs.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import numpy.typing as npt

from harness.analysis import stats
from harness.analysis.arrays import Floats
from harness.analysis.percentiles import RESAMPLES, Pool, resamples
from harness.analysis.stats import FLAT, LEVEL, TOST_LEVEL, Effect, log_ratio

PERMUTATIONS = 9999  # for single figures; tails use the number of resamples


def effect(log_arm: npt.ArrayLike, log_reference: npt.ArrayLike) -> Effect:
    """Arm over reference, with Welch's t interval, from the logarithm of each block's figure in block order.

    `blocks` is the smaller number of blocks. `spread` is that of the difference between two single blocks. p
    is from a permutation test that assigns the blocks to the two runs at random (Welch's t; exact for few
    blocks), because unpaired blocks have no signs to flip. lag1 is that of the run with the larger drift. As
    in `stats.effect`, too few blocks or a figure that is not finite give NaN.
    """
    arm, reference = (np.asarray(side, dtype=np.float64) for side in (log_arm, log_reference))
    blocks = min(len(arm), len(reference))
    with np.errstate(invalid="ignore"):
        centre = float(arm.mean() - reference.mean()) if blocks else math.nan
    if blocks < 2 or not math.isfinite(centre):
        return stats.of_logs(centre, [math.nan] * 4, LEVEL, blocks)
    bounds = [*_welch(arm, reference, LEVEL), *_welch(arm, reference, TOST_LEVEL)]
    spread = math.hypot(arm.std(ddof=1), reference.std(ddof=1))
    lags, drifts = zip(stats.drift(arm), stats.drift(reference), strict=True)
    lag1 = float(np.fmax(*lags))  # the larger drift narrows the interval, as for paired blocks
    p = _permutation_p(arm, reference)
    return stats.of_logs(centre, bounds, LEVEL, blocks, spread, p, (lag1, any(drifts)))


def tail_effect(arm: Pool, reference: Pool, percent: float) -> Effect:
    """Ratio of the percentiles of two runs' pooled blocks, with each run's blocks resampled independently.

    Interval and `spread` come from the resamples as in `stats.tail_effect`, for the smaller number of blocks.
    p is from a permutation test that assigns whole blocks to the two runs at random. lag1 is not known.
    """
    blocks = min(len(arm.blocks), len(reference.blocks))
    rng = np.random.default_rng(1)
    centre = float(log_ratio(arm.whole(percent), reference.whole(percent)))
    if blocks < 2:
        return stats.of_logs(centre, [math.nan] * 4, LEVEL, blocks)
    pooled = [
        side.percentiles(percent, resamples(len(side.blocks), RESAMPLES, rng)) for side in (arm, reference)
    ]
    bounds, spread = stats.of_resamples(log_ratio(*pooled), blocks)
    p = _tail_permutation_p(arm, reference, percent, rng)
    return stats.of_logs(centre, bounds, LEVEL, blocks, spread, p)


def _welch(arm: Floats, reference: Floats, level: float) -> tuple[float, float]:
    from scipy import stats as scipy_stats

    if max(np.ptp(arm), np.ptp(reference)) <= FLAT:  # SciPy gives NaN and a warning for constant values
        difference = float(arm.mean() - reference.mean())
        return difference, difference
    interval = scipy_stats.ttest_ind(arm, reference, equal_var=False).confidence_interval(level)
    return float(interval.low), float(interval.high)


def _permutation_p(arm: Floats, reference: Floats) -> float:
    from scipy import stats as scipy_stats

    tested = scipy_stats.permutation_test(
        (arm, reference), _welch_t, vectorized=True, n_resamples=PERMUTATIONS, rng=np.random.default_rng(1)
    )
    return float(tested.pvalue)


def _welch_t(arm: Floats, reference: Floats, axis: int = -1) -> Floats:
    """Welch's t over `axis`. If both sides are constant: 0 if they are equal, else practically infinite."""
    difference = arm.mean(axis=axis) - reference.mean(axis=axis)
    squared = sum(side.var(axis=axis, ddof=1) / side.shape[axis] for side in (arm, reference))
    t = difference / np.maximum(np.sqrt(squared), FLAT)
    return cast(Floats, np.where(np.abs(difference) <= FLAT, 0.0, t))


def _tail_permutation_p(arm: Pool, reference: Pool, percent: float, rng: np.random.Generator) -> float:
    """Two-sided p: the share of random assignments of blocks that differ as much; NaN without a ratio."""
    together = Pool([*arm.blocks, *reference.blocks])
    in_arm = np.tile(np.arange(len(together.blocks)) < len(arm.blocks), (RESAMPLES, 1))
    in_arm[1:] = rng.permuted(in_arm[1:], axis=1)  # the first row is the observed assignment, so p is never 0
    weights = in_arm.astype(np.int64)
    sides = (together.percentiles(percent, side) for side in (weights, 1 - weights))
    sizes = np.abs(log_ratio(*sides))
    return math.nan if math.isnan(sizes[0]) else float(np.mean(sizes >= sizes[0] - FLAT))
