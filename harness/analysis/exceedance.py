"""The share of requests that take at least a time: the whole distribution, down to its trustworthy tail.

Pure functions of numbers. A failure is infinite, so it takes longer than any time, and a curve never falls
below the share of failures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from harness.analysis import stats
from harness.analysis.arrays import Counts, Floats
from harness.analysis.percentiles import FEWEST_REQUESTS, resamples

POINTS = 60
RESAMPLES = 999
# with fewer requests, the tail beyond this share is a matter of chance: the floors of the percentiles
FLOORS = {round(1 - percent / 100, 6): n for percent, n in FEWEST_REQUESTS.items() if percent >= 50}


class Curve(NamedTuple):
    """For times in rising order: the share of requests that take as long, and its interval over blocks."""

    ms: Floats
    share: Floats
    low: Floats  # NaN below two blocks
    high: Floats
    least_share: float  # the curve ends here: for a smaller share there are too few requests
    failed: float  # share of all requests


def least_share(requests: int) -> float:
    """Return the smallest share that can be estimated from this number of requests."""
    return min((share for share, fewest in FLOORS.items() if requests >= fewest), default=1.0)


def curve(blocks: Sequence[Floats], *, level: float = stats.LEVEL, seed: int = 1) -> Curve | None:
    """The curve of the pooled values of some blocks; None without a finite value.

    The band is pointwise: at each time, the share is computed in `RESAMPLES` draws of blocks (the same for
    each time), and its interval is that of `stats.tail_interval`.
    """
    kept = [np.sort(block) for block in blocks if len(block)]
    values = np.sort(np.concatenate(kept)) if kept else np.empty(0)
    finite = int(np.isfinite(values).sum())
    if not finite:
        return None
    least = least_share(len(values))
    times = _times(values[:finite], len(values), least)
    counts: Counts = np.array([len(block) - np.searchsorted(block, times) for block in kept])
    sizes = np.array([len(block) for block in kept])
    share = counts.sum(axis=0) / sizes.sum()
    low, high = _band(counts, sizes, level, seed)
    return Curve(times, share, low, high, least, 1.0 - finite / len(values))


def _times(finite: Floats, requests: int, least: float) -> Floats:
    """Return times at which to draw the curve. On a log scale, their shares are evenly spaced."""
    places = np.floor(requests * (1.0 - np.geomspace(1.0, least, POINTS)) + 1e-9).astype(int)
    return np.unique(finite[places[places < len(finite)]])


def _band(counts: Counts, sizes: Counts, level: float, seed: int) -> tuple[Floats, Floats]:
    blocks = len(sizes)
    if blocks < 2:
        unknown = np.full(counts.shape[1], math.nan)
        return unknown, unknown
    drawn = resamples(blocks, RESAMPLES, np.random.default_rng(seed))
    shares = (drawn @ counts) / (drawn @ sizes)[:, None]
    bounds = [stats.tail_interval(column, blocks, level=level) for column in shares.T]
    low, high = np.array(bounds).T
    return low, high
