"""The search and its estimate, driven by simulated queues whose capacity is known."""

from __future__ import annotations

import dataclasses
import math
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest

from harness.analysis import slo, stats
from harness.capacity.crossing import READ_RATIOS_AT, Crossing, Window, cross, effect
from harness.capacity.walk import SHARES, Bracket, NextWindow, Start, WalkSettings, search, walk
from harness.evidence.frames import frame
from harness.evidence.studies import searching
from harness.evidence.studies.queueing import lindley_waits_ms, md1_wait_ms
from harness.evidence.studies.searching import md1_share_beyond, truth_per_s

MEAN = slo.parse(["mean latency < 60 ms"])
WAYS = WalkSettings(seed=3)


@pytest.fixture(scope="module")
def sessions() -> pd.DataFrame:
    """Thirty simulated sessions of each objective."""
    return frame(searching.Row, searching.each(30))


def searched(holds_up_to: float, start: Start) -> tuple[Bracket, list[float]]:
    """Search on an arm that holds every rate up to a limit."""
    tried, one = [], search(start)
    rate = next(one)
    while True:
        tried.append(rate)
        try:
            rate = one.send(rate <= holds_up_to)
        except StopIteration as ended:
            return ended.value, tried


def confirmed(rates: list[float], share: float = 0.0, *, requests: float = 1000.0) -> list[Window]:
    """One block per rate, each with this share of scores."""
    return [
        Window(number, rate, True, (share * requests,), (requests,)) for number, rate in enumerate(rates, 1)
    ]


# -- truth ---------------------------------------------------------------------------------------------


def test_the_true_capacity_is_that_of_md1() -> None:
    """60 ms with a service time of 20 ms leave 40 ms for the wait, which is load 0.8."""
    assert truth_per_s(MEAN[0], 20.0) == pytest.approx(40.0)
    assert md1_share_beyond(0.0, 0.8, 20.0) == pytest.approx(0.8)
    waits = lindley_waits_ms(np.cumsum(np.random.default_rng(1).exponential(25.0, 400_000)), 20.0)
    assert md1_share_beyond(100.0, 0.8, 20.0) == pytest.approx((waits > 100.0).mean(), rel=0.1)


@pytest.mark.integration  # takes long
def test_simulated_sessions_find_the_true_capacity_without_bias(sessions: pd.DataFrame) -> None:
    found = searching.summary(sessions)
    assert (found["bias"].abs() < 0.025).all()
    assert (found["spread"] < 0.07).all()
    assert (found["ratio_bias"].abs() < 0.02).all()


@pytest.mark.integration  # takes long
def test_most_intervals_hold_the_truth_and_few_promises_are_too_high(sessions: pd.DataFrame) -> None:
    found = searching.summary(sessions)
    assert (found["covers"] >= 0.75).all()  # of 30, where nine in ten do
    assert (found["ratio_covers"] >= 0.75).all()
    assert found["overpromised"].mean() < 0.2


@pytest.mark.integration  # takes long
def test_the_study_judges_by_bias_and_coverage(sessions: pd.DataFrame) -> None:
    whole = sessions.assign(estimate=sessions["truth"], low=0.0, high=1e3, ratio_low=0.0, ratio_high=9.0)
    assert all(result.passed for result in searching.judge(whole))
    assert not any(result.passed for result in searching.judge(sessions.assign(estimate=1e3)))
    assert not any(result.passed for result in searching.judge(sessions.assign(low=1e3)))


# -- the search ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("holds", [1.0, 12.0, 33.0, 50.0, 71.0, 240.0])
def test_a_search_brackets_the_capacity_in_a_few_windows(holds: float) -> None:
    bracket, tried = searched(holds, Start(50.0))
    assert bracket.low <= holds < bracket.high
    assert bracket.high / bracket.low <= 1.2
    assert len(tried) <= 10


def test_a_search_reports_if_no_rate_held_or_every_rate_held() -> None:
    assert searched(0.0, Start(50.0))[0].low == 0.0
    assert searched(0.0, Start(50.0))[0].middle == 0.0
    bracket, tried = searched(1e9, Start(50.0, most_per_s=90.0))
    assert bracket == (90.0, math.inf)
    assert max(tried) == 90.0


def test_a_window_without_a_result_is_tried_again_before_it_ends_the_search() -> None:
    one = search(Start(50.0))
    assert next(one) == 15.0
    assert [one.send(None), one.send(None)] == [15.0, 15.0]
    rate = one.send(True)
    assert rate == 30.0
    assert [one.send(None), one.send(None)] == [30.0, 30.0]
    with pytest.raises(StopIteration) as ended:
        one.send(None)
    assert ended.value.value == Bracket(15.0, math.inf)


def test_the_capacity_is_found_after_empty_first_windows() -> None:
    """As if the client had been late once in each of the first two windows."""
    steps, yielded = walk({"a": Start(50.0)}, MEAN, WAYS), list[NextWindow]()
    result: Window | None = None
    with suppress(StopIteration):
        while True:
            yielded.append(steps.send(result))
            result = searching.window(yielded[-1], 20.0, MEAN, WAYS.seed) if len(yielded) > 2 else None
    assert sum(one.confirms for one in yielded) == WAYS.blocks


def test_a_slow_arm_gets_windows_with_several_requests() -> None:
    ways = WalkSettings(search_s=8.0)
    assert ways.long_enough([Start(50.0), Start(9.0)]) == ways
    slow = ways.long_enough([Start(50.0), Start(0.5)])
    assert slow.search_s * 0.3 * 0.5 >= 5
    assert slow.model_copy(update={"search_s": 8.0}) == ways


def test_in_a_block_every_arm_is_tried_at_the_same_share_in_random_order() -> None:
    steps = walk({"a": Start(50.0), "b": Start(100.0)}, MEAN, WAYS)
    yielded, result = [], None
    try:
        while True:
            yielded.append(steps.send(result))
            over = yielded[-1].rate_per_s > (40.0 if yielded[-1].arm == "a" else 80.0)
            result = Window(
                yielded[-1].block, yielded[-1].rate_per_s, yielded[-1].confirms, (6e4 * (1 + over),), (1001,)
            )
    except StopIteration:
        pass
    confirming = pd.DataFrame([one for one in yielded if one.confirms])
    assert confirming.groupby("block")["arm"].nunique().eq(2).all()
    assert confirming["block"].nunique() == WAYS.blocks
    assert confirming.groupby("block")["arm"].first().nunique() == 2
    first = confirming[confirming["block"].isin(sorted(confirming["block"].unique())[: len(SHARES)])]
    rates = first.pivot_table(index="block", columns="arm", values="rate_per_s")
    assert (rates["b"] / rates["a"]).between(1.999, 2.001).all()
    assert min(one.block for one in yielded if one.confirms) == 1 + max(
        one.block for one in yielded if not one.confirms
    )


# -- the crossing --------------------------------------------------------------------------------------


def crossing(windows: list[Window], text: str = "p99 < 100 ms") -> Crossing:
    found = cross(windows, slo.parse([text]), own_per_s=50.0)
    assert found is not None
    return found


def test_an_arm_that_never_failed_holds_at_least_the_highest_rate_tried() -> None:
    found = crossing(confirmed([10.0, 20.0, 30.0] * 3))
    assert found.at_least
    assert math.exp(found.log_rate) == pytest.approx(30.0)
    low, high = found.interval()
    assert low == pytest.approx(30.0)
    assert high == math.inf


def test_an_arm_that_failed_at_every_rate_holds_less_than_the_lowest() -> None:
    found = crossing(confirmed([10.0, 20.0, 30.0] * 3, share=0.9))
    assert found.at_most
    assert found.interval()[0] == 0.0


def test_few_bursts_make_the_interval_wide_but_not_open() -> None:
    """Draws that miss most bursts cross beyond every rate tried, where the line is extrapolated."""
    bursts = [9.0 if block % 4 == 0 else 0.3 for block in range(12)]  # one at each rate
    windows = [
        Window(block, rate, True, (4.0 * burst * (rate / 30.0) ** 10,), (1000.0,))
        for block, (rate, burst) in enumerate(zip([28.0, 30.0, 32.0] * 4, bursts, strict=True), 1)
    ]
    found = crossing(windows)
    low, high = found.interval()
    assert not found.at_least
    assert 28.0 < math.exp(found.log_rate) < 32.0
    assert 1.06 * 32.0 < high < math.inf
    assert 0 < low <= math.exp(found.log_rate)


def test_the_limiting_objective_has_the_lowest_crossing() -> None:
    objectives = slo.parse(["p99 < 100 ms", "errors < 1 %"])
    windows = [
        Window(block, rate, True, (rate**8 / 40.0**8 * 10, rate**8 / 30.0**8 * 10), (1000, 1000))
        for block, rate in enumerate([26.0, 28.0, 30.0, 32.0, 34.0, 36.0], 1)
    ]
    found = cross(windows, objectives, 50.0)
    assert found is not None
    assert found.binding == 1
    assert [math.exp(one) for one in found.crossings] == pytest.approx([40.0, 30.0], rel=1e-3)


def test_windows_of_the_search_affect_the_slope_and_not_the_level() -> None:
    lucky = [dataclasses.replace(one, confirms=False) for one in confirmed([29.0, 31.0], share=1e-4)]
    windows = confirmed([28.0, 30.0, 32.0] * 4, share=0.01)
    assert math.exp(crossing([*lucky, *windows]).log_rate) == pytest.approx(30.0, rel=0.01)


def queueing(rates: list[float]) -> list[Window]:
    """Windows whose mean latency is that of M/D/1 of 20 ms."""
    means = [20.0 + md1_wait_ms(rate / 50.0, 20.0) for rate in rates]
    return [
        Window(number, rate, True, (1000.0 * mean,), (1000.0,))
        for number, (rate, mean) in enumerate(zip(rates, means, strict=True), 1)
    ]


def test_a_rate_that_failed_does_not_raise_the_throughput() -> None:
    """Only a held rate above the closed-loop throughput shows that the arm can do more."""
    windows = queueing([35.2, 37.6, 40.0, 42.4] * 3)
    lost = Window(99, 75.0, confirms=False, sums=(9e6,), counts=(1000.0,), gave_up=True)
    alone, with_lost = (cross(rows, MEAN, 50.0) for rows in (windows, [lost, *windows]))
    assert alone is not None
    assert with_lost is not None
    assert math.exp(alone.log_rate) == pytest.approx(40.0, rel=5e-3)
    assert with_lost.log_rate == pytest.approx(alone.log_rate, rel=1e-9)


def test_rates_above_the_closed_loop_throughput_are_fitted_too() -> None:
    windows = [
        Window(block, rate, True, (3e5,), (1000.0,)) for block, rate in enumerate([48.0, 50.0, 55.0], 1)
    ]
    found = cross(windows, MEAN, 50.0)
    assert found is not None
    assert found.at_most
    assert math.isfinite(found.log_rate)


def test_ratios_are_read_at_a_higher_level_than_the_nominal_one() -> None:
    one = crossing(confirmed([28.0, 30.0, 32.0] * 4, share=0.01))
    draws = np.random.default_rng(1).normal(0.0, 0.1, 1999)
    other = dataclasses.replace(one, low_draws=one.low_draws + draws, high_draws=one.high_draws + draws)
    found, level = effect(other, one), READ_RATIOS_AT[stats.LEVEL]
    low, high = stats.tail_interval(draws, 12, level=level)
    assert (found.low, found.high) == pytest.approx((math.exp(low), math.exp(high)))
    assert level > stats.LEVEL
    assert found.low < found.low_90 < found.high_90 < found.high


def test_two_arms_are_paired_by_their_blocks() -> None:
    """A burst in a block is in both arms, so it does not affect the ratio."""
    bursts = [0.2, 3.0, 0.5, 1.5, 0.3, 2.0, 0.6, 0.9, 1.2, 0.4, 1.1, 0.7]
    shares = [0.88, 0.94, 1.0, 1.06] * 3

    def arm(capacity: float) -> Crossing:
        return crossing(
            [
                Window(block, capacity * share, True, (10.0 * burst * share**10,), (1000.0,))
                for block, (burst, share) in enumerate(zip(bursts, shares, strict=True), 1)
            ]
        )

    one, other = arm(20.0), arm(30.0)
    assert one.interval()[1] / one.interval()[0] > 1.1
    found = effect(other, one)
    assert (found.low, found.ratio, found.high) == pytest.approx((1.5, 1.5, 1.5), rel=1e-3)
    with pytest.raises(ValueError, match="not paired"):
        effect(one, crossing(confirmed([20.0, 30.0], 0.01)))


def test_a_ratio_with_an_arm_that_never_failed_is_open_above() -> None:
    broke = crossing(confirmed([20.0, 22.0, 24.0] * 3, share=0.01))
    held = crossing(confirmed([60.0, 62.0, 64.0] * 3))
    found = effect(held, broke)
    assert 2.5 < found.low < 3.2
    assert found.high == math.inf
