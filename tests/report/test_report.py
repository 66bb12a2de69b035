"""The report: one finding that the rows bear out, what does not count, and warnings that mean something."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import made_up
import pandas as pd
import pytest
from made_up import Point
from rich.console import Console

from harness.analysis import saturation, summaries
from harness.commands import tables
from harness.errors import UsageError
from harness.report import report
from harness.results import store
from harness.verdicts import admissible, claims
from harness.wire.records import COOLDOWN, MEASURE, PING, Sample, Trial

WORLD: made_up.World = {
    ("inline", 1): Point(io_ms=5.0),
    ("inline", 8): Point(io_ms=40.0),
    ("thread", 8): Point(queue_ms=60.0, io_ms=5.0),
}
ARM: dict[str, Any] = {"io_per_model": None}


def plan(*arms: str, **said: Any) -> dict[str, Any]:
    return {"arms": [{"name": arm, **ARM} for arm in arms], **said}


def run_of(
    requests: pd.DataFrame, trials: pd.DataFrame, *, folder: Path = Path("run"), **said: Any
) -> store.Run:
    """As the store gives it: numbers are numbers, also where a column is empty."""
    numbers = ["concurrency", "rate_per_s", "steal_share", "foreign_cpu", "server_cpu_ms"]
    trials = trials.assign(**{name: pd.to_numeric(trials[name]) for name in numbers})
    arms = said.pop("arms", list(trials["arm"].unique()))
    return store.Run(folder, {"plan": plan(*arms, **said), "state": "finished"}, requests, trials, [])


def closed(world: made_up.World, *, blocks: int = 8, **said: Any) -> store.Run:
    return run_of(*made_up.run(world, blocks=blocks), **said)


def finding(world: made_up.World, **said: Any) -> str:
    return report.build(closed(world, **said)).finding


# -- the finding


def test_it_is_the_choice_at_the_highest_load_with_its_ratio() -> None:
    said = finding(WORLD)
    assert said == (
        "At c = 8, take thread: 111 requests/s and a median of 72 ms, 0.65 times [0.65, 0.65] the requests/s "
        "of inline, which holds the event loop (its I/O takes 40.0 ms instead of 5.0)."
    )


def test_first_line_ranking_advice_and_json_state_one_choice_with_one_ratio() -> None:
    built = report.build(closed(WORLD, ranking=True))
    ratio = "0.65 times [0.65, 0.65]"
    data = report.as_json(built)
    assert built.said.take == data["advised"]["take"] == "thread"
    assert all(ratio in one for one in (built.finding, built.said.lines[0], built.conclusion))
    assert data["advised"]["ratio"] == pytest.approx(0.653, abs=0.001)
    assert built.conclusion.startswith("thread answers")


def test_it_stays_with_the_reference_that_leaves_the_loop_free() -> None:
    assert finding(WORLD, reference="thread").startswith("At c = 8, stay with thread: 111 requests/s")


def test_an_arm_whose_trials_failed_is_not_taken_for_its_first_good_minutes() -> None:
    died = {**WORLD, ("inline", 8): lambda block: Point(io_ms=6.0, state="ok" if block == 1 else "failed")}
    assert finding(died).startswith("At c = 8, take thread")


@pytest.mark.parametrize("io_ms", [0.0, 0.01, 0.9])
def test_nothing_is_said_of_an_io_that_takes_next_to_no_time_alone(io_ms: float) -> None:
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
    assert finding(world) == "No trial got good answers, so there is nothing to compare."


def test_it_tells_how_the_claims_came_out_and_the_claims_have_their_rows() -> None:
    built = report.build(closed(WORLD, claims="article"))
    assert "of the article's 8 claims, " in built.finding
    rows = built.claim_rows()
    assert list(rows.columns) == report.CLAIM_ROWS
    assert set(rows["kind"]) == {"claim", "check", "table", "law"}


# -- what does not count


def test_pings_are_in_no_figure_of_the_load() -> None:
    requests, trials = made_up.run(WORLD, blocks=8)
    pings = requests.assign(phase=PING, done_ms=requests["sent_ms"] + 1000.0, error="")
    both = pd.concat([requests, pings], ignore_index=True)
    without, within = (report.build(run_of(rows, trials)) for rows in (requests, both))
    pd.testing.assert_frame_equal(without.summary, within.summary)
    pd.testing.assert_frame_equal(without.comparisons, within.comparisons)
    assert PING not in set(within.derived["phase"])
    assert within.costs["ping_p50_ms"].notna().all()
    assert without.costs["ping_p50_ms"].isna().all()


def spoilt(world: made_up.World, blocks: set[int], **said: Any) -> store.Run:
    run = closed(world, exclude={"steal_share": 0.05}, **said)
    return run._replace(trials=run.trials.assign(steal_share=run.trials["block"].isin(blocks) * 0.2))


def test_an_excluded_block_is_in_no_figure_and_said_with_its_reason() -> None:
    slow = {**WORLD, ("thread", 8): lambda block: Point(queue_ms=600.0 if block == 3 else 60.0)}
    built = report.build(spoilt(slow, {3}))
    assert list(built.excluded) == [3]
    assert set(built.summary["blocks"]) == set(built.comparisons["blocks"]) == {7}
    assert built.summary["latency_p95_ms"].max() < 100
    assert "1 of 8 blocks are left out by the plan's criteria (block 3: steal_share 0.2" in built.warnings[0]
    assert "1 of 8 blocks excluded (3)" in built.machine


def test_where_every_block_is_spoilt_figures_are_shown_and_every_verdict_withheld() -> None:
    built = report.build(spoilt(WORLD, set(range(1, 9)), claims="article"))
    assert built.verdicts is not None
    assert built.finding.startswith("At c = 8, inline answers in 47.0 ms")
    assert set(built.comparisons["verdict"]) == {"noisy session"}
    assert set(built.verdicts["verdict"]) == {claims.WITHHELD}
    assert built.warnings[0].startswith("Every block breaks the plan's criteria, so no verdict is given")


def test_a_twin_that_differs_withholds_the_claims_too_and_is_the_first_warning() -> None:
    world = {**WORLD, ("inline-twin", 8): Point(io_ms=50.0)}
    built = report.build(closed(world, reference="inline", twin=True, claims="article"))
    assert built.verdicts is not None
    assert set(built.verdicts["verdict"]) == {claims.WITHHELD}
    assert built.warnings[0].startswith("The session is noisy")
    assert "The twin of inline differs by at most 21.3 %" in built.machine
    assert "8 withheld" in built.finding


def test_a_client_that_was_late_makes_an_arm_and_load_invalid_in_comparisons_and_claims() -> None:
    requests, trials = made_up.run(WORLD, blocks=8)
    late = (requests["arm"] == "thread") & (requests["load"] == "closed(8)")
    requests.loc[late, "due_ms"] -= 30.0
    built = report.build(run_of(requests, trials, claims="article"))
    assert built.evaluated is not None
    assert set(built.comparisons["verdict"]) == {"invalid"}
    notes = built.evaluated.loc[built.evaluated["claim"] == "C3b", "note"]
    assert notes.str.startswith("thread c = 8 is invalid: the client sent").any()
    assert [said for said in built.warnings if said.startswith("Invalid: thread at closed(8), as the client")]


# -- another reference


def test_a_run_is_shown_against_another_arm_without_its_twin() -> None:
    world = {**WORLD, ("inline-twin", 8): Point(io_ms=40.0), ("process", 8): Point(queue_ms=65.0)}
    run = closed(world, reference="inline", twin=True)
    built = report.build(run, "process")
    assert set(built.comparisons["reference"]) == {"process"}
    assert set(built.comparisons["arm"]) == {"inline", "thread"}
    assert built.said.reference == "process"
    assert run.record["plan"]["reference"] == "inline"
    pd.testing.assert_frame_equal(
        report.build(run, "inline").comparisons, report.build(run).comparisons, check_like=True
    )


def test_a_session_whose_twin_differs_is_noisy_against_any_reference() -> None:
    world = {**WORLD, ("inline-twin", 8): Point(io_ms=50.0)}
    built = report.build(closed(world, reference="inline", twin=True), "thread")
    assert set(built.comparisons["verdict"]) == {"noisy session"}


def test_the_blocks_that_do_not_count_are_the_same_against_any_reference() -> None:
    """Also where it was the twin's trial that spoilt one."""
    world = {**WORLD, ("inline-twin", 8): Point(io_ms=40.0)}
    run = closed(world, reference="inline", twin=True, exclude={"foreign_cpu": 0.3})
    noisy = (run.trials["arm"] == "inline-twin") & (run.trials["block"] == 3)
    run = run._replace(trials=run.trials.assign(foreign_cpu=noisy * 9.0))
    assert list(report.build(run).excluded) == list(report.build(run, "thread").excluded) == [3]


@pytest.mark.parametrize("name", ["nobody", "inline-twin"])
def test_a_reference_that_is_no_arm_is_refused_with_those_there_are(name: str) -> None:
    world = {**WORLD, ("inline-twin", 8): Point(io_ms=40.0)}
    with pytest.raises(UsageError, match=f"no trial of an arm '{name}'") as refused:
        report.build(closed(world, reference="inline", twin=True), name)
    assert refused.value.hint == "It has: inline, thread."


# -- open loads


def open_trial(
    number: int, *, arm: str = "thread", load: str = "poisson(50)", service_ms: float = 10.0, **fields: Any
) -> tuple[Trial, list[Sample]]:
    """50 requests/s for two seconds, half a second of it to warm up; one at a time, so a slow arm queues."""
    samples, free_ms = [], 0.0
    for seq in range(100):
        due_ms = 20.0 * seq
        done_ms = free_ms = max(due_ms, free_ms) + service_ms
        phase = "warmup" if due_ms < 500 else MEASURE
        row = {"arm": arm, "load": load, "block": number, "trial": number, "seq": seq, "phase": phase}
        samples.append(made_up.sample(**row, due_ms=due_ms, sent_ms=due_ms + 0.5, done_ms=done_ms))
    rate = {"concurrency": None, "rate_per_s": 50.0, "window_start_ms": 500.0, "window_end_ms": 2000.0}
    about = {"arm": arm, "load": load, "trial": number, "block": number, **rate, **fields}
    return made_up.trial(**about, requests=100, measured=75), samples


def opened(*trials: tuple[Trial, list[Sample]], **said: Any) -> store.Run:
    samples = [sample for _, its in trials for sample in its]
    frames = made_up.requests_frame(samples), made_up.trials_frame([trial for trial, _ in trials])
    return run_of(*frames, **said)


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
        "poisson(50) on thread: only 40.0 of 50 requests/s were answered: "
        "saturated, latencies grow with the window's length."
    ]


def test_only_the_trials_that_were_overrun_are_counted_as_such() -> None:
    cells = report.build(opened(open_trial(1), open_trial(2, service_ms=25.0)))
    assert "40.0 of 50 requests/s were answered in 1 of 2 trials: saturated" in cells.warnings[0]


def test_a_long_wait_that_does_not_grow_is_no_saturation() -> None:
    trial, samples = open_trial(1)
    waiting = [dataclasses.replace(one, done_ms=one.done_ms + 300.0) for one in samples]
    assert not report.build(opened((trial, waiting))).summary["saturated"].any()


def test_requests_that_the_cap_held_back_are_said() -> None:
    built = report.build(opened(open_trial(1, capped=7, in_flight_max=32)))
    assert built.warnings == [
        "poisson(50) on thread: 7 requests were sent late because 32 were in flight (cap)."
    ]
    assert built.summary["saturated"].all()


def refused(one: Sample) -> Sample:
    return dataclasses.replace(one, status=503, error="status 503")


def silent(one: Sample) -> Sample:
    return dataclasses.replace(one, status=None, error="timeout after 0.1 s")


def test_a_refusal_is_an_answer_and_silence_is_none() -> None:
    def saturated(change: Any) -> bool:
        trial, samples = open_trial(1)
        half = [change(one) if one.seq % 2 else one for one in samples]
        return bool(report.build(opened((trial, half))).summary["saturated"].any())

    assert not saturated(refused)
    assert saturated(silent)


def test_a_request_due_as_the_window_ends_is_not_of_it() -> None:
    trial, samples = open_trial(1)
    cells = saturation._counts(report.build(opened((trial, samples))).derived)
    assert list(cells["due"]) == [75]
    late = [dataclasses.replace(one, phase=COOLDOWN) if one.due_ms >= 1980 else one for one in samples]
    assert list(saturation._counts(report.build(opened((trial, late))).derived)["due"]) == [74]


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


def test_a_comparison_under_a_load_that_one_side_could_not_take_says_so() -> None:
    trials = [
        in_block(block, *open_trial(2 * block + (arm == "inline"), arm=arm, service_ms=service_ms))
        for block in range(1, 9)
        for arm, service_ms in (("inline", 10.0), ("thread", 25.0))
    ]
    rows = report.build(opened(*trials, arms=["inline", "thread"])).comparisons
    told = dict(zip(rows["metric"] + " " + rows["stat"], rows["reason"], strict=True))
    grows = "thread saturated: the ratio grows with the window's length"
    assert told["latency_ms median"].endswith(grows)
    assert told["throughput_per_s rate"].endswith("thread saturated")
    latency = rows[rows["primary"].astype(bool)].iloc[0]
    assert latency["sentence"].endswith(f"slower; {grows}.")


def test_a_comparison_under_a_load_that_both_could_take_says_nothing_of_it() -> None:
    rows = report.build(closed(WORLD)).comparisons
    assert not rows["sentence"].str.contains("saturated").any()


def test_many_saturated_loads_are_counted_and_not_all_told() -> None:
    trials = [open_trial(number, load=f"poisson({number})", service_ms=25.0) for number in range(1, 7)]
    built = report.build(opened(*trials))
    assert len(built.warnings) == 4
    assert built.warnings[-1] == "3 more arms and open loads are saturated, marked * in the table."


def test_a_closed_loop_is_never_saturated() -> None:
    run = closed(WORLD)
    built = report.build(run)
    assert saturation.per_cell(built.derived, run.trials).empty
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


def test_a_block_that_a_kill_interrupted_does_not_count() -> None:
    run = closed(WORLD)
    stops = [{"at": "", "after_trial": 7, "in_block": 3}, {"at": "", "after_trial": 12, "in_block": None}]
    run.record["resumed"] = [*stops, {"at": "", "after_trial": 0, "in_block": 0}]
    built = report.build(run)
    why = "was under way when the run was killed, and completed after a pause"
    assert built.excluded == {3: why}
    assert 3 not in set(built.derived["block"])
    assert f"1 of 8 blocks are left out as interrupted or by the plan's criteria (block 3: {why})." in (
        built.warnings
    )


# -- warnings and files


def test_drifting_ratios_are_summed_up_in_one_sentence() -> None:
    drifting = {**WORLD, ("thread", 8): lambda block: Point(queue_ms=60.0 + 10 * block)}
    warned = report.build(closed(drifting, blocks=12)).warnings
    assert len(warned) == 1
    assert re.fullmatch(
        r"In 1 of 1 comparisons of latency, .* too narrow: thread at closed\(8\)\.", warned[0]
    )


def test_a_run_that_stopped_early_says_after_which_block_and_why() -> None:
    run = closed(WORLD, precision=0.03)
    assert report.build(run).notes == ()
    run.record["stopped_at_block"] = 8
    built = report.build(run)
    assert built.notes == ("Stopped after block 8: every interval was within ±3 %.",)
    assert report.as_json(built)["notes"] == list(built.notes)


@pytest.mark.integration  # takes long
@pytest.mark.parametrize(
    ("p50", "p99", "late"), [(0.9, 7.9, False), (1.1, 2.0, True), (0.2, 8.1, True), (None, None, False)]
)
def test_a_load_generator_that_was_late_before_the_run_is_warned_of(
    p50: float | None, p99: float | None, late: bool
) -> None:
    run = closed(WORLD)
    check = {"requests_per_s": 900.0, "dispatch_lag_p50_ms": p50, "dispatch_lag_p99_ms": p99}
    for told in (check, [{**check, "dispatch_lag_p50_ms": 0.1, "dispatch_lag_p99_ms": 1.0}, check]):
        run.record["self_check"] = told
        said = [one for one in report.build(run).warnings if one.startswith("The load generator sent late")]
        assert len(said) == late


def test_a_twin_that_could_not_tell_is_a_warning() -> None:
    world = {**WORLD, ("inline-twin", 8): Point(io_ms=40.0)}
    few, enough = (
        report.build(closed(world, blocks=blocks, reference="inline", twin=True)).warnings
        for blocks in (5, 8)
    )
    assert any(said.startswith("The twin could not tell: ") for said in few)
    assert not any(said.startswith("The twin could not tell: ") for said in enough)


def test_failed_and_invalid_trials_are_told_apart() -> None:
    world = {
        **WORLD,
        ("thread", 8): lambda block: Point(queue_ms=60.0, state="ok" if block > 2 else "failed"),
        ("inline", 1): lambda block: Point(state="ok" if block > 1 else "invalid"),
    }
    warned = "\n".join(report.build(closed(world)).warnings)
    assert "2 of 8 trials of thread failed: the server died" in warned
    assert "1 of 16 trials of inline are invalid: " in warned


def test_a_run_without_a_plan_has_a_report() -> None:
    run = closed({("external", 8): Point()})
    built = report.build(run._replace(record={"plan": None}))
    assert built.comparisons.empty
    assert built.finding.startswith("At c = 8, external answers")


@pytest.mark.integration  # takes long
def test_writing_leaves_every_table_and_the_forest(tmp_path: Path) -> None:
    built = report.build(closed(WORLD, folder=tmp_path, claims="article"))
    report.write(built)
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    tables = {"summary.csv", "comparisons.csv", "costs.csv", "claims.csv"}
    assert written >= tables | {"charts/claims.png", "charts/claims.svg", "charts/published.png"}
    assert len(pd.read_csv(tmp_path / "comparisons.csv")) == len(built.comparisons)


def test_the_report_as_json_is_json() -> None:
    built = report.build(closed(WORLD, claims="article"))
    told = json.loads(json.dumps(report.as_json(built), allow_nan=False))
    assert told["finding"] == built.finding
    assert told["machine"] == built.machine
    assert [len(told[name]) for name in ("summary", "comparisons", "costs")] == [
        len(built.summary),
        len(built.comparisons),
        len(built.costs),
    ]
    assert told["summary"][0]["latency_p99_ms"] is None  # too few requests for it
    assert told["comparisons"][0]["verdict"] == "slower"
    assert {row["kind"] for row in told["claims"]} == {"claim", "check", "table", "law"}


def test_the_warmup_and_what_came_after_the_window_count_in_what_was_answered() -> None:
    """The load goes on after the window: what was due in it and came later is backlog, not loss."""
    trial, samples = open_trial(1)
    phases = [dataclasses.replace(one, phase=COOLDOWN) if one.due_ms > 1900 else one for one in samples]
    cells = saturation.per_cell(report.build(opened((trial, phases))).derived, opened((trial, phases)).trials)
    assert cells["answered_per_s"].iloc[0] == pytest.approx(50.0, abs=1)


# -- the awaited I/O told apart


def test_the_wait_is_told_apart_where_the_other_side_says_what_it_took_itself() -> None:
    requests, trials = made_up.run(WORLD, blocks=8)
    untold = report.build(run_of(requests, trials))
    assert not [name for name in untold.summary if "server" in name or "stall" in name]
    assert "told apart" not in rendered(untold)
    told = report.build(run_of(requests.assign(io_server_ms=0.9), trials))
    row = told.summary.set_index(["arm", "load"]).loc[("inline", "closed(8)")]
    assert (row["io_p50_ms"], row["io_server_p50_ms"]) == (40.0, 0.9)
    assert row["io_stall_p50_ms"] == pytest.approx(39.1)
    assert report.as_json(told)["summary"][1]["io_server_p50_ms"] == 0.9
    shown = rendered(told)
    assert re.search(r"told apart.*c = 8 +40\.0 +40\.0 +0\.9 +0\.9 +39\.1 +39\.1", shown, re.S)


def rendered(told: report.Report) -> str:
    """What the terminal shows of the summaries and of the I/O."""
    terminal = Console(width=80, file=io.StringIO())
    for part in tables.told_apart(told.summary):
        terminal.print(part)
    assert isinstance(terminal.file, io.StringIO)
    return terminal.file.getvalue()


def test_a_model_of_ones_own_after_which_nothing_is_awaited_is_noted() -> None:
    run = closed(WORLD)
    about = {"model": "my_workload.py", "own_io": False}
    options = {"workload": {"io": "sleep", "io_ms": 0.0}}
    run.record["arms"] = {arm: {"about": about, "options": options} for arm in ("inline", "thread")}
    note = "No I/O is awaited after the model: my_workload.py has none"
    assert any(said.startswith(note) for said in report.build(run).notes)
    asked = {"options": {"workload": {"io": "sleep", "io_ms": 5.0}}}
    own_io = {"about": {"own_io": True}}
    for other in (asked, own_io, {"about": {"model": "synthetic"}}):
        run.record["arms"]["thread"] = {"about": about, "options": options} | other
        assert report.build(run).notes == ()


def test_what_a_plan_notes_and_a_database_that_died_are_told() -> None:
    run = closed(WORLD, notes=["Left out: scaled."])
    run.record["downstream"] = {
        "requests": 3,
        "first": "HTTP 502",
        "died": ["The service pgvector has ended."],
    }
    built = report.build(run)
    assert built.notes == ("Left out: scaled.",)
    assert "The service pgvector has ended." in built.warnings
