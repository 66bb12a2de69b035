"""When a run is settled: every claim, or every comparison, has a verdict that its intervals can bear."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import made_reports
import made_up
import pytest
from article_world import FALSE, TRUE_WORLD
from compared import about
from made_up import Point

from harness.analysis import looks
from harness.results import store
from harness.verdicts import admissible, settled

pytestmark = pytest.mark.quick

TWO: made_up.World = {("inline", 4): about(10.0, seed=1), ("thread", 4): about(20.0, seed=2)}


def run(world: made_up.World, *, blocks: int = 8, until: str = "settled", **plan: Any) -> store.Run:
    """Return a run that has come to its look at `blocks` blocks."""
    found = made_reports.closed(world, blocks=blocks, until=until, blocks_=24, **plan)
    found.record["plan"] |= {"blocks": 24}
    declared = settled.planned(found.record["plan"])
    assert declared is not None
    found.record["looks"] = declared.declared()
    found.record["state"] = "running"
    return found


def test_a_run_of_all_blocks_has_no_looks() -> None:
    two = [{"name": "inline"}, {"name": "thread"}]
    assert settled.planned({"until": "blocks", "precision": None, "blocks": 24, "arms": two}) is None
    assert settled.planned({"until": "settled", "precision": None, "blocks": 24, "arms": two}) is not None


def test_a_run_without_a_verdict_to_wait_for_has_no_looks() -> None:
    alone = {"until": "settled", "blocks": 24, "arms": [{"name": "thread"}]}
    assert settled.planned(alone) is None
    assert settled.planned({**alone, "twin": True}) is None


def test_the_levels_of_the_claims_are_fixed_before_the_run() -> None:
    planned = settled.planned({"until": "settled", "claims": "article", "blocks": 24, "arms": []})
    assert planned is not None
    assert planned.blocks == (8, 12, 16, 20, 24)
    assert [round(level, 4) for level in planned.levels] == [
        0.95,
        0.9,
        0.9833,
        0.9944,
    ]  # 3 and 9 combinations


def test_two_arms_that_clearly_differ_are_settled() -> None:
    assert settled.look(run(TWO)) == (8, [])


def test_two_arms_whose_difference_is_as_large_as_the_noise_are_not() -> None:
    noisy = {("inline", 4): about(10.0, spread=0.1, seed=1), ("thread", 4): about(10.3, spread=0.1, seed=2)}
    assert settled.look(run(noisy)) == (8, ["thread at c = 4"])


def test_a_difference_of_uncertain_size_is_not_settled() -> None:
    """As many of these verdicts as chance gives would end the run on a lucky stretch."""
    small = {("inline", 4): about(10.0, spread=0.03, seed=1), ("thread", 4): about(11.0, spread=0.03, seed=2)}
    found = run(small, blocks=16)
    found.record["looks"]["looked"] = [{"blocks": 8, "open": ["a"]}, {"blocks": 12, "open": ["a"]}]
    stopped = admissible.admit(found).comparisons()
    assert stopped["verdict"].iloc[0] == "slower, size uncertain"
    assert settled.look(found)[1] == ["thread at c = 4"]


def test_between_two_looks_nothing_is_judged() -> None:
    assert settled.look(run(TWO, blocks=9)) == (9, [])


def test_only_blocks_that_count_are_counted() -> None:
    found = run(TWO, blocks=9, exclude={"foreign_cpu": 0.5})
    found.trials.loc[found.trials["block"] == 3, "foreign_cpu"] = 1.0
    assert settled.look(found) == (8, [])


def test_a_ratio_that_drifts_is_settled_later() -> None:
    def growing(*steps: int) -> Callable[[int], Point]:
        return lambda block: Point(model_ms=11.2 * 1.03 ** steps[block - 1], io_ms=0.0, outside_ms=0.0)

    inline = Point(model_ms=10.0, io_ms=0.0, outside_ms=0.0)
    steady: made_up.World = {("inline", 4): inline, ("thread", 4): growing(5, 1, 8, 3, 6, 2, 7, 4)}
    drifting: made_up.World = {("inline", 4): inline, ("thread", 4): growing(1, 2, 3, 4, 5, 6, 7, 8)}
    assert settled.look(run(steady)) == (8, [])
    assert settled.look(run(drifting)) == (8, ["thread at c = 4"])


def test_a_run_with_claims_waits_for_every_claim() -> None:
    clear = {**TRUE_WORLD, ("thread", 8): dataclasses.replace(TRUE_WORLD["thread", 8], model_ms=40.0)}
    varying = {place: varied(point, str(place)) for place, point in clear.items()}
    assert settled.look(run(varying, claims="article", blocks=8))[1] == []
    arm_and_load, change = FALSE["C5"]
    on_the_bound = dataclasses.replace(
        TRUE_WORLD[arm_and_load], **change
    )  # near 1.25 times the latency of thread
    assert (
        "C5" in settled.look(run({**varying, arm_and_load: spread_around(on_the_bound)}, claims="article"))[1]
    )


def varied(point: Point, seed: str) -> Callable[[int], Point]:
    luck = random.Random(seed)
    factors = [luck.gauss(1.0, 0.005) for _ in range(100)]
    return lambda block: dataclasses.replace(point, model_ms=point.model_ms * factors[block])


def spread_around(point: Point) -> Callable[[int], Point]:
    return lambda block: dataclasses.replace(point, model_ms=point.model_ms * (1.0 + 0.4 * (-1) ** block))


def test_a_precision_waits_for_every_interval() -> None:
    assert settled.look(run(TWO, until="blocks", precision=0.5)) == (8, [])
    assert settled.look(run(TWO, until="blocks", precision=0.001)) == (8, ["thread at c = 4"])


def test_a_run_that_has_stopped_is_reported_with_the_levels_of_its_look() -> None:
    found = run(TWO)
    found.record["looks"]["looked"] = [{"blocks": 8, "open": []}]
    found.record["state"] = "finished"
    at_8 = looks.recorded(found.record)
    assert at_8 is not None
    assert at_8.level(0.95) > 0.99
