"""Comparing arms: of one run block by block, and of two runs."""

from __future__ import annotations

import math
import re

import made_up
import numpy as np
import pytest
from compared import BLOCKS, about, compared, row, side
from made_up import Point

from harness.analysis import stats, summaries
from harness.analysis.stats import Verdict
from harness.verdicts import comparison, session_noise
from harness.verdicts.comparison import COLUMNS, LOST
from harness.verdicts.sides import Side

# -- one run -------------------------------------------------------------------------------------------


def test_a_slower_arm_is_led_by_a_sentence_with_ratio_difference_interval_and_blocks() -> None:
    table = compared({("inline", 8): Point(model_ms=14.0), ("thread", 8): Point(model_ms=24.0)})
    found = row(table)
    assert list(table.columns) == [*COLUMNS, LOST]
    assert found["verdict"] == Verdict.SLOWER
    assert found["sentence"] == (
        "thread takes 1.50x as long as inline to answer at c = 8: 30.0 against 20.0 ms (+10.0 ms), "
        "95 % interval of the ratio 1.50 to 1.50, n = 12 blocks: slower."
    )


def test_more_requests_a_second_is_faster() -> None:
    table = compared({("inline", 1): Point(model_ms=14.0), ("thread", 1): Point(model_ms=4.0)})
    found = row(table, "throughput_per_s", "rate")
    assert found["verdict"] == Verdict.FASTER
    assert found["sentence"].startswith(
        "thread answers 2.00x as many requests a second as inline at c = 1: "
        "100.0 against 50.0 requests/s (+50.0 requests/s)"
    )


def test_equal_arms_are_equivalent_and_the_sentence_gives_the_margin() -> None:
    table = compared({("inline", 1): about(20), ("thread", 1): about(20, seed=2)}, blocks=20)
    found = row(table)
    assert found["verdict"] == Verdict.EQUIVALENT
    assert ": equivalent within 5 % (90 % interval " in found["sentence"]
    assert math.isnan(found["blocks_most"])
    assert found["why"] == ""


def test_an_inconclusive_row_gives_the_reason_and_the_blocks_needed_for_a_narrow_interval() -> None:
    world = {("inline", 1): about(20, spread=0.2), ("thread", 1): about(20, spread=0.2, seed=2)}
    found = row(compared(world))
    assert found["verdict"] == Verdict.INCONCLUSIVE
    assert found["why"] == "the interval contains 1 and exceeds ±5 %"
    assert BLOCKS < found["blocks_least"] < found["blocks_most"]
    least, most = int(found["blocks_least"]), int(found["blocks_most"])
    assert f"; an interval of ±5 % would need {least} to {most} blocks." in found["sentence"]
    fewer = row(compared(world, excluded=[1, 2, 3]))
    assert fewer["blocks"] == BLOCKS - 3
    effect = stats.Effect(1.0, 0.9, 1.1, 0.9, 1.1, 0.95, 9, 0.3, 0.5, 0.0, drifts=False)
    all_counted = stats.blocks_for_width(effect, 0.05)
    assert stats.blocks_for_width(effect, 0.05, counted=0.75) == pytest.approx(
        [blocks / 0.75 for blocks in all_counted], abs=1
    )


def test_why_a_size_is_uncertain_and_why_few_blocks_have_no_verdict() -> None:
    world = {("inline", 1): about(20, spread=0.02), ("thread", 1): about(21.5, spread=0.02, seed=2)}
    found = row(compared(world))
    assert (found["verdict"], found["why"]) == (
        Verdict.SLOWER_SIZE_UNCERTAIN,
        "the difference may be smaller than 5 %",
    )
    assert found["sentence"].endswith("slower, size uncertain (the difference may be smaller than 5 %).")
    few = row(compared(world, blocks=5))
    assert (few["verdict"], few["why"]) == (Verdict.INCONCLUSIVE, "5 blocks; a verdict needs 6")


def test_an_arm_that_the_client_limits_is_at_least_as_good_as_it_looks() -> None:
    world = {(arm, 1): about(ms, seed=int(ms)) for arm, ms in (("inline", 20), ("quick", 10), ("slow", 40))}
    limits = {arm: {(arm, "closed(1)"): "busy"} for arm in ("inline", "quick", "slow")}

    def verdicts(limited: dict[tuple[str, str], str]) -> dict[str, str]:
        table = compared(world, limited=limited)
        rates = table[table["metric"] == "throughput_per_s"]
        return dict(zip(rates["arm"], rates["verdict"], strict=True))

    assert verdicts(limits["quick"]) == {"quick": Verdict.FASTER, "slow": Verdict.SLOWER}
    assert verdicts(limits["slow"]) == {"quick": Verdict.FASTER, "slow": Verdict.CLIENT_LIMITED}
    assert verdicts(limits["inline"]) == {"quick": Verdict.CLIENT_LIMITED, "slow": Verdict.SLOWER}
    both = limits["inline"] | limits["quick"]
    assert verdicts(both) == {"quick": Verdict.CLIENT_LIMITED, "slow": Verdict.SLOWER}
    table = compared(world, limited=both)
    assert row(table, arm="quick")["why"] == "quick: busy; inline: busy"
    assert row(table, "model_ms", arm="quick")["verdict"] == Verdict.FASTER


def test_the_values_are_those_whose_quotient_is_the_ratio() -> None:
    table = compared({("inline", 1): about(20, spread=0.1), ("thread", 1): about(30, spread=0.1, seed=2)})
    figures = table[table["stat"].isin(["median", "rate"])]
    assert np.allclose(figures["arm_value"] / figures["reference_value"], figures["ratio"])


def test_blocks_are_paired_so_luck_that_both_share_costs_no_precision() -> None:
    shared = about(20, spread=0.3)
    table = compared({("inline", 1): shared, ("thread", 1): shared})
    assert row(table)["high"] / row(table)["low"] == pytest.approx(1.0)


def test_only_loads_that_both_arms_have_are_compared_the_lightest_first() -> None:
    arms = [("inline", 16), ("inline", 2), ("inline", 8), ("thread", 16), ("thread", 8), ("thread", 4)]
    table = compared(dict.fromkeys(arms, Point()))
    assert list(dict.fromkeys(table["load"])) == ["closed(8)", "closed(16)"]


def test_a_block_counts_only_when_both_arms_have_an_ok_trial_in_it() -> None:
    def broken(block: int) -> Point:
        return Point(model_ms=500.0, state="failed") if block <= 3 else Point()

    found = row(compared({("inline", 1): Point(), ("thread", 1): broken}))
    assert found["blocks"] == BLOCKS - 3
    assert found["ratio"] == pytest.approx(1.0)
    assert found["reason"] == "3 of 12 of thread's trials do not count: the server died"


def test_an_arm_without_any_good_trial_stays_in_the_table_as_invalid() -> None:
    table = compared({("inline", 1): Point(), ("thread", 1): Point(state="failed")})
    assert list(table["verdict"]) == [Verdict.INVALID]
    assert "invalid, because no block has a good trial of both" in table["sentence"].iloc[0]


def test_excluded_blocks_are_left_out() -> None:
    def odd(block: int) -> Point:
        return Point(model_ms=500.0 if block == 5 else 6.0)

    found = row(compared({("inline", 1): Point(), ("thread", 1): odd}, excluded=[5]))
    assert found["blocks"] == BLOCKS - 1
    assert found["ratio"] == pytest.approx(1.0)


def test_what_the_instrument_spoilt_is_invalid_with_its_reason_and_no_p() -> None:
    world = {(arm, users): Point() for arm in ("inline", "thread") for users in (1, 8)}
    table = compared(world, invalid={("thread", "closed(8)"): "the client was late"})
    spoilt = table[table["load"] == "closed(8)"]
    assert set(spoilt["verdict"]) == {Verdict.INVALID}
    assert spoilt["p_holm"].isna().all()
    assert row(table, load="closed(8)")["sentence"].endswith("invalid, because thread: the client was late.")
    assert Verdict.INVALID not in set(table.loc[table["load"] == "closed(1)", "verdict"])


def test_a_reference_that_the_instrument_spoilt_spoils_every_comparison_with_it() -> None:
    table = compared(
        {("inline", 1): Point(), ("thread", 1): Point()}, invalid={("inline", "closed(1)"): "late"}
    )
    assert set(table["verdict"]) == {Verdict.INVALID}


# -- metrics -------------------------------------------------------------------------------------------


def test_tails_appear_only_where_both_sides_have_enough_requests() -> None:
    few = compared({("inline", 1): Point(), ("thread", 1): Point()})
    assert set(few["stat"]) == {"median", "rate"}
    more = compared({("inline", 8): Point(), ("thread", 8): Point(requests=1)})
    assert set(more["stat"]) == {"median", "rate", "p95"}
    both = compared({("inline", 8): Point(requests=8), ("thread", 8): Point(requests=8)})
    assert set(both["stat"]) == {"median", "rate", "p95", "p99"}


def test_failures_never_improve_a_tail() -> None:
    table = compared({("inline", 8): Point(), ("thread", 8): Point(model_ms=1.0, failed=3)})
    found = row(table, "latency_ms", "p95")
    assert found["ratio"] == math.inf
    assert found["verdict"] == Verdict.SLOWER
    assert "no ratio, because at least 5 % of thread's requests got no good answer" in found["sentence"]


def test_a_median_among_failures_has_no_ratio_and_no_verdict() -> None:
    def half_dead(block: int) -> Point:
        return Point(failed=3 if block == 4 else 0)

    found = row(compared({("inline", 1): Point(), ("thread", 1): half_dead}))
    assert found["verdict"] == Verdict.INCONCLUSIVE
    assert "at least half of thread's requests got no good answer in 1 of 12 blocks" in found["sentence"]


def test_parts_are_compared_if_they_are_reported_and_not_zero() -> None:
    table = compared({("inline", 1): Point(queue_ms=0.0), ("thread", 1): Point(queue_ms=2.0)})
    assert set(table["metric"]) == {"latency_ms", "throughput_per_s", "model_ms", "io_ms"}
    told = compared({("inline", 1): Point(queue_ms=1.0), ("thread", 1): Point(queue_ms=2.0)})
    assert row(told, "queue_ms")["sentence"].startswith("thread's median queue time is 2.00x that of inline")


def test_service_time_has_its_own_row_only_in_open_loops() -> None:
    requests, trials = made_up.run({("inline", 1): Point(), ("thread", 1): Point()}, blocks=BLOCKS)
    closed = comparison.arms(Side(summaries.derive(requests, trials), trials), reference="inline")
    assert "service_ms" not in set(closed["metric"])
    opened = [frame.assign(load="poisson(25)") for frame in (requests, trials)]
    table = comparison.arms(Side(summaries.derive(*opened), opened[1]), reference="inline")
    assert row(table, "service_ms")["load"] == "poisson(25)"


def test_under_its_own_load_an_arms_throughput_is_the_offered_rate() -> None:
    """So the throughputs of arms are not compared there."""
    requests, trials = made_up.run({("inline", 1): Point(), ("thread", 1): Point()}, blocks=BLOCKS)
    opened = [frame.assign(load="own(0.5)") for frame in (requests, trials)]
    table = comparison.arms(Side(summaries.derive(*opened), opened[1]), reference="inline")
    assert "throughput_per_s" not in set(table["metric"])
    assert row(table)["load"] == "own(0.5)"


# -- families of tests ---------------------------------------------------------------------------------


def test_holm_goes_over_one_arms_rows_that_are_not_primary() -> None:
    world = {
        (arm, users): about(20 + seed, seed=10 * seed + users)
        for seed, arm in enumerate(("inline", "thread", "process"))
        for users in (1, 2)
    }
    table = compared(world)
    for _, of_arm in table.groupby("arm"):
        family = of_arm[~of_arm["primary"]]
        assert np.allclose(family["p_holm"], stats.holm(family["p"]))
    primary = table[table["primary"]]
    assert (primary["p_holm"] == primary["p"]).all()


def test_holm_removes_faster_and_slower_from_rows_that_are_not_primary_with_a_reason() -> None:
    world = {("inline", 1): about(14, spread=0.1), ("thread", 1): about(17, spread=0.1, seed=5)}
    throughput = row(compared(world, blocks=8), "throughput_per_s", "rate")
    assert throughput["high"] < 1
    assert throughput["p"] < 0.05 < throughput["p_holm"]
    assert throughput["verdict"] == Verdict.INCONCLUSIVE
    assert re.fullmatch(r"p = 0\.\d+ after correction for \d+ comparisons", throughput["why"])
    assert f"inconclusive ({throughput['why']})" in throughput["sentence"]


def test_six_blocks_are_enough_for_a_clear_difference_in_throughput() -> None:
    world = {("inline", 1): about(14), ("thread", 1): about(24, seed=2)}
    assert row(compared(world, blocks=6), "throughput_per_s", "rate")["verdict"] == Verdict.SLOWER


# -- two runs ------------------------------------------------------------------------------------------


def test_two_runs_are_compared_arm_by_arm_with_the_earlier_as_reference() -> None:
    before = side({("inline", 1): about(20), ("thread", 1): about(20, seed=2)}, label="old")
    after = side({("inline", 1): about(30, seed=3), ("process", 1): about(1)}, label="new", blocks=10)
    table = comparison.runs(before, after)
    assert set(table["arm"]) == {"new:inline"}
    found = row(table)
    assert found["reference"] == "old:inline"
    assert found["verdict"] == Verdict.SLOWER
    assert "n = 10 and 12 blocks" in found["sentence"]


def test_one_arm_of_each_run_can_be_compared() -> None:
    before = side({("inline", 1): about(20)}, label="old")
    after = side({("thread", 1): about(10)}, label="new")
    table = comparison.runs(before, after, pairs=[("inline", "thread")])
    assert row(table)["verdict"] == Verdict.FASTER


def test_blocks_of_two_runs_are_not_paired() -> None:
    shared = about(20, spread=0.3)
    table = comparison.runs(side({("inline", 1): shared}), side({("inline", 1): shared}))
    found = row(table)
    assert found["ratio"] == pytest.approx(1.0)
    assert found["high"] / found["low"] > 1.2


def test_a_reason_from_outside_withholds_the_verdicts_of_two_runs() -> None:
    world = {("inline", 1): about(20)}
    table = comparison.runs(side(world), side(world), withheld="The session was noisy.")
    assert set(table["verdict"]) == {Verdict.NOISY}
    assert session_noise.noisy(table) == "The session was noisy."
