"""`execbench capacity` for real: a worker of known time, its rows, its report, and what goes wrong."""

from __future__ import annotations

import csv
import json
import signal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import running
from conftest import Execbench, Here, wait_for

from harness import slo, store
from harness.arrivals import Law
from harness.capacity import arms, breaking, chart, reading, report

SYNTHETIC = ("--workload", "synthetic", "--service-ms", "20", "--io-ms", "0", "--no-self-check")
SHORT = ("--window", "1", "--search-window", "0.6", "--blocks", "2")


@pytest.fixture(scope="module")
def run(shared: Execbench) -> Path:
    """One arm, short windows: far too few for a figure, enough for everything else."""
    words = ("--slo", "mean latency < 100 ms", "--slo", "errors < 50 %", "--strategy", "thread", "--json")
    done = shared("capacity", *words, *SYNTHETIC, *SHORT, "--out", "run")
    assert done.returncode == 0, done.stderr
    (shared.folder / "run.out").write_text(done.stdout)
    return shared.folder / "run"


def test_a_worker_of_20_ms_holds_about_what_it_can_do(run: Path) -> None:
    (row,) = csv.DictReader((run / "capacity.csv").read_text().splitlines())
    assert 10 < float(row["capacity_per_s"]) < 80  # windows of 1 s are too short for a queue
    assert 25 < float(row["closed_per_s"]) < 51
    assert row["verdict"] == "reference"


def test_the_json_is_one_document_with_the_promise_and_the_windows(run: Path) -> None:
    document = json.loads((run.parent / "run.out").read_text())
    assert document["objectives"] == ["mean latency < 100 ms", "errors < 50 %"]
    (arm,) = document["capacity"]
    assert arm["promise_per_s"] is None or arm["promise_per_s"] <= arm["capacity_per_s"]
    assert {window["confirms"] for window in document["windows"]} == {True, False}
    assert arm["arm"] in document["sentences"][0]


def test_report_makes_the_same_again_from_the_rows(run: Path, shared: Execbench) -> None:
    made = {
        name: (run / name).read_bytes() for name in ("capacity.csv", "windows.csv", "charts/capacity.svg")
    }
    for name in made:
        (run / name).unlink()
    done = shared("report", "run")
    assert done.returncode == 0, done.stderr
    assert {name: (run / name).read_bytes() for name in made} == made
    assert "Requests a second, Poisson" in done.stdout
    assert "thread holds" in done.stdout


def test_the_run_says_what_was_asked_and_its_rows_are_those_of_any_run(run: Path) -> None:
    found = store.read(run)
    asked = found.record["capacity"]
    assert (asked["window_s"], asked["search_s"], asked["blocks"]) == (1.0, 0.6, 2)
    confirming = found.trials[found.trials["block"] > asked["searched"]]
    assert len(confirming) == 2
    assert found.trials.loc[found.trials["block"] > 0, "load"].str.startswith("poisson(").all()
    assert found.record["state"] == "finished"


def test_ctrl_c_keeps_the_windows_and_says_that_there_is_no_capacity_yet(execbench: Execbench) -> None:
    process = execbench.start(
        "capacity", "--slo", "p50 < 1 s", "--strategy", "thread", *SYNTHETIC, *SHORT[2:4], "--out", "run"
    )
    trials = execbench.folder / "run" / "trials.csv"
    wait_for(lambda: trials.exists() and "poisson" in trials.read_text())
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "`execbench report run` shows them." in said
    execbench.assert_nothing_is_left()
    done = execbench("report", "run")
    assert done.returncode == 0, done.stderr
    assert "there is no capacity yet" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), 'For example: --slo "p99 < 100 ms"'),
        (("--slo", "quick"), "'quick' is not understood"),
        (("--slo", "p99 < 1 s", "--strategy", "nothing"), "nothing"),
        (("--slo", "p99 < 1 s", "--strategy", "thread", "--reference", "inline"), "inline"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_starts(
    words: tuple[str, ...], why: str, here: Here
) -> None:
    done = here("capacity", *words)
    assert done.returncode == 2
    assert why in done.stderr


def test_a_hopeless_window_is_given_up_and_known_by_its_length(tmp_path: Path) -> None:
    """A worker of 50 ms and 100 requests/s: ten are in flight at once."""
    options = {"arrivals": Law("poisson", 100.0), "duration_s": 20.0, "settle_s": 0.1}
    with running.serving(tmp_path / "log", workload=running.synthetic(50.0, 0.0)) as child:
        lost = running.fire(f"{child.url}/", **options, give_up_in_flight=10)
        whole = running.fire(f"{child.url}/", **(options | {"duration_s": 0.2}), give_up_in_flight=400)
    assert 10 <= lost.in_flight_max <= 12
    assert all(shot.status == 200 for shot in lost.shots)
    assert max(shot.due_ms for shot in lost.shots) < 10_000
    assert reading.gave_up(lost.window_start_ms, lost.window_end_ms, 20.0)
    assert not reading.gave_up(whole.window_start_ms, whole.window_end_ms, 0.2)


# -- what broke first ----------------------------------------------------------------------------------

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
        ({"queue_ms": 70.0}, 1.0, breaking.QUEUE),
        ({"model_ms": 70.0, "queue_ms": 30.0}, 1.0, breaking.MODEL),
        ({"outside_ms": 70.0}, 1.0, breaking.LOOP),
        ({"io_ms": 70.0}, 1.0, breaking.IO),
        ({"io_ms": 70.0}, 60.0, breaking.LOOP),
        ({"dispatch_lag_ms": 70.0}, 1.0, breaking.CLIENT),
    ],
)
def test_what_grew_most_broke_first(longer: dict[str, float], lag_ms: float, part: str) -> None:
    (objective,) = slo.parse(["p99 < 50 ms"])
    found = breaking.broke(rows(**longer), rows(), objective, lag_ms)
    assert found.part == part
    assert f"{part}: 70 of the" in found.words


def test_the_databases_own_time_is_told_from_the_loops_stall() -> None:
    (objective,) = slo.parse(["p99 < 50 ms"])
    lone = rows(io_server_ms=4.0)
    slow = breaking.broke(rows(io_ms=70.0, io_server_ms=70.0), lone, objective, 60.0)
    stalled = breaking.broke(rows(io_ms=70.0, io_server_ms=4.0), lone, objective, 1.0)
    assert (slow.part, stalled.part) == (breaking.DATABASE, breaking.LOOP)


def test_errors_that_broke_it_are_named() -> None:
    (objective,) = slo.parse(["errors < 1 %"])
    bad = rows().assign(ok=[True, False, False, True], error=["", "HTTP 503", "HTTP 503", ""])
    found = breaking.broke(bad, rows(), objective, 1.0)
    assert found.part == "HTTP 503"
    assert "2 of 4 failed" in found.words


# -- knee and chart ------------------------------------------------------------------------------------


def tried(**columns: Any) -> pd.DataFrame:
    rates = [10.0, 20.0, 30.0, 40.0, 45.0]
    means = [21.0, 24.0, 30.0, 60.0, 500.0]
    frame = pd.DataFrame({"rate_per_s": rates, "mean_ms": means, "latency_ms": means})
    frame = frame.assign(requests=100, failed=0, gave_up=False, confirms=True, arm="thread")
    return frame.assign(**columns)


def test_the_knee_is_where_power_is_most() -> None:
    assert arms.knee_per_s(tried()) == 30.0
    assert arms.knee_per_s(tried(failed=[0, 0, 60, 0, 0])) == 20.0


def test_a_promise_is_rounded_down() -> None:
    assert [arms.rounded_down(rate) for rate in (37.98, 331.9, 4.567)] == pytest.approx([37.9, 331.0, 4.56])


def test_the_chart_names_every_arm_and_its_capacity() -> None:
    held: dict[str, Any] = {"arm": "thread", "capacity_per_s": 38.2, "low_per_s": 36.0, "high_per_s": 41.0}
    table = pd.DataFrame([{**held, "knee_per_s": 30.0, "bound": ""}])
    figure = chart.capacity(tried(), table, slo.parse(["mean latency < 60 ms"]))
    (panel,) = [ax for ax in figure.axes if ax.get_visible()]
    assert panel.get_title(loc="left") == "thread"
    assert panel.get_title(loc="right") == "38.2/s"


def test_a_run_of_another_kind_is_no_capacity_run() -> None:
    assert not report.is_capacity({"plan": {}})
