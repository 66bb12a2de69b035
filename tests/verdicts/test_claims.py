from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import made_up
import numpy as np
import pandas as pd
import pytest
import scipy.stats
from article_world import ARTICLE, EVERY_BLOCK, FALSE, TRUE_WORLD, checks, false_in
from made_up import Place, Point

from harness.analysis import stats, summaries
from harness.verdicts import claims, claims_file

# where a claim has several deciding checks: the place and difference that falsify just this one
FALSE_CHECKS: list[tuple[str, int, Place, dict[str, float]]] = [
    ("C1", 0, ("inline", 1), {"outside_ms": 9.0}),
    ("C1", 1, ("inline", 1), {"io_ms": 8.0}),
    ("C2", 0, ("inline", 8), {"model_ms": 9.0}),
    ("C2", 1, ("inline", 8), {"io_ms": 10.0}),
    ("C2", 2, ("inline-scaled-io", 8), {"io_ms": 30.0}),
]

# claim → an arm and load without which it cannot be judged
NEEDED: dict[str, Place] = {
    "C1": ("inline", 1),
    "C2": ("inline-scaled-io", 8),
    "C3a": ("thread", 1),
    "C3b": ("process", 8),
    "C4a": ("process", 1),
    "C4b": ("inline", 1),
    "C5": ("default_pool", 8),
    "C6": ("default_pool", 4),
}


def verdicts(world: made_up.World, *, blocks: int = 10) -> dict[str, Any]:
    table = claims.verdicts(checks(world, blocks=blocks))
    return dict(zip(table["claim"], table["verdict"], strict=True))


def verdict(claim: str, world: made_up.World, *, blocks: int = 10) -> str:
    (found,) = claims.verdicts(checks(world, blocks=blocks, only=claim))["verdict"]
    return str(found)


def without(world: made_up.World, place: Place) -> made_up.World:
    return {key: point for key, point in world.items() if key != place}


def row(table: pd.DataFrame, claim: str, check: int = 0) -> Mapping[Any, Any]:
    return table[table["claim"] == claim].to_dict("records")[check]


# -- every claim can come out either way


def test_every_claim_of_the_article_is_there() -> None:
    assert [claim.id for claim in ARTICLE.claims] == list(FALSE) == list(NEEDED)
    assert [table.id for table in ARTICLE.tables] == ["T1", "T2", "T3", "T4"]


def test_every_claim_is_confirmed_where_the_article_is_right() -> None:
    assert verdicts(TRUE_WORLD) == dict.fromkeys(FALSE, claims.CONFIRMED)


@pytest.mark.parametrize("claim", FALSE)
def test_a_claim_is_refuted_where_it_is_false(claim: str) -> None:
    assert verdict(claim, false_in(claim, EVERY_BLOCK)) == claims.REFUTED


@pytest.mark.parametrize(("claim", "number", "place", "difference"), FALSE_CHECKS)
def test_each_deciding_check_can_refute_its_claim_alone(
    claim: str, number: int, place: Place, difference: dict[str, Any]
) -> None:
    world = {**TRUE_WORLD, place: dataclasses.replace(TRUE_WORLD[place], **difference)}
    table = checks(world, only=claim)
    deciding = table[table["decides"]]["verdict"].to_list()
    expected = [claims.REFUTED if at == number else claims.CONFIRMED for at in range(len(deciding))]
    assert deciding == expected


def test_every_deciding_check_of_a_claim_with_several_is_flipped() -> None:
    several = {
        (claim.id, number)
        for claim in ARTICLE.claims
        for number, _ in enumerate(check for check in claim.checks if check.decides)
        if sum(check.decides for check in claim.checks) > 1
    }
    assert several == {(claim, number) for claim, number, _, _ in FALSE_CHECKS}


@pytest.mark.parametrize("claim", FALSE)
def test_a_claim_is_inconclusive_where_blocks_disagree(claim: str) -> None:
    assert verdict(claim, false_in(claim, {1, 3, 5})) == claims.INCONCLUSIVE


@pytest.mark.parametrize("claim", FALSE)
def test_one_odd_block_of_ten_never_refutes(claim: str) -> None:
    assert verdict(claim, false_in(claim, {2})) in {claims.CONFIRMED, claims.INCONCLUSIVE}


@pytest.mark.parametrize("claim", sorted(FALSE.keys() - {"C3b"}))  # its true ratio is 2 % from its bound
def test_one_odd_block_of_forty_changes_no_verdict(claim: str) -> None:
    assert verdict(claim, false_in(claim, {2}), blocks=40) == claims.CONFIRMED


@pytest.mark.parametrize("claim", NEEDED)
def test_a_claim_is_not_tested_where_an_arm_or_load_is_missing(claim: str) -> None:
    place = NEEDED[claim]
    table = claims.verdicts(checks(without(TRUE_WORLD, place), only=claim)).set_index("claim")
    assert table.loc[claim, "verdict"] == claims.NOT_TESTED
    assert f"{place[0]} c = {place[1]} was not run" in str(table.loc[claim, "note"])


# -- how a check is read


def test_fewer_than_six_blocks_decide_nothing_and_say_so() -> None:
    table = claims.verdicts(checks(TRUE_WORLD, blocks=5))
    assert set(table["verdict"]) == {claims.INCONCLUSIVE}
    assert set(table["note"]) == {"5 blocks, at least 6 are needed"}
    assert set(verdicts(TRUE_WORLD, blocks=6).values()) == {claims.CONFIRMED}


def test_a_refuted_check_settles_a_claim_even_when_another_is_not_tested() -> None:
    world = without(false_in("C2", EVERY_BLOCK), NEEDED["C2"])
    assert verdicts(world)["C2"] == claims.REFUTED


def thread_over_process(*ratios: float, decides: bool = True) -> Mapping[Any, Any]:
    """The deciding check of C3b (at least 4) where the model's ratio is this in each block."""
    world: made_up.World = {
        **TRUE_WORLD,
        ("thread", 8): lambda block: Point(queue_ms=180.0, model_ms=6.4 * ratios[block - 1]),
    }
    return row(checks(world, blocks=len(ratios)), "C3b", 0 if decides else 2)


def test_a_check_shows_the_ratio_over_blocks_with_its_interval() -> None:
    found = thread_over_process(4, 5, 6, 7, 8, 9)
    logs = np.log([4, 5, 6, 7, 8, 9])
    low, high = scipy.stats.t.interval(0.95, 5, logs.mean(), scipy.stats.sem(logs))
    shown = found["measured"], found["low"], found["high"]
    assert shown == pytest.approx(tuple(np.exp([logs.mean(), low, high])), rel=1e-3)
    assert (found["level"], found["blocks"], found["bounds"]) == (0.95, 6, "≥ 4")
    assert (found["at_least"], found["published"]) == (4.0, 4.0)
    assert math.isnan(found["at_most"])
    assert found["combination"] == "thread c = 8 / process c = 8"


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ((5.0, 5.2, 4.9, 5.1, 5.0, 5.1), claims.CONFIRMED),
        ((5.0, 3.2, 6.9, 4.1, 5.0, 3.1), claims.INCONCLUSIVE),  # the ratio holds, its interval does not
        ((3.0, 4.2, 2.9, 4.1, 4.0, 3.1), claims.INCONCLUSIVE),
        ((3.0, 3.2, 2.9, 3.1, 3.0, 3.1), claims.REFUTED),
    ],
)
def test_an_interval_inside_the_bounds_confirms_outside_refutes_and_across_leaves_open(
    ratios: tuple[float, ...], verdict: str
) -> None:
    assert thread_over_process(*ratios)["verdict"] == verdict


def test_an_interval_wider_than_its_bounds_on_both_sides_is_inconclusive() -> None:
    """C1's I/O must be from 0.9 to 1.3 times the configured one."""
    wild: made_up.World = {**TRUE_WORLD, ("inline", 1): lambda block: Point(io_ms=2.0 if block % 2 else 12.0)}
    found = row(checks(wild), "C1", 1)
    assert found["low"] < 0.9 < 1.3 < found["high"]
    assert found["verdict"] == claims.INCONCLUSIVE


@pytest.mark.integration  # takes long
def test_an_inconclusive_check_gives_the_reason() -> None:
    few = (5.0, 3.2, 6.9, 4.1, 5.0, 3.1)
    assert thread_over_process(*few)["note"] == "the interval contains the bound"
    assert thread_over_process(*few * 20)["verdict"] == claims.CONFIRMED
    assert thread_over_process(*few[:5])["note"] == "5 blocks, at least 6 are needed"


def test_a_ratio_that_drifts_gets_a_note() -> None:
    assert thread_over_process(*np.linspace(5, 9, 12))["note"] == claims.DRIFTS


def test_a_tail_is_of_the_pooled_blocks_and_its_interval_of_resampled_ones() -> None:
    world: made_up.World = {**TRUE_WORLD, ("inline-scaled-io", 8): lambda block: Point(io_ms=40.0 + block)}
    found = row(checks(world), "C2", 2)
    pooled = np.repeat(np.arange(41.0, 51.0), 32)
    assert found["measured"] == pytest.approx(np.percentile(pooled, 95) / 5)
    assert found["low"] < found["measured"] <= found["high"] == pytest.approx(50 / 5)


def test_a_tail_over_the_same_percentile_is_that_of_the_statistics() -> None:
    rng = np.random.default_rng(3)
    arm, reference = ([rng.lognormal(size=40) for _ in range(8)] for _ in range(2))
    ours, theirs = stats.percentiles_ratio((arm, 95), (reference, 95)), stats.tail_effect(arm, reference, 95)
    assert dataclasses.asdict(ours) == pytest.approx(dataclasses.asdict(theirs))


def test_a_tail_of_too_few_requests_is_not_tested() -> None:
    world = {**TRUE_WORLD, ("inline-scaled-io", 8): Point(io_ms=47.0, requests=1)}
    found = row(checks(world, blocks=7), "C2", 2)
    assert found["verdict"] == claims.NOT_TESTED
    assert found["note"] == "inline-scaled-io c = 8: p95 needs 64 requests, the run has 56"


def test_failures_that_make_a_figure_infinite_take_its_interval_away() -> None:
    world = {**TRUE_WORLD, ("default_pool", 8): Point(model_ms=300.0, failed=20)}
    found = row(checks(world), "C5")
    assert (found["measured"], found["verdict"]) == (math.inf, claims.INCONCLUSIVE)
    assert found["note"] == "no interval, because a figure is zero, or infinite because of failures"


# -- several combinations


def process_over_alternatives(*blocks: float) -> Mapping[Any, Any]:
    """C6, given the ratios of the process pool's latency at c = 8 to inline's, one per block."""
    inline = TRUE_WORLD["inline", 8]
    assert isinstance(inline, Point)
    latency = inline.model_ms + inline.io_ms + inline.outside_ms
    world: made_up.World = {
        **TRUE_WORLD,
        ("process", 8): lambda block: Point(queue_ms=blocks[block - 1] * latency - 12.0),
    }
    return row(checks(world, blocks=len(blocks)), "C6")


def test_one_of_nine_that_is_just_significant_alone_refutes_nothing() -> None:
    """Nine looks at nothing give one by chance: it takes a level of 1 - 0.05 / 9."""
    ratios = (1.02, 1.12, 1.00, 1.11, 1.01, 1.14, 1.00, 1.02)
    alone = stats.effect(np.log(ratios))
    assert alone.low > 1
    found = process_over_alternatives(*ratios)
    assert (found["verdict"], found["level"]) == (claims.INCONCLUSIVE, pytest.approx(1 - 0.05 / 9))
    assert found["low"] < 1 < found["measured"]
    assert found["combination"] == "process c = 8 / inline c = 8"


def test_confirming_every_one_of_nine_needs_no_correction() -> None:
    found = process_over_alternatives(0.98, 0.90, 0.99, 0.90, 0.98, 0.89, 0.99, 0.98)
    assert (found["verdict"], found["level"]) == (claims.CONFIRMED, 0.95)
    assert found["combination"] == "process c = 8 / inline c = 8"


def test_a_missing_alternative_leaves_always_untested_but_can_not_save_it() -> None:
    world = without(TRUE_WORLD, ("default_pool", 4))
    assert verdicts(world)["C6"] == claims.NOT_TESTED
    assert verdicts(without(false_in("C6", EVERY_BLOCK), ("default_pool", 4)))["C6"] == claims.REFUTED


# -- what does not count


def evaluated(world: made_up.World, **how: Any) -> pd.DataFrame:
    requests, trials = made_up.run(world, blocks=10)
    return claims.evaluate(ARTICLE, summaries.derive(requests, trials), trials, **how)


def test_a_noisy_session_withholds_every_verdict_and_keeps_the_figures() -> None:
    quiet, noisy = evaluated(TRUE_WORLD), evaluated(TRUE_WORLD, noisy="the twin differs by 12 %")
    assert set(claims.verdicts(noisy)["verdict"]) == {claims.WITHHELD}
    assert set(claims.verdicts(noisy)["note"]) == {"the twin differs by 12 %"}
    pd.testing.assert_frame_equal(noisy[["measured", "low", "high"]], quiet[["measured", "low", "high"]])


def test_an_excluded_block_does_not_count() -> None:
    world = false_in("C3a", {2, 7})
    assert row(evaluated(world), "C3a")["verdict"] == claims.INCONCLUSIVE
    found = row(evaluated(world, excluded={2: "steal", 7: "steal"}), "C3a")
    assert (found["verdict"], found["blocks"]) == (claims.CONFIRMED, 8)


def test_a_check_that_needs_an_invalid_cell_is_not_tested_and_gives_the_reason() -> None:
    table = evaluated(TRUE_WORLD, invalid={("thread", "closed(8)"): "sent 30 ms late"})
    found = row(table, "C3b")
    assert (found["verdict"], found["note"]) == (
        claims.NOT_TESTED,
        "thread c = 8 is invalid: sent 30 ms late",
    )
    assert row(table, "C4a")["verdict"] == claims.CONFIRMED


# -- how a check is reported


def test_a_check_for_context_does_not_decide_the_claim() -> None:
    table = checks(TRUE_WORLD)
    assert row(table, "C4b", 1)["verdict"] == claims.REFUTED
    assert not row(table, "C4b", 1)["decides"]
    assert verdicts(TRUE_WORLD)["C4b"] == claims.CONFIRMED


def test_always_is_refuted_by_one_alternative_at_one_load_and_names_it() -> None:
    found = row(checks(false_in("C6", EVERY_BLOCK)), "C6")
    assert (found["verdict"], found["combination"]) == (claims.REFUTED, "process c = 4 / inline c = 4")


def test_always_is_not_refuted_by_another_alternative_winning_in_each_block() -> None:
    """Three alternatives, each ahead in three blocks of ten: none of them beats the process pool."""

    def ahead_in(place: Place, blocks: set[int]) -> dict[Place, Any]:
        point = TRUE_WORLD[place]
        quick = dataclasses.replace(point, queue_ms=0.0, model_ms=6.0, io_ms=5.0, outside_ms=1.0)
        return {place: lambda block: quick if block in blocks else point}

    world = {
        **TRUE_WORLD,
        **ahead_in(("inline", 8), {1, 2, 3}),
        **ahead_in(("thread", 8), {4, 5, 6}),
        **ahead_in(("default_pool", 8), {7, 8, 9}),
    }
    assert row(checks(world), "C6")["verdict"] == claims.INCONCLUSIVE


def test_only_blocks_that_have_both_sides_count() -> None:
    lost = dataclasses.replace(TRUE_WORLD["thread", 8], state="failed")
    won = TRUE_WORLD["thread", 8]
    world: made_up.World = {**TRUE_WORLD, ("thread", 8): lambda block: lost if block < 3 else won}
    assert row(checks(world), "C3b")["blocks"] == 8


def test_an_arm_that_failed_gets_another_note_than_one_that_was_not_run() -> None:
    lost = dataclasses.replace(TRUE_WORLD["thread", 8], state="failed")
    found = row(checks({**TRUE_WORLD, ("thread", 8): lost}), "C3b")
    assert (found["verdict"], found["note"]) == (claims.NOT_TESTED, "thread c = 8 gave no model_ms")


def test_a_load_of_another_law_is_not_judged() -> None:
    requests, trials = made_up.run(TRUE_WORLD)
    requests["load"], trials["load"] = "poisson(8)", "poisson(8)"
    table = claims.evaluate(ARTICLE, summaries.derive(requests, trials), trials)
    assert set(table["verdict"]) == {claims.NOT_TESTED}


def test_evaluating_gives_the_columns_it_promises() -> None:
    table = checks(TRUE_WORLD)
    assert list(table.columns) == claims.CHECK_COLUMNS
    assert list(claims.verdicts(table).columns) == claims.VERDICT_COLUMNS
    assert len(table) == sum(len(claim.checks) for claim in ARTICLE.claims)


def test_the_nearest_check_is_the_one_whose_interval_comes_nearest_to_its_bound() -> None:
    def check(name: str, verdict: str, low: float, high: float, **more: Any) -> dict[str, Any]:
        row: dict[str, Any] = dict.fromkeys(claims.CHECK_COLUMNS, math.nan)
        row |= {
            "claim": "C1",
            "check": name,
            "verdict": verdict,
            "decides": True,
            "measured": (low * high) ** 0.5,
        }
        return row | {"low": low, "high": high} | more

    rows = [
        check("far", "confirmed", 2.0, 2.2, at_least=1.0),
        check("near", "confirmed", 0.8, 0.95, at_most=1.0),
        check("context", "confirmed", 1.0, 1.01, at_least=1.0, decides=False),
        check("passed", "confirmed", 1.2, 1.3, at_least=1.0, claim="C2"),
        check("failed", "refuted", 0.4, 0.5, at_least=1.0, claim="C2"),
        check("unknown", "not tested", math.nan, math.nan, at_least=1.0, claim="C3"),
    ]
    nearest = claims.nearest(pd.DataFrame(rows))
    assert dict(zip(nearest["claim"], nearest["check"], strict=True)) == {
        "C1": "near",
        "C2": "failed",
        "C3": "unknown",
    }


def test_every_claim_of_the_article_has_a_short_text_for_a_line_of_a_table() -> None:
    assert all(0 < len(claim.short) < len(claim.text) for claim in claims_file.load("article").claims)
