"""The finding: one sentence, and never one that the rows do not bear out."""

import made_up
import pytest
from made_up import Point

from harness import analysis, report

WORLD: made_up.World = {
    ("inline", 1): Point(io_ms=5.0),
    ("inline", 8): Point(io_ms=40.0),
    ("thread", 8): Point(queue_ms=60.0, io_ms=5.0),
}


def finding(world: made_up.World) -> str:
    requests, trials = made_up.run(world, blocks=3)
    return report.find(analysis.summarise(analysis.derive(requests, trials), trials))


def test_it_names_the_quickest_under_the_highest_load_and_how_far_behind_the_slowest_is() -> None:
    said = finding(WORLD)
    assert said.startswith("At c = 8, inline answers in 47.0 ms (median)")
    assert "the slowest, thread, takes 1.53 times as long" in said
    assert said.endswith("(provisional, no interval).")


def test_it_says_what_being_quickest_costs_where_the_loop_stalls() -> None:
    assert "but its I/O takes 40.0 ms instead of 5.0" in finding(WORLD)


def test_an_arm_whose_trials_failed_does_not_win_by_its_first_good_minutes() -> None:
    died = {**WORLD, ("inline", 8): lambda block: Point(io_ms=40.0, state="ok" if block == 1 else "failed")}
    assert finding(died).startswith("At c = 8, thread answers")


@pytest.mark.parametrize("world", [{}, {("inline", 8): Point(requests=2, failed=16)}])
def test_without_good_answers_there_is_nothing_to_find(world: made_up.World) -> None:
    assert finding(world) == "No trial got good answers, so there is nothing to compare."
