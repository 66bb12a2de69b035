"""What may be said of two arms, from one figure a block: ratio, interval, test and verdict.

Pure; numbers in, numbers out. The unit of evidence is the block, never the request. Effects are ratios, arm
over reference, and intervals live on the log scale.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEVEL = 0.95
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
    spread: float  # standard deviation of the per-block log ratios
    p: float  # sign-flip permutation over blocks, two-sided
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


def effect(log_ratios: npt.ArrayLike, *, level: float = LEVEL) -> Effect:
    """The effect of log ratios, one a block, in block order: a t interval over blocks."""
    raise NotImplementedError


def tail_effect(
    arm: Sequence[Floats], reference: Sequence[Floats], percent: float, *, level: float = LEVEL, seed: int = 1
) -> Effect:
    """Ratio of the percentiles of the pooled blocks; arm[i] and reference[i] are the values of block i.

    The interval comes from resampling blocks (both arms' together).
    """
    raise NotImplementedError


def sign_flip_p(log_ratios: npt.ArrayLike, *, seed: int = 1) -> float:
    """Two-sided sign-flip permutation p: exact to 16 blocks, else 100,000 random flips."""
    raise NotImplementedError


def holm(ps: npt.ArrayLike) -> Floats:
    """Holm's adjusted p values, in the order given; NaN stays NaN and does not count."""
    raise NotImplementedError


def verdict(
    found: Effect, delta: float, *, lower_is_better: bool, invalid: bool = False, noisy: bool = False
) -> Verdict:
    """The method's verdict, tried in its order; `delta` as a share, such as 0.05."""
    raise NotImplementedError


def blocks_needed(spread: float, half_width: float, *, level: float = LEVEL) -> int:
    """Blocks until the interval's half width, as a share of the ratio, is at most `half_width`."""
    raise NotImplementedError


def order_statistic_interval(values: npt.ArrayLike, percent: float, *, level: float = LEVEL) -> tuple[float, float]:
    """An interval of one trial's percentile, as if its requests were independent. For one trial only."""
    raise NotImplementedError
