"""Percentiles of values, of pooled blocks and of resampled blocks. Pure functions of numbers."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from harness.analysis.arrays import Counts, Floats

RESAMPLES = 1999
# MLPerf's early stopping: with fewer requests a percentile is a matter of chance
FEWEST_REQUESTS = {50: 1, 5: 64, 90: 64, 95: 64, 99: 662, 99.9: 6636}


def percentile(values: Floats, percent: float) -> float:
    """numpy's "linear" percentile; NaN without values; infinite if an infinite value takes part in it.

    numpy's own function would return NaN, with a warning, next to an infinite value.
    """
    if len(values) == 0:
        return math.nan
    place = _place(len(values), percent)
    return percentile_of_sorted(np.partition(values, (math.floor(place), math.ceil(place))), percent)


def percentile_of_sorted(ordered: Floats, percent: float) -> float:
    """As `percentile`, but for sorted values."""
    if len(ordered) == 0:
        return math.nan
    place = _place(len(ordered), percent)
    below, above = float(ordered[math.floor(place)]), float(ordered[math.ceil(place)])
    return below if below == above else below + (above - below) * (place % 1)


def percentile_if_enough(ordered: Floats, percent: int) -> float:
    """As `percentile_of_sorted`, but NaN for fewer values than `FEWEST_REQUESTS`."""
    enough = len(ordered) >= FEWEST_REQUESTS[percent]
    return percentile_of_sorted(ordered, percent) if enough else math.nan


def _place(count: int, percent: float) -> float:
    """The place among `count` sorted values, from 0. Dividing by 100 first would round differently."""
    return (count - 1) * percent / 100


def resamples(blocks: int, count: int, rng: np.random.Generator) -> Counts:
    """`count` draws of `blocks` blocks with replacement: the number of times each occurs, (count, blocks)."""
    drawn = rng.integers(blocks, size=(count, blocks)) + blocks * np.arange(count)[:, None]
    return np.bincount(drawn.ravel(), minlength=count * blocks).reshape(count, blocks)


class Pool:
    """The values of several blocks, which are sorted and resampled only once for several comparisons.

    Values may be infinite, but not NaN.
    """

    def __init__(self, blocks: Sequence[Floats]) -> None:
        self.blocks = blocks
        self._sizes = np.array([len(block) for block in blocks], dtype=np.int64)
        self._known: dict[tuple[float, int], Floats] = {}

    def own(self, percent: float) -> Floats:
        """The percentile of each block."""
        return np.array([percentile(block, percent) for block in self.blocks], dtype=np.float64)

    def whole(self, percent: float) -> float:
        """The percentile of all values."""
        return float(self.percentiles(percent, np.ones((1, len(self.blocks)), dtype=np.int64))[0])

    def resampled(self, percent: float, seed: int) -> Floats:
        """The percentiles of `RESAMPLES` draws of blocks. A seed gives pools of one size the same draws."""
        if (percent, seed) not in self._known:
            drawn = _drawn(len(self.blocks), seed)
            self._known[percent, seed] = self.percentiles(percent, drawn)
        return self._known[percent, seed]

    def percentiles(self, percent: float, weights: Counts) -> Floats:
        """For each row r, the "linear" percentile of a pool that contains block i weights[r, i] times.

        NaN if that pool is empty.
        """
        if self._sizes.sum() == 0:
            return np.full(len(weights), math.nan)
        ordered, within = self._sorted
        totals = weights @ self._sizes
        place = (totals - 1) * percent / 100  # as `_place`
        narrow = weights.astype(np.int32)  # the type of `within`, for fast products
        at_floor = _places(within, narrow, np.floor(place), np.zeros(len(weights), dtype=np.int64))
        below, above = ordered[at_floor], ordered[_places(within, narrow, np.ceil(place), at_floor)]
        with np.errstate(invalid="ignore"):  # inf - inf is NaN, but between two infinite values is infinity
            between = np.where(below == above, below, below + (above - below) * (place % 1))
        return np.where(totals > 0, between, math.nan)

    @functools.cached_property
    def _sorted(self) -> tuple[Floats, npt.NDArray[np.int32]]:
        """All values sorted, and in row m the number of each block's values among the m + 1 smallest."""
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
    """For each row of weights, find where the weighted count of sorted values passes the rank (from 0).

    Uses bisection; `least` is a lower bound of the result.
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
