"""Looks: their numbers of blocks, and levels that keep the chance of any wrong interval."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy import special

from harness.analysis import looks, stats

pytestmark = pytest.mark.quick

MANY = tuple(range(2_000, 12_000, 2_000))  # so many blocks that t is normal


def critical(level: float) -> float:
    """Return the two-sided normal quantile of a level."""
    return float(special.ndtri((1 + level) / 2))


def test_a_run_is_looked_at_every_four_blocks_from_8_to_24_and_then_more_rarely() -> None:
    assert looks.of_blocks(24) == (8, 12, 16, 20, 24)
    assert looks.of_blocks(10) == (8, 10)
    assert looks.of_blocks(60) == (8, 12, 16, 20, 24, 36, 54, 60)


@pytest.mark.parametrize("blocks", [1, 2, 6, 8])
def test_a_run_with_a_single_look_has_the_usual_intervals(blocks: int) -> None:
    assert looks.planned(blocks).level(0.95) == 0.95


@pytest.mark.parametrize(
    ("shape", "overall", "published"),
    [(0.0, 0.95, 2.040), (0.0, 0.90, 1.751), (0.5, 0.95, 2.413), (0.5, 0.90, 2.122)],
)
def test_with_many_blocks_the_levels_are_the_published_ones(
    shape: float, overall: float, published: float
) -> None:
    """Jennison & Turnbull (2000), tables 2.1 and 2.3: the constants for five looks."""
    at_looks = looks.of_each(overall, MANY, shape)
    for look, level in zip(MANY, at_looks, strict=True):
        assert critical(level) * (look / MANY[-1]) ** (0.5 - shape) == pytest.approx(published, abs=0.02)


def test_early_looks_need_more_and_the_last_one_little_more_than_a_run_without_looks() -> None:
    at_looks = looks.of_each(0.95, looks.of_blocks(24))
    assert all(early > late for early, late in itertools.pairwise(at_looks))
    assert 0.99 < at_looks[0] < 0.999
    assert 0.95 < at_looks[-1] < 0.975


def test_all_looks_together_miss_the_truth_as_often_as_the_level_says() -> None:
    """Runs of another seed than those that the levels come from."""
    logs = np.random.default_rng(7).normal(size=(20_000, 24))
    plan = looks.planned(24)
    missed = np.zeros(len(logs), dtype=bool)
    for place, blocks in enumerate(plan.blocks):
        low, high = stats.mean_interval(logs[:, :blocks], level=plan._replace(now=place).level(0.95))
        missed |= (low > 0) | (high < 0)
    assert missed.mean() == pytest.approx(0.05, abs=0.006)  # four standard errors


def record(*open_at: int, stopped: int | None = None, state: str = "finished") -> dict[str, Any]:
    looked = [{"blocks": blocks, "open": ["C5"]} for blocks in open_at]
    looked += [] if stopped is None else [{"blocks": stopped, "open": []}]
    return {"state": state, "looks": {**looks.planned(24).declared(), "looked": looked}}


@pytest.mark.parametrize(
    ("recorded", "place"),
    [
        (record(8, stopped=12), 1),
        (record(8, 12, 16, 20), 4),
        (record(), 4),
        (record(8, 12, state="interrupted"), 1),
        (record(state="interrupted"), 0),
    ],
)
def test_a_report_judges_at_the_look_at_which_the_run_stopped(recorded: dict[str, Any], place: int) -> None:
    found = looks.recorded(recorded)
    assert found is not None
    assert found.level(0.95) == looks.planned(24).levels[0.95][place]


def test_a_level_that_was_not_recorded_is_computed() -> None:
    found = looks.recorded(record())
    assert found is not None
    assert found.level(0.97) == pytest.approx(looks.of_each(0.97, (8, 12, 16, 20, 24))[-1])


def test_a_run_without_looks_has_none() -> None:
    assert looks.recorded({"state": "finished"}) is None
