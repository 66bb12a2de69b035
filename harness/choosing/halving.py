"""Sequential halving: spend a given time on many arms so that the best ones get most of it. Pure.

All rounds get the same time. In each, all arms that are left run in blocks, and the better half goes on
(Karnin, Koren & Somekh 2013, "Almost optimal exploration in multi-armed bandits"; Jamieson & Talwalkar 2016,
"Non-stochastic best arm identification and hyperparameter optimization"). This is not quite their method:

* The budget is time and not a number of trials, because slow arms have long ones.
* Arms are ranked by all blocks so far, because the arms that are left were in all of them.
* The rounds end with a few finalists and not with one arm. What brought these there is partly luck, so they
  are measured again, in blocks of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from harness.analysis.stats import FEWEST_BLOCKS_FOR_VERDICT
from harness.wire import bounds

FINALISTS = 4  # at most
SHARE_OF_ROUNDS = 0.5  # of the time; the finalists get the rest


class Round(NamedTuple):
    """A finished round."""

    arms: tuple[str, ...]
    blocks: int
    kept: tuple[str, ...]  # the best first


Measure = Callable[[Sequence[str]], float]  # runs a block of these arms; returns how long it took, in seconds
Rank = Callable[[Sequence[str]], Sequence[str]]  # returns the arms by all blocks so far, the best first


def kept_of(arms: int) -> int:
    """The number of arms that go on after a round with this many: the better half, once they are many."""
    return arms if arms <= FINALISTS else math.ceil(arms / 2)


def sizes(arms: int) -> tuple[int, ...]:
    """The number of arms in each round. There is always one, as it also shows how long a block takes."""
    found = [arms]
    while (left := kept_of(found[-1])) > FINALISTS:
        found.append(left)
    return tuple(found)


def halve(
    arms: Sequence[str], seconds: float, measure: Measure, rank: Rank, *, always: str = ""
) -> Iterator[Round]:
    """Run the rounds in this time and yield each as it ends; the last one keeps the finalists.

    A round has at least one block, so rounds can take longer than `seconds`. It begins another block only if
    one of the usual length still fits. Few arms are all finalists, so their only round has one block. The arm
    `always` is never dropped.
    """
    left, planned, used_s = tuple(arms), sizes(len(arms)), 0.0
    for number in range(len(planned)):
        share_s = (seconds - used_s) / (len(planned) - number) if len(arms) > FINALISTS else 0.0
        blocks, took_s = 0, 0.0
        while not blocks or took_s * (blocks + 1) / blocks <= share_s:
            took_s += measure(left)
            blocks += 1
        used_s += took_s
        kept = _best(rank(left), always)
        yield Round(left, blocks, kept)
        left = tuple(arm for arm in left if arm in kept)


def _best(ranked: Sequence[str], always: str) -> tuple[str, ...]:
    kept = tuple(ranked[: kept_of(len(ranked))])
    return (*kept[:-1], always) if always in ranked and always not in kept else kept


def blocks_of_final(seconds: float, block_s: float) -> int:
    """The number of blocks of this length that fit, but at least as many as a verdict needs."""
    fitting = int(seconds / block_s) if block_s > 0 else bounds.BLOCKS
    return min(bounds.BLOCKS, max(FEWEST_BLOCKS_FOR_VERDICT, fitting))
