"""Percentiles: of values, of pooled blocks, and of blocks resampled. Pure; numbers in, numbers out."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from harness.analysis.arrays import Counts, Floats

RESAMPLES = 1999
# MLPerf's early stopping: below this many requests the percentile is chance
FEWEST_REQUESTS = {50: 1, 5: 64, 90: 64, 95: 64, 99: 662, 99.9: 6636}


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


def fit_to_be_shown(ordered: Floats, percent: int) -> float:
    """As `percentile_of_sorted`, but NaN of fewer values than `FEWEST_REQUESTS`."""
    enough = len(ordered) >= FEWEST_REQUESTS[percent]
    return percentile_of_sorted(ordered, percent) if enough else math.nan


def _place(count: int, percent: float) -> float:
    """Where among so many sorted values, from 0; percent / 100 first would round differently."""
    return (count - 1) * percent / 100


def resamples(blocks: int, count: int, rng: np.random.Generator) -> Counts:
    """Draws of as many blocks with replacement: how often each comes in each draw, (count, blocks)."""
    drawn = rng.integers(blocks, size=(count, blocks)) + blocks * np.arange(count)[:, None]
    return np.bincount(drawn.ravel(), minlength=count * blocks).reshape(count, blocks)


class Pool:
    """The values of some blocks, sorted and resampled once for all that they are compared with.

    Values are not NaN; they may be infinite.
    """

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
        """The "linear" percentile of a pool in which block i comes weights[r, i] times, for each row r.

        NaN where that pool is empty.
        """
        if self._sizes.sum() == 0:
            return np.full(len(weights), math.nan)
        ordered, within = self._sorted
        totals = weights @ self._sizes
        place = (totals - 1) * percent / 100  # as `_place`
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
