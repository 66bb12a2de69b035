"""Which of several arms is the best, and what choosing it gives. Pure: one figure a block and arm goes in.

The best of many is partly the luckiest of many: its own figures are too good. Two answers to that:

* *which may it be*: an arm is told apart from the best when some other arm beats it by more than chance, in
  Dunnett's one-sided comparisons of all the others with it (subset selection: Gupta 1965, Technometrics 7:225;
  the same comparisons as Hsu 1984, Annals of Statistics 12:1136). The arms that remain hold the truly best one
  at the level, however many there are, so no further correction is needed. Blocks are paired; the largest t is
  held against that of sign flips of whole blocks, which keep how the arms' figures hang together.
* *what it gives*: each block is judged by the choice that the other blocks make without it, and these figures
  are averaged over blocks (Stone 1974, J. R. Statist. Soc. B 36:111; choosing and judging on the same data is
  optimistic: Cawley & Talbot 2010, JMLR 11:2079). Where the choice is clear this is the plain figure.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness import stats
from harness.stats import ALPHA, FEWEST_BLOCKS, Effect

Floats = npt.NDArray[np.float64]

_EXACT = 12  # blocks whose sign flips are all tried
_RANDOM_FLIPS = 4096
_TINY = 1e-24  # a variance below it is rounding


class Best(NamedTuple):
    """The arm with the best mean. Ratios are on the scale of what was given: above 1 is better."""

    arm: str
    rivals: tuple[str, ...]  # not told apart from it, the best first
    value: Effect  # `ratio`: what choosing gives, each block by a choice made without it
    gain: Effect  # the same over the reference; NaN without one


def of(logs: pd.DataFrame, reference: str | None = None) -> Best | None:
    """The best of the columns (arms); rows are blocks, cells logs, the higher the better.

    Blocks that an arm lacks do not count, nor an arm whose figure is nowhere finite. None where nothing is left.
    With fewer than `FEWEST_BLOCKS` blocks no arm is told apart.
    """
    finite = logs.where(np.isfinite(logs)).dropna(axis="columns", how="all").dropna(axis="index")
    if finite.empty:
        return None
    values = finite.to_numpy(dtype=np.float64)
    order = np.argsort(-values.mean(axis=0), kind="stable")
    names = [str(name) for name in finite.columns]
    best = int(order[0])
    may_be = [place for place in order[1:] if not _is_beaten(values, int(place))]
    chosen = _chosen_without(values)
    judged = values[np.arange(len(values)), chosen]
    against = values[:, names.index(reference)] if reference in names else None
    return Best(
        arm=names[best],
        rivals=tuple(names[place] for place in may_be),
        value=stats.effect(judged),
        gain=stats.effect(judged - against if against is not None else []),
    )


def _chosen_without(values: Floats) -> npt.NDArray[np.intp]:
    """For each block the arm that is best in all the others; of one block alone, the best in it."""
    if len(values) == 1:
        return values.argmax(axis=1)
    return (values.sum(axis=0) - values).argmax(axis=1)


def _is_beaten(values: Floats, arm: int) -> bool:
    """Whether some other arm is better than this one by more than chance."""
    if len(values) < FEWEST_BLOCKS:
        return False
    gaps = np.delete(values, arm, axis=1) - values[:, [arm]]
    flips = _flips(len(values))
    largest = _t(flips @ gaps / len(gaps), gaps).max(axis=1)
    observed = _t(gaps.mean(axis=0)[None, :], gaps).max()
    share = np.mean(largest >= observed - 1e-9 * abs(observed))
    return bool(share <= ALPHA)


def _t(means: Floats, gaps: Floats) -> Floats:
    """Student's t of means whose values are those of `gaps` but for their signs."""
    variance = np.maximum((gaps**2).mean(axis=0) - means**2, _TINY)
    return np.asarray(means * np.sqrt(len(gaps) - 1) / np.sqrt(variance), dtype=np.float64)


def _flips(blocks: int) -> Floats:
    """Choices of signs, a row each, the observed ones first: all of them, or so many drawn."""
    if blocks <= _EXACT:
        bits = np.arange(2**blocks)[:, None] >> np.arange(blocks) & 1
        return np.asarray(1.0 - 2.0 * bits, dtype=np.float64)
    drawn = 1.0 - 2.0 * np.random.default_rng(1).integers(2, size=(_RANDOM_FLIPS, blocks))
    drawn[0] = 1.0
    return np.asarray(drawn, dtype=np.float64)
