"""`execbench compare` as users run it: run folders in; messages, tables and exit codes out."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import made_up
import pytest
from conftest import Execbench
from made_up import Point
from typer.testing import CliRunner

from harness.cli import app
from harness.results import store

pytestmark = pytest.mark.integration  # slow: each test builds a whole report

World = dict[made_up.Place, Point | Callable[[int], Point]]

FINE, FAILURE, USAGE, GATE_FAILED, INVALID = 0, 1, 2, 3, 4


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


class InProcess:
    """Runs the command line in `folder` without a new process per call, which would take most of the time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *words: str) -> Done:
        ended = CliRunner().invoke(app, words)
        return Done(ended.exit_code, ended.stdout, ended.stderr)


@pytest.fixture
def execbench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InProcess:
    monkeypatch.chdir(tmp_path)
    return InProcess(tmp_path)


def about(model_ms: float, seed: int = 1, spread: float = 0.01) -> Callable[[int], Point]:
    luck = random.Random(seed)
    factors = [luck.gauss(1.0, spread) for _ in range(100)]
    return lambda block: Point(model_ms=model_ms * factors[block])


def world(thread_ms: float = 20.0, *, twin_ms: float | None = None, users: int = 8) -> World:
    arms = {"inline": about(20.0), "thread": about(thread_ms, seed=2)}
    if twin_ms is not None:
        arms["inline-twin"] = about(twin_ms, seed=3)
    return {(arm, users): point for arm, point in arms.items()}


def save(folder: Path, points: made_up.World, *, blocks: int = 8, **facts: Any) -> str:
    """Write a run's folder as `execbench run` does. `facts` go into the plan or the environment."""
    requests, trials = made_up.run(points, blocks=blocks)
    arms = [arm for arm in dict.fromkeys(arm for arm, _ in points) if not arm.endswith("-twin")]
    about_model = {"model": facts.pop("model", "synthetic sleep"), "service_ms": 20.0}
    environment = {"cpu": "EPYC", "usable_cores": facts.pop("usable_cores", 2)}
    environment["python"] = facts.pop("python", "3.11.7")
    writer = store.Writer(folder)
    writer.write_record(
        {
            "state": "finished",
            "plan": {"arms": [{"name": arm} for arm in arms], **facts},
            "environment": environment,
            "arms": {arm: {"about": about_model} for arm in arms},
        }
    )
    requests.to_csv(folder / "requests.csv", index=False)
    trials.to_csv(folder / "trials.csv", index=False)
    return folder.name


@pytest.fixture
def quiet(execbench: InProcess) -> str:
    """A run in which thread is as fast as inline."""
    return save(execbench.folder / "quiet", world())


@pytest.fixture
def slow(execbench: InProcess) -> str:
    """A run in which thread takes 1.5 times as long as inline."""
    return save(execbench.folder / "slow", world(32.0))


def test_comparing_one_run_compares_every_arm_with_the_reference(execbench: InProcess, slow: str) -> None:
    done = execbench("compare", slow)
    assert done.returncode == FINE, done.stderr
    first = done.stdout.strip().splitlines()[0]
    assert first.startswith("thread takes 1.4")
    assert "x as long as inline to answer at c = 8: " in first
    assert first.endswith("n = 8 blocks: slower.")
    assert "throughput" in done.stdout


def test_the_second_of_two_arms_of_one_run_is_compared_with_the_first(
    execbench: InProcess, slow: str
) -> None:
    done = execbench("compare", f"{slow}:thread", f"{slow}:inline")
    assert done.returncode == FINE, done.stderr
    assert "inline takes 0.6" in done.stdout
    assert "x as long as thread" in done.stdout


def test_two_runs_are_labelled_with_the_names_of_their_folders(
    execbench: InProcess, quiet: str, slow: str
) -> None:
    done = execbench("compare", quiet, slow)
    assert done.returncode == FINE, done.stderr
    assert "blocks are not paired" in done.stdout
    assert "slow:thread takes 1.4" in done.stdout
    assert "x as long as quiet:thread" in done.stdout
    assert "slow:inline takes" in done.stdout


def test_different_code_or_packages_are_a_note_and_do_not_stop_the_comparison(
    execbench: InProcess, quiet: str
) -> None:
    other = save(execbench.folder / "other", world(), python="3.13.0")
    done = execbench("compare", quiet, other)
    assert done.returncode == FINE, done.stderr
    assert "Python: was 3.11.7, is 3.13.0" in done.stdout


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"usable_cores": 16}, "usable_cores: 2 and 16"),
        ({"model": "other"}, "model: synthetic sleep and other"),
        ({"route": "GET /"}, "route: POST /predict and GET /"),
    ],
    ids=["machine", "model", "load"],
)
def test_runs_of_different_machines_models_or_loads_are_refused_unless_forced(
    execbench: InProcess, facts: dict[str, Any], message: str
) -> None:
    before = save(execbench.folder / "before", world(), route="POST /predict")
    after = save(execbench.folder / "after", world(), **({"route": "POST /predict"} | facts))
    refused = execbench("compare", before, after)
    assert refused.returncode == INVALID
    assert message in refused.stderr
    assert refused.stdout == ""
    assert execbench("compare", before, after, "--force").returncode == FINE


def test_runs_without_a_common_load_are_refused(execbench: InProcess, quiet: str) -> None:
    other = save(execbench.folder / "other", world(users=2))
    done = execbench("compare", quiet, other, "--force")
    assert done.returncode == INVALID
    assert "no load in common" in done.stderr
    assert "c = 2" in done.stderr


# -- the gate ------------------------------------------------------------------------------------------


def test_the_gate_fails_when_an_arm_is_slower_and_names_it(execbench: InProcess, slow: str) -> None:
    done = execbench("compare", slow, "--fail-on", "slower")
    assert done.returncode == GATE_FAILED
    assert "The gate failed on 2 of 2 comparisons" in done.stderr
    assert "thread takes 1.4" in done.stderr


def test_the_gate_passes_when_arms_are_alike(execbench: InProcess, quiet: str) -> None:
    done = execbench("compare", quiet, "--fail-on", "slower")
    assert done.returncode == FINE, done.stderr


def test_the_gate_passes_a_significant_difference_below_its_floors(execbench: InProcess, slow: str) -> None:
    latency = ("compare", slow, "--fail-on", "slower", "--metric", "latency")
    assert execbench(*latency).returncode == GATE_FAILED
    assert execbench(*latency, "--floor-ms", "100").returncode == FINE
    assert execbench(*latency, "--min-effect", "90%").returncode == FINE
    throughput = ("compare", slow, "--fail-on", "slower", "--metric", "throughput")
    assert execbench(*throughput).returncode == GATE_FAILED
    assert execbench(*throughput, "--floor-per-s", "1000").returncode == FINE


def test_the_gate_gives_no_verdict_with_too_few_blocks(execbench: InProcess) -> None:
    run = save(execbench.folder / "short", world(), blocks=3)
    assert execbench("compare", run).returncode == FINE
    done = execbench("compare", run, "--fail-on", "slower")
    assert done.returncode == INVALID
    assert "only 3 blocks" in done.stderr


def test_the_gate_does_not_pass_an_arm_whose_trials_failed(execbench: InProcess) -> None:
    def dying(block: int) -> Point:
        return Point(model_ms=20.0, state="failed" if block == 2 else "ok")

    run = save(execbench.folder / "dying", world() | {("thread", 8): dying})
    done = execbench("compare", run, "--fail-on", "slower")
    assert done.returncode == INVALID
    assert "1 of 8 of thread's trials do not count: the server died" in done.stderr


def test_the_gate_does_not_fail_with_too_few_blocks_even_if_much_slower(execbench: InProcess) -> None:
    run = save(execbench.folder / "short", world(40.0), blocks=5)
    done = execbench("compare", run, "--fail-on", "slower")
    assert done.returncode == INVALID
    assert "only 5 blocks" in done.stderr


def test_the_gate_does_not_pass_arms_or_loads_of_only_one_run_unless_they_are_deselected(
    execbench: InProcess, quiet: str
) -> None:
    gate = ("--fail-on", "slower")
    fewer = save(execbench.folder / "fewer", {("inline", 8): about(20.0)})
    done = execbench("compare", quiet, fewer, *gate)
    assert done.returncode == INVALID
    assert "arms or loads are missing" in done.stderr
    assert "Only one of the runs has: thread." in done.stderr
    assert execbench("compare", quiet, fewer).returncode == FINE
    assert execbench("compare", f"{quiet}:inline", fewer, *gate).returncode == FINE
    loads = save(execbench.folder / "loads", world() | world(users=2))
    assert execbench("compare", quiet, loads, *gate).returncode == INVALID
    assert execbench("compare", quiet, loads, *gate, "--load", "closed(8)").returncode == FINE


def test_the_gate_does_not_pass_an_arm_that_was_omitted_or_never_run(execbench: InProcess) -> None:
    run = save(execbench.folder / "killed", world())
    path = execbench.folder / run / "run.json"
    record = json.loads(path.read_text())
    record["plan"]["arms"].append({"name": "process"})
    path.write_text(json.dumps(record))
    done = execbench("compare", run, "--fail-on", "slower")
    assert done.returncode == INVALID
    assert "process has no trial." in done.stderr


def test_a_run_of_execbench_load_is_refused_because_it_has_no_arms(execbench: InProcess) -> None:
    run = save(execbench.folder / "load", {("server", 8): about(20.0)})
    path = execbench.folder / run / "run.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "plan": None, "arms": {}, "load": {"transport": "aiohttp"}}))
    done = execbench("compare", run)
    assert done.returncode == USAGE
    assert "is a run of `execbench load`: it has one server, and no arms to compare" in done.stderr


def test_a_noisy_session_withholds_the_verdicts_with_any_options(execbench: InProcess) -> None:
    run = save(execbench.folder / "noisy", world(40.0, twin_ms=30.0), twin=True)
    for words in (("compare", run), ("compare", run, "--fail-on", "slower")):
        done = execbench(*words)
        assert done.returncode == INVALID
        assert "The session is noisy" in done.stderr
        assert "noisy session, no verdict" in done.stdout
    arms = execbench("compare", f"{run}:inline", f"{run}:thread")
    assert arms.returncode == INVALID


def test_a_quiet_twin_is_reported(execbench: InProcess) -> None:
    run = save(execbench.folder / "twins", world(twin_ms=20.0), twin=True)
    done = execbench("compare", run)
    assert done.returncode == FINE, done.stderr
    assert "the twin of inline differs by up to" in done.stdout


# -- what is shown -------------------------------------------------------------------------------------


def test_all_pairs_compares_each_arm_with_every_earlier_one(execbench: InProcess) -> None:
    world = {(arm, 8): Point(model_ms=ms) for arm, ms in (("a", 10.0), ("b", 20.0), ("c", 40.0))}
    save(execbench.folder / "three", world)
    done = execbench("compare", "three", "--all-pairs", "--metric", "latency", "--json")
    assert done.returncode == FINE, done.stderr
    rows = [row for row in json.loads(done.stdout)["rows"] if row["primary"]]
    assert [(row["arm"], row["reference"]) for row in rows] == [("b", "a"), ("c", "a"), ("c", "b")]
    assert {row["verdict"] for row in rows} == {"slower"}
    refused = execbench("compare", "three:a", "--all-pairs")
    assert refused.returncode == 2
    assert "--all-pairs compares the arms of one run." in refused.stderr


def test_json_is_one_document_with_every_row(execbench: InProcess, slow: str) -> None:
    done = execbench("compare", slow, "--json")
    found = json.loads(done.stdout)
    latency = found["rows"][0]
    assert (latency["arm"], latency["metric"], latency["verdict"]) == ("thread", "latency_ms", "slower")
    assert (latency["blocks_most"], latency["why"]) == (None, "")
    assert latency["low"] < latency["ratio"] < latency["high"]


def test_json_is_complete_when_the_gate_fails(execbench: InProcess, slow: str) -> None:
    done = execbench("compare", slow, "--json", "--fail-on", "slower")
    assert done.returncode == GATE_FAILED
    assert json.loads(done.stdout)["rows"]


def test_every_line_of_the_markdown_table_has_the_same_number_of_cells(
    execbench: InProcess, slow: str
) -> None:
    done = execbench("compare", slow, "--markdown")
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert "| **slower** |" in done.stdout
    assert done.stdout.startswith("**Slower: thread at c = 8, by 4")
    assert "\n- thread takes 1.4" in done.stdout


def test_metric_and_load_select_rows(execbench: InProcess) -> None:
    run = save(execbench.folder / "loads", world() | world(users=2))
    chosen = execbench("compare", run, "--metric", "io", "--load", "closed(2)", "--json")
    rows = json.loads(chosen.stdout)["rows"]
    assert {(row["metric"], row["load"]) for row in rows} == {("io_ms", "closed(2)")}


def test_an_arm_that_does_different_work_is_omitted_and_named(execbench: InProcess) -> None:
    points = world() | {("scaled", 8): about(20.0)}
    run = save(execbench.folder / "scaled", points)
    path = execbench.folder / "scaled" / "run.json"
    record = json.loads(path.read_text())
    for arm, io_ms in (("inline", 5.0), ("thread", 5.0), ("scaled", 8.0)):
        record["arms"][arm]["options"] = {"workload": {"io_ms": io_ms}}
    path.write_text(json.dumps(record))
    done = execbench("compare", run)
    assert "scaled is left out, because it does other work than inline (io_ms: 5.0 and 8.0)" in done.stdout
    assert "scaled takes" not in done.stdout
    assert execbench("compare", f"{run}:inline", f"{run}:scaled").returncode == INVALID


def test_another_io_is_different_work_even_if_the_older_run_recorded_no_io(
    execbench: InProcess,
) -> None:
    run = save(execbench.folder / "asked", world() | {("asked", 8): about(20.0)})
    path = execbench.folder / "asked" / "run.json"
    record = json.loads(path.read_text())
    for arm, io in (
        ("inline", {}),
        ("thread", {"io": "sleep"}),
        ("asked", {"io": "pgvector", "io_rows": 9}),
    ):
        record["arms"][arm]["options"] = {"workload": {"io_ms": 5.0, **io}}
    path.write_text(json.dumps(record))
    done = execbench("compare", run)
    assert "asked is left out, because it does other work than inline (io: sleep and pgvector)" in done.stdout
    assert "thread takes" in done.stdout


def test_excluded_blocks_are_reported_and_do_not_count(execbench: InProcess) -> None:
    run = save(execbench.folder / "stolen", world(), exclude={"steal_share": 0.05})
    path = execbench.folder / run / "trials.csv"
    lines = [line.split(",") for line in path.read_text().splitlines()]
    place, block = lines[0].index("steal_share"), lines[0].index("block")
    for line in lines[1:]:
        line[place] = "0.5" if line[block] == "3" else "0.0"
    path.write_text("".join(f"{','.join(line)}\n" for line in lines))
    done = execbench("compare", run)
    assert "1 of 8 blocks are left out (block 3: steal_share 0.5 (at most 0.05))" in done.stdout
    assert "n = 7 blocks" in done.stdout


def test_a_late_client_makes_its_arm_and_load_invalid(execbench: InProcess) -> None:
    run = save(execbench.folder / "late", world())
    path = execbench.folder / run / "requests.csv"
    lines = [line.split(",") for line in path.read_text().splitlines()]
    places = {name: lines[0].index(name) for name in ("arm", "sent_ms")}
    for line in lines[1:]:
        if line[places["arm"]] == "thread":
            line[places["sent_ms"]] = str(float(line[places["sent_ms"]]) + 15.0)
    path.write_text("".join(f"{','.join(line)}\n" for line in lines))
    done = execbench("compare", run)
    assert "invalid, because thread: the load generator sent 1 % of the requests 15.0 ms late" in done.stdout
    assert execbench("compare", run, "--fail-on", "slower").returncode == INVALID


# -- usage and failures --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("slow", "slow"),
        ("slow:thread", "slow"),
        ("slow:thread", "slow:thread"),
        ("slow:nobody", "slow:thread"),
        ("slow", "--metric", "speed"),
        ("slow", "--load", "closed(99)"),
        ("slow", "--json", "--markdown"),
        ("slow", "--min-effect", "much"),
        ("slow", "--fail-on", "faster"),
        ("slow", "--fail-on", "slower", "--metric", "io"),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2_and_no_output(
    execbench: InProcess, slow: str, words: tuple[str, ...]
) -> None:
    done = execbench("compare", *words)
    assert done.returncode == USAGE
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_folder_that_is_not_a_run_ends_with_1(execbench: InProcess, slow: str) -> None:
    assert execbench("compare", "nowhere").returncode == FAILURE
    (execbench.folder / slow / "requests.csv").write_text("damaged\n")
    done = execbench("compare", slow)
    assert done.returncode == FAILURE
    assert "Traceback" not in done.stderr


def test_help_lists_the_exit_codes(execbench: InProcess) -> None:
    help_text = " ".join(execbench("compare", "--help").stdout.split())
    for code in (
        "0 no failure",
        "1 failure",
        "2 wrong usage",
        "3 the gate failed",
        "4 the comparison",
        "130",
    ):
        assert code in help_text


def test_a_failed_gate_is_the_exit_code_of_the_process(shared: Execbench) -> None:
    run = save(shared.folder / "slow", world(32.0))
    assert shared("compare", run, "--fail-on", "slower").returncode == GATE_FAILED
