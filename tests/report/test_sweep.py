"""Sweeps: real ones with known results, and the evaluation of made-up ones."""

from __future__ import annotations

import csv
import io
import json
import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Execbench, Invoke, wait_for
from made_reports import closed
from made_up import Point
from rich.console import Console

from harness.commands import tables
from harness.report import report
from harness.report.charts import sweep_chart
from harness.report.sweep import Swept
from harness.results import store

pytestmark = pytest.mark.integration  # a whole report each: it takes long

KNOWN = ("--workload", "synthetic", "--service-ms", "20", "--io-ms", "0", "--no-self-check", "--resident")
# a worker of 20 ms answers only ten times in 0.2 s, and one answer more or less is then a tenth
SHORT = ("-c", "4", "--duration", "0.6", "--blocks", "6")


def made(figures: dict[str, tuple[dict[str, Any], Any]], **said: Any) -> store.Run:
    """A sweep of arms with these settings and points at c = 8."""
    run = closed({(arm, 8): point for arm, (_, point) in figures.items()}, **said)
    axes: dict[str, list[Any]] = {}
    for setting, _ in figures.values():
        for name, value in setting.items():
            axes.setdefault(name, []).append(value)
    run.record["plan"]["sweep"] = {
        "strategies": ["process"],
        "axes": {name: list(dict.fromkeys(values)) for name, values in axes.items()},
        "settings": {arm: setting for arm, (setting, _) in figures.items()},
    }
    return run


def swept(run: store.Run) -> Swept:
    found = report.build(run).swept
    assert found is not None
    return found


def wobbly(model_ms: float, seed: int) -> Any:
    drawn = np.random.default_rng(seed).normal(1, 0.05, 100)
    return lambda block: Point(model_ms=model_ms * float(drawn[block]))


GRID = {
    "one-a": ({"workers": 1, "kind": "a"}, wobbly(40.0, 1)),
    "one-b": ({"workers": 1, "kind": "b"}, wobbly(40.0, 2)),
    "two-a": ({"workers": 2, "kind": "a"}, wobbly(17.0, 3)),
    "two-b": ({"workers": 2, "kind": "b"}, wobbly(17.0, 4)),
}


def test_the_best_comes_first_with_the_settings_that_the_blocks_do_not_separate_from_it() -> None:
    found = swept(made(GRID, blocks=12))
    assert set(found.table["arm"].head(2)) == {"two-a", "two-b"}
    assert list(found.table["place"]) == ["best", "not told apart", "beaten", "beaten"]
    (said,) = found.sentences
    assert said.startswith("Best: workers=2, kind=")
    assert "requests/s [" in said
    assert "that of workers=1, kind=a; 12 blocks do not separate it from: workers=2, kind=" in said


def test_the_best_setting_is_the_arm_that_is_advised() -> None:
    alike = {arm: (setting, wobbly(40.0, seed)) for seed, (arm, (setting, _)) in enumerate(GRID.items())}
    for figures in (GRID, alike):
        built = report.build(made(figures, blocks=12))
        assert built.swept is not None
        (best,) = built.swept.table.loc[built.swept.table["place"] == "best", "arm"]
        assert built.advised.take == best


def test_settings_that_the_client_limits_are_bounds_and_the_best_is_one_of_them() -> None:
    run = made(GRID, blocks=12)
    run.record["self_check"] = {"requests_per_s": 400.0}  # the quick two send some 340
    built = report.build(run)
    assert built.swept is not None
    places = dict(zip(built.swept.table["arm"], built.swept.table["place"], strict=True))
    assert {places["two-a"], places["two-b"]} == {"best", "not told apart"}
    assert {places["one-a"], places["one-b"]} == {"beaten"}
    (said,) = built.swept.sentences
    assert "at least" in said
    assert "the client limits 2 settings, so those figures are bounds" in said
    assert "expect at least" in built.advised.lines[0]


def test_an_axis_that_doubles_is_faster_and_one_that_does_nothing_is_equivalent() -> None:
    effects = swept(made(GRID, blocks=40)).effects
    rates = effects[effects["metric"] == "throughput_per_s"].set_index("axis")
    assert rates.loc["workers", "ratio"] == pytest.approx(2.0, rel=0.05)
    assert rates.loc["workers", "verdict"] == "faster"
    assert rates.loc["workers", "settings"] == 2
    assert rates["least"].loc["workers"] <= rates["ratio"].loc["workers"] <= rates["most"].loc["workers"]
    assert rates.loc["kind", "verdict"] == "equivalent"


def test_settings_that_do_other_work_have_their_own_best() -> None:
    run = made(GRID, blocks=12)
    run.record["arms"] = {arm: {"about": {"model": setting["kind"]}} for arm, (setting, _) in GRID.items()}
    found = swept(run)
    assert [said.split(":")[1].strip() for said in found.sentences] == [
        "workers=2, kind=a",
        "workers=2, kind=b",
    ]
    assert all("better than all others" in said for said in found.sentences)


def test_a_setting_that_lost_trials_is_shown_last_and_never_the_best() -> None:
    dying = lambda block: Point(model_ms=1.0, state="ok" if block < 7 else "failed")  # noqa: E731
    found = swept(made({**GRID, "two-b": ({"workers": 2, "kind": "b"}, dying)}, blocks=8))
    assert found.table["arm"].iloc[-1] == "two-b"
    assert found.table["place"].iloc[-1] == "left out"


def test_a_noisy_session_has_no_best() -> None:
    run = made(GRID, blocks=8, exclude={"steal_share": 0.05})
    found = swept(run._replace(trials=run.trials.assign(steal_share=0.5)))
    assert set(found.table["place"]) == {"withheld"}
    assert found.sentences[0].startswith("No setting is called the best, because the session is noisy")
    assert set(found.effects["verdict"]) == {"noisy session"}


def test_a_run_that_is_not_a_sweep_has_no_sweep_results() -> None:
    assert report.build(closed({("thread", 8): Point()})).swept is None


@pytest.mark.integration  # takes long
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_every_number_of_axes_has_a_chart(axes: int) -> None:
    names = ("workers", "kind", "size")[:axes]
    cells = [(a, b, c) for a in (1, 2, 4) for b in "xy"[: 1 + (axes > 1)] for c in (1, 2)[: 1 + (axes > 2)]]
    figures = {
        f"arm-{number}": (dict(zip(names, cell, strict=False)), Point(model_ms=30.0 / cell[0]))
        for number, cell in enumerate(cells)
    }
    found = swept(made(figures))
    fig = sweep_chart.draw(found)
    drawn = fig.axes[0]
    words = [label.get_text() for label in (*drawn.get_xticklabels(), *drawn.get_yticklabels())]
    assert "2" in words or "workers=2, kind=x, size=1" in words
    assert len(drawn.get_lines()) == {1: 1, 2: 2, 3: len(cells)}[axes]


def test_without_good_answers_the_chart_states_it() -> None:
    found = swept(
        made({"one": ({"workers": 1}, Point(failed=32)), "two": ({"workers": 2}, Point(failed=32))})
    )
    assert "good answers" in sweep_chart.draw(found).texts[0].get_text()


# -- real ones


@pytest.fixture(scope="module")
def known(shared: Execbench) -> Path:
    """Sleeping workers: twice the workers answer twice as much; what loading takes changes nothing."""
    done = shared(
        *("sweep", *KNOWN, *SHORT, "--strategy", "thread", "--over", "workers=1,2"),
        *("--over", "setup_ms=0,10", "--out", "known", "--full"),
    )
    assert done.returncode == 0, done.stderr
    assert "4 arms, 1 load, 6 blocks: 24 trials, under 1 min." in done.stderr
    assert "Settings at c = 4" in done.stdout
    assert "What to do" in done.stdout
    return shared.folder / "known"


@pytest.mark.timed
def test_two_sleeping_workers_answer_twice_as_much_and_an_idle_option_does_nothing(known: Path) -> None:
    with (known / "sweep_effects.csv").open() as stream:
        rows = {row["axis"]: row for row in csv.DictReader(stream) if row["metric"] == "throughput_per_s"}
    assert float(rows["workers"]["ratio"]) == pytest.approx(2.0, rel=0.1)
    assert float(rows["setup_ms"]["ratio"]) == pytest.approx(1.0, rel=0.1)
    with (known / "sweep.csv").open() as stream:
        settings = list(csv.DictReader(stream))
    assert [row["workers"] for row in settings] == ["2", "2", "1", "1"]
    assert (known / "charts" / "sweep.png").stat().st_size > 0


@pytest.mark.timed
def test_report_shows_the_sweep_again_and_json_has_it(invoke: Invoke, known: Path) -> None:
    done = invoke("report", str(known), "--json")
    data = json.loads(done.stdout)
    assert data["sweep"]["load"] == "closed(4)"
    assert len(data["sweep"]["settings"]) == 4
    assert data["advice"]
    assert math.isclose(data["sweep"]["effects"][0]["ratio"], 2.0, rel_tol=0.1)


@pytest.mark.integration
def test_an_interrupted_sweep_goes_on_where_it_was(execbench: Execbench) -> None:
    words = ("sweep", *KNOWN, *SHORT, "--strategy", "thread", "--over", "workers=1,2", "--out", "run")
    process = execbench.start(*words)
    trials = execbench.folder / "run" / "trials.csv"
    wait_for(lambda: trials.exists() and len(trials.read_text().splitlines()) > 3)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    done = execbench("sweep", "--resume", "run", "--full")
    assert done.returncode == 0, done.stderr
    assert len(trials.read_text().splitlines()) == 1 + 12
    assert "Settings at c = 4" in done.stdout


def test_going_on_takes_no_other_flags_and_a_bad_axis_starts_nothing(invoke: Invoke) -> None:
    both = invoke("sweep", "--resume", "run", "--over", "workers=1,2")
    assert (both.returncode, "Remove the other flags." in both.stderr) == (2, True)
    bad = invoke("sweep", "--over", "wrkers=1,2")
    assert (bad.returncode, "Did you mean 'workers'?" in bad.stderr) == (2, True)


def test_a_setting_whose_median_request_fails_is_left_out_and_the_others_are_shown() -> None:
    failing = GRID | {"two-b": ({"workers": 2, "kind": "b"}, Point(failed=20))}
    built = report.build(made(failing, blocks=8))
    assert built.swept is not None
    assert "two-b" in set(built.swept.table.loc[built.swept.table["place"] == "left out", "arm"])
    console = Console(width=80, record=True, file=io.StringIO())
    for part in tables.render(built):
        console.print(part)
    assert "The effect of each axis" in console.export_text()


def test_settings_with_too_few_blocks_are_not_judged_rather_than_left_out() -> None:
    found = swept(made(GRID, blocks=4))
    assert set(found.table["place"]) == {"not judged"}
    assert found.sentences == ("No setting is called the best: 4 blocks are too few.",)


def test_settings_that_each_have_a_load_of_their_own_are_not_judged() -> None:
    run = made(GRID, own_users=8)
    own: dict[str, Any] = {"load": "own(0.8)", "concurrency": math.nan}
    found = swept(run._replace(rows=run.requests.assign(**own), trials=run.trials.assign(**own)))
    assert set(found.table["place"]) == {"not judged"}
    assert found.sentences == ("No setting is called the best: each has a load of its own.",)
