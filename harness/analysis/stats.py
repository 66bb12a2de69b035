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
import functools
import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import overload

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

NORMAL = NormalDist()
LEVEL = 0.95
TOST_LEVEL = 0.90  # two one-sided tests at 5 % are one 90 % interval
RESAMPLES = 1999
ALPHA = 0.05
FEWEST_BLOCKS = 6  # for a verdict: with fewer the interval hangs on each block's spread alone
FEWEST_FOR_DRIFT = 4  # with three blocks the autocorrelation cannot reach its bound
FLAT = 1e-12  # log ratios nearer to each other than this differ by rounding only
# MLPerf's early stopping: below this many requests the percentile is chance
FEWEST_REQUESTS = {50: 1, 5: 64, 90: 64, 95: 64, 99: 662, 99.9: 6636}


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
    bounds = (*mean_interval(values, level=level), *mean_interval(values, level=TOST_LEVEL))
    return _effect(mean, bounds, level, spread, values)


def tail_effect(
    arm: Sequence[Floats] | Pool,
    reference: Sequence[Floats] | Pool,
    percent: float,
    *,
    level: float = LEVEL,
    seed: int = 1,
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
    sides = [side if isinstance(side, Pool) else Pool(side) for side in (arm, reference)]
    blocks, others = (len(side.blocks) for side in sides)
    if blocks != others:
        raise ValueError(f"one arm has {blocks} blocks, the other {others}")
    own = _log_ratio(*(side.own(percent) for side in sides))
    if blocks < 2:
        return effect(own, level=level)
    draws = _log_ratio(*(side.resampled(percent, seed) for side in sides))
    centre = float(_log_ratio(*(side.whole(percent) for side in sides)))
    with np.errstate(invalid="ignore"):
        spread = float(draws.std(ddof=1) * math.sqrt(blocks))
    bounds = (*tail_interval(draws, blocks, level=level), *tail_interval(draws, blocks, level=TOST_LEVEL))
    p = math.nan if math.isnan(centre) else float(t_test_p(_bounded(own)))
    return dataclasses.replace(_effect(centre, bounds, level, spread, own), p=p)


def _bounded(log_ratios: Floats) -> Floats:
    """Infinite ones as the largest of all, unknown ones 0, so that a test of them has numbers."""
    sizes = np.abs(log_ratios[np.isfinite(log_ratios)])
    most = 1.0 + 2.0 * float(sizes.max(initial=0.0))
    return np.nan_to_num(log_ratios, nan=0.0, posinf=most, neginf=-most)


def _effect(
    centre: float, bounds: tuple[npt.ArrayLike, ...], level: float, spread: float, per_block: Floats
) -> Effect:
    with np.errstate(over="ignore"):  # two blocks far apart: an upper bound beyond 1e308 is infinite
        ratio, low, high, low_90, high_90 = (float(np.exp(log)) for log in (centre, *bounds))
    lag1 = float(lag1_autocorrelation(per_block))
    return Effect(
        ratio=ratio,
        low=low,
        high=high,
        low_90=low_90,
        high_90=high_90,
        level=level,
        blocks=len(per_block),
        spread=spread,
        p=float(t_test_p(per_block)),
        lag1=lag1,
        drifts=lag1 > drift_bound(len(per_block)),
    )


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


def order_statistic_interval(
    values: npt.ArrayLike, percent: float, *, level: float = LEVEL
) -> tuple[float, float]:
    """An interval of one trial's percentile, as if its requests were independent. For one trial only.

    Two order statistics, each tail at most (1 - level) / 2 (binomial; `scipy.stats.quantile_test`). An end
    that no value can bound at this level is -inf or inf; NaN of nothing.
    """
    from scipy import stats

    found = np.asarray(values, dtype=np.float64)
    if found.size == 0:
        return math.nan, math.nan
    bounds = stats.quantile_test(found, p=percent / 100).confidence_interval(level)
    low, high = float(bounds.low), float(bounds.high)
    return (-math.inf if math.isnan(low) else low, math.inf if math.isnan(high) else high)


def _t_quantile(level: float, blocks: int) -> float:
    """Two-sided, for a mean of so many blocks. What `scipy.stats.t.ppf` calls, without a second of import."""
    from scipy import special

    return float(special.stdtrit(blocks - 1, (1 + level) / 2))


# -- percentiles of pooled blocks ----------------------------------------------------------------------


def percentile(values: Floats, percent: float) -> float:
    """numpy's "linear" percentile; NaN of nothing; infinite as soon as an infinite value takes part in it.

    Written out because numpy's own gives NaN, and a warning, next to an infinite value.
    """
    if len(values) == 0:
        return math.nan
    place = _place(len(values), percent)
    return percentile_of_sorted(np.partition(values, (math.floor(place), math.ceil(place))), percent)


def percentile_of_sorted(ordered: Floats, percent: float) -> float:
    """As `percentile`, of values that are in order."""
    if len(ordered) == 0:
        return math.nan
    place = _place(len(ordered), percent)
    below, above = float(ordered[math.floor(place)]), float(ordered[math.ceil(place)])
    return below if below == above else below + (above - below) * (place % 1)


@overload
def _place(count: int, percent: float) -> float: ...
@overload
def _place(count: Counts, percent: float) -> Floats: ...
def _place(count: int | Counts, percent: float) -> float | Floats:
    """Where among so many sorted values, from 0; percent / 100 first would round differently."""
    return (count - 1) * percent / 100


def resamples(blocks: int, count: int, rng: np.random.Generator) -> Counts:
    """Draws of as many blocks with replacement: how often each comes in each draw, (count, blocks)."""
    drawn = rng.integers(blocks, size=(count, blocks)) + blocks * np.arange(count)[:, None]
    return np.bincount(drawn.ravel(), minlength=count * blocks).reshape(count, blocks)


def pooled_percentiles(blocks: Sequence[Floats], percent: float, weights: Counts) -> Floats:
    """The "linear" percentile of a pool in which block i stands weights[r, i] times, for each row r.

    Values are not NaN; they may be infinite. NaN where the pool is empty.
    """
    return Pool(blocks).percentiles(percent, weights)


class Pool:
    """The values of some blocks, sorted and resampled once for all that they are compared with."""

    def __init__(self, blocks: Sequence[Floats]) -> None:
        self.blocks = blocks
        self._sizes = np.array([len(block) for block in blocks], dtype=np.int64)
        self._known: dict[tuple[float, int], Floats] = {}

    def own(self, percent: float) -> Floats:
        """Each block's percentile."""
        return np.array([percentile(block, percent) for block in self.blocks], dtype=np.float64)

    def whole(self, percent: float) -> float:
        """Every block once."""
        return float(self.percentiles(percent, np.ones((1, len(self.blocks)), dtype=np.int64))[0])

    def resampled(self, percent: float, seed: int) -> Floats:
        """Of `RESAMPLES` draws of blocks: for one seed the same draws in every pool of so many blocks."""
        if (percent, seed) not in self._known:
            drawn = _drawn(len(self.blocks), seed)
            self._known[percent, seed] = self.percentiles(percent, drawn)
        return self._known[percent, seed]

    def percentiles(self, percent: float, weights: Counts) -> Floats:
        """See `pooled_percentiles`."""
        if self._sizes.sum() == 0:
            return np.full(len(weights), math.nan)
        ordered, within = self._sorted
        totals = weights @ self._sizes
        place = _place(totals, percent)
        narrow = weights.astype(np.int32)  # as `within`, which makes their products quick
        at_floor = _places(within, narrow, np.floor(place), np.zeros(len(weights), dtype=np.int64))
        below, above = ordered[at_floor], ordered[_places(within, narrow, np.ceil(place), at_floor)]
        with np.errstate(invalid="ignore"):  # between two infinite values lies infinity, not inf - inf
            between = np.where(below == above, below, below + (above - below) * (place % 1))
        return np.where(totals > 0, between, math.nan)

    @functools.cached_property
    def _sorted(self) -> tuple[Floats, npt.NDArray[np.int32]]:
        """All values, and in row m how many of each block are among the m + 1 smallest."""
        values = np.concatenate(self.blocks)
        order = np.argsort(values, kind="stable")
        owners = np.repeat(np.arange(len(self.blocks)), self._sizes)[order]
        mine = np.zeros((len(owners), len(self.blocks)), dtype=np.int32)
        mine[np.arange(len(owners)), owners] = 1
        return values[order], mine.cumsum(axis=0, dtype=np.int32)


@functools.lru_cache(maxsize=4)
def _drawn(blocks: int, seed: int) -> Counts:
    return resamples(blocks, RESAMPLES, np.random.default_rng(seed))


def _places(
    within: npt.NDArray[np.int32], weights: npt.NDArray[np.int32], ranks: Floats, least: Counts
) -> Counts:
    """Per row of weights, where the weighted count of sorted values passes the rank (from 0). Bisection.

    `least` is known to be no later than that.
    """
    low = least.copy()
    high = np.full(len(weights), len(within) - 1)
    high[_counted(within, weights, low) > ranks] = 0
    high = np.maximum(low, high)
    while len(open_ := np.flatnonzero(low < high)):
        middle = (low[open_] + high[open_]) // 2
        passed = _counted(within, weights[open_], middle) > ranks[open_]
        high[open_] = np.where(passed, middle, high[open_])
        low[open_] = np.where(passed, low[open_], middle + 1)
    return low


def _counted(within: npt.NDArray[np.int32], weights: npt.NDArray[np.int32], places: Counts) -> Counts:
    return np.asarray(np.einsum("rb,rb->r", weights, within.take(places, axis=0)), dtype=np.int64)


def _log_ratio(arm: npt.ArrayLike, reference: npt.ArrayLike) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log(np.divide(arm, reference)), dtype=np.float64)


# -- drift ---------------------------------------------------------------------------------------------


def lag1_autocorrelation(log_ratios: Floats) -> Floats:
    """r1 over the last axis, in block order; NaN of values alike, not finite, or fewer than two."""
    if log_ratios.shape[-1] < 2:
        return np.full(log_ratios.shape[:-1], math.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        gaps = log_ratios - log_ratios.mean(axis=-1, keepdims=True)
        r1 = (gaps[..., 1:] * gaps[..., :-1]).sum(axis=-1) / (gaps**2).sum(axis=-1)
        return np.where(np.ptp(log_ratios, axis=-1) > FLAT, r1, math.nan)


def drift_bound(blocks: int, *, level: float = LEVEL) -> float:
    """One-sided bound of r1 when the blocks are independent; infinite where they are too few to tell.

    Normal, with the exact moments of r1 under independence and normality (Moran 1948, Biometrika 35:255):
    mean -1/n, variance (n - 2)^2 / (n^2 (n - 1)). Anderson's bound (1942) belongs to the circular r1 and
    fires too rarely here: in 3 instead of 5 % at 10 blocks.
    """
    if blocks < FEWEST_FOR_DRIFT:
        return math.inf
    deviation = (blocks - 2) / (blocks * math.sqrt(blocks - 1))
    return NORMAL.inv_cdf(level) * deviation - 1 / blocks


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


def blocks_needed(spread: float, half_width: float, *, level: float = LEVEL) -> int:
    """Blocks until the interval's half width, as a share of the ratio, is at most `half_width`; at least 2.

    0 where it cannot be said: the spread is not known (NaN, infinite) or the half width is not above 0.
    """
    goal = math.log1p(half_width) if half_width > 0 else 0.0
    if not (math.isfinite(spread) and goal > 0):
        return 0
    # t is never below normal, so that this many are too few at most; t takes it from there
    blocks = max(2, math.floor((NORMAL.inv_cdf((1 + level) / 2) * spread / goal) ** 2))
    while _t_quantile(level, blocks) * spread / math.sqrt(blocks) > goal:
        blocks += 1
    return blocks


def blocks_for_width(
    found: Effect, half_width: float, *, counted: float = 1.0, level: float = LEVEL
) -> tuple[int, int]:
    """Blocks to run until the 95 % interval is as narrow as ± `half_width`: at least and at most so many.

    The spread over blocks is only estimated: of its own 90 % interval (chi-square) either end gives one of
    the two. `counted` is the share of blocks that are not excluded. (0, 0): cannot be said, or is narrow now.
    """
    from scipy import special

    if found.blocks < FEWEST_BLOCKS or not math.isfinite(found.spread) or counted <= 0:
        return 0, 0
    freedom = found.blocks - 1
    spreads = (found.spread * math.sqrt(freedom / special.chdtri(freedom, tail)) for tail in (0.05, 0.95))
    least, most = (math.ceil(blocks_needed(one, half_width, level=level) / counted) for one in spreads)
    run = math.ceil(found.blocks / counted)
    return (max(least, run + 1), most) if most > run else (0, 0)
