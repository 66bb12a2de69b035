"""Compare two arms by one figure per block: ratio, interval, test and verdict.

Pure functions of numbers. The unit of evidence is the block, never the request. An effect is a ratio, arm
over reference, and its interval is computed on the log scale. `harness/evidence/studies/coverage.py` shows
how often the intervals cover the truth, how often the drift warning fires, and why tails have another
interval.

Unknown values are NaN, and a verdict on NaN is "inconclusive". A failed trial (infinite latency) counts: it
makes the ratio infinite, and there is no interval of a mean, as the spread is not known.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from harness.analysis.arrays import Floats
from harness.analysis.percentiles import Pool

NORMAL = NormalDist()
LEVEL = 0.95
TOST_LEVEL = 0.90  # two one-sided tests at 5 % are equivalent to one 90 % interval
ALPHA = 0.05
FEWEST_BLOCKS_FOR_VERDICT = 6  # with fewer, the interval depends too much on each single block
FEWEST_BLOCKS_FOR_DRIFT = 4  # with three blocks the autocorrelation cannot reach its bound
FLAT = 1e-12  # log ratios closer to each other than this differ only by rounding


# values of each block, and a percentile
Tail = tuple[Sequence[Floats] | Pool, float]


@dataclasses.dataclass(frozen=True, slots=True)
class Effect:
    """Arm over reference, with its interval and test. NaN where there are too few blocks."""

    ratio: float  # exp(mean of the blocks' log ratios); for a tail, of the pooled percentiles
    low: float  # interval at `level`
    high: float
    low_90: float  # for equivalence: two one-sided tests at 5 %
    high_90: float
    level: float
    blocks: int
    spread: float  # standard deviation of the blocks' log ratios; for a tail see `tail_effect`
    p: float  # two-sided t test over blocks
    lag1: float  # autocorrelation of the log ratios, in block order
    drifts: bool  # lag1 is so large that the interval is too narrow


class Verdict(enum.StrEnum):
    INVALID = "invalid"
    NOISY = "noisy session"
    FASTER = "faster"
    SLOWER = "slower"
    EQUIVALENT = "equivalent"
    FASTER_SIZE_UNCERTAIN = "faster, size uncertain"
    SLOWER_SIZE_UNCERTAIN = "slower, size uncertain"
    INCONCLUSIVE = "inconclusive"
    CLIENT_LIMITED = "limited by the client"


FASTER = (Verdict.FASTER, Verdict.FASTER_SIZE_UNCERTAIN)
SLOWER = (Verdict.SLOWER, Verdict.SLOWER_SIZE_UNCERTAIN)
DIFFERENT = (*FASTER, *SLOWER)


# -- effects -------------------------------------------------------------------------------------------


def effect(log_ratios: npt.ArrayLike, *, level: float = LEVEL, tost_level: float = TOST_LEVEL) -> Effect:
    """The effect of log ratios, one per block in block order, with a t interval over blocks.

    Fewer than two blocks have no interval. Log ratios that are not finite are not dropped: the ratio follows
    from their mean (infinite, 0, or NaN if they cancel), and interval, spread, p and lag1 are NaN.
    """
    values = np.asarray(log_ratios, dtype=np.float64)
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, as intended
        mean = float(values.mean()) if values.size else math.nan
        spread = float(values.std(ddof=1)) if values.size > 1 else math.nan
    bounds = [*mean_interval(values, level=level), *mean_interval(values, level=tost_level)]
    return of_logs(mean, bounds, level, len(values), spread, float(t_test_p(values)), drift(values))


def tail_effect(
    arm: Sequence[Floats] | Pool,
    reference: Sequence[Floats] | Pool,
    percent: float,
    *,
    level: float = LEVEL,
    tost_level: float = TOST_LEVEL,
    seed: int = 1,
) -> Effect:
    """The ratio of the percentiles of the pooled blocks; arm[i] and reference[i] are the values of block i.

    Pass a `Pool` to sort and resample its blocks only once for several comparisons. The interval comes from
    resampling blocks, the same for both arms: see `tail_interval`. `spread` is the standard deviation of the
    resampled log ratios x sqrt(blocks), so that `blocks_needed` works as for a mean. `lag1`, `drifts` and `p`
    use the percentile of each block; for `p`, a ratio that failures make infinite counts as the largest of
    all, and a ratio of two failures as no difference.

    Infinite values (failures) are ranked, so a bound may be infinite. If both arms' percentiles are infinite,
    there is no ratio, interval or p. Blocks may differ in size. Raises ValueError if the arms have different
    numbers of blocks.
    """
    return _of_percentiles([(arm, percent), (reference, percent)], log_ratio, (level, tost_level), seed)


def percentiles_ratio(side: Tail, over: Tail | None = None, *, level: float = LEVEL) -> Effect:
    """As `tail_effect`, for two percentiles that may differ; without `over`, for a single percentile."""
    sides = [side] if over is None else [side, over]
    return _of_percentiles(sides, _log_difference, (level, TOST_LEVEL), seed=1)


def _of_percentiles(
    tails: list[Tail], log_ratios: Callable[..., Floats], levels: tuple[float, float], seed: int
) -> Effect:
    """The effect of one or two tails. `log_ratios` is a parameter, as the two ways differ in the last bit."""
    sides = [(values if isinstance(values, Pool) else Pool(values), percent) for values, percent in tails]
    blocks, others = len(sides[0][0].blocks), len(sides[-1][0].blocks)
    if blocks != others:
        raise ValueError(f"one arm has {blocks} blocks, the other {others}")
    of_blocks = log_ratios(*(pool.own(percent) for pool, percent in sides))
    if blocks < 2:
        return effect(of_blocks, level=levels[0])
    draws = log_ratios(*(pool.resampled(percent, seed) for pool, percent in sides))
    centre = float(log_ratios(*(pool.whole(percent) for pool, percent in sides)))
    bounds, spread = of_resamples(draws, blocks, levels)
    p = math.nan if math.isnan(centre) else float(t_test_p(_bounded(of_blocks)))
    return of_logs(centre, bounds, levels[0], blocks, spread, p, drift(of_blocks))


def of_resamples(
    draws: Floats, blocks: int, levels: tuple[float, float] = (LEVEL, TOST_LEVEL)
) -> tuple[list[float], float]:
    """The bounds from resampled log ratios at both levels, and the spread of one block."""
    with np.errstate(invalid="ignore"):
        spread = float(draws.std(ddof=1) * math.sqrt(blocks))
    return [bound for level in levels for bound in tail_interval(draws, blocks, level=level)], spread


def log_ratio(arm: npt.ArrayLike, reference: npt.ArrayLike = 1.0) -> Floats:
    """ln(arm / reference)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log(np.divide(arm, reference)), dtype=np.float64)


def _log_difference(arm: npt.ArrayLike, reference: npt.ArrayLike = 1.0) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log(arm) - np.log(reference), dtype=np.float64)


def _bounded(log_ratios: Floats) -> Floats:
    """The log ratios with infinite ones beyond all others and unknown ones 0, so that they can be tested."""
    sizes = np.abs(log_ratios[np.isfinite(log_ratios)])
    most = 1.0 + 2.0 * float(sizes.max(initial=0.0))
    return np.nan_to_num(log_ratios, nan=0.0, posinf=most, neginf=-most)


def of_logs(
    centre: float,
    bounds: Sequence[npt.ArrayLike],
    level: float,
    blocks: int,
    spread: float = math.nan,
    p: float = math.nan,
    lag1_and_drifts: tuple[float, bool] = (math.nan, False),
) -> Effect:
    """An effect from the logarithms of its ratio and of its bounds (low, high, low_90, high_90)."""
    with np.errstate(over="ignore"):  # two very different blocks may give a bound beyond 1e308, or infinity
        ratio, low, high, low_90, high_90 = (float(np.exp(log)) for log in (centre, *bounds))
    return Effect(ratio, low, high, low_90, high_90, level, blocks, spread, p, *lag1_and_drifts)


def widened(found: Effect, factor: float) -> Effect:
    """The effect with each end of its intervals `factor` times as far from the ratio, on the log scale."""
    ends = np.array([found.low, found.high, found.low_90, found.high_90])
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        low, high, low_90, high_90 = map(float, found.ratio * np.power(ends / found.ratio, factor))
    return dataclasses.replace(found, low=low, high=high, low_90=low_90, high_90=high_90)


# -- intervals -----------------------------------------------------------------------------------------


def mean_interval(log_ratios: Floats, *, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Student's t interval of the mean over the last axis, on the log scale; NaN below two blocks."""
    blocks = log_ratios.shape[-1]
    if blocks < 2:
        unknown = np.full(log_ratios.shape[:-1], math.nan)
        return unknown, unknown
    with np.errstate(invalid="ignore"):
        mean = log_ratios.mean(axis=-1)
        half = _t_quantile(level, blocks) * log_ratios.std(axis=-1, ddof=1) / math.sqrt(blocks)
        return mean - half, mean + half


def tail_interval(draws: Floats, blocks: int, *, level: float = LEVEL) -> tuple[float, float]:
    """Expanded percentile interval of resampled log ratios (Hesterberg 2015, Am. Statistician 69:371).

    For few blocks, the plain percentile interval is too narrow: by sqrt((n - 1) / n), and because it uses the
    normal quantile and not t's. The expanded interval takes the resamples at levels that correct both. Of the
    intervals tried, its coverage is nearest to its level. NaN if a resample has no ratio, or for fewer than
    two blocks.
    """
    if blocks < 2 or np.isnan(draws).any():
        return math.nan, math.nan
    share = NORMAL.cdf(-math.sqrt(blocks / (blocks - 1)) * _t_quantile(level, blocks))
    # order statistics without interpolation, which two infinite draws would not allow
    place = max(math.floor(share * (len(draws) + 1)) - 1, 0)
    ordered = np.sort(draws)
    return float(ordered[place]), float(ordered[-1 - place])


def order_statistic_interval(values: npt.ArrayLike, percent: float) -> tuple[float, float]:
    """The 95 % interval of one trial's percentile, as if its requests were independent. For one trial only.

    It consists of two order statistics with at most 2.5 % in each tail (binomial;
    `scipy.stats.quantile_test`). A bound is -inf or inf if there are too few values for it; NaN without
    values.
    """
    from scipy import stats

    sample = np.asarray(values, dtype=np.float64)
    if sample.size == 0:
        return math.nan, math.nan
    bounds = stats.quantile_test(sample, p=percent / 100).confidence_interval(LEVEL)
    low, high = float(bounds.low), float(bounds.high)
    return (-math.inf if math.isnan(low) else low, math.inf if math.isnan(high) else high)


def _t_quantile(level: float, blocks: int) -> float:
    """The two-sided quantile of t for a mean of `blocks` blocks.

    Calls the function below `scipy.stats.t.ppf`, which takes a second to import.
    """
    from scipy import special

    return float(special.stdtrit(blocks - 1, (1 + level) / 2))


# -- drift ---------------------------------------------------------------------------------------------


def lag1_autocorrelation(log_ratios: Floats) -> Floats:
    """r1 over the last axis, in block order; NaN if values are all equal, not finite, or fewer than two."""
    if log_ratios.shape[-1] < 2:
        return np.full(log_ratios.shape[:-1], math.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        gaps = log_ratios - log_ratios.mean(axis=-1, keepdims=True)
        r1 = (gaps[..., 1:] * gaps[..., :-1]).sum(axis=-1) / (gaps**2).sum(axis=-1)
        return np.where(np.ptp(log_ratios, axis=-1) > FLAT, r1, math.nan)


def drift(log_ratios: Floats) -> tuple[float, bool]:
    """r1 of one figure per block, and whether it exceeds its bound."""
    lag1 = float(lag1_autocorrelation(log_ratios))
    return lag1, lag1 > drift_bound(len(log_ratios))


def widening(lag1: npt.ArrayLike) -> Floats:
    """How much wider the interval of a mean must be for values with this autocorrelation.

    √((1 + lag1) / (1 - lag1)): the standard error of the mean of a first-order autoregressive series over
    that of independent values (Wilks 2011, Statistical Methods in the Atmospheric Sciences, section 5.2.4).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.sqrt((1.0 + np.asarray(lag1)) / (1.0 - np.asarray(lag1))))


def drift_bound(blocks: int) -> float:
    """One-sided bound of r1 for independent blocks; infinite if there are too few blocks.

    Normal, with the exact moments of r1 under independence and normality (Moran 1948, Biometrika 35:255):
    mean -1/n, variance (n - 2)^2 / (n^2 (n - 1)). Anderson's bound (1942) is for the circular r1 and
    fires too rarely here: in 3 % instead of 5 % at 10 blocks.
    """
    if blocks < FEWEST_BLOCKS_FOR_DRIFT:
        return math.inf
    deviation = (blocks - 2) / (blocks * math.sqrt(blocks - 1))
    return NORMAL.inv_cdf(LEVEL) * deviation - 1 / blocks


# -- tests ---------------------------------------------------------------------------------------------


def t_test_p(log_ratios: npt.ArrayLike) -> Floats:
    """Two-sided p of Student's t test that the mean over the last axis is 0.

    If the values differ only by rounding: 1 if they are 0, else 0. NaN for fewer than two blocks or if a log
    ratio is not finite. A sign-flip test is no alternative: with 6 blocks its p cannot be below 0.031, so
    after Holm's correction no figure could differ (`harness/evidence/studies/verdicts.py`).
    """
    from scipy import special

    values = np.asarray(log_ratios, dtype=np.float64)
    blocks = values.shape[-1]
    if blocks < 2:
        return np.full(values.shape[:-1], math.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, spread = values.mean(axis=-1), values.std(axis=-1, ddof=1)
        t = np.abs(mean) / (spread / math.sqrt(blocks))
        alike = np.where(np.abs(mean) <= FLAT, 1.0, 0.0)
        p = np.where(np.ptp(values, axis=-1) <= FLAT, alike, 2 * special.stdtr(blocks - 1, -t))
    return np.asarray(np.where(np.isfinite(values).all(axis=-1), p, math.nan))


def holm(ps: npt.ArrayLike) -> Floats:
    """Holm's adjusted p values, in the order given. NaN stays NaN and is not counted."""
    adjusted = np.array(ps, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(adjusted))
    order = known[np.argsort(adjusted[known], kind="stable")]
    stepped = np.maximum.accumulate(adjusted[order] * np.arange(len(order), 0, -1))
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


# -- verdicts ------------------------------------------------------------------------------------------


def verdict(
    found: Effect, delta: float, *, lower_is_better: bool, invalid: bool = False, noisy: bool = False
) -> Verdict:
    """The first verdict that applies, in the method's order; `delta` is a share, such as 0.05.

    Fewer than `FEWEST_BLOCKS_FOR_VERDICT` blocks are inconclusive, whatever their interval. The margin is
    symmetric on the log scale: from 1 / (1 + delta) to 1 + delta.
    """
    if invalid:
        return Verdict.INVALID
    if noisy:
        return Verdict.NOISY
    if found.blocks < FEWEST_BLOCKS_FOR_VERDICT:
        return Verdict.INCONCLUSIVE
    if side := _side(found, delta):
        return Verdict.FASTER if (side < 0) == lower_is_better else Verdict.SLOWER
    if 1 / (1 + delta) < found.low_90 and found.high_90 < 1 + delta:
        return Verdict.EQUIVALENT
    if side := _side(found, 0):
        return (
            Verdict.FASTER_SIZE_UNCERTAIN if (side < 0) == lower_is_better else Verdict.SLOWER_SIZE_UNCERTAIN
        )
    return Verdict.INCONCLUSIVE


def _side(found: Effect, delta: float) -> int:
    """1 if the whole interval is above the margin, -1 if it is below, else 0 (also without an interval)."""
    return (found.low > 1 + delta) - (found.high < 1 / (1 + delta))


def blocks_needed(spread: float, half_width: float) -> int:
    """The blocks needed for an interval of this half width (a share of the ratio) or less; at least 2.

    0 if that is unknown: the spread is NaN or infinite, or the half width is not above 0.
    """
    goal = math.log1p(half_width) if half_width > 0 else 0.0
    if not (math.isfinite(spread) and goal > 0):
        return 0
    # the normal quantile is below t's, so this is a lower bound; the loop continues with t
    blocks = max(2, math.floor((NORMAL.inv_cdf((1 + LEVEL) / 2) * spread / goal) ** 2))
    while _t_quantile(LEVEL, blocks) * spread / math.sqrt(blocks) > goal:
        blocks += 1
    return blocks


def blocks_for_width(found: Effect, half_width: float, *, counted: float = 1.0) -> tuple[int, int]:
    """The least and the largest number of blocks to run for a 95 % interval of ± `half_width` or less.

    The spread over blocks is only an estimate; the two numbers come from the ends of its 90 % interval
    (chi-square). `counted` is the share of blocks that are not excluded. (0, 0) if the numbers are unknown,
    or if the interval is already narrow enough.
    """
    from scipy import special

    if found.blocks < FEWEST_BLOCKS_FOR_VERDICT or not math.isfinite(found.spread) or counted <= 0:
        return 0, 0
    freedom = found.blocks - 1
    spreads = (found.spread * math.sqrt(freedom / special.chdtri(freedom, tail)) for tail in (0.05, 0.95))
    least, most = (math.ceil(blocks_needed(one, half_width) / counted) for one in spreads)
    run = math.ceil(found.blocks / counted)
    return (max(least, run + 1), most) if most > run else (0, 0)
