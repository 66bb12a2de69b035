"""Percentiles of values, of pooled blocks and of resampled blocks. Pure functions of numbers."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.analysis.arrays import Counts, Floats

RESAMPLES = 1999
GROUP = 16  # sorted values that are counted together, which needs less memory than counting at each of them
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


def percentile_if_enough(ordered: Floats, percent: float) -> float:
    """As `percentile_of_sorted`, but NaN for fewer values than `FEWEST_REQUESTS`."""
    enough = len(ordered) >= FEWEST_REQUESTS[percent]
    return percentile_of_sorted(ordered, percent) if enough else math.nan


def median_interval(values: npt.ArrayLike, *, level: float) -> tuple[float, float]:
    """The interval of the median of independent values, such as the figures of blocks, from a sign test.

    The two order statistics that leave at most (1 - level) / 2 in each tail; NaN for too few values. Calls
    the function below `scipy.stats`, which takes a second to import.
    """
    from scipy import special

    ordered = np.sort(np.asarray(values, dtype=np.float64))
    count = len(ordered)
    below = [float(special.bdtr(place, count, 0.5)) for place in range(count // 2)]
    outside = sum(share <= (1.0 - level) / 2 for share in below)
    if not outside:
        return math.nan, math.nan
    return float(ordered[outside - 1]), float(ordered[count - outside])


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
        totals = weights @ self._sizes
        place = (totals - 1) * percent / 100  # as `_place`
        below, above = (self._sorted.at(rank, weights) for rank in (np.floor(place), np.ceil(place)))
        with np.errstate(invalid="ignore"):  # inf - inf is NaN, but between two infinite values is infinity
            between = np.where(below == above, below, below + (above - below) * (place % 1))
        return np.where(totals > 0, between, math.nan)

    @functools.cached_property
    def _sorted(self) -> _Sorted:
        return _Sorted(self.blocks)


class _Sorted:
    """All values of some blocks, sorted, to be found by their weighted rank."""

    def __init__(self, blocks: Sequence[Floats]) -> None:
        values = np.concatenate(blocks)
        order = np.argsort(values, kind="stable")
        owner = np.repeat(np.arange(len(blocks), dtype=np.min_scalar_type(len(blocks))), [*map(len, blocks)])
        self._values = values[order]
        self._owners = _in_groups(owner[order], len(blocks))  # row m: the blocks of m's GROUP values
        kind = (
            np.int32 if len(values) * len(blocks) < 2**31 else np.int64
        )  # a count of weights is at most that
        self._before = np.zeros(
            (len(self._owners), len(blocks)), dtype=kind
        )  # row m: each block's values before m
        for block in range(len(blocks)):
            of_group = np.count_nonzero(self._owners[:-1] == block, axis=1)
            np.cumsum(of_group, out=self._before[1:, block])

    def at(self, ranks: Floats, weights: Counts) -> Floats:
        """For each row of weights, the first sorted value at which the count passes the rank (from 0)."""
        narrow = weights.astype(self._before.dtype)  # for fast products
        group = self._group(ranks, narrow)
        none = np.zeros((len(narrow), 1), dtype=narrow.dtype)  # the weight of the places after the last value
        counts = np.take_along_axis(
            np.hstack([narrow, none]), self._owners[group].astype(np.intp), axis=1
        ).cumsum(axis=1)
        passed = counts + self._counted(narrow, group)[:, None] > ranks[:, None]
        found: Floats = self._values[group * GROUP + passed.argmax(axis=1)]
        return found

    def _group(self, ranks: Floats, weights: npt.NDArray[Any]) -> Counts:
        """For each row of weights, the last group before which the count does not pass the rank."""
        low, high = np.zeros(len(weights), dtype=np.int64), np.full(len(weights), len(self._before) - 1)
        while len(open_ := np.flatnonzero(low < high)):
            middle = (low[open_] + high[open_] + 1) // 2
            passed = self._counted(weights[open_], middle) > ranks[open_]
            high[open_] = np.where(passed, middle - 1, high[open_])
            low[open_] = np.where(passed, low[open_], middle)
        return low

    def _counted(self, weights: npt.NDArray[Any], groups: Counts) -> npt.NDArray[Any]:
        """The count of weights before each group."""
        return np.asarray(np.einsum("rb,rb->r", weights, self._before.take(groups, axis=0)))


def _in_groups(owners: npt.NDArray[Any], filler: int) -> npt.NDArray[Any]:
    """Rows of `GROUP`; the last one is filled up."""
    padding = np.full(-len(owners) % GROUP, filler, dtype=owners.dtype)
    return np.concatenate([owners, padding]).reshape(-1, GROUP)


@functools.lru_cache(maxsize=4)
def _drawn(blocks: int, seed: int) -> Counts:
    return resamples(blocks, RESAMPLES, np.random.default_rng(seed))
