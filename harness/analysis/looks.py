"""Looks: the numbers of blocks at which a run may stop early, and intervals that allow for all of them.

A run that is looked at several times, and stopped once an interval suits, stops at lucky intervals. So the
intervals at the looks are wider. They are repeated confidence intervals (Jennison & Turnbull 1989, J. R.
Statist. Soc. B 51:305; 2000, Group Sequential Methods with Applications to Clinical Trials, chapter 9): at
look k, after n_k blocks, mean ± t(n_k - 1; 1 - a_k / 2) s / √n_k. a_k is the two-sided p of c (n_k /
n_K)^(SHAPE - 1/2) under a normal distribution (Wang & Tsiatis 1987, Biometrics 43:193): early looks, whose
few blocks may be skewed or drift, need more than late ones. c is such that all looks' intervals together
cover the truth with the level's probability. So the interval of the look at which a run stops covers it at
least as often, whatever the reason to stop.

c is found by simulating the t statistics of normal blocks, as the tables of the book are for known variances.
`execbench study stopping` shows what the intervals cover.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from harness.analysis.arrays import Floats
from harness.analysis.stats import LEVEL, TOST_LEVEL
from harness.wire import bounds

STEP = 4
FULL = 24  # after this many blocks, looks are further apart
SIMULATED = 200_000  # runs; the error of an overall level of 5 % is then 0.05 points
SHAPE = 0.25  # halfway between O'Brien & Fleming (0), who stop later, and Pocock (1/2): see decision 0026
_SEED = 1


class Looks(NamedTuple):
    """The looks of a run, fixed before its first block, and the levels of their intervals."""

    blocks: tuple[int, ...]  # counted blocks at each look, ascending; the last look is the end of the run
    levels: Mapping[float, tuple[float, ...]]  # level of all looks together → level at each look
    now: int = -1  # the place of the look that is judged

    def level(self, overall: float) -> float:
        """Return the level of the interval at this look, for a level of all looks together."""
        for level, at_looks in self.levels.items():
            if math.isclose(level, overall):
                return at_looks[self.now]
        return of_each(overall, self.blocks)[self.now]

    def declared(self) -> dict[str, Any]:
        """Return what run.json records before the first block."""
        levels = [{"overall": level, "at_looks": list(each)} for level, each in self.levels.items()]
        return {"blocks": list(self.blocks), "levels": levels, "looked": []}


def of_blocks(blocks: int) -> tuple[int, ...]:
    """Return the looks of a run of at most `blocks` blocks: 8, 12, 16, 20, 24, then 1.5 times as many.

    A run of at most 8 blocks has a single look, at its end, so that its intervals are the usual ones.
    """
    looks = list(range(bounds.FIRST_LOOK, FULL + 1, STEP))
    while looks[-1] < blocks:
        looks.append(looks[-1] * 3 // 2)
    return (*(look for look in looks if look < blocks), blocks)


def planned(blocks: int, overall: tuple[float, ...] = ()) -> Looks:
    """Return the looks of a run, with the levels of the usual intervals and of those in `overall`."""
    looks = of_blocks(blocks)
    return Looks(looks, {level: of_each(level, looks) for level in (LEVEL, TOST_LEVEL, *overall)})


def recorded(record: Mapping[str, Any]) -> Looks | None:
    """Return the looks that run.json declares; None if the run had a fixed number of blocks.

    They are at the look at which the run stopped, or at the last one if it ran to its end. If it was
    interrupted between two looks, they are at the one before, whose intervals are wider.
    """
    found = record.get("looks")
    if found is None:
        return None
    looked = found["looked"]
    ran_to_end = record.get("state") == "finished" and not (looked and not looked[-1]["open"])
    return Looks(
        tuple(found["blocks"]),
        {one["overall"]: tuple(one["at_looks"]) for one in found["levels"]},
        now=-1 if ran_to_end else max(0, len(looked) - 1),
    )


def of_each(overall: float, looks: tuple[int, ...], shape: float = SHAPE) -> tuple[float, ...]:
    """Return the level of the interval at each look that makes `overall` the level of all together."""
    from scipy import special

    if len(looks) == 1:
        return (overall,)
    limit = float(np.quantile(_largest(looks, shape), overall))
    return tuple(1.0 - 2.0 * float(special.ndtr(-limit * _share(look, looks, shape))) for look in looks)


def _share(look: int, looks: tuple[int, ...], shape: float) -> float:
    """The critical value at a look over that of the last one."""
    return float((look / looks[-1]) ** (shape - 0.5))


@functools.lru_cache(maxsize=4)
def _largest(looks: tuple[int, ...], shape: float) -> Floats:
    """Simulate runs whose true effect is 0; return the largest of each run's scaled statistics.

    That is the normal quantile with the same p as t, over the share of its look. Draws the sums and the sums
    of squares of the blocks between two looks, which determine t.
    """
    from scipy import special

    rng = np.random.default_rng(_SEED)
    total, squares, largest = np.zeros(SIMULATED), np.zeros(SIMULATED), np.zeros(SIMULATED)
    before = 0
    for look in looks:
        new = look - before
        part = rng.normal(0.0, math.sqrt(new), SIMULATED)
        total += part
        squares += part**2 / new + (rng.chisquare(new - 1, SIMULATED) if new > 1 else 0.0)
        variance = (squares - total**2 / look) / (look - 1)
        t = np.abs(total) / np.sqrt(look * variance)
        normal = -special.ndtri(special.stdtr(look - 1, -t))
        largest = np.maximum(largest, normal / _share(look, looks, shape))
        before = look
    return largest
