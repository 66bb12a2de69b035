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


def effect(log_arm: npt.ArrayLike, log_reference: npt.ArrayLike, *, level: float = LEVEL) -> Effect:
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
        return _effect(centre, [math.nan] * 4, level, blocks)
    bounds = [bound for share in (level, TOST_LEVEL) for bound in _welch(arm, reference, share)]
    return _effect(
        centre,
        bounds,
        level,
        blocks,
        spread=math.hypot(arm.std(ddof=1), reference.std(ddof=1)),
        p=_dealt_p(arm, reference),
        drift=_drift(arm, reference),
    )


def tail_effect(arm: Pool, reference: Pool, percent: float, *, level: float = LEVEL, seed: int = 1) -> Effect:
    """Ratio of the percentiles of the two runs' pooled blocks; each run's blocks are resampled independently.

    Interval and `spread` are made of the resamples as in `stats.tail_effect`, for the smaller number of
    blocks. p comes from dealing whole blocks to the two runs at random. lag1 is not known.
    """
    blocks = min(len(arm.blocks), len(reference.blocks))
    rng = np.random.default_rng(seed)
    centre = float(log_ratio(arm.whole(percent), reference.whole(percent)))
    if blocks < 2:
        return _effect(centre, [math.nan] * 4, level, blocks)
    pooled = [
        side.percentiles(percent, resamples(len(side.blocks), RESAMPLES, rng)) for side in (arm, reference)
    ]
    draws = log_ratio(*pooled)
    bounds = [
        bound for share in (level, TOST_LEVEL) for bound in stats.tail_interval(draws, blocks, level=share)
    ]
    with np.errstate(invalid="ignore"):
        spread = float(draws.std(ddof=1) * math.sqrt(blocks))
    p = _dealt_tail_p(arm, reference, percent, rng)
    return _effect(centre, bounds, level, blocks, spread=spread, p=p)


def _effect(
    centre: float,
    bounds: list[float],
    level: float,
    blocks: int,
    *,
    spread: float = math.nan,
    p: float = math.nan,
    drift: tuple[float, bool] = (math.nan, False),
) -> Effect:
    with np.errstate(over="ignore"):
        ratio, low, high, low_90, high_90 = (float(np.exp(log)) for log in (centre, *bounds))
    lag1, drifts = drift
    return Effect(ratio, low, high, low_90, high_90, level, blocks, spread, p, lag1, drifts)


def _welch(arm: Floats, reference: Floats, level: float) -> tuple[float, float]:
    from scipy import stats as scipy_stats

    if max(np.ptp(arm), np.ptp(reference)) <= FLAT:  # SciPy gives NaN and a warning where nothing varies
        difference = float(arm.mean() - reference.mean())
        return difference, difference
    interval = scipy_stats.ttest_ind(arm, reference, equal_var=False).confidence_interval(level)
    return float(interval.low), float(interval.high)


def _dealt_p(arm: Floats, reference: Floats, *, seed: int = 1) -> float:
    from scipy import stats as scipy_stats

    tested = scipy_stats.permutation_test(
        (arm, reference), _welch_t, vectorized=True, n_resamples=DEALS, rng=np.random.default_rng(seed)
    )
    return float(tested.pvalue)


def _welch_t(arm: Floats, reference: Floats, axis: int = -1) -> Floats:
    """Over `axis`. Where nothing varies within the sides: 0 if they are alike, else as good as infinite."""
    difference = arm.mean(axis=axis) - reference.mean(axis=axis)
    squared = sum(side.var(axis=axis, ddof=1) / side.shape[axis] for side in (arm, reference))
    t = difference / np.maximum(np.sqrt(squared), FLAT)
    return cast(Floats, np.where(np.abs(difference) <= FLAT, 0.0, t))


def _drift(arm: Floats, reference: Floats) -> tuple[float, bool]:
    """lag1 of the run which drifts more, and whether either does: it narrows the interval as in a pair."""
    both = [(float(stats.lag1_autocorrelation(side)), len(side)) for side in (arm, reference)]
    known = [lag1 for lag1, _ in both if not math.isnan(lag1)]
    return max(known, default=math.nan), any(lag1 > stats.drift_bound(blocks) for lag1, blocks in both)


def _dealt_tail_p(arm: Pool, reference: Pool, percent: float, rng: np.random.Generator) -> float:
    """Two-sided: how often blocks that are dealt at random differ as much. NaN where there is no ratio."""
    together = Pool([*arm.blocks, *reference.blocks])
    deals = np.tile(np.arange(len(together.blocks)) < len(arm.blocks), (RESAMPLES, 1))
    deals[1:] = rng.permuted(deals[1:], axis=1)  # the first is what was seen, so p is never 0
    weights = deals.astype(np.int64)
    sides = (together.percentiles(percent, dealt) for dealt in (weights, 1 - weights))
    sizes = np.abs(log_ratio(*sides))
    return math.nan if math.isnan(sizes[0]) else float(np.mean(sizes >= sizes[0] - FLAT))
