"""The first line of a report: which arm to take, or why none, and the count of the claims' verdicts."""

from __future__ import annotations

from typing import Any

import made_up
import pytest
from made_reports import WORLD, closed, open_trial, opened
from made_up import Point

from harness.report import export, report


def finding(world: made_up.World, **said: Any) -> str:
    return report.build(closed(world, **said)).finding


def test_it_is_the_choice_at_the_highest_load_with_its_ratio() -> None:
    said = finding(WORLD)
    assert said == (
        "At c = 8, take thread: it keeps the event loop free, which inline blocks (its I/O takes 40.0 ms "
        "instead of 5.0), with 0.65 times [0.65, 0.65] the requests/s of inline (111 against 170)."
    )


def test_first_line_ranking_advice_and_json_state_one_choice_with_one_ratio() -> None:
    built = report.build(closed(WORLD, ranking=True))
    ratio = "0.65 times [0.65, 0.65]"
    data = export.as_json(built)
    assert built.advised.take == data["advised"]["take"] == "thread"
    assert all(ratio in one for one in (built.finding, built.advised.lines[0], built.conclusion))
    assert data["advised"]["ratio"] == pytest.approx(0.653, abs=0.001)
    assert built.conclusion.startswith("thread answers")


def test_it_stays_with_the_reference_that_leaves_the_loop_free() -> None:
    assert finding(WORLD, reference="thread") == (
        "At c = 8, stay with thread: it keeps the event loop free, which the faster inline blocks (its I/O "
        "takes 40.0 ms instead of 5.0), with 0.65 times [0.65, 0.65] the requests/s of inline (111 against "
        "170)."
    )


def test_a_faster_arm_is_stated_by_its_ratio_first_where_no_loop_is_blocked() -> None:
    world = {("thread", 8): Point(queue_ms=60.0), ("batch", 8): Point(queue_ms=24.0)}
    assert finding(world) == (
        "At c = 8, take batch: 2.00 times [2.00, 2.00] the requests/s of thread (222 against 111) and a "
        "median latency of 36 ms instead of 72."
    )


def test_an_open_loop_is_decided_by_latency_so_the_ratio_is_that_of_latencies() -> None:
    trials = [
        open_trial(number, arm=arm, service_ms=service_ms)
        for arm, first, service_ms in (("thread", 1, 16.0), ("batch", 9, 8.0))
        for number in range(first, first + 8)
    ]
    run = opened(*trials, reference="thread")
    in_blocks = [frame.assign(block=(frame["block"] - 1) % 8 + 1) for frame in (run.requests, run.trials)]
    built = report.build(run._replace(rows=in_blocks[0], trials=in_blocks[1]))
    assert built.finding == (
        "At poisson(50), take batch: 0.50 times [0.50, 0.50] the median latency of thread "
        "(8.0 against 16 ms)."
    )


def test_where_no_arm_differs_that_comes_first() -> None:
    world = {("thread", 8): Point(queue_ms=60.0), ("process", 8): Point(queue_ms=60.1)}
    assert finding(world) == (
        "No arm is faster at c = 8, so stay with thread: 111 requests/s and a median latency of 72 ms; "
        "process is equivalent within 3 %."
    )


def test_where_the_blocks_cannot_tell_the_first_line_says_that_none_is_shown_to_be_faster() -> None:
    noise = [1.0, 1.3, 0.8, 1.2, 0.7, 1.1, 0.9, 1.25]
    world = {
        ("thread", 8): lambda block: Point(queue_ms=60.0 * noise[block - 1]),
        ("process", 8): lambda block: Point(queue_ms=60.0 * noise[-block]),
    }
    assert finding(world).startswith("No arm is shown to be faster at c = 8, so stay with thread: 1")


def test_the_reference_that_is_the_fastest_is_compared_with_the_next_best() -> None:
    world = {("thread", 8): Point(queue_ms=24.0), ("process", 8): Point(queue_ms=60.0)}
    assert finding(world) == (
        "At c = 8, stay with thread: 222 requests/s and a median latency of 36 ms; no arm is better; the "
        "next best, process, has 0.50 times [0.50, 0.50] the requests/s of thread."
    )


def test_an_arm_whose_trials_failed_is_not_taken_for_its_first_good_minutes() -> None:
    died = {**WORLD, ("inline", 8): lambda block: Point(io_ms=6.0, state="ok" if block == 1 else "failed")}
    assert finding(died).startswith("At c = 8, take thread")


@pytest.mark.parametrize("io_ms", [0.0, 0.01, 0.9])
def test_an_io_that_takes_next_to_no_time_alone_is_not_judged(io_ms: float) -> None:
    world = {place: Point(io_ms=io_ms) for place in WORLD} | {("inline", 8): Point(io_ms=3.1)}
    world[("thread", 8)] = Point(queue_ms=60.0, io_ms=io_ms)
    said = finding(world)
    assert said.startswith("At c = 8, stay with inline")
    assert "its I/O" not in said


def test_the_twin_and_arms_that_do_other_work_are_not_taken() -> None:
    world = {**WORLD, ("inline-twin", 8): Point(io_ms=39.0), ("scaled", 8): Point(io_ms=1.0)}
    run = closed(world, reference="inline", twin=True)
    run.record["plan"]["arms"][-1]["io_per_model"] = 0.8
    assert report.build(run).finding.startswith("At c = 8, take thread")


def test_without_another_arm_there_is_nothing_to_compare_it_with() -> None:
    assert finding({("inline", 8): Point()}).endswith("requests/s.")


@pytest.mark.parametrize("world", [{}, {("inline", 8): Point(requests=2, failed=16)}])
def test_without_good_answers_there_is_nothing_to_find(world: made_up.World) -> None:
    assert finding(world) == "No trial got good answers, so there are no figures."


def test_it_counts_the_verdicts_on_the_claims_and_the_claims_have_their_rows() -> None:
    built = report.build(closed(WORLD, claims="article"))
    assert "Of the article's 8 claims: " in built.finding
    rows = export.claim_rows(built)
    assert list(rows.columns) == export.CLAIM_COLUMNS
    assert set(rows["kind"]) == {"claim", "check", "table", "law"}
