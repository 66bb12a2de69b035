from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.analysis import stats
from harness.analysis.arrays import Floats
from harness.analysis.stats import Effect, Verdict

LOG_RATIOS = [0.11, 0.02, 0.08, -0.03, 0.05, 0.09, 0.01, 0.07]


def normal(shape: int | tuple[int, ...], *, seed: int = 1, spread: float = 0.1) -> Floats:
    return np.random.default_rng(seed).normal(0, spread, shape)


def autoregressive(data_sets: int, blocks: int, phi: float) -> Floats:
    values = normal((data_sets, blocks), spread=1)
    for at in range(1, blocks):
        values[:, at] = phi * values[:, at - 1] + math.sqrt(1 - phi**2) * values[:, at]
    return values


def known(
    low: float, high: float, *, low_90: float | None = None, high_90: float | None = None, **fields: Any
) -> Effect:
    """An effect with this interval, which by default is also its 90 % interval."""
    made = Effect(
        ratio=math.sqrt(low * high),
        low=low,
        high=high,
        low_90=low if low_90 is None else low_90,
        high_90=high if high_90 is None else high_90,
        level=0.95,
        blocks=12,
        spread=0.1,
        p=0.5,
        lag1=0.0,
        drifts=False,
    )
    return dataclasses.replace(made, **fields)


# -- effect


@pytest.mark.parametrize("level", [0.90, 0.95, 0.99])
def test_the_interval_is_students_t_over_blocks_on_the_log_scale(level: float) -> None:
    found = stats.effect(LOG_RATIOS, level=level)
    expected = scipy_stats.ttest_1samp(LOG_RATIOS, 0).confidence_interval(level)
    assert (math.log(found.low), math.log(found.high)) == pytest.approx(
        (expected.low, expected.high), rel=1e-9
    )
    assert found.ratio == pytest.approx(math.exp(0.05))
    assert (found.blocks, found.level) == (8, level)


def test_the_90_percent_interval_does_not_depend_on_the_level() -> None:
    expected = scipy_stats.ttest_1samp(LOG_RATIOS, 0).confidence_interval(0.90)
    found = stats.effect(LOG_RATIOS, level=0.99)
    assert (math.log(found.low_90), math.log(found.high_90)) == pytest.approx((expected.low, expected.high))


def test_one_block_has_a_ratio_and_no_interval() -> None:
    found = stats.effect([math.log(2)])
    assert found.ratio == pytest.approx(2)
    assert np.isnan([found.low, found.high, found.low_90, found.high_90, found.spread, found.lag1]).all()
    assert stats.verdict(found, 0.05, lower_is_better=True) == Verdict.INCONCLUSIVE


def test_without_blocks_all_results_are_unknown() -> None:
    found = stats.effect([])
    assert math.isnan(found.ratio)
    assert math.isnan(found.p)
    assert found.blocks == 0


@pytest.mark.parametrize(
    ("bad", "ratio"),
    [(math.inf, math.inf), (-math.inf, 0.0), (math.nan, math.nan)],
    ids=["arm", "ref", "nan"],
)
def test_a_failed_trial_makes_the_ratio_infinite_without_interval_or_verdict(
    bad: float, ratio: float
) -> None:
    found = stats.effect([*LOG_RATIOS, bad])
    assert found.ratio == pytest.approx(ratio, nan_ok=True)
    assert np.isnan([found.low, found.high, found.low_90, found.high_90, found.spread, found.p]).all()
    assert found.blocks == len(LOG_RATIOS) + 1
    assert not found.drifts
    assert stats.verdict(found, 0.05, lower_is_better=True) == Verdict.INCONCLUSIVE


def test_failures_on_both_sides_leave_no_ratio() -> None:
    assert math.isnan(stats.effect([math.inf, -math.inf, 0.1]).ratio)


@pytest.mark.parametrize(
    ("value", "expected"), [(0.0, Verdict.EQUIVALENT), (0.1, Verdict.SLOWER)], ids=["same", "slower"]
)
def test_equal_values_are_judged_by_their_value_and_do_not_drift(value: float, expected: Verdict) -> None:
    found = stats.effect([value] * 10)
    assert (found.low, found.high) == pytest.approx((math.exp(value), math.exp(value)))
    assert math.isnan(found.lag1)
    assert not found.drifts
    assert stats.verdict(found, 0.05, lower_is_better=True) == expected


def test_two_blocks_that_disagree_beyond_floats_give_an_unbounded_interval() -> None:
    found = stats.effect([0.0, 2000.0])
    assert (found.low, found.high) == (0.0, math.inf)


# -- drift


def test_the_lag1_autocorrelation_is_the_textbook_one() -> None:
    # 1, 2, 3, 4: gaps -1.5 -0.5 0.5 1.5; (0.75 - 0.25 + 0.75) / 5
    assert stats.lag1_autocorrelation(np.array([1.0, 2.0, 3.0, 4.0])) == pytest.approx(0.25)


@pytest.mark.parametrize("blocks", [4, 6, 12, 20, 28])
def test_the_drift_warning_fires_in_about_one_of_twenty_independent_runs(blocks: int) -> None:
    fires = stats.lag1_autocorrelation(normal((20_000, blocks))) > stats.drift_bound(blocks)
    assert 0.04 < fires.mean() < 0.062


@pytest.mark.parametrize(("blocks", "at_least"), [(12, 0.70), (20, 0.93), (28, 0.97)])
def test_the_drift_warning_fires_on_drift(blocks: int, at_least: float) -> None:
    drifting = autoregressive(2000, blocks, 0.9)
    fires = stats.lag1_autocorrelation(drifting) > stats.drift_bound(blocks)
    assert fires.mean() > at_least


def test_an_effect_reports_drift_only_for_blocks_in_drifting_order() -> None:
    warming_up = np.linspace(0.2, 0, 16) + normal(16, spread=0.02)
    assert stats.effect(warming_up).drifts
    assert not stats.effect(np.random.default_rng(1).permutation(warming_up)).drifts


def test_rounding_that_rises_from_block_to_block_is_not_drift() -> None:
    assert not stats.effect(0.1 + 1e-15 * np.arange(12)).drifts


def test_three_blocks_are_too_few_to_see_drift() -> None:
    assert not stats.effect([0.0, 0.1, 0.2]).drifts


# -- the t test


@pytest.mark.parametrize("blocks", [2, 6, 30])
def test_p_equals_scipys_and_agrees_with_the_interval(blocks: int) -> None:
    values = normal(blocks, seed=blocks) + 0.05
    expected = scipy_stats.ttest_1samp(values, 0.0).pvalue
    assert stats.t_test_p(values) == pytest.approx(expected)
    assert stats.t_test_p(-values) == pytest.approx(expected)
    low, high = stats.mean_interval(values)
    assert (stats.t_test_p(values) < stats.ALPHA) == bool(low > 0 or high < 0)


def test_p_of_equal_values_is_one_or_zero() -> None:
    assert stats.t_test_p(np.zeros(6)) == 1
    assert stats.t_test_p([0.1 + 0.2, 0.3]) == 0


@pytest.mark.parametrize("values", [[], [0.1], [0.1, math.inf], [math.nan, 0.1, 0.2]])
def test_p_is_nan_for_fewer_than_two_values_or_values_that_are_not_finite(values: list[float]) -> None:
    assert math.isnan(stats.t_test_p(values))


def test_p_of_six_blocks_can_stay_small_after_many_comparisons() -> None:
    """A sign-flip test of six blocks cannot give less than 2/64."""
    values = normal(6, seed=1, spread=0.02) + 0.4
    assert stats.holm([float(stats.t_test_p(values)), *[0.9] * 20])[0] < 0.001


# -- Holm


def test_holm_gives_the_textbook_adjustment_in_the_order_given() -> None:
    # sorted: 0.005 x 4, 0.01 x 3, 0.03 x 2, 0.04 x 1 raised to the one before
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_never_exceeds_one_and_does_not_count_unknown_values() -> None:
    assert stats.holm([0.6, math.nan, 0.02]) == pytest.approx([0.6, math.nan, 0.04], nan_ok=True)
    assert stats.holm([0.6, 0.7]) == pytest.approx([1, 1])
    assert stats.holm([]).size == 0


# -- verdicts


def test_an_invalid_or_noisy_run_is_never_judged_and_invalid_comes_first() -> None:
    clear = known(1.2, 1.3)
    assert stats.verdict(clear, 0.05, lower_is_better=True, invalid=True, noisy=True) == Verdict.INVALID
    assert stats.verdict(clear, 0.05, lower_is_better=True, noisy=True) == Verdict.NOISY


def test_fewer_than_six_blocks_have_no_verdict_however_narrow_their_interval() -> None:
    clear = known(1.2, 1.3)
    five, six = (dataclasses.replace(clear, blocks=blocks) for blocks in (5, 6))
    assert stats.verdict(five, 0.05, lower_is_better=True) == Verdict.INCONCLUSIVE
    assert stats.verdict(six, 0.05, lower_is_better=True) == Verdict.SLOWER
    assert stats.verdict(five, 0.05, lower_is_better=True, noisy=True) == Verdict.NOISY


@pytest.mark.parametrize(
    ("low", "high", "latency", "throughput"),
    [
        (1.06, 1.10, Verdict.SLOWER, Verdict.FASTER),
        (0.90, 0.94, Verdict.FASTER, Verdict.SLOWER),
        (1.01, 1.10, Verdict.SLOWER_SIZE_UNCERTAIN, Verdict.FASTER_SIZE_UNCERTAIN),
        (0.90, 0.99, Verdict.FASTER_SIZE_UNCERTAIN, Verdict.SLOWER_SIZE_UNCERTAIN),
        (0.90, 1.10, Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE),
        (math.nan, math.nan, Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE),
        (1.01, 1.03, Verdict.EQUIVALENT, Verdict.EQUIVALENT),  # before "size uncertain"
        # the margin is symmetric on the log scale, so it ends at 1 / 1.05 = 0.9524 and not at 0.95
        (0.951, 0.952, Verdict.FASTER, Verdict.SLOWER),
        (0.953, 0.960, Verdict.EQUIVALENT, Verdict.EQUIVALENT),
        (0.951, 0.960, Verdict.FASTER_SIZE_UNCERTAIN, Verdict.SLOWER_SIZE_UNCERTAIN),
    ],
)
def test_verdicts_follow_the_interval(low: float, high: float, latency: Verdict, throughput: Verdict) -> None:
    assert stats.verdict(known(low, high), 0.05, lower_is_better=True) == latency
    assert stats.verdict(known(low, high), 0.05, lower_is_better=False) == throughput


def test_equivalence_uses_the_90_percent_interval() -> None:
    assert stats.verdict(known(0.94, 1.06, low_90=0.96, high_90=1.04), 0.05, lower_is_better=True) == (
        Verdict.EQUIVALENT
    )


def test_swapping_arm_and_reference_swaps_the_verdict() -> None:
    for shift in (0.0, 0.03, 0.045, 0.049, 0.06, 0.1):
        values = normal(12, seed=3, spread=0.01) + shift
        there = stats.verdict(stats.effect(values), 0.05, lower_is_better=True)
        back = stats.verdict(stats.effect(-values), 0.05, lower_is_better=False)
        assert there == back


# -- how many blocks


@pytest.mark.parametrize(("spread", "half_width"), [(0.1, 0.05), (0.1, 0.02), (0.02, 0.05), (1.0, 0.03)])
def test_blocks_needed_is_the_least_number_with_a_narrow_enough_interval(
    spread: float, half_width: float
) -> None:
    def half(blocks: int) -> float:
        return math.expm1(float(scipy_stats.t.ppf(0.975, blocks - 1)) * spread / math.sqrt(blocks))

    needed = stats.blocks_needed(spread, half_width)
    assert half(needed) <= half_width
    assert needed == 2 or half(needed - 1) > half_width


@pytest.mark.parametrize(
    ("spread", "half_width"), [(math.nan, 0.05), (math.inf, 0.05), (0.1, 0.0), (0.1, math.nan)]
)
def test_blocks_needed_is_zero_if_unknown(spread: float, half_width: float) -> None:
    assert stats.blocks_needed(spread, half_width) == 0


def test_no_spread_needs_two_blocks() -> None:
    assert stats.blocks_needed(0.0, 0.05) == 2


def test_the_forecast_contains_the_blocks_for_the_true_spread_nine_times_in_ten() -> None:
    rng = np.random.default_rng(1)
    truth = stats.blocks_needed(0.1, 0.03)
    forecasts = [stats.blocks_for_width(stats.effect(rng.normal(0, 0.1, 12)), 0.03) for _ in range(400)]
    assert sum(least <= truth <= most for least, most in forecasts) >= 340


def test_an_interval_that_is_narrow_enough_or_has_no_spread_has_no_forecast() -> None:
    assert stats.blocks_for_width(known(0.9, 1.1, spread=0.001), 0.05) == (0, 0)
    assert stats.blocks_for_width(stats.effect([0.1]), 0.05) == (0, 0)
    assert stats.blocks_for_width(stats.effect([0.1, math.inf] * 6), 0.05) == (0, 0)


# -- tails


def latencies(blocks: int, *, seed: int, times: float = 1.0) -> list[Floats]:
    rng = np.random.default_rng(seed)
    return [times * np.exp(rng.normal(rng.normal(0, 0.1), 0.4, 40)) for _ in range(blocks)]


def test_a_tail_is_the_ratio_of_the_pooled_percentiles_within_its_interval() -> None:
    arm, reference = latencies(12, seed=1, times=1.5), latencies(12, seed=2)
    found = stats.tail_effect(arm, reference, 95)
    ratio = np.percentile(np.concatenate(arm), 95) / np.percentile(np.concatenate(reference), 95)
    assert found.ratio == pytest.approx(ratio, rel=1e-9)
    assert found.low < found.low_90 < found.ratio < found.high_90 < found.high
    assert found.blocks == 12
    assert stats.tail_effect(arm, reference, 95) == found


def test_a_tail_interval_scales_with_the_arm_and_inverts_with_the_roles() -> None:
    arm, reference = latencies(12, seed=1), latencies(12, seed=2)
    found, scaled = (stats.tail_effect([k * block for block in arm], reference, 95) for k in (1, 3))
    turned = stats.tail_effect(reference, arm, 95)
    assert (scaled.low, scaled.high) == pytest.approx((3 * found.low, 3 * found.high))
    assert (1 / turned.high, 1 / turned.low) == pytest.approx((found.low, found.high))


def test_effects_common_to_both_arms_in_a_block_cancel_in_a_tail() -> None:
    luck = np.exp(normal(12, spread=1.0))
    reference = [factor * np.linspace(1, 1.01, 40) for factor in luck]
    found = stats.tail_effect([1.2 * block for block in reference], reference, 95)
    assert (found.low, found.high) == pytest.approx((1.2, 1.2))


def test_the_spread_of_a_tail_matches_its_interval() -> None:
    found = stats.tail_effect(latencies(20, seed=1), latencies(20, seed=2), 95)
    half = float(scipy_stats.t.ppf(0.975, 19)) * found.spread / math.sqrt(20)
    assert math.log(found.high / found.low) / 2 == pytest.approx(half, rel=0.15)


def test_the_expanded_interval_is_wider_than_the_plain_one_for_few_blocks() -> None:
    draws = normal(200_000, spread=1.0)
    low, high = stats.tail_interval(draws, 10)
    assert (high - low) / 2 == pytest.approx(float(scipy_stats.t.ppf(0.975, 9)) * math.sqrt(10 / 9), rel=0.01)


def test_a_block_of_failures_makes_a_bound_of_a_tail_infinite() -> None:
    arm, reference = latencies(12, seed=1), latencies(12, seed=2)
    arm[3] = np.where(np.arange(40) < 20, math.inf, arm[3])
    found = stats.tail_effect(arm, reference, 95)
    assert math.isfinite(found.ratio)
    assert found.high == math.inf
    assert 0 < found.low < found.ratio
    assert stats.verdict(found, 0.05, lower_is_better=True) == Verdict.INCONCLUSIVE


def test_an_arm_that_always_fails_is_slower_and_two_such_arms_are_not_compared() -> None:
    failing, fine = [np.full(40, math.inf)] * 8, latencies(8, seed=1)
    alone, both = stats.tail_effect(failing, fine, 95), stats.tail_effect(failing, failing, 95)
    assert (alone.ratio, alone.low) == (math.inf, math.inf)
    assert stats.verdict(alone, 0.05, lower_is_better=True) == Verdict.SLOWER
    assert math.isnan(both.ratio)
    assert math.isnan(both.low)
    assert stats.verdict(both, 0.05, lower_is_better=True) == Verdict.INCONCLUSIVE


@pytest.mark.parametrize("blocks", [0, 1])
def test_a_tail_of_fewer_than_two_blocks_has_no_interval(blocks: int) -> None:
    found = stats.tail_effect(latencies(blocks, seed=1), latencies(blocks, seed=2), 95)
    assert math.isnan(found.low)
    assert found.blocks == blocks
    assert math.isnan(found.ratio) == (blocks == 0)


def test_arms_with_different_numbers_of_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="3 blocks, the other 2"):
        stats.tail_effect(latencies(3, seed=1), latencies(2, seed=2), 95)


# -- one trial


@pytest.mark.parametrize(("size", "percent"), [(100, 50), (100, 90), (662, 99)])
def test_the_order_statistics_follow_the_binomial_distribution(size: int, percent: float) -> None:
    # the k-th value is above the percentile with P(Binomial(n, p) < k), below it with P(Binomial >= k)
    low, high = stats.order_statistic_interval(np.arange(1.0, size + 1), percent)
    chance = scipy_stats.binom(size, percent / 100)
    assert chance.cdf(low - 1) <= 0.025 < chance.cdf(low)
    assert chance.sf(high - 1) <= 0.025 < chance.sf(high - 2)


def test_the_median_of_100_is_between_the_40th_and_the_61st() -> None:
    assert stats.order_statistic_interval(np.arange(1.0, 101), 50) == (40, 61)


def test_a_bound_is_infinite_with_too_few_requests() -> None:
    low, high = stats.order_statistic_interval(np.arange(1.0, 101), 99)
    assert low == 97
    assert high == math.inf
    assert np.isnan(stats.order_statistic_interval([], 50)).all()
