"""Percentiles of values, of pooled blocks and of resamples, compared with numpy's."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.analysis.arrays import Floats
from harness.analysis.percentiles import Pool, percentile, percentile_of_sorted, resamples


def normal(size: int, *, seed: int = 1) -> Floats:
    return np.random.default_rng(seed).normal(0.0, 0.1, size)


@pytest.mark.parametrize("size", [1, 2, 7, 100, 101])
@pytest.mark.parametrize("percent", [0, 5, 50, 95, 99, 100])
def test_a_percentile_is_numpys_linear_one(size: int, percent: float) -> None:
    values = normal(size, seed=size)
    assert percentile(values, percent) == pytest.approx(float(np.percentile(values, percent)), rel=1e-9)


def test_failures_rank_above_every_success() -> None:
    values = np.array([*range(1, 100), math.inf], dtype=float)
    assert percentile(values, 95) == pytest.approx(95.05)
    assert percentile(values, 99) == math.inf
    assert percentile(np.full(5, math.inf), 99) == math.inf
    assert math.isnan(percentile(np.array([]), 99))


def test_a_pools_percentile_equals_that_of_its_values() -> None:
    for size in (7, 64, 101, 662):
        values = normal(size, seed=size)
        for percent in (5, 50, 90, 95, 99, 99.9):
            pooled = Pool(np.array_split(values, 3)).whole(percent)
            assert pooled == percentile(values, percent)
            assert pooled == percentile_of_sorted(np.sort(values), percent)


def test_pooled_percentiles_are_those_of_the_blocks_written_out() -> None:
    blocks = [normal(size, seed=size) for size in (3, 10, 1, 7)]
    weights = np.random.default_rng(1).integers(0, 4, (200, 4))
    weights[0] = 0
    found = Pool(blocks).percentiles(90, weights)
    assert math.isnan(found[0])
    for row, value in zip(weights[1:], found[1:], strict=True):
        pool = np.concatenate([np.tile(block, times) for block, times in zip(blocks, row, strict=True)])
        expected = math.nan if pool.size == 0 else float(np.percentile(pool, 90))
        assert value == pytest.approx(expected, rel=1e-9, nan_ok=True)


def test_resamples_draw_all_blocks_equally_often() -> None:
    drawn = resamples(8, 4000, np.random.default_rng(1))
    assert set(drawn.sum(axis=1)) == {8}
    assert drawn.mean(axis=0) == pytest.approx(np.ones(8), abs=0.06)
    assert drawn.var() == pytest.approx(7 / 8, abs=0.03)


def test_percentiles_are_numpys_linear_ones() -> None:
    values = np.random.default_rng(1).gamma(2.0, 10.0, 100)
    for percent in (5, 50, 90, 95, 99):
        assert percentile(values, percent) == pytest.approx(np.percentile(values, percent), rel=1e-12)


@pytest.mark.parametrize(("percent", "expected"), [(0, 1.0), (50, 2.0), (60, math.inf), (100, math.inf)])
def test_a_percentile_next_to_a_failure_is_infinite(percent: float, expected: float) -> None:
    assert percentile(np.array([1.0, 2.0, np.inf]), percent) == expected


def test_no_values_have_no_percentile() -> None:
    assert math.isnan(percentile(np.array([]), 50))
