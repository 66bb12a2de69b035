"""The figures of each arm under each load, with their intervals."""

import numpy as np
import pytest
from made_reports import closed
from made_up import Point, World
from scipy import stats as scipy_stats

from harness.analysis.percentiles import median_interval
from harness.report import report


@pytest.mark.parametrize("count", [7, 8, 12, 24, 25])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.98])
def test_the_interval_of_a_median_is_that_of_the_sign_test(count: int, level: float) -> None:
    values = np.arange(count, dtype=float)
    bounds = scipy_stats.quantile_test(values, p=0.5).confidence_interval(level)
    assert median_interval(values[::-1], level=level) == (bounds.low, bounds.high)


def test_the_interval_of_a_median_needs_six_values() -> None:
    assert np.isnan(median_interval(np.arange(5.0), level=0.95)).all()
    assert median_interval(np.arange(6.0), level=0.95) == (0.0, 5.0)


def test_the_figures_are_those_of_the_summary_and_lie_in_their_intervals() -> None:
    world: World = {(arm, 8): lambda block: Point(io_ms=5.0 + block, requests=100) for arm in ("a", "b")}
    made = report.build(closed(world, blocks=8))
    both = made.levels.merge(made.summary, on=["arm", "load"], suffixes=("", "_of_summary"))
    assert len(both) == 2
    for name in ("throughput_per_s", "latency_p50_ms", "latency_p99_ms"):
        assert both[name].to_numpy() == pytest.approx(both[f"{name}_of_summary"].to_numpy())
        assert (both[f"{name}_low"] < both[name]).all(), name
        assert (both[name] <= both[f"{name}_high"] * (1 + 1e-9)).all(), name


def test_too_few_requests_have_no_p99() -> None:
    made = report.build(closed({("inline", 1): Point(requests=10)}, blocks=8))
    assert made.levels["latency_p99_ms"].isna().all()
    assert made.levels["latency_p50_ms"].notna().all()
