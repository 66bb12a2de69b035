"""What may be said of two arms, from one figure a block: ratio, interval, test and verdict.

Pure; numbers in, numbers out. The unit of evidence is the block, never the request. Effects are ratios, arm
over reference, and intervals live on the log scale. How often the intervals cover the truth, how often the
drift warning fires and why tails use the interval they use: `harness/evidence/studies/coverage.py`.

What is not known is NaN, and a verdict on NaN is "inconclusive". A failed trial (infinite latency) is kept:
it makes the ratio infinite and takes the interval of a mean away, since no spread can be put on it.
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
TOST_LEVEL = 0.90  # two one-sided tests at 5 % are one 90 % interval
ALPHA = 0.05
FEWEST_BLOCKS = 6  # for a verdict: with fewer the interval hangs on each block's spread alone
FEWEST_FOR_DRIFT = 4  # with three blocks the autocorrelation cannot reach its bound
FLAT = 1e-12  # log ratios nearer to each other than this differ by rounding only


# values block by block, and which percentile of them is meant
Tail = tuple[Sequence[Floats] | Pool, float]


@dataclasses.dataclass(frozen=True, slots=True)
class Effect:
    """Arm over reference, with what is known of it. NaN where there are too few blocks to say."""

    ratio: float  # exp(mean of the per-block log ratios); of a tail: of the pooled percentiles
    low: float  # interval at `level`
    high: float
    low_90: float  # for equivalence: two one-sided tests at 5 %
    high_90: float
    level: float
    blocks: int
    spread: float  # standard deviation of the per-block log ratios; of a tail: what one block adds, see there
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


def effect(log_ratios: npt.ArrayLike, *, level: float = LEVEL) -> Effect:
    """The effect of log ratios, one a block, in block order: a t interval over blocks.

    Fewer than two blocks give no interval. With a log ratio that is not finite the ratio is what the mean
    says (infinite, 0, or NaN when they cancel), and interval, spread, p and lag1 are NaN: neither dropped
    nor judged.
    """
    values = np.asarray(log_ratios, dtype=np.float64)
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, which is what is meant
        mean = float(values.mean()) if values.size else math.nan
        spread = float(values.std(ddof=1)) if values.size > 1 else math.nan
    bounds = [*mean_interval(values, level=level), *mean_interval(values, level=TOST_LEVEL)]
    return of_logs(mean, bounds, level, len(values), spread, float(t_test_p(values)), drift(values))


def tail_effect(
    arm: Sequence[Floats] | Pool, reference: Sequence[Floats] | Pool, percent: float, *, seed: int = 1
) -> Effect:
    """Ratio of the percentiles of the pooled blocks; arm[i] and reference[i] are the values of block i.
    A `Pool` that is compared more than once is sorted and resampled once.

    The interval comes from resampling blocks (both arms' together): see `tail_interval`. `spread` is the
    standard deviation of the resampled log ratios x sqrt(blocks), so that `blocks_needed` means what it means
    for a mean. `lag1` and `drifts` are of the blocks' own percentiles, and so is `p`, in which a ratio that
    failures make infinite counts as the largest of all, and one of two failures as none. Infinite values
    (failures) are ranked, so a bound may be infinite; where both arms' percentile is, there is no ratio, no
    interval and no p. Blocks may differ in size. ValueError when the arms have different numbers of blocks.
    """
    return _of_percentiles([(arm, percent), (reference, percent)], log_ratio, LEVEL, seed)


def percentiles_ratio(side: Tail, over: Tail | None = None, *, level: float = LEVEL) -> Effect:
    """As `tail_effect`, of two percentiles that need not be the same; `over` left out: of one alone."""
    return _of_percentiles([side] if over is None else [side, over], _log_difference, level, seed=1)


def _of_percentiles(given: list[Tail], over: Callable[..., Floats], level: float, seed: int) -> Effect:
    """`over` gives the log ratios. Both ways to take them are kept: they differ in the last bit."""
    sides = [(values if isinstance(values, Pool) else Pool(values), percent) for values, percent in given]
    blocks, others = len(sides[0][0].blocks), len(sides[-1][0].blocks)
    if blocks != others:
        raise ValueError(f"one arm has {blocks} blocks, the other {others}")
    own = over(*(pool.own(percent) for pool, percent in sides))
    if blocks < 2:
        return effect(own, level=level)
    draws = over(*(pool.resampled(percent, seed) for pool, percent in sides))
    centre = float(over(*(pool.whole(percent) for pool, percent in sides)))
    bounds, spread = of_resamples(draws, blocks, level)
    p = math.nan if math.isnan(centre) else float(t_test_p(_bounded(own)))
    return of_logs(centre, bounds, level, blocks, spread, p, drift(own))


def of_resamples(draws: Floats, blocks: int, level: float) -> tuple[list[float], float]:
    """The bounds that resampled log ratios give (at `level`, then for TOST), and the spread of one block."""
    with np.errstate(invalid="ignore"):
        spread = float(draws.std(ddof=1) * math.sqrt(blocks))
    return [bound for at in (level, TOST_LEVEL) for bound in tail_interval(draws, blocks, level=at)], spread


def log_ratio(arm: npt.ArrayLike, reference: npt.ArrayLike = 1.0) -> Floats:
    """ln of the first over the second."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log(np.divide(arm, reference)), dtype=np.float64)


def _log_difference(arm: npt.ArrayLike, reference: npt.ArrayLike = 1.0) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log(arm) - np.log(reference), dtype=np.float64)


def _bounded(log_ratios: Floats) -> Floats:
    """Infinite ones as the largest of all, unknown ones 0, so that a test of them has numbers."""
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
    """An effect from the logs of its ratio and of its bounds (low, high, low_90, high_90)."""
    with np.errstate(over="ignore"):  # two blocks far apart: an upper bound beyond 1e308 is infinite
        ratio, low, high, low_90, high_90 = (float(np.exp(log)) for log in (centre, *bounds))
    return Effect(ratio, low, high, low_90, high_90, level, blocks, spread, p, *lag1_and_drifts)


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

    The plain percentile interval of few blocks is too narrow by sqrt((n - 1) / n) and by normal for t; the
    expanded one reads the resamples at the levels that make up for both. Of those tried it covers nearest to
    its level. NaN as soon as one resample has no ratio, and below two blocks.
    """
    if blocks < 2 or np.isnan(draws).any():
        return math.nan, math.nan
    share = NORMAL.cdf(-math.sqrt(blocks / (blocks - 1)) * _t_quantile(level, blocks))
    # order statistics, not interpolated: between two infinite draws there is nothing to interpolate
    place = max(math.floor(share * (len(draws) + 1)) - 1, 0)
    ordered = np.sort(draws)
    return float(ordered[place]), float(ordered[-1 - place])


def order_statistic_interval(values: npt.ArrayLike, percent: float) -> tuple[float, float]:
    """The 95 % interval of one trial's percentile, as if its requests were independent. For one trial only.

    Two order statistics, each tail at most 2.5 % (binomial; `scipy.stats.quantile_test`). An end
    that no value can bound at this level is -inf or inf; NaN of nothing.
    """
    from scipy import stats

    found = np.asarray(values, dtype=np.float64)
    if found.size == 0:
        return math.nan, math.nan
    bounds = stats.quantile_test(found, p=percent / 100).confidence_interval(LEVEL)
    low, high = float(bounds.low), float(bounds.high)
    return (-math.inf if math.isnan(low) else low, math.inf if math.isnan(high) else high)


def _t_quantile(level: float, blocks: int) -> float:
    """Two-sided, for a mean of so many blocks. What `scipy.stats.t.ppf` calls, without a second of import."""
    from scipy import special

    return float(special.stdtrit(blocks - 1, (1 + level) / 2))


# -- drift ---------------------------------------------------------------------------------------------


def lag1_autocorrelation(log_ratios: Floats) -> Floats:
    """r1 over the last axis, in block order; NaN of values alike, not finite, or fewer than two."""
    if log_ratios.shape[-1] < 2:
        return np.full(log_ratios.shape[:-1], math.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        gaps = log_ratios - log_ratios.mean(axis=-1, keepdims=True)
        r1 = (gaps[..., 1:] * gaps[..., :-1]).sum(axis=-1) / (gaps**2).sum(axis=-1)
        return np.where(np.ptp(log_ratios, axis=-1) > FLAT, r1, math.nan)


def drift(log_ratios: Floats) -> tuple[float, bool]:
    """r1 of one figure a block, and whether it is beyond its bound."""
    lag1 = float(lag1_autocorrelation(log_ratios))
    return lag1, lag1 > drift_bound(len(log_ratios))


def drift_bound(blocks: int) -> float:
    """One-sided bound of r1 when the blocks are independent; infinite where they are too few to tell.

    Normal, with the exact moments of r1 under independence and normality (Moran 1948, Biometrika 35:255):
    mean -1/n, variance (n - 2)^2 / (n^2 (n - 1)). Anderson's bound (1942) belongs to the circular r1 and
    fires too rarely here: in 3 instead of 5 % at 10 blocks.
    """
    if blocks < FEWEST_FOR_DRIFT:
        return math.inf
    deviation = (blocks - 2) / (blocks * math.sqrt(blocks - 1))
    return NORMAL.inv_cdf(LEVEL) * deviation - 1 / blocks


# -- tests ---------------------------------------------------------------------------------------------


def t_test_p(log_ratios: npt.ArrayLike) -> Floats:
    """Two-sided p of Student's t test that the mean over the last axis is 0.

    Of values that differ by rounding only: 1 where they are 0, else 0. NaN below two blocks and when a log
    ratio is not finite. A test of sign flips was used before: with 6 blocks its p cannot fall below 0.031,
    so that after Holm's correction no figure could differ (`harness/evidence/studies/verdicts.py`).
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
    """Holm's adjusted p values, in the order given; NaN stays NaN and does not count."""
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
    """The method's verdict, tried in its order; `delta` as a share, such as 0.05.

    Fewer than `FEWEST_BLOCKS` blocks are inconclusive, whatever their interval. The margin is as wide either
    way on the log scale: from 1 / (1 + delta) to 1 + delta.
    """
    if invalid:
        return Verdict.INVALID
    if noisy:
        return Verdict.NOISY
    if found.blocks < FEWEST_BLOCKS:
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
    """1: the whole interval lies above the margin; -1: below it; 0: neither, or there is no interval."""
    return (found.low > 1 + delta) - (found.high < 1 / (1 + delta))


def blocks_needed(spread: float, half_width: float) -> int:
    """Blocks until the interval's half width, as a share of the ratio, is at most `half_width`; at least 2.

    0 where it cannot be said: the spread is not known (NaN, infinite) or the half width is not above 0.
    """
    goal = math.log1p(half_width) if half_width > 0 else 0.0
    if not (math.isfinite(spread) and goal > 0):
        return 0
    # t is never below normal, so that this many are too few at most; t takes it from there
    blocks = max(2, math.floor((NORMAL.inv_cdf((1 + LEVEL) / 2) * spread / goal) ** 2))
    while _t_quantile(LEVEL, blocks) * spread / math.sqrt(blocks) > goal:
        blocks += 1
    return blocks


def blocks_for_width(found: Effect, half_width: float, *, counted: float = 1.0) -> tuple[int, int]:
    """Blocks to run until the 95 % interval is as narrow as ± `half_width`: at least and at most so many.

    The spread over blocks is only estimated: of its own 90 % interval (chi-square) either end gives one of
    the two. `counted` is the share of blocks that are not excluded. (0, 0): cannot be said, or is narrow now.
    """
    from scipy import special

    if found.blocks < FEWEST_BLOCKS or not math.isfinite(found.spread) or counted <= 0:
        return 0, 0
    freedom = found.blocks - 1
    spreads = (found.spread * math.sqrt(freedom / special.chdtri(freedom, tail)) for tail in (0.05, 0.95))
    least, most = (math.ceil(blocks_needed(one, half_width) / counted) for one in spreads)
    run = math.ceil(found.blocks / counted)
    return (max(least, run + 1), most) if most > run else (0, 0)
