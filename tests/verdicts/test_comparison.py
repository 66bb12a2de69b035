"""Comparing arms: of one run block by block, of two runs, and what a gate makes of it."""

from __future__ import annotations

import dataclasses
import math
import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.analysis import stats, summaries, unpaired
from harness.analysis.stats import Verdict
from harness.verdicts import comparison, gate, same_work
from harness.verdicts.comparison import COLUMNS, Rules, Side
from harness.verdicts.gate import Floors
from tests import made_up
from tests.made_up import Point

BLOCKS = 12


def about(model_ms: float, *, spread: float = 0.02, seed: int = 1, **fixed: Any) -> Callable[[int], Point]:
    """A server whose luck changes from block to block: requests of one block share it."""
    luck = random.Random(seed)
    factors = [luck.gauss(1.0, spread) for _ in range(100)]
    return lambda block: Point(model_ms=model_ms * factors[block], **fixed)


def compared(world: made_up.World, *, blocks: int = BLOCKS, **options: Any) -> pd.DataFrame:
    requests, trials = made_up.run(world, blocks=blocks)
    known = {name: options.pop(name) for name in ("excluded", "invalid", "limited") if name in options}
    both = Side(summaries.derive(requests, trials), trials, **known)
    return comparison.arms(both, **({"reference": "inline"} | options))


def side(world: made_up.World, *, blocks: int = BLOCKS, label: str = "") -> Side:
    requests, trials = made_up.run(world, blocks=blocks)
    return Side(summaries.derive(requests, trials), trials, label)


def row(table: pd.DataFrame, metric: str = "latency_ms", stat: str = "median", **where: str) -> Any:
    found = table[(table["metric"] == metric) & (table["stat"] == stat)]
    for column, value in where.items():
        found = found[found[column] == value]
    assert len(found) == 1
    return found.iloc[0]


# -- one run -------------------------------------------------------------------------------------------


def test_a_slower_arm_is_led_by_a_sentence_with_ratio_difference_interval_and_blocks() -> None:
    table = compared({("inline", 8): Point(model_ms=14.0), ("thread", 8): Point(model_ms=24.0)})
    found = row(table)
    assert list(table.columns) == COLUMNS
    assert found["verdict"] == Verdict.SLOWER
    assert found["sentence"] == (
        "thread takes 1.50x as long as inline to answer at closed(8): 30.0 against 20.0 ms (+10.0 ms), "
        "95 % interval of the ratio 1.50 to 1.50, n = 12 blocks: slower."
    )


def test_more_requests_a_second_is_faster() -> None:
    table = compared({("inline", 1): Point(model_ms=14.0), ("thread", 1): Point(model_ms=4.0)})
    found = row(table, "throughput_per_s", "rate")
    assert found["verdict"] == Verdict.FASTER
    assert found["sentence"].startswith(
        "thread answers 2.00x as many requests a second as inline at closed(1): "
        "100.0 against 50.0 requests/s (+50.0 requests/s)"
    )


def test_equal_arms_are_equivalent_and_the_sentence_says_within_what() -> None:
    table = compared({("inline", 1): about(20), ("thread", 1): about(20, seed=2)}, blocks=20)
    found = row(table)
    assert found["verdict"] == Verdict.EQUIVALENT
    assert ": equivalent within 5 % (90 % interval " in found["sentence"]
    assert math.isnan(found["blocks_most"])
    assert found["why"] == ""


def test_an_inconclusive_arm_is_told_why_and_how_many_blocks_a_narrow_interval_would_take() -> None:
    world = {("inline", 1): about(20, spread=0.2), ("thread", 1): about(20, spread=0.2, seed=2)}
    found = row(compared(world))
    assert found["verdict"] == Verdict.INCONCLUSIVE
    assert found["why"] == "the interval holds 1 and exceeds ±5 %"
    assert BLOCKS < found["blocks_least"] < found["blocks_most"]
    least, most = int(found["blocks_least"]), int(found["blocks_most"])
    assert f"; an interval of ±5 % would take {least} to {most} blocks." in found["sentence"]
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
        "the interval touches 5 %",
    )
    assert found["sentence"].endswith("slower, size uncertain: the interval touches 5 %.")
    few = row(compared(world, blocks=5))
    assert (few["verdict"], few["why"]) == (Verdict.INCONCLUSIVE, "5 blocks, and a verdict takes 6")


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
    assert "invalid, as there is no block in which both have a good trial" in table["sentence"].iloc[0]


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
    assert row(table, load="closed(8)")["sentence"].endswith("invalid, as thread: the client was late.")
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
    assert "no ratio, as thread left 5 % of its requests or more without a good answer" in found["sentence"]


def test_a_median_among_failures_has_no_ratio_and_no_verdict() -> None:
    def half_dead(block: int) -> Point:
        return Point(failed=3 if block == 4 else 0)

    found = row(compared({("inline", 1): Point(), ("thread", 1): half_dead}))
    assert found["verdict"] == Verdict.INCONCLUSIVE
    assert "half of thread's requests or more got no good answer in 1 of 12 blocks" in found["sentence"]


def test_parts_are_compared_where_they_are_told_and_not_zero() -> None:
    table = compared({("inline", 1): Point(queue_ms=0.0), ("thread", 1): Point(queue_ms=2.0)})
    assert set(table["metric"]) == {"latency_ms", "throughput_per_s", "model_ms", "io_ms"}
    told = compared({("inline", 1): Point(queue_ms=1.0), ("thread", 1): Point(queue_ms=2.0)})
    assert row(told, "queue_ms")["sentence"].startswith("thread's median queue wait is 2.00x that of inline")


def test_service_time_is_a_row_of_its_own_only_in_open_loop() -> None:
    requests, trials = made_up.run({("inline", 1): Point(), ("thread", 1): Point()}, blocks=BLOCKS)
    closed = comparison.arms(Side(summaries.derive(requests, trials), trials), reference="inline")
    assert "service_ms" not in set(closed["metric"])
    opened = [frame.assign(load="poisson(25)") for frame in (requests, trials)]
    table = comparison.arms(Side(summaries.derive(*opened), opened[1]), reference="inline")
    assert row(table, "service_ms")["load"] == "poisson(25)"


def test_under_a_load_of_its_own_an_arms_throughput_is_what_it_was_asked_for() -> None:
    """So it is compared with no other's."""
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


def test_holm_takes_faster_and_slower_from_rows_that_are_not_primary_and_says_why() -> None:
    world = {("inline", 1): about(14, spread=0.1), ("thread", 1): about(17, spread=0.1, seed=5)}
    throughput = row(compared(world, blocks=8), "throughput_per_s", "rate")
    assert throughput["high"] < 1
    assert throughput["p"] < 0.05 < throughput["p_holm"]
    assert throughput["verdict"] == Verdict.INCONCLUSIVE
    assert re.fullmatch(r"p = 0\.\d+ after correction for \d+ comparisons", throughput["why"])
    assert f"inconclusive: {throughput['why']}" in throughput["sentence"]


def test_six_blocks_are_enough_for_a_clear_difference_in_throughput() -> None:
    world = {("inline", 1): about(14), ("thread", 1): about(24, seed=2)}
    assert row(compared(world, blocks=6), "throughput_per_s", "rate")["verdict"] == Verdict.SLOWER


def noisy_world(twin_ms: float) -> dict[made_up.Place, Point | Callable[[int], Point]]:
    return {
        ("inline", 1): about(20),
        ("inline-twin", 1): about(twin_ms, seed=2),
        ("inline", 4): about(20, seed=3),
        ("inline-twin", 4): about(20, seed=4),
        ("thread", 1): about(40, seed=5),
        ("thread", 4): about(40, seed=6),
    }


def test_the_twins_primary_rows_are_one_family_over_loads() -> None:
    table = compared(noisy_world(20), twin="inline-twin")
    twins = table[table["twin"] & table["primary"]]
    assert len(twins) == 2
    assert np.allclose(twins["p_holm"], stats.holm(twins["p"]))


def test_a_twin_that_differs_withholds_every_verdict_but_invalid() -> None:
    late = {("thread", "closed(4)"): "late"}
    table = compared(noisy_world(26), twin="inline-twin", invalid=late)
    spoilt = (table["arm"] == "thread") & (table["load"] == "closed(4)")
    assert set(table.loc[spoilt, "verdict"]) == {Verdict.INVALID}
    assert set(table.loc[~spoilt, "verdict"]) == {Verdict.NOISY}
    assert row(table, arm="thread", load="closed(1)")["sentence"].endswith("noisy session, no verdict.")
    said = comparison.noisy(table)
    assert "the twin of inline" in said
    assert "slower at closed(1)" in said
    assert "Holm over 2 loads" in said
    assert "--blocks" in said


def test_a_quiet_twin_withholds_nothing_and_says_how_far_it_was() -> None:
    table = compared(noisy_world(20), twin="inline-twin")
    assert row(table, arm="thread", load="closed(1)")["verdict"] == Verdict.SLOWER
    assert comparison.noisy(table) == ""
    said = comparison.twin_sentence(table)
    assert said.startswith("The twin of inline differs by at most ")
    assert said.endswith((" % (closed(1))", " % (closed(4))"))


def test_a_twin_that_differs_surely_but_within_delta_is_quiet() -> None:
    world = noisy_world(20) | {("inline", 1): Point(model_ms=20.0), ("inline-twin", 1): Point(model_ms=20.5)}
    table = compared(world, twin="inline-twin")
    twin = row(table, arm="inline-twin", load="closed(1)")
    assert twin["p_holm"] < 0.05
    assert comparison.noisy(table) == ""
    assert comparison.noisy(compared(world, twin="inline-twin", rules=Rules(delta_latency=0.01)))


def test_a_twin_that_differs_by_chance_is_quiet() -> None:
    world = noisy_world(20) | {("inline-twin", 1): about(22, spread=0.6, seed=8)}
    table = compared(world, twin="inline-twin")
    twin = row(table, arm="inline-twin", load="closed(1)")
    assert abs(math.log(twin["ratio"])) > math.log(1.05)
    assert twin["p_holm"] > 0.05
    assert comparison.noisy(table) == ""


@pytest.mark.parametrize(("blocks", "loads", "tells"), [(6, 1, True), (5, 1, False), (6, 2, True)])
def test_a_twin_of_too_few_blocks_is_told_and_withholds_nothing(blocks: int, loads: int, tells: bool) -> None:
    arms = ("inline", "inline-twin", "thread")
    world = {(arm, users): about(20, seed=users) for arm in arms for users in range(1, loads + 1)}
    table = compared(world, blocks=blocks, twin="inline-twin")
    said = comparison.twin_doubt(table, "inline-twin")
    assert (said == "") == tells
    assert tells or said.startswith(f"The twin could not tell: it has {blocks} blocks")
    assert Verdict.NOISY not in set(table["verdict"])


def test_a_twin_without_a_finite_ratio_could_not_tell() -> None:
    world = {("inline", 1): Point(), ("inline-twin", 1): Point(state="failed")}
    table = compared(world, twin="inline-twin")
    said = "The twin could not tell: inline-twin has no comparison with a finite ratio."
    assert comparison.twin_doubt(table, "inline-twin") == said
    assert comparison.twin_doubt(table.iloc[:0], "inline-twin") == said
    assert comparison.twin_doubt(table, None) == ""


def test_without_a_twin_nothing_is_said_of_it() -> None:
    table = compared({("inline", 1): Point(), ("thread", 1): Point()})
    assert comparison.twin_sentence(table) == ""
    assert comparison.noisy(table) == ""


# -- what a plan declares ------------------------------------------------------------------------------


def test_facts_come_from_the_plan() -> None:
    plan = {
        "arms": [{"name": "inline"}, {"name": "thread"}],
        "reference": "thread",
        "twin": True,
        "delta_latency": 0.1,
        "delta_throughput": 0.2,
        "exclude": {"steal_share": 0.05},
    }
    declared = comparison.facts({"plan": plan})
    assert (declared.reference, declared.twin) == ("thread", "thread-twin")
    assert declared.rules == Rules(0.1, 0.2)
    assert declared.exclude == {"steal_share": 0.05}


def test_an_older_run_has_the_defaults_and_its_first_arm_as_reference() -> None:
    declared = comparison.facts({"plan": {"arms": [{"name": "inline"}, {"name": "thread"}]}})
    assert (declared.reference, declared.twin, declared.rules) == ("inline", None, Rules())
    assert comparison.facts({}).reference == ""


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
    assert comparison.noisy(table) == "The session was noisy."


@pytest.mark.integration  # takes long
def test_welchs_interval_covers_the_truth_and_its_p_is_fair() -> None:
    rng = np.random.default_rng(7)
    pairs = [(rng.normal(0.0, 0.1, 8), rng.normal(0.0, 0.3, 16)) for _ in range(120)]
    effects = [unpaired.effect(a, b) for a, b in pairs]
    assert np.mean([found.low <= 1.0 <= found.high for found in effects]) > 0.9
    assert np.mean([found.p < 0.05 for found in effects]) < 0.1
    assert unpaired.effect(np.full(8, 1.0) + pairs[0][0], pairs[0][1]).p < 0.01


def test_what_is_alike_in_two_runs_gives_no_warning_and_p_1() -> None:
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
    alone = unpaired.tail_effect(blocks, blocks, 95)
    assert paired.high / paired.low == pytest.approx(1.0)
    assert alone.high / alone.low > 1.2
    assert alone.p == pytest.approx(1.0)


def test_an_unpaired_tail_of_failures_is_infinite() -> None:
    good, bad = [np.arange(1.0, 101.0)] * 8, [np.full(100, math.inf)] * 8
    found = unpaired.tail_effect(bad, good, 95)
    assert (found.ratio, found.low) == (math.inf, math.inf)
    assert found.p < 0.01


# -- the gate ------------------------------------------------------------------------------------------


def judged(*, floors: Floors | None = None, rules: Rules | None = None, **changes: Any) -> list[str]:
    """Metrics on which the gate fails, of an arm 20 % slower for sure, after `changes` of its latency row."""
    table = compared({("inline", 1): about(20, spread=0.01), ("thread", 1): about(24, spread=0.01, seed=2)})
    latency = (table["metric"] == "latency_ms") & (table["stat"] == "median")
    table.loc[latency, list(changes)] = list(changes.values())
    return list(gate.slower(table, floors or Floors(), rules or Rules())["metric"])


def test_a_gate_fails_when_interval_and_both_floors_agree() -> None:
    assert judged() == ["latency_ms", "throughput_per_s"]


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("the interval holds 1", {"low": 0.99}),
        ("the relative floor", {"ratio": 1.04, "low": 1.03, "difference": 1.5}),
        ("the absolute floor", {"difference": 0.9}),
        ("it is faster", {"ratio": 0.5, "low": 0.4, "high": 0.6, "difference": -10.0}),
        ("it is invalid", {"verdict": Verdict.INVALID}),
        ("the session was noisy", {"verdict": Verdict.NOISY}),
    ],
)
def test_a_gate_holds_when_one_of_them_does_not(what: str, changes: dict[str, Any]) -> None:
    assert "latency_ms" not in judged(**changes)


def test_floors_can_be_set() -> None:
    assert judged(floors=Floors(ms=100.0)) == ["throughput_per_s"]
    assert judged(floors=Floors(per_s=100.0)) == ["latency_ms"]
    assert judged(floors=Floors(share=0.5)) == []
    assert judged(rules=Rules(delta_latency=0.5)) == ["throughput_per_s"]


def test_a_throughput_gate_fails_on_less_and_never_on_more() -> None:
    quicker = compared({("inline", 1): Point(model_ms=24.0), ("thread", 1): Point(model_ms=14.0)})
    assert gate.slower(quicker, Floors(), Rules()).empty


def test_a_figure_that_the_client_limits_passes_no_gate_and_fails_none() -> None:
    world = {("inline", 1): about(14), ("thread", 1): about(24, seed=2)}
    table = compared(world, limited={("thread", "closed(1)"): "the load generator was busy"})
    assert set(table.loc[table["metric"] == "latency_ms", "verdict"]) == {Verdict.CLIENT_LIMITED}
    assert gate.slower(table, Floors(), Rules()).empty
    assert "the load generator was busy" in gate.doubts(table)[0]


def test_a_gate_looks_neither_at_tails_nor_at_the_twin() -> None:
    table = compared(noisy_world(20), twin="inline-twin")
    rows = gate.gated(table)
    assert set(rows["arm"]) == {"thread"}
    assert set(zip(rows["metric"], rows["stat"], strict=True)) == {
        ("latency_ms", "median"),
        ("throughput_per_s", "rate"),
    }


def test_a_gate_does_not_fail_on_five_blocks() -> None:
    world = {("inline", 1): Point(model_ms=14.0), ("thread", 1): Point(model_ms=24.0)}
    assert gate.slower(compared(world, blocks=5), Floors(), Rules()).empty
    six = gate.slower(compared(world, blocks=6), Floors(), Rules())
    assert list(six["metric"]) == ["latency_ms", "throughput_per_s"]


def test_a_gate_fails_on_throughput_only_when_holm_leaves_it_sure() -> None:
    table = compared({("inline", 1): Point(model_ms=14.0), ("thread", 1): Point(model_ms=24.0)})
    throughput = table["metric"] == "throughput_per_s"
    assert "throughput_per_s" in list(gate.slower(table, Floors(), Rules())["metric"])
    table.loc[throughput, "p_holm"] = 0.06
    assert list(gate.slower(table, Floors(), Rules())["metric"]) == ["latency_ms"]


def test_too_few_blocks_are_a_doubt_and_six_are_enough() -> None:
    world = {("inline", 1): Point(), ("thread", 1): Point()}
    assert "only 5 blocks" in gate.doubts(compared(world, blocks=5))[0]
    assert gate.doubts(compared(world, blocks=6)) == []


def test_lost_trials_withheld_verdicts_and_missing_ratios_are_doubts() -> None:
    def dying(block: int) -> Point:
        return Point(state="failed" if block == 1 else "ok")

    def failing(block: int) -> Point:
        return Point(failed=3 if block == 4 else 0)

    for world in (dying, failing):
        assert gate.doubts(compared({("inline", 1): Point(), ("thread", 1): world}))
    assert gate.doubts(compared(noisy_world(26), twin="inline-twin"))


def test_an_inconclusive_row_of_enough_blocks_is_no_doubt() -> None:
    table = compared({("inline", 1): about(20, spread=0.2), ("thread", 1): about(20, spread=0.2, seed=2)})
    assert row(table)["verdict"] == Verdict.INCONCLUSIVE
    assert gate.doubts(table) == []


# -- may it be compared? -------------------------------------------------------------------------------


def record(**changes: Any) -> dict[str, Any]:
    facts = {
        "cpu": "EPYC",
        "usable_cores": 2,
        "model": "MiniLM",
        "weights_sha256": "abc",
        "io_ms": 5.0,
        "route": "GET /",
    } | changes
    about_model = {key: facts[key] for key in ("model", "weights_sha256")}
    options = {"workload": {"io_ms": facts["io_ms"]}}
    return {
        "environment": {"cpu": facts["cpu"], "usable_cores": facts["usable_cores"], "python": "3.11.7"},
        "arms": {"inline": {"options": options, "about": about_model}},
        "plan": {"route": facts["route"], "requests": 40, "blocks": 16},
    }


@pytest.mark.parametrize(
    "change",
    [
        {"cpu": "Xeon"},
        {"usable_cores": 8},
        {"model": "other"},
        {"weights_sha256": "def"},
        {"io_ms": 8.0},
        {"route": "POST /predict"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_machine_model_or_load_forbids_the_comparison_and_is_named(change: dict[str, Any]) -> None:
    assert same_work.obstacles((record(), "inline"), (record(), "inline")) == []
    (said,) = same_work.obstacles((record(), "inline"), (record(**change), "inline"))
    assert said.startswith(next(iter(change)))


def test_what_an_older_run_did_not_record_forbids_nothing() -> None:
    assert same_work.obstacles(({}, "inline"), (record(), "inline")) == []


def test_versions_and_blocks_may_differ() -> None:
    other = record()
    other["environment"]["python"] = "3.13.0"
    other["plan"]["blocks"] = 99
    assert same_work.obstacles((record(), "inline"), (other, "inline")) == []


@pytest.mark.parametrize(
    "key", ["fresh", "ping_per_s", "probes", "timeout_s", "settle_s", "open_settle_s", "warmup_per_client"]
)
def test_another_way_of_measuring_is_remarked_and_forbids_nothing(key: str) -> None:
    one, other = record(), record()
    one["plan"][key], other["plan"][key] = 1, 2
    assert same_work.obstacles((one, "inline"), (other, "inline")) == []
    assert same_work.remarks(one, other) == [f"{key}: 1 and 2"]


def test_other_cpus_for_client_and_server_forbid_the_comparison() -> None:
    one, other = record(), record()
    one["plan"]["pin"], other["plan"]["pin"] = False, True
    assert same_work.obstacles((one, "inline"), (other, "inline")) == ["pin: False and True"]


@pytest.mark.parametrize("key", ["transport", "requests", "duration_s", "method"])
def test_two_runs_of_execbench_load_need_the_same_load(key: str) -> None:
    one, other = ({"plan": None, "load": {key: value, "timeout_s": value}} for value in ("a", "b"))
    assert same_work.obstacles((one, "server"), (other, "server")) == [f"{key}: a and b"]
    assert same_work.remarks(one, other) == ["timeout_s: a and b"]


def test_replays_of_another_file_under_the_same_name_are_not_compared() -> None:
    def replayed(load: str, **digests: str) -> tuple[dict[str, Any], str]:
        return record() | {"schedules": {load: digests}}, "inline"

    one, longer = replayed("replay(a)", b1="x", b2="x"), replayed("replay(a)", b1="x", b3="x")
    assert same_work.obstacles(one, longer) == []
    assert same_work.obstacles(one, replayed("replay(a)", b1="y")) == ["replay(a): its file was another one"]
    seeds = replayed("poisson(5)", b1="x"), replayed("poisson(5)", b1="y")
    assert same_work.obstacles(*seeds) == []


def test_rules_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Rules().level = 0.5  # type: ignore[misc]
