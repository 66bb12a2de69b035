"""Effects of two runs, whose blocks are not paired. Pure; numbers in, numbers out, as in `stats`.

What a machine does differs more between two sessions than between two blocks of one, and no interval over
blocks can know that: whatever changed between the two runs is in the ratio.
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

DEALS = 9999  # of single figures; of tails as many as the resamples


def effect(log_arm: npt.ArrayLike, log_reference: npt.ArrayLike) -> Effect:
    """Arm over reference, from the log figures of each one's blocks in block order: Welch's t interval.

    `blocks` is the smaller number of the two, `spread` that of a difference of two single blocks. p comes
    from dealing the blocks to the two runs at random (Welch's t; exact when there are few ways), since signs
    cannot be flipped where nothing is paired. lag1 is of the run that drifts more.
    As in `stats.effect`, too few blocks or a figure that is not finite give NaN.
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
    lag1 = float(np.fmax(*lags))  # of the run which drifts more: it narrows the interval as in a pair
    p = _dealt_p(arm, reference)
    return stats.of_logs(centre, bounds, LEVEL, blocks, spread, p, (lag1, any(drifts)))


def tail_effect(arm: Pool, reference: Pool, percent: float) -> Effect:
    """Ratio of the percentiles of the two runs' pooled blocks; each run's blocks are resampled independently.

    Interval and `spread` are made of the resamples as in `stats.tail_effect`, for the smaller number of
    blocks. p comes from dealing whole blocks to the two runs at random. lag1 is not known.
    """
    blocks = min(len(arm.blocks), len(reference.blocks))
    rng = np.random.default_rng(1)
    centre = float(log_ratio(arm.whole(percent), reference.whole(percent)))
    if blocks < 2:
        return stats.of_logs(centre, [math.nan] * 4, LEVEL, blocks)
    pooled = [
        side.percentiles(percent, resamples(len(side.blocks), RESAMPLES, rng)) for side in (arm, reference)
    ]
    bounds, spread = stats.of_resamples(log_ratio(*pooled), blocks, LEVEL)
    return stats.of_logs(centre, bounds, LEVEL, blocks, spread, _dealt_tail_p(arm, reference, percent, rng))


def _welch(arm: Floats, reference: Floats, level: float) -> tuple[float, float]:
    from scipy import stats as scipy_stats

    if max(np.ptp(arm), np.ptp(reference)) <= FLAT:  # SciPy gives NaN and a warning where nothing varies
        difference = float(arm.mean() - reference.mean())
        return difference, difference
    interval = scipy_stats.ttest_ind(arm, reference, equal_var=False).confidence_interval(level)
    return float(interval.low), float(interval.high)


def _dealt_p(arm: Floats, reference: Floats) -> float:
    from scipy import stats as scipy_stats

    tested = scipy_stats.permutation_test(
        (arm, reference), _welch_t, vectorized=True, n_resamples=DEALS, rng=np.random.default_rng(1)
    )
    return float(tested.pvalue)


def _welch_t(arm: Floats, reference: Floats, axis: int = -1) -> Floats:
    """Over `axis`. Where nothing varies within the sides: 0 if they are alike, else as good as infinite."""
    difference = arm.mean(axis=axis) - reference.mean(axis=axis)
    squared = sum(side.var(axis=axis, ddof=1) / side.shape[axis] for side in (arm, reference))
    t = difference / np.maximum(np.sqrt(squared), FLAT)
    return cast(Floats, np.where(np.abs(difference) <= FLAT, 0.0, t))


def _dealt_tail_p(arm: Pool, reference: Pool, percent: float, rng: np.random.Generator) -> float:
    """Two-sided: how often blocks that are dealt at random differ as much. NaN where there is no ratio."""
    together = Pool([*arm.blocks, *reference.blocks])
    deals = np.tile(np.arange(len(together.blocks)) < len(arm.blocks), (RESAMPLES, 1))
    deals[1:] = rng.permuted(deals[1:], axis=1)  # the first is what was seen, so p is never 0
    weights = deals.astype(np.int64)
    sides = (together.percentiles(percent, dealt) for dealt in (weights, 1 - weights))
    sizes = np.abs(log_ratio(*sides))
    return math.nan if math.isnan(sizes[0]) else float(np.mean(sizes >= sizes[0] - FLAT))
