"""Objectives under one load: kept, missed, and how certain that is. How the arms of a round stand."""

from __future__ import annotations

import math

import made_up
import pytest
from made_reports import closed
from made_up import Point

from harness.analysis import slo, summaries
from harness.results import store
from harness.verdicts import admissible, objectives, standing
from harness.verdicts.objectives import Judged

USERS = 8


def judged(world: made_up.World, text: str, blocks: int = 12) -> Judged:
    run = closed(world, blocks=blocks)
    (one,) = objectives.judge(summaries.derive(run.requests, run.trials), slo.parse([text]), 30.0)
    return one


def test_an_arm_below_the_limit_keeps_it_and_one_beyond_misses_it() -> None:
    every_second_is_slow = {("thread", USERS): lambda block: Point(model_ms=90.0 if block % 2 else 30.0)}
    assert judged(every_second_is_slow, "p95 < 120 ms").verdict == "keeps"
    missed = judged(every_second_is_slow, "p95 < 60 ms")
    assert missed.verdict == "misses"
    assert missed.score == pytest.approx(0.5)
    assert missed.low < 0.5 < missed.high
    assert missed.share_of_target == pytest.approx(10.0)
    assert str(missed) == "misses p95 latency < 60 ms (50 % above 60 ms)"


def test_a_verdict_is_not_certain_if_the_interval_includes_the_limit_or_requests_are_few() -> None:
    one_slow_block = {("thread", USERS): lambda block: Point(model_ms=90.0 if block == 5 else 30.0)}
    assert judged(one_slow_block, "p90 < 60 ms").verdict == "keeps, not certain"
    few = judged({("thread", USERS): Point()}, "p99 < 100 ms", blocks=4)
    assert few.requests == 4 * 4 * USERS
    assert few.verdict == "keeps, not certain"


def test_failures_count_against_percentiles_and_errors() -> None:
    failing = {("thread", USERS): Point(failed=8)}
    assert judged(failing, "p95 < 1 s").score == pytest.approx(0.25)
    assert judged(failing, "errors < 1 %").verdict == "misses"


def rounds_of(world: made_up.World) -> store.Run:
    run = closed(world, blocks=6, timeout_s=30.0)
    run.record["halving"] = {"objectives": [], "minutes": 1.0, "rounds": [], "searched": None}
    return run


def test_arms_that_keep_the_objectives_stand_first_then_the_nearest_and_last_one_that_lost_a_trial() -> None:
    lost = lambda block: Point(model_ms=1.0, state="failed" if block == 2 else "ok")  # noqa: E731
    world: made_up.World = {
        ("far", USERS): Point(model_ms=900.0),
        ("lost", USERS): lost,
        ("slow", USERS): Point(model_ms=40.0),
        ("near", USERS): lambda block: Point(model_ms=900.0 if block == 1 else 2.0),
        ("fast", USERS): Point(model_ms=20.0),
    }
    found = standing.of(
        admissible.of_rounds(rounds_of(world)), [arm for arm, _ in world], slo.parse(["p95 < 100 ms"])
    )
    assert [one.arm for one in found] == ["fast", "slow", "near", "far", "lost"]
    assert [one.misses for one in found[:4]] == [False, False, True, True]
    assert math.isnan(found[-1].throughput_per_s)
