"""`execbench capacity` with real servers: a worker of known time, its rows, its report, and errors."""

from __future__ import annotations

import csv
import json
import math
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import made_up
import pandas as pd
import pytest
import running
from conftest import Execbench, Invoke, wait_for

from harness.analysis import slo
from harness.capacity import arms, breaking, chart, report, windows, words
from harness.capacity.crossing import Window, cross
from harness.commands.capacity import died_of
from harness.errors import HarnessError
from harness.results import store
from harness.run import resume
from harness.verdicts.admissible import Evidence
from harness.wire.arrivals import Law
from harness.wire.records import Cause, Trial

SYNTHETIC = ("--workload", "synthetic", "--service-ms", "12", "--io-ms", "0", "--no-self-check")
SHORT = ("--window", "0.8", "--search-window", "0.6", "--blocks", "2")


@pytest.fixture(scope="module")
def run(shared: Execbench) -> Path:
    """One arm with short windows: too few requests for a precise figure, enough for everything else."""
    words = ("--slo", "mean latency < 100 ms", "--slo", "errors < 50 %", "--strategy", "thread", "--json")
    done = shared("capacity", *words, *SYNTHETIC, *SHORT, "--out", "run")
    assert done.returncode == 0, done.stderr
    (shared.folder / "run.out").write_text(done.stdout)
    return shared.folder / "run"


@pytest.mark.timed
def test_a_worker_of_12_ms_has_about_the_capacity_that_its_service_time_allows(run: Path) -> None:
    (row,) = csv.DictReader((run / "capacity.csv").read_text().splitlines())
    assert 17 < float(row["capacity_per_s"]) < 133  # windows of 1 s are too short for a queue
    assert 42 < float(row["closed_per_s"]) < 85
    assert row["verdict"] == "reference"


@pytest.mark.timed
def test_the_json_is_one_document_with_the_promise_and_the_windows(run: Path) -> None:
    document = json.loads((run.parent / "run.out").read_text())
    assert document["objectives"] == ["mean latency < 100 ms", "errors < 50 %"]
    (arm,) = document["capacity"]
    assert arm["promise_per_s"] is None or arm["promise_per_s"] <= arm["capacity_per_s"]
    assert {window["confirms"] for window in document["windows"]} == {True, False}
    assert arm["arm"] in document["sentences"][0]


@pytest.mark.timed
def test_report_makes_the_same_again_from_the_rows(run: Path, invoke: Invoke) -> None:
    made = {
        name: (run / name).read_bytes()
        for name in ("capacity.csv", "windows.csv", "charts/capacity.png", "report.html")
    }
    for name in made:
        (run / name).unlink()
    done = invoke("report", str(run), "--full")
    assert done.returncode == 0, done.stderr
    assert {name: (run / name).read_bytes() for name in made} == made
    assert "Requests/s under Poisson arrivals" in done.stdout
    assert "thread handles" in done.stdout


@pytest.mark.timed
def test_the_run_records_its_settings_and_its_rows_are_those_of_any_run(run: Path) -> None:
    found = store.read(run)
    settings = found.record["capacity"]
    assert (settings["window_s"], settings["search_s"], settings["blocks"]) == (0.8, 0.6, 2)
    confirming = found.trials[found.trials["block"] > settings["searched"]]
    assert len(confirming) == 2
    assert found.trials.loc[found.trials["block"] > 0, "load"].str.startswith("poisson(").all()
    assert found.record["state"] == "finished"


@pytest.mark.timed  # it waits 30 s at most, which is little compared with timed tests
def test_ctrl_c_keeps_the_windows_and_reports_that_there_is_no_capacity_yet(
    execbench: Execbench, invoke: Invoke
) -> None:
    process = execbench.start(
        "capacity", "--slo", "p50 < 1 s", "--strategy", "thread", *SYNTHETIC, *SHORT[:4], "--out", "run"
    )
    trials = execbench.folder / "run" / "trials.csv"
    wait_for(lambda: trials.exists() and "poisson" in trials.read_text())
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Show them with `execbench report run`." in stderr
    execbench.assert_nothing_is_left()
    done = invoke("report", "run", "--full")
    assert done.returncode == 0, done.stderr
    assert "there is no capacity yet" in " ".join(done.stdout.split())
    with pytest.raises(HarnessError, match="run is a capacity run"):
        resume.reopen(execbench.folder / "run")


@pytest.mark.timed
def test_a_server_that_already_runs_has_a_capacity_too(execbench: Execbench) -> None:
    with running.serving(execbench.folder / "log", workload=running.synthetic(12.0, 0.0)) as child:
        request = (
            "--url",
            f"mine={child.url}/predict",
            "--body",
            '{"text": "{text}"}',
            "--header",
            "X-Tenant: a",
        )
        shortest = ("--window", "0.5", "--search-window", "0.5", "--blocks", "1", "--no-self-check")
        done = execbench("capacity", *request, "--slo", "p50 < 100 ms", *shortest, "--out", "run", "--json")
    assert done.returncode == 0, done.stderr
    (arm,) = json.loads(done.stdout)["capacity"]
    assert (arm["arm"], arm["strategy"]) == ("mine", "url")
    assert 42 < arm["closed_per_s"] < 85
    found = store.read(execbench.folder / "run")
    assert (found.requests["error"] == "").all()
    assert (found.trials["load"].str.startswith("poisson(") & (found.trials["failed"] == 0)).any()
    assert found.record["plan"]["ask"]["headers"] == [["X-Tenant", "a"]]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), 'For example: --slo "p99 < 100 ms"'),
        (("--slo", "quick"), "--slo 'quick' is not a valid objective"),
        (("--slo", "p99 < 1 s", "--strategy", "nothing"), "nothing"),
        (("--slo", "p99 < 1 s", "--strategy", "thread", "--reference", "inline"), "inline"),
        (("--slo", "p99 < 1 s", "--strategy", "thread", "--url", "a=http://127.0.0.1:9/"), "different work"),
    ],
)
def test_bad_options_are_refused_before_anything_starts(
    words: tuple[str, ...], why: str, invoke: Invoke
) -> None:
    done = invoke("capacity", *words)
    assert done.returncode == 2
    assert why in done.stderr


@pytest.mark.integration
def test_a_hopeless_window_is_given_up_and_recognised_by_its_length(tmp_path: Path) -> None:
    """A worker of 50 ms at 100 requests/s: after 0.1 s of the window, ten of its requests are in flight."""
    hopeless = {"arrivals": Law("poisson", 100.0), "duration_s": 20.0, "settle_s": 0.5}
    easy = {"arrivals": Law("poisson", 10.0), "duration_s": 0.5}
    with running.serving(tmp_path / "log", workload=running.synthetic(50.0, 0.0)) as child:
        lost = running.fire(f"{child.url}/", **hopeless, give_up_in_flight=10)
        whole = running.fire(f"{child.url}/", **easy, give_up_in_flight=400)
    measured = running.measured(lost)
    last_sent = max(shot.sent_ms for shot in measured)
    assert len(measured) >= 10  # the forty of the warm-up score nothing, so they are no reason
    assert sum(shot.done_ms >= last_sent for shot in measured) <= 10
    assert all(shot.status == 200 for shot in lost.shots)
    assert max(shot.due_ms for shot in lost.shots) < 10_000
    assert windows.gave_up(lost.window_start_ms, lost.window_end_ms, 20.0)
    assert not windows.gave_up(whole.window_start_ms, whole.window_end_ms, 0.5)


# -- why an objective was missed -----------------------------------------------------------------------

PARTS = {
    "dispatch_lag_ms": 0.1,
    "queue_ms": 1.0,
    "model_ms": 20.0,
    "resume_ms": 1.0,
    "outside_ms": 1.0,
    "io_ms": 5.0,
}


def rows(**longer: Any) -> pd.DataFrame:
    """Four requests, with some parts longer than alone."""
    parts = {name: value + longer.get(name, 0.0) for name, value in PARTS.items()}
    latency = sum(parts.values())
    one = {**parts, **{name: longer[name] for name in ("io_server_ms",) if name in longer}}
    return pd.DataFrame([{**one, "latency_ms": latency, "ok": True, "error": ""}] * 4)


@pytest.mark.parametrize(
    ("longer", "lag_ms", "part"),
    [
        ({"queue_ms": 70.0}, 1.0, breaking.Part.QUEUE),
        ({"model_ms": 70.0, "queue_ms": 30.0}, 1.0, breaking.Part.MODEL),
        ({"outside_ms": 70.0}, 1.0, breaking.Part.LOOP),
        ({"io_ms": 70.0}, 1.0, breaking.Part.IO),
        ({"io_ms": 70.0}, 60.0, breaking.Part.LOOP),
        ({"dispatch_lag_ms": 70.0}, 1.0, breaking.Part.CLIENT),
    ],
)
def test_the_part_that_grew_most_explains_the_failure(
    longer: dict[str, float], lag_ms: float, part: str
) -> None:
    (objective,) = slo.parse(["p99 < 50 ms"])
    found = breaking.explain(rows(**longer), rows(), objective, lag_ms)
    assert found.part == part
    assert f"{part}: 70 of the" in found.words


def test_database_time_loop_stalls_and_waits_for_a_connection_are_distinguished() -> None:
    (objective,) = slo.parse(["p99 < 50 ms"])
    lone = rows(io_server_ms=4.0)
    slow = breaking.explain(rows(io_ms=70.0, io_server_ms=70.0), lone, objective, 60.0)
    stalled = breaking.explain(rows(io_ms=70.0, io_server_ms=4.0), lone, objective, 60.0)
    queued = breaking.explain(rows(io_ms=70.0, io_server_ms=4.0), lone, objective, 1.0)
    unknown = breaking.explain(rows(io_ms=70.0, io_server_ms=4.0), lone, objective, math.nan)
    assert (slow.part, stalled.part) == (breaking.Part.DATABASE, breaking.Part.LOOP)
    assert (queued.part, unknown.part) == (breaking.Part.IO, breaking.Part.IO)
    assert queued.words.startswith("I/O: 66 of the 70 ms")  # one late turn of the loop in each of four


def test_requests_held_back_by_the_cap_count_as_queue_and_not_as_client() -> None:
    (objective,) = slo.parse(["p99 < 50 ms"])
    held = rows(dispatch_lag_ms=70.0, queue_ms=30.0)
    found = breaking.explain(held, rows(), objective, 1.0, capped=True)
    assert found.part == breaking.Part.QUEUE
    assert "100 of the 100 ms" in found.words


def test_a_part_never_grows_by_more_than_the_whole_latency() -> None:
    (objective,) = slo.parse(["p99 < 50 ms"])
    found = breaking.explain(rows(queue_ms=70.0, model_ms=-10.0), rows(), objective, 1.0)
    assert found == (
        breaking.Part.QUEUE,
        "queue: 60 of the 60 ms that late requests took longer than with one user",
    )


def test_a_server_without_timings_is_named_as_a_whole() -> None:
    (objective,) = slo.parse(["p99 < 50 ms"])
    known = {"latency_ms": 29.0, "dispatch_lag_ms": 0.1}
    silent = dict.fromkeys(PARTS, math.nan) | known | {"ok": True, "error": ""}
    found = breaking.explain(
        pd.DataFrame([silent | {"latency_ms": 99.0}]), pd.DataFrame([silent]), objective, 1.0
    )
    assert found.part == breaking.Part.SERVER
    assert "70 of the 70 ms" in found.words


def test_errors_that_missed_the_objective_are_named() -> None:
    (objective,) = slo.parse(["errors < 1 %"])
    bad = rows().assign(ok=[True, False, False, True], error=["", "HTTP 503", "HTTP 503", ""])
    found = breaking.explain(bad, rows(), objective, 1.0)
    assert found.part == "HTTP 503"
    assert "2 of 4 failed" in found.words


# -- knee and chart ------------------------------------------------------------------------------------


def tried(**columns: Any) -> pd.DataFrame:
    rates = [10.0, 20.0, 30.0, 40.0, 45.0]
    means = [21.0, 24.0, 30.0, 60.0, 500.0]
    frame = pd.DataFrame({"rate_per_s": rates, "mean_ms": means, "latency_ms": means})
    frame = frame.assign(requests=100, failed=0, gave_up=False, confirms=True, arm="thread")
    return frame.assign(**columns)


def test_the_knee_has_the_highest_power() -> None:
    assert arms.knee_per_s(tried()) == 30.0
    assert arms.knee_per_s(tried(failed=[0, 0, 60, 0, 0])) == 20.0


def test_a_promise_is_rounded_down() -> None:
    assert [arms.rounded_down(rate) for rate in (37.98, 331.9, 4.567)] == pytest.approx([37.9, 331.0, 4.56])


def promising(**more: Any) -> dict[str, Any]:
    return {"arm": "thread", "promise_per_s": 30.0, "not_judged": ""} | more


def test_a_promise_covers_only_judged_objectives() -> None:
    both = slo.parse(["p99 < 100 ms", "errors < 0.1 %"])
    table = pd.DataFrame([promising(), promising(arm="two", promise_per_s=40.0, not_judged=str(both[1]))])
    assert words.finding(table[:1], both) == (
        "thread can promise 30.0 requests/s with p99 latency < 100 ms and errors < 0.1 %."
    )
    assert words.finding(table, both) == (
        "two can promise 40.0 requests/s with p99 latency < 100 ms "
        "(not judged, too few requests: errors < 0.1 %)."
    )


def test_a_window_fails_only_by_objectives_that_its_arm_is_judged_by() -> None:
    """One failure among a hundred is too many of 0.1 %, but a hundred are too few to say so."""
    both = slo.parse(["mean latency < 100 ms", "errors < 0.1 %"])
    table = pd.DataFrame(
        {
            "arm": "thread",
            "trial": [1, 2, 3],
            "block": [1, 2, 3],
            "rate_per_s": [30.0, 31.0, 32.0],
            "confirms": True,
            "gave_up": False,
            "kept": [True, False, True],
            "requests": 100,
            "failed": [0, 1, 0],
            "score_1": [5e3, 6e3, 9e3],
            "score_2": [0.0, 1.0, 0.0],
            "count_1": 100.0,
            "count_2": 100.0,
        }
    )
    evidence = SimpleNamespace(run=SimpleNamespace(record={"own_per_s": {"thread": 50.0}}))
    arm = arms.judge("thread", cast(Evidence, evidence), table, both)
    assert arm.unjudged == both[1:]
    assert arms._broken(arm, pd.DataFrame(), pd.DataFrame(), cast(Evidence, evidence)) == {}


def test_a_cap_below_the_requests_in_flight_at_the_limit_is_a_warning() -> None:
    """400 requests/s that may take 2 s each are 800 at once (Little)."""
    objectives = slo.parse(["p50 < 2 s"])
    windows = [Window(block, 400.0, True, (500.0,), (1000.0,)) for block in (1, 2)]
    arm = arms.Arm(
        "thread", 500.0, pd.DataFrame(), windows, objectives, (), cross(windows, objectives, 500.0)
    )
    assert "about 800 requests in flight, but the cap is 500: " in " ".join(report._held_back(arm, 500))
    assert not list(report._held_back(arm, 1000))


# -- servers and services that died --------------------------------------------------------------------

ENDED = "The server of arm 'thread' ended (exit code -9, at block 3)."
EMPTY = "no request fell into the measured window"
NONE_GOOD = "none of 20 requests got a good answer (timeout after 30 s)"


def failed(error: str) -> Trial:
    return made_up.trial(trial=2, arm="thread", state="failed", error=error)


def test_a_server_that_ended_is_not_taken_for_an_overload() -> None:
    good = made_up.trial(trial=1, arm="thread")
    ended, hopeless = {2: Cause.SERVER_ENDED}, {2: Cause.NO_GOOD_ANSWER}
    assert died_of([good, failed(ENDED)], ended, {}) == f"1 of 2 trials failed, the first: {ENDED}."
    assert NONE_GOOD in died_of([good, failed(NONE_GOOD)], hopeless, {})


def test_an_empty_window_and_a_hopeless_rate_are_not_failures_of_the_server() -> None:
    good = made_up.trial(trial=1, arm="thread")
    assert died_of([good, failed(EMPTY)], {2: Cause.NOTHING_MEASURED}, {}) == ""
    assert died_of([failed(NONE_GOOD), good], {2: Cause.NO_GOOD_ANSWER}, {}) == ""


@pytest.mark.timed
def test_a_dead_downstream_service_is_reported(run: Path) -> None:
    gone = {
        "downstream": {"requests": 3, "first": "pgvector: gone", "died": ["The service pgvector has ended."]}
    }
    assert died_of([made_up.trial()], {}, gone) == "The service pgvector has ended."
    found = store.read(run)
    found.record.update(gone)
    assert "The service pgvector has ended." in report.build(found).warnings


def test_the_chart_names_every_arm_and_its_capacity() -> None:
    one: dict[str, Any] = {"arm": "thread", "capacity_per_s": 38.2, "low_per_s": 36.0, "high_per_s": 41.0}
    table = pd.DataFrame([{**one, "knee_per_s": 30.0, "bound": ""}])
    figure = chart.draw(tried(), table, slo.parse(["mean latency < 60 ms"]))
    (panel,) = [ax for ax in figure.axes if ax.get_visible()]
    assert panel.get_title(loc="left") == "thread"
    assert panel.get_title(loc="right") == "38.2/s"


def test_a_plain_run_is_not_a_capacity_run() -> None:
    assert not report.is_capacity({"plan": {}})
