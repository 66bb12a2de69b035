"""Sequential halving, simulated: noisy settings whose true figures are known, and a clock that counts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from harness.choosing import halving
from harness.choosing.halving import Round

FIXED_MS, ITEM_MS = 10.0, 6.0
USERS = 48
BLOCKS = 12  # of a full sweep
NOISE, OF_BLOCK = 0.08, 0.2  # relative: of a trial, and what all trials of a block share


def rate_per_s(max_batch: int, workers: int) -> float:
    """What so many workers answer with a fixed cost a call and a cost an item."""
    return 1e3 * workers * max_batch / (FIXED_MS + max_batch * ITEM_MS)


TRUTH = {
    f"{max_batch}x{workers}": rate_per_s(max_batch, workers)
    for max_batch, workers in itertools.product((1, 2, 3, 4, 6, 12), (1, 2, 3, 4))
}
BEST = "12x4"


class Machine:
    """Measures the settings of `TRUTH` with noise, and counts how long that takes."""

    def __init__(self, seed: int) -> None:
        self._draw = np.random.default_rng(seed)
        self.passed_s = 0.0
        self.logs: list[dict[str, float]] = []  # of each block

    def trial_s(self, arm: str) -> float:
        """A window, and a warm-up of two requests of each user."""
        return 0.5 + 2 * USERS / TRUTH[arm]

    def block(self, arms: Sequence[str]) -> float:
        shared = self._draw.normal(0.0, OF_BLOCK)
        noise = dict(zip(arms, self._draw.normal(0.0, NOISE, len(arms)), strict=True))
        self.logs.append({arm: float(np.log(TRUTH[arm]) + shared + noise[arm]) for arm in arms})
        took_s = sum(map(self.trial_s, arms))
        self.passed_s += took_s
        return took_s

    def rank(self, arms: Sequence[str]) -> list[str]:
        return sorted(arms, key=lambda arm: -float(np.mean([block[arm] for block in self.logs])))


def chosen(machine: Machine, seconds: float) -> tuple[str, list[Round]]:
    """What `sweep --slo` does: halve in half of the time, then measure the finalists again."""
    rounds = [*halving.halve([*TRUTH], halving.SHARE_OF_ROUNDS * seconds, machine.block, machine.rank)]
    finalists = rounds[-1].kept
    machine.logs.clear()
    block_s = sum(map(machine.trial_s, finalists))
    for _ in range(halving.blocks_of_final(seconds - machine.passed_s, block_s)):
        machine.block(finalists)
    return machine.rank(finalists)[0], rounds


def test_the_best_of_24_settings_is_found_in_16_of_20_with_less_than_half_of_a_full_sweeps_time() -> None:
    others = sorted(TRUTH.values())
    assert max(TRUTH, key=lambda arm: TRUTH[arm]) == BEST
    assert others[-1] / others[-2] >= 1.1
    full_s = BLOCKS * sum(map(Machine(0).trial_s, TRUTH))
    found, longest_s = 0, 0.0
    for seed in range(20):
        machine = Machine(seed)
        found += chosen(machine, 0.45 * full_s)[0] == BEST
        longest_s = max(longest_s, machine.passed_s)
    assert found >= 16
    assert longest_s < 0.5 * full_s


def test_each_round_has_the_same_time_so_that_later_ones_have_more_blocks() -> None:
    machine = Machine(1)
    _, rounds = chosen(machine, 0.45 * BLOCKS * sum(map(machine.trial_s, TRUTH)))
    assert [len(one.arms) for one in rounds] == [24, 12, 6]
    assert [len(one.kept) for one in rounds] == [12, 6, 3]
    assert rounds[0].blocks < rounds[1].blocks < rounds[2].blocks


def test_an_arm_that_is_left_was_in_every_earlier_block() -> None:
    machine = Machine(2)
    rounds = [*halving.halve([*TRUTH], 100.0, machine.block, machine.rank)]
    assert len(machine.logs) == sum(one.blocks for one in rounds)
    for arm in rounds[-1].kept:
        assert all(arm in block for block in machine.logs)


@pytest.mark.parametrize(
    ("arms", "sizes", "finalists"),
    [(2, (2,), 2), (4, (4,), 4), (5, (5,), 3), (8, (8,), 4), (9, (9, 5), 3), (24, (24, 12, 6), 3)],
)
def test_the_rounds_end_with_two_to_four_finalists(arms: int, sizes: tuple[int, ...], finalists: int) -> None:
    assert halving.sizes(arms) == sizes
    assert halving.kept_of(sizes[-1]) == finalists


def test_few_settings_are_all_finalists_after_one_block() -> None:
    few = [*TRUTH][:4]
    machine = Machine(3)
    (one,) = halving.halve(few, 1000.0, machine.block, machine.rank)
    assert one.blocks == 1
    assert set(one.kept) == set(few)


def test_without_time_each_round_has_one_block_and_the_final_enough_for_a_verdict() -> None:
    machine = Machine(4)
    rounds = [*halving.halve([*TRUTH], 0.0, machine.block, machine.rank)]
    assert [one.blocks for one in rounds] == [1, 1, 1]
    assert halving.blocks_of_final(0.0, 2.0) == halving.blocks_of_final(-5.0, 2.0) == 6
    assert halving.blocks_of_final(20.0, 2.0) == 10


def test_the_setting_to_compare_with_is_never_dropped() -> None:
    machine = Machine(5)
    worst = min(TRUTH, key=lambda arm: TRUTH[arm])
    rounds = [*halving.halve([*TRUTH], 100.0, machine.block, machine.rank, always=worst)]
    assert all(worst in one.kept for one in rounds)
    assert len(rounds[-1].kept) == 3
