"""Effects of two runs, whose blocks are not paired."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.analysis import stats, unpaired
from harness.analysis.percentiles import Pool


@pytest.mark.integration  # takes long
def test_welchs_interval_covers_the_truth_and_its_p_is_calibrated() -> None:
    rng = np.random.default_rng(7)
    pairs = [(rng.normal(0.0, 0.1, 8), rng.normal(0.0, 0.3, 16)) for _ in range(120)]
    effects = [unpaired.effect(a, b) for a, b in pairs]
    assert np.mean([found.low <= 1.0 <= found.high for found in effects]) > 0.9
    assert np.mean([found.p < 0.05 for found in effects]) < 0.1
    assert unpaired.effect(np.full(8, 1.0) + pairs[0][0], pairs[0][1]).p < 0.01


def test_equal_runs_give_no_warning_and_p_1() -> None:
    found = unpaired.effect(np.zeros(6), np.zeros(7))
    assert (found.ratio, found.low, found.high, found.p) == (1.0, 1.0, 1.0, 1.0)
    assert unpaired.effect(np.ones(6), np.zeros(6)).low == pytest.approx(math.e)


def test_too_few_blocks_of_two_runs_have_a_ratio_and_no_interval() -> None:
    found = unpaired.effect([math.log(2.0)], [0.0, 0.0])
    assert found.ratio == pytest.approx(2.0)
    assert math.isnan(found.low)
    assert found.blocks == 1


def test_an_unpaired_tail_is_wider_than_a_paired_one_of_the_same_blocks() -> None:
    rng = np.random.default_rng(3)
    luck = np.exp(rng.normal(0.0, 0.3, 12))
    blocks = [factor * rng.exponential(10.0, 100) for factor in luck]
    paired = stats.tail_effect(blocks, blocks, 95)
    alone = unpaired.tail_effect(Pool(blocks), Pool(blocks), 95)
    assert paired.high / paired.low == pytest.approx(1.0)
    assert alone.high / alone.low > 1.2
    assert alone.p == pytest.approx(1.0)


def test_an_unpaired_tail_of_failures_is_infinite() -> None:
    good, bad = [np.arange(1.0, 101.0)] * 8, [np.full(100, math.inf)] * 8
    found = unpaired.tail_effect(Pool(bad), Pool(good), 95)
    assert (found.ratio, found.low) == (math.inf, math.inf)
    assert found.p < 0.01
