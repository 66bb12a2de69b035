"""Open loads in a report: latency from when a request was due, saturation, and a client that is late."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import made_up
import pandas as pd
import pytest
from made_reports import WORLD, closed, open_trial, opened, run_of

from harness.analysis import saturation, summaries
from harness.report import report
from harness.verdicts import admissible
from harness.wire.records import COOLDOWN, Sample, Trial


def test_an_open_load_has_latency_service_and_lag_side_by_side() -> None:
    built = report.build(opened(*(open_trial(number) for number in range(1, 11))))
    row = built.summary.iloc[0]
    assert (row["load"], row["rate_per_s"], row["saturated"]) == ("poisson(50)", 50.0, False)
    assert math.isnan(row["concurrency"])
    assert (row["latency_p50_ms"], row["service_p50_ms"]) == pytest.approx((10.0, 9.5))
    assert row["dispatch_lag_p99_ms"] == pytest.approx(0.5)
    assert built.finding.startswith("At poisson(50), thread answers in 10.0 ms")
    assert built.warnings == []


def test_a_rate_that_is_not_held_is_called_saturated_with_its_figures() -> None:
    built = report.build(opened(open_trial(1, service_ms=25.0), open_trial(2, service_ms=25.0)))
    assert built.summary["saturated"].all()
    assert built.warnings == [
        "poisson(50) on thread: only 40.0 of 50 requests/s were answered, "
        "so the arm is saturated and latency grows with the length of the window."
    ]


def test_a_backlog_is_not_the_arms_where_the_load_generator_is_the_limit() -> None:
    """An overrun trial of 2.5 s, for more than half of which the load generator computed."""
    built = report.build(opened(open_trial(1, service_ms=25.0, client_cpu_ms=2000.0, capped=7)))
    assert not built.summary["saturated"].any()
    assert built.summary["client_limited"].all()
    (warning,) = built.warnings
    assert warning.startswith(
        "Limited by the client: thread at poisson(50), because the load generator kept 80 % of its core busy."
    )


def test_only_the_trials_that_were_overrun_are_counted_as_such() -> None:
    cells = report.build(opened(open_trial(1), open_trial(2, service_ms=25.0)))
    assert (
        "40.0 of 50 requests/s were answered in 1 of 2 trials, so the arm is saturated" in cells.warnings[0]
    )


def test_a_long_wait_that_does_not_grow_is_not_saturation() -> None:
    trial, samples = open_trial(1)
    waiting = [dataclasses.replace(one, done_ms=one.done_ms + 300.0) for one in samples]
    assert not report.build(opened((trial, waiting))).summary["saturated"].any()


def test_requests_that_the_cap_held_back_are_reported() -> None:
    built = report.build(opened(open_trial(1, capped=7, in_flight_max=32)))
    assert built.warnings == [
        "poisson(50) on thread: 7 requests were sent late because the cap of 32 requests in flight was "
        "reached."
    ]
    assert built.summary["saturated"].all()


def refused(one: Sample) -> Sample:
    return dataclasses.replace(one, status=503, error="status 503")


def silent(one: Sample) -> Sample:
    return dataclasses.replace(one, status=None, error="timeout after 0.1 s")


def test_a_refusal_counts_as_an_answer_and_a_missing_answer_does_not() -> None:
    def saturated(change: Any) -> bool:
        trial, samples = open_trial(1)
        half = [change(one) if one.seq % 2 else one for one in samples]
        return bool(report.build(opened((trial, half))).summary["saturated"].any())

    assert not saturated(refused)
    assert saturated(silent)


def test_a_request_due_as_the_window_ends_is_not_of_it() -> None:
    trial, samples = open_trial(1)
    cells = saturation._counts(report.build(opened((trial, samples))).requests)
    assert list(cells["due"]) == [75]
    late = [dataclasses.replace(one, phase=COOLDOWN) if one.due_ms >= 1980 else one for one in samples]
    assert list(saturation._counts(report.build(opened((trial, late))).requests)["due"]) == [74]


def test_a_window_without_length_has_no_rate_and_does_not_crash() -> None:
    trial, samples = open_trial(1, window_start_ms=500.0, window_end_ms=500.0)
    warmups = [dataclasses.replace(one, phase="warmup") for one in samples]
    cells = saturation.per_cell(*_derived(trial, warmups))
    assert math.isnan(cells["answered_per_s"].iloc[0])
    assert not cells["saturated"].any()


def _derived(trial: Trial, samples: list[Sample]) -> tuple[pd.DataFrame, pd.DataFrame]:
    run = opened((trial, samples))
    return summaries.derive(run.requests, run.trials), run.trials


def in_block(block: int, trial: Trial, samples: list[Sample]) -> tuple[Trial, list[Sample]]:
    its = [dataclasses.replace(one, block=block) for one in samples]
    return dataclasses.replace(trial, block=block), its


def test_a_comparison_under_a_load_that_saturates_one_side_is_marked() -> None:
    trials = [
        in_block(block, *open_trial(2 * block + (arm == "inline"), arm=arm, service_ms=service_ms))
        for block in range(1, 9)
        for arm, service_ms in (("inline", 10.0), ("thread", 25.0))
    ]
    rows = report.build(opened(*trials, arms=["inline", "thread"])).comparisons
    reasons = dict(zip(rows["metric"] + " " + rows["stat"], rows["reason"], strict=True))
    grows = "thread is saturated, so the ratio grows with the window's length"
    assert reasons["latency_ms median"].endswith(grows)
    assert reasons["throughput_per_s rate"].endswith("thread is saturated")
    latency = rows[rows["primary"].astype(bool)].iloc[0]
    assert latency["sentence"].endswith(f"slower; {grows}.")


def test_a_comparison_under_a_load_that_both_sides_sustain_is_not_marked() -> None:
    rows = report.build(closed(WORLD)).comparisons
    assert not rows["sentence"].str.contains("saturated").any()


def test_of_many_saturated_loads_three_are_named_and_the_others_counted() -> None:
    trials = [open_trial(number, load=f"poisson({number})", service_ms=25.0) for number in range(1, 7)]
    built = report.build(opened(*trials))
    assert len(built.warnings) == 4
    assert built.warnings[-1] == "3 more arms are saturated under an open loop; the table marks them with *."


def test_a_closed_loop_is_never_saturated() -> None:
    run = closed(WORLD)
    built = report.build(run)
    assert saturation.per_cell(built.requests, run.trials).empty
    assert not built.summary["saturated"].any()


def test_closed_and_open_loads_live_in_one_run_and_the_finding_is_of_the_closed_one() -> None:
    requests, trials = made_up.run(WORLD, blocks=8)
    more = opened(*(open_trial(100 + number) for number in range(1, 9)))
    mixed = run_of(
        pd.concat([requests, more.requests], ignore_index=True),
        pd.concat([trials, more.trials.assign(block=more.trials["trial"] - 100)], ignore_index=True),
    )
    mixed.requests.loc[mixed.requests["block"] > 100, "block"] -= 100
    built = report.build(mixed)
    assert built.finding.startswith("At c = 8, take thread")
    assert set(built.summary["load"]) == {"closed(1)", "closed(8)", "poisson(50)"}


def test_a_run_whose_trials_are_all_invalid_is_not_said_to_have_no_good_answers() -> None:
    built = report.build(opened(open_trial(1, state="invalid", error="the client sent half of them late")))
    assert built.finding == "No trial counts, so there are no figures."
    assert built.advised.lines[0].startswith("No advice: no trial counts. ")


def late_and_capped(capped: int) -> admissible.Evidence:
    """Every request of an open load is sent 100 ms after it was due."""
    trials = [open_trial(number) for number in (1, 2)]
    late = [
        (
            dataclasses.replace(trial, capped=capped),
            [
                dataclasses.replace(one, sent_ms=one.due_ms + 100, done_ms=one.done_ms + 100)
                for one in samples
            ],
        )
        for trial, samples in trials
    ]
    return admissible.admit(opened(*late))


def test_a_client_that_waited_for_its_cap_is_not_blamed_for_being_late() -> None:
    assert list(late_and_capped(0).invalid)
    assert late_and_capped(5).invalid == {}


def test_the_warmup_and_what_came_after_the_window_count_in_what_was_answered() -> None:
    """The load goes on after the window: what was due in it and came later is backlog, not loss."""
    trial, samples = open_trial(1)
    phases = [dataclasses.replace(one, phase=COOLDOWN) if one.due_ms > 1900 else one for one in samples]
    cells = saturation.per_cell(
        report.build(opened((trial, phases))).requests, opened((trial, phases)).trials
    )
    assert cells["answered_per_s"].iloc[0] == pytest.approx(50.0, abs=1)
