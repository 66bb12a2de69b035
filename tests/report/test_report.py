"""The report: one finding that the rows bear out, what does not count, and warnings that mean something."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import made_up
import pandas as pd
import pytest
from made_reports import WORLD, closed, run_of
from made_up import Point
from rich.console import Console, RenderableType

from harness.commands import tables
from harness.errors import UsageError
from harness.report import export, report
from harness.results import store
from harness.verdicts import claims
from harness.wire.records import PING

# -- what does not count


def test_pings_are_in_no_figure_of_the_load() -> None:
    requests, trials = made_up.run(WORLD, blocks=8)
    pings = requests.assign(phase=PING, done_ms=requests["sent_ms"] + 1000.0, error="")
    both = pd.concat([requests, pings], ignore_index=True)
    without, within = (report.build(run_of(rows, trials)) for rows in (requests, both))
    pd.testing.assert_frame_equal(without.summary, within.summary)
    pd.testing.assert_frame_equal(without.comparisons, within.comparisons)
    assert PING not in set(within.requests["phase"])
    assert within.costs["ping_p50_ms"].notna().all()
    assert without.costs["ping_p50_ms"].isna().all()


def spoilt(world: made_up.World, blocks: set[int], **said: Any) -> store.Run:
    run = closed(world, exclude={"steal_share": 0.05}, **said)
    return run._replace(trials=run.trials.assign(steal_share=run.trials["block"].isin(blocks) * 0.2))


def test_an_excluded_block_is_in_no_figure_and_its_reason_is_given() -> None:
    slow = {**WORLD, ("thread", 8): lambda block: Point(queue_ms=600.0 if block == 3 else 60.0)}
    built = report.build(spoilt(slow, {3}))
    assert list(built.excluded) == [3]
    assert set(built.summary["blocks"]) == set(built.comparisons["blocks"]) == {7}
    assert built.summary["latency_p95_ms"].max() < 100
    assert (
        "1 of 8 blocks are left out because they break the plan's criteria (block 3: steal_share 0.2"
        in built.warnings[0]
    )
    assert "1 of 8 blocks excluded (3)" in built.machine


def test_if_every_block_is_spoilt_figures_are_shown_and_every_verdict_is_withheld() -> None:
    built = report.build(spoilt(WORLD, set(range(1, 9)), claims="article"))
    assert built.finding.startswith("At c = 8, inline answers in 47.0 ms")
    assert set(built.comparisons["verdict"]) == {"noisy session"}
    assert set(built.claims["verdict"]) == {claims.WITHHELD}
    assert built.warnings[0].startswith(
        "No verdict is given, because every block breaks the plan's criteria (block 1"
    )


def test_a_twin_that_differs_withholds_the_claims_too_and_is_the_first_warning() -> None:
    world = {**WORLD, ("inline-twin", 8): Point(io_ms=50.0)}
    built = report.build(closed(world, reference="inline", twin=True, claims="article"))
    assert set(built.claims["verdict"]) == {claims.WITHHELD}
    assert built.warnings[0].startswith("The session is noisy")
    assert "The twin of inline differs by up to 21.3 %" in built.machine
    assert "8 withheld" in built.finding


def test_a_client_that_was_late_makes_an_arm_and_load_invalid_in_comparisons_and_claims() -> None:
    requests, trials = made_up.run(WORLD, blocks=8)
    late = (requests["arm"] == "thread") & (requests["load"] == "closed(8)")
    requests.loc[late, "due_ms"] -= 30.0
    built = report.build(run_of(requests, trials, claims="article"))
    assert set(built.comparisons["verdict"]) == {"invalid"}
    notes = built.checks.loc[built.checks["claim"] == "C3b", "note"]
    assert notes.str.startswith("thread c = 8 is invalid: the load generator sent").any()
    assert [
        said
        for said in built.warnings
        if said.startswith("Invalid: thread at c = 8, because the load generator")
    ]


# -- another reference


def test_a_run_is_shown_against_another_arm_without_its_twin() -> None:
    world = {**WORLD, ("inline-twin", 8): Point(io_ms=40.0), ("process", 8): Point(queue_ms=65.0)}
    run = closed(world, reference="inline", twin=True)
    built = report.build(run, "process")
    assert set(built.comparisons["reference"]) == {"process"}
    assert set(built.comparisons["arm"]) == {"inline", "thread"}
    assert built.advised.reference == "process"
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
def test_an_unknown_reference_is_refused_with_a_list_of_the_arms(name: str) -> None:
    world = {**WORLD, ("inline-twin", 8): Point(io_ms=40.0)}
    with pytest.raises(UsageError, match=f"no trial of arm '{name}'") as refused:
        report.build(closed(world, reference="inline", twin=True), name)
    assert refused.value.hint == "Arms of this run: inline, thread."


def test_a_block_that_a_kill_interrupted_does_not_count() -> None:
    run = closed(WORLD)
    stops = [{"at": "", "after_trial": 7, "in_block": 3}, {"at": "", "after_trial": 12, "in_block": None}]
    run.record["resumed"] = [*stops, {"at": "", "after_trial": 0, "in_block": 0}]
    built = report.build(run)
    why = "was interrupted when the run was killed, and completed after a pause"
    assert built.excluded == {3: why}
    assert 3 not in set(built.requests["block"])
    assert (
        "1 of 8 blocks are left out because they were interrupted or break the plan's criteria "
        f"(block 3: {why})." in built.warnings
    )


# -- warnings and files


def test_drifting_ratios_are_summed_up_in_one_sentence() -> None:
    drifting = {**WORLD, ("thread", 8): lambda block: Point(queue_ms=60.0 + 10 * block)}
    warned = report.build(closed(drifting, blocks=12)).warnings
    assert len(warned) == 1
    assert re.fullmatch(
        r"In 1 of 1 comparisons of latency, consecutive blocks are .* too narrow: thread at c = 8\.",
        warned[0],
    )


def test_a_run_that_stopped_early_reports_the_block_and_the_reason() -> None:
    run = closed(WORLD, precision=0.03)
    assert report.build(run).notes == ()
    run.record["stopped_at_block"] = 8
    built = report.build(run)
    assert built.notes == ("Stopped after block 8: every interval was within ±3 %.",)
    assert export.as_json(built)["notes"] == list(built.notes)


@pytest.mark.integration  # takes long
@pytest.mark.parametrize(
    ("p50", "p99", "late"), [(0.9, 7.9, False), (1.1, 2.0, True), (0.2, 8.1, True), (None, None, False)]
)
def test_a_load_generator_that_was_late_before_the_run_is_warned_of(
    p50: float | None, p99: float | None, late: bool
) -> None:
    run = closed(WORLD)
    check = {"requests_per_s": 900.0, "dispatch_lag_p50_ms": p50, "dispatch_lag_p99_ms": p99}
    for recorded in (check, [{**check, "dispatch_lag_p50_ms": 0.1, "dispatch_lag_p99_ms": 1.0}, check]):
        run.record["self_check"] = recorded
        said = [
            one for one in report.build(run).warnings if one.startswith("In the self-check before the run")
        ]
        assert len(said) == late


def test_a_twin_that_cannot_show_noise_gives_a_warning() -> None:
    world = {**WORLD, ("inline-twin", 8): Point(io_ms=40.0)}
    few, enough = (
        report.build(closed(world, blocks=blocks, reference="inline", twin=True)).warnings
        for blocks in (5, 8)
    )
    assert any(said.startswith("The twin cannot show whether the session was noisy: ") for said in few)
    assert not any(said.startswith("The twin cannot show whether the session was noisy: ") for said in enough)


def test_failed_and_invalid_trials_are_counted_apart() -> None:
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
    export.write(built)
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    tables = {"summary.csv", "comparisons.csv", "costs.csv", "claims.csv"}
    assert written >= tables | {"charts/claims.png", "charts/published.png"}
    assert len(pd.read_csv(tmp_path / "comparisons.csv")) == len(built.comparisons)


def test_the_report_as_json_is_json() -> None:
    built = report.build(closed(WORLD, claims="article"))
    document = json.loads(json.dumps(export.as_json(built), allow_nan=False))
    assert document["finding"] == built.finding
    assert document["machine"] == built.machine
    assert [len(document[name]) for name in ("summary", "comparisons", "costs")] == [
        len(built.summary),
        len(built.comparisons),
        len(built.costs),
    ]
    assert document["summary"][0]["latency_p99_ms"] is None  # too few requests for it
    assert document["comparisons"][0]["verdict"] == "slower"
    assert {row["kind"] for row in document["claims"]} == {"claim", "check", "table", "law"}


# -- the parts of the awaited I/O


def test_the_awaited_io_is_split_if_its_other_side_reports_its_own_time() -> None:
    requests, trials = made_up.run(WORLD, blocks=8)
    without_server_times = report.build(run_of(requests, trials))
    assert not [
        name for name in without_server_times.summary if "server" in str(name) or "stall" in str(name)
    ]
    assert "other side" not in rendered(without_server_times)
    built = report.build(run_of(requests.assign(io_server_ms=0.9), trials))
    row: Any = built.summary.set_index(["arm", "load"]).loc[("inline", "closed(8)")]
    assert (row["io_p50_ms"], row["io_server_p50_ms"]) == (40.0, 0.9)
    assert row["io_stall_p50_ms"] == pytest.approx(39.1)
    assert export.as_json(built)["summary"][1]["io_server_p50_ms"] == 0.9
    shown = rendered(built)
    assert re.search(r"other side.*c = 8 +40\.0 +40\.0 +0\.9 +0\.9 +39\.1 +39\.1", shown, re.S)


@pytest.mark.parametrize(("first_byte_ms", "is_shown"), [(10.0, True), (45.5, False), (None, False)])
def test_the_time_to_the_first_byte_is_shown_if_answers_are_streamed(
    first_byte_ms: float | None, is_shown: bool
) -> None:
    """Users send at 0 ms here; a latency at c = 8 is 47 ms."""
    requests, trials = made_up.run({("inline", 8): Point(io_ms=40.0, requests=10)}, blocks=8)
    built = report.build(
        run_of(requests.assign(first_byte_ms=requests["due_ms"] + (first_byte_ms or math.nan)), trials)
    )
    assert ("time_to_first_byte_p95_ms" in built.summary) == (first_byte_ms is not None)
    shown = rendered(built, tables.streamed)
    if is_shown:
        assert re.search(r"first byte.*c = 8 +10\.0 +10\.0 +47\.0 +47\.0", shown, re.S)
    else:
        assert shown == ""


def test_the_time_to_the_first_byte_is_not_shown_if_most_requests_failed() -> None:
    requests, trials = made_up.run({("inline", 8): Point(requests=10)}, blocks=8)
    failed = requests.assign(first_byte_ms=requests["due_ms"] + 1, error="HTTP 500")
    assert rendered(report.build(run_of(failed, trials)), tables.streamed) == ""


def test_think_time_and_new_connections_are_noted() -> None:
    usual = run_of(*made_up.run(WORLD, blocks=8))
    people = run_of(*made_up.run(WORLD, blocks=8), think="exponential(2)", new_connections=True)
    added = set(report.build(people).notes) - set(report.build(usual).notes)
    assert sorted(note.partition(",")[0] for note in added) == [
        "Each request opens a new connection",
        "Users of closed loops pause before each request (think time",
    ]


def rendered(
    built: report.Report, show: Callable[[pd.DataFrame], Iterable[RenderableType]] = tables.io_parts
) -> str:
    """Return what the terminal shows of the I/O, or of the answers."""
    terminal = Console(width=80, file=io.StringIO())
    for part in show(built.summary):
        terminal.print(part)
    assert isinstance(terminal.file, io.StringIO)
    return terminal.file.getvalue()


def test_a_note_explains_that_a_users_model_awaits_no_io() -> None:
    run = closed(WORLD)
    about = {"model": "my_workload.py", "own_io": False}
    options = {"workload": {"io": "sleep", "io_ms": 0.0}}
    run.record["arms"] = {arm: {"about": about, "options": options} for arm in ("inline", "thread")}
    note = "Requests await no I/O after the model: my_workload.py has no function io"
    assert any(said.startswith(note) for said in report.build(run).notes)
    asked = {"options": {"workload": {"io": "sleep", "io_ms": 5.0}}}
    own_io = {"about": {"own_io": True}}
    for other in (asked, own_io, {"about": {"model": "synthetic"}}):
        run.record["arms"]["thread"] = {"about": about, "options": options} | other
        assert report.build(run).notes == ()


def test_a_plans_notes_and_a_database_that_died_are_reported() -> None:
    run = closed(WORLD, notes=["Left out: scaled."])
    run.record["downstream"] = {
        "requests": 3,
        "first": "HTTP 502",
        "died": ["The service pgvector has ended."],
    }
    built = report.build(run)
    assert built.notes == ("Left out: scaled.",)
    assert "The service pgvector has ended." in built.warnings
