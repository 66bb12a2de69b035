"""The capacity: the rate at which the scores of windows at several rates cross an objective. Pure.

The fit is a line: ln score over a scale of the rate on which queues are nearly straight. For a mean, the
scale is the room left up to the arm's throughput, because the mean wait of M/G/1 grows with 1 / (1 - load).
For the share of requests beyond a limit, it is ln rate. The fit is a Poisson regression: windows with a score
of zero count, each window weighs by its requests, and nothing is averaged on the log scale. The capacity is
the rate where the line meets the target, the lowest over all objectives. Its interval resamples blocks and
fits slope and level again in each draw; `harness/evidence/studies/searching.py` measures how often it covers
the truth.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harness.analysis import stats
from harness.analysis.arrays import Floats
from harness.analysis.percentiles import RESAMPLES, resamples
from harness.analysis.slo import Objective
from harness.analysis.stats import Effect

NEAR = 0.3  # in ln rate: windows of the search within this distance of the middle help to fit the slope
BEYOND = 0.06  # in ln rate: an estimate further than this beyond the rates tried is only a bound
HALVINGS = 30
# With few blocks of bursts, intervals cover less than their nominal level, so they are read at a higher one.
# Ratios need less of that, as both arms get the same bursts. How often they cover: docs/studies/search.md
READ_AT = 0.98  # for stats.LEVEL
READ_RATIOS_AT = {stats.LEVEL: 0.96, stats.TOST_LEVEL: 0.92}
# times the highest rate that held: the arm's throughput is at least this, whatever the closed loop measured
LEAST_ROOM = 1.1
FULLEST = 0.98  # of the throughput; the scale ends here, as higher rates add no information
# plausible slopes; M/D/1: 1.2 for a mean three times as long as that of a single user, 10 to 20 for p95, p99
MEAN_SLOPES = (0.2, 6.0)
SHARE_SLOPES = (2.0, 40.0)


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """One window: for each objective the sum of its scores and the number of requests."""

    block: int
    rate_per_s: float
    confirms: bool  # False: a window of the search, used for the slope only
    sums: tuple[float, ...]  # in the order of the objectives
    counts: tuple[float, ...]
    gave_up: bool = False  # cut short, because it could not keep its objectives any more

    def keeps(self, objectives: Sequence[Objective]) -> bool:
        """Whether this window alone kept every objective."""
        return not self.gave_up and all(
            total < one.target * count
            for one, total, count in zip(objectives, self.sums, self.counts, strict=True)
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Crossing:
    """One arm's capacity. Draws are ln rates from resampled blocks; all arms use the same resamples."""

    blocks: tuple[int, ...]
    rate_per_s: float  # exactly one of the rates tried if the estimate is beyond them
    at_least: bool  # the estimate is above every rate tried, so the capacity is the highest rate that held
    at_most: bool  # the estimate is below every rate tried
    binding: int  # the limiting objective
    crossings: tuple[float, ...]  # ln rate of every objective; infinite if no request scored
    tried_per_s: tuple[float, float]  # the lowest and the highest rate
    held_per_s: float  # the highest rate at which a window kept every objective; 0 without any
    low_draws: Floats  # never above the highest rate tried; if `at_most`, -inf below the lowest
    high_draws: Floats  # never below the lowest rate tried; if `at_least`, inf above the highest
    by_block: Floats  # the estimate from each block, to the first order

    @property
    def log_rate(self) -> float:
        """ln of the capacity. Compare rates instead: exp of this may differ from the rate in the last bit."""
        return math.log(self.rate_per_s)

    def interval(self) -> tuple[float, float]:
        """The 95 % interval in requests per second; NaN for one block.

        The upper end is infinite if every rate tried held, the lower end 0 if none did: nothing bounds it
        then. The lower end is never above the highest rate that held, as it is the promise.
        """
        low, high = _ends(self.low_draws, self.high_draws, len(self.blocks), READ_AT)
        return min(low, self.held_per_s), max(high, self.tried_per_s[0])

    def as_lower_bound(self) -> Crossing:
        """The same estimate, but nothing bounds it from above. At least one window must have held."""
        return dataclasses.replace(
            self,
            rate_per_s=min(self.rate_per_s, self.held_per_s),
            at_least=True,
            at_most=False,
            high_draws=np.full_like(self.high_draws, math.inf),
        )


def cross(
    windows: Sequence[Window], objectives: Sequence[Objective], own_per_s: float, *, seed: int = 1
) -> Crossing | None:
    """Estimate the capacity from the confirming windows; None if there are none, or no request in them.

    own_per_s: the arm's throughput in a closed loop.
    """
    if not _has_data(windows):
        return None
    fits = _fits(windows, objectives, own_per_s)
    crossings = tuple(fit.log_rate for fit in fits)
    binding = int(np.argmin(crossings))
    confirming = [window for window in windows if window.confirms]
    blocks = tuple(sorted({window.block for window in confirming}))
    place = np.array([blocks.index(window.block) for window in confirming])
    weights = _draws(len(blocks), seed)[:, place]
    drawn = np.min([fit.log_rates(weights) for fit in fits], axis=0)
    rates = [window.rate_per_s for window in windows]
    tried, held = (min(rates), max(rates)), _highest_held(windows, objectives)
    lowest, highest = map(math.log, tried)
    at_least = held > 0 and crossings[binding] > highest + BEYOND
    at_most = crossings[binding] < lowest - BEYOND
    top = held if at_least else tried[1]
    below = -math.inf if at_most else drawn
    above = math.inf if at_least else drawn
    return Crossing(
        blocks=blocks,
        rate_per_s=_within(crossings[binding], tried[0], top),
        at_least=at_least,
        at_most=at_most,
        binding=binding,
        crossings=crossings,
        tried_per_s=tried,
        held_per_s=held,
        low_draws=np.where(drawn < lowest - BEYOND, below, np.fmin(drawn, math.log(top))),
        high_draws=np.where(drawn > highest + BEYOND, above, np.fmax(drawn, lowest)),
        by_block=fits[binding].by_block(place, len(blocks)),
    )


def log_rates(
    windows: Sequence[Window], objectives: Sequence[Objective], own_per_s: float
) -> tuple[float, ...]:
    """ln of the rate at which each objective is crossed; empty without confirming windows."""
    return tuple(fit.log_rate for fit in _fits(windows, objectives, own_per_s)) if _has_data(windows) else ()


def effect(arm: Crossing, reference: Crossing) -> Effect:
    """The ratio of two capacities over the same blocks. Raises ValueError if their blocks differ."""
    if arm.blocks != reference.blocks:
        raise ValueError("capacities of different blocks are not paired")
    blocks = len(arm.blocks)
    draws = arm.low_draws - reference.high_draws, arm.high_draws - reference.low_draws
    (low, high), (low_90, high_90) = (
        _ends(*draws, blocks, READ_RATIOS_AT[level]) for level in (stats.LEVEL, stats.TOST_LEVEL)
    )
    with np.errstate(invalid="ignore"):  # inf - inf, if neither arm has a score
        own = arm.by_block - reference.by_block
        spread = float(np.std(draws[0], ddof=1) * math.sqrt(blocks)) if blocks > 1 else math.nan
    return dataclasses.replace(
        stats.effect(own),
        ratio=math.exp(arm.log_rate - reference.log_rate),
        low=low,
        high=high,
        low_90=low_90,
        high_90=high_90,
        spread=spread,
    )


class _Scale(NamedTuple):
    """The scale of rates on which the line is fitted, and the range of its slope."""

    slopes: tuple[float, float]
    most_per_s: float = math.inf  # the rate at which a mean diverges; infinite: the scale is ln rate

    def place(self, rate_per_s: Floats) -> Floats:
        if math.isinf(self.most_per_s):
            return np.log(rate_per_s)
        return -np.log1p(-np.fmin(rate_per_s / self.most_per_s, FULLEST))

    def log_rate(self, place: Floats) -> Floats:
        if math.isinf(self.most_per_s):
            return place
        return np.asarray(np.log(-self.most_per_s * np.expm1(-np.fmax(place, 1e-9))))


@dataclasses.dataclass(frozen=True, eq=False)
class _Fit:
    """The fit of one objective. The first rows are windows of the search, the others confirm."""

    scale: _Scale
    at: Floats  # places on the scale, relative to `middle`
    middle: float  # mean place of the confirming windows
    sums: Floats
    counts: Floats
    others: int  # number of rows of the search
    target: float

    def slopes(self, weights: Floats) -> Floats:
        """The maximum-likelihood slope for each row of weights of the confirming windows, by bisection.

        At this slope, the mean place of the scores equals that of the requests weighted by the fitted line.
        """
        whole = np.hstack([np.ones((len(weights), self.others)), weights])
        low, high = (np.full(len(weights), bound) for bound in self.scale.slopes)
        with np.errstate(invalid="ignore", divide="ignore"):
            seen = (
                whole @ (self.sums * self.at) / (whole @ self.sums)
            )  # NaN without any score gives the steepest
            for _ in range(HALVINGS):
                slope = (low + high) / 2
                expected = whole * self.counts * np.exp(slope[:, None] * self.at)
                too_steep = expected @ self.at / expected.sum(axis=1) > seen
                low, high = np.where(too_steep, low, slope), np.where(too_steep, slope, high)
        return np.asarray((low + high) / 2)

    def log_rates(self, weights: Floats) -> Floats:
        """ln of the rate where the line meets the target; infinite if no confirming window scored."""
        slopes, own = self.slopes(weights), slice(self.others, None)
        expected = (weights * self.counts[own] * np.exp(slopes[:, None] * self.at[own])).sum(axis=1)
        scored = weights @ self.sums[own]
        with np.errstate(divide="ignore"):
            place = self.middle + np.log(self.target * expected / scored) / slopes
        return np.where(scored > 0, self.scale.log_rate(place), math.inf)

    @functools.cached_property
    def log_rate(self) -> float:
        """The estimate from all windows."""
        return float(self.log_rates(self._whole)[0])

    def by_block(self, place: npt.NDArray[np.int64], blocks: int) -> Floats:
        """ln of the capacity as each block alone would move it; infinite if the capacity is infinite."""
        if math.isinf(self.log_rate):
            return np.full(blocks, math.inf)
        slope, own = float(self.slopes(self._whole)[0]), slice(self.others, None)
        found = self.scale.place(np.exp(np.array(self.log_rate)))
        expected = self.counts[own] * self.target * np.exp(slope * (self.at[own] + self.middle - found))
        excess = np.bincount(place, self.sums[own] - expected, blocks) * blocks / expected.sum()
        return self.scale.log_rate(found - excess / slope)

    @property
    def _whole(self) -> Floats:
        return np.ones((1, len(self.at) - self.others))


def _fits(windows: Sequence[Window], objectives: Sequence[Objective], own_per_s: float) -> list[_Fit]:
    most = max(own_per_s, LEAST_ROOM * _highest_held(windows, objectives))
    scales = [_Scale(SHARE_SLOPES) if one.is_share else _Scale(MEAN_SLOPES, most) for one in objectives]
    confirming = [window for window in windows if window.confirms]
    middle = float(np.mean(np.log([window.rate_per_s for window in confirming])))
    near = [
        window
        for window in windows
        if not window.confirms and not window.gave_up and abs(math.log(window.rate_per_s) - middle) < NEAR
    ]
    rows = [*near, *confirming]
    fits = []
    for number, (one, scale) in enumerate(zip(objectives, scales, strict=True)):
        at = scale.place(np.array([window.rate_per_s for window in rows]))
        centre = float(at[len(near) :].mean())
        fit = _Fit(
            scale=scale,
            at=at - centre,
            middle=centre,
            sums=np.array([window.sums[number] for window in rows], dtype=np.float64),
            counts=np.array([window.counts[number] for window in rows], dtype=np.float64),
            others=len(near),
            target=one.target,
        )
        fits.append(fit)
    return fits


def _highest_held(windows: Sequence[Window], objectives: Sequence[Objective]) -> float:
    """The highest rate at which a window kept every objective; 0 without any."""
    return max((one.rate_per_s for one in windows if one.keeps(objectives)), default=0.0)


def _within(log_rate: float, lowest_per_s: float, highest_per_s: float) -> float:
    """The rate, clipped to the given range. Returns an end exactly: exp(log(45.52)) is 45.52000000000001."""
    if log_rate >= math.log(highest_per_s):
        return highest_per_s
    return max(math.exp(log_rate), lowest_per_s)


def _has_data(windows: Sequence[Window]) -> bool:
    """Whether there are confirming windows, with at least one request for every objective."""
    counts = [window.counts for window in windows if window.confirms]
    return bool(counts) and all(sum(count) for count in zip(*counts, strict=True))


def _draws(blocks: int, seed: int) -> Floats:
    """How often each block occurs in each draw; the same for all arms with this number of blocks."""
    if blocks < 2:
        return np.ones((1, blocks))
    return resamples(blocks, RESAMPLES, np.random.default_rng(seed)).astype(np.float64)


def _ends(low_draws: Floats, high_draws: Floats, blocks: int, level: float) -> tuple[float, float]:
    low, _ = stats.tail_interval(low_draws, blocks, level=level)
    _, high = stats.tail_interval(high_draws, blocks, level=level)
    return math.exp(low), math.exp(high)
