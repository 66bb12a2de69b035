"""The share of requests that take at least a time: its floor, its failures, its band."""

import math

import numpy as np
import pytest

from harness.analysis import exceedance


def blocks_of(rng: np.random.Generator, count: int, size: int) -> list[np.ndarray]:
    return [rng.exponential(10.0, size) for _ in range(count)]


def test_the_curve_is_the_share_of_requests_that_take_as_long() -> None:
    blocks = blocks_of(np.random.default_rng(1), 24, 100)
    values = np.concatenate(blocks)
    curve = exceedance.curve(blocks)
    assert curve is not None
    assert curve.ms[0] == values.min()
    assert curve.share == pytest.approx([(values >= ms).mean() for ms in curve.ms])


@pytest.mark.parametrize(
    ("requests", "least"), [(1, 0.5), (63, 0.5), (64, 0.05), (661, 0.05), (662, 0.01), (6636, 0.001)]
)
def test_the_curve_ends_at_the_floor_of_the_percentiles(requests: int, least: float) -> None:
    curve = exceedance.curve([np.arange(1.0, requests + 1.0)])
    assert curve is not None
    assert curve.least_share == exceedance.least_share(requests) == least
    assert curve.share[-1] >= least


def test_a_curve_with_failures_ends_at_their_share() -> None:
    values = np.append(np.arange(1.0, 91.0), [math.inf] * 10)
    curve = exceedance.curve([values])
    assert curve is not None
    assert curve.failed == pytest.approx(0.1)
    assert curve.share[-1] >= 0.1
    assert np.isfinite(curve.ms).all()


def test_only_failures_have_no_curve() -> None:
    assert exceedance.curve([np.array([math.inf])]) is None
    assert exceedance.curve([]) is None


def test_a_single_block_has_no_band() -> None:
    curve = exceedance.curve([np.arange(1.0, 100.0)])
    assert curve is not None
    assert np.isnan(curve.low).all()
    assert np.isnan(curve.high).all()


def test_the_band_covers_the_true_share_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    held = []
    for _ in range(60):
        scales = rng.lognormal(0.0, 0.3, 16)  # blocks differ, so requests are not independent
        curve = exceedance.curve([rng.exponential(10.0 * scale, 60) for scale in scales])
        assert curve is not None
        place = int(np.argmin(np.abs(curve.share - 0.1)))
        truth = float(np.exp(-curve.ms[place] / (10.0 * rng.lognormal(0.0, 0.3, 4000))).mean())
        held.append(curve.low[place] <= truth <= curve.high[place])
    assert np.mean(held) >= 0.85
