"""`sweep --slo` for real: a model whose best setting is known, and what it refuses."""

from __future__ import annotations

import json
import re
import shlex
import signal
from pathlib import Path

import pytest
from conftest import Execbench, Invoke, wait_for

pytestmark = pytest.mark.integration
of_known = pytest.mark.timed  # these tests share a run, which one worker makes

AXES = ("--over", "max_batch=1,2,4", "--over", "workers=1,2")
MODEL = ("--workload", "synthetic", "--service-ms", "8", "--io-ms", "0", "--strategy", "batch")
# other tests run at the same time, and their CPU must not exclude every block
HOW = ("--no-self-check", "--resident", "-c", "8", "--duration", "0.1", "--exclude-foreign-cpu", "64")
LIMIT = ("--slo", "p95 < 5 s", "--slo", "errors < 50 %")


@pytest.fixture(scope="module")
def known(shared: Execbench) -> Path:
    """Six settings; with a fixed cost a call, two workers with the largest batches answer most."""
    done = shared("sweep", *MODEL, *AXES, *HOW, *LIMIT, "--minutes", "0.1", "--out", "known")
    assert done.returncode == 0, done.stderr
    assert "6 settings at c = 8: 1 round, then 3 again, about 0.1 min." in done.stderr
    (shared.folder / "printed.txt").write_text(done.stdout)
    return shared.folder / "known"


@of_known
def test_the_rounds_and_the_final_are_recorded_and_only_finalists_are_in_the_plan(known: Path) -> None:
    record = json.loads((known / "run.json").read_text())
    (one,) = record["halving"]["rounds"]
    assert len(one["arms"]) == 6
    assert one["kept"][0] == record["plan"]["reference"]
    assert {arm["name"] for arm in record["plan"]["arms"]} == set(one["kept"])
    trials = [line.split(",") for line in (known / "trials.csv").read_text().splitlines()[1:]]
    blocks = [int(cells[1]) for cells in trials]
    assert max(blocks) == record["halving"]["searched"] + record["plan"]["blocks"]
    assert record["plan"]["blocks"] >= 6


@of_known
def test_the_choice_is_printed_with_a_command_that_serves_it(known: Path) -> None:
    text = (known.parent / "printed.txt").read_text()
    line = re.search(r"Next: (execbench serve batch:.*)", text)
    assert line is not None
    words = shlex.split(line[1])
    assert words[3:] == ["--workload", "synthetic"]
    assert "service_ms=8.0" in words[2]


@of_known
def test_the_best_setting_is_chosen_and_the_report_says_so_again(known: Path, invoke: Invoke) -> None:
    again = json.loads(invoke("report", str(known), "--json").stdout)
    assert again["advised"]["take"] == "batch-max_batch-4-workers-2"
    assert again["advised"]["take"] in (known.parent / "printed.txt").read_text()
    assert {row["verdict"] for row in again["halving"]["finalists"]} <= {"keeps", "keeps, not certain"}


@of_known
def test_a_choice_cannot_be_resumed(known: Path, invoke: Invoke) -> None:
    record = json.loads((known / "run.json").read_text())
    (known / "run.json").write_text(json.dumps({**record, "state": "interrupted"}))
    done = invoke("sweep", "--resume", str(known))
    (known / "run.json").write_text(json.dumps(record))
    assert done.returncode == 1
    assert "is a run of `sweep --slo`, which cannot be resumed" in done.stderr


def test_an_interrupted_choice_keeps_its_trials_and_its_report_says_why_nothing_is_chosen(
    execbench: Execbench,
) -> None:
    words = ("sweep", *MODEL, *AXES, *HOW, *LIMIT, "--minutes", "5", "--out", "run")
    process = execbench.start(*words)
    trials = execbench.folder / "run" / "trials.csv"
    wait_for(lambda: trials.exists() and len(trials.read_text().splitlines()) > 3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "--resume" not in errors
    done = execbench("report", "run")
    assert done.returncode == 0, done.stderr
    assert "no setting is chosen yet" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--slo", "p95 < 1 s"), "--slo needs --minutes, too."),
        (("--minutes", "1"), "--minutes needs --slo, too."),
        (("--slo", "p95 < 1 s", "--minutes", "1", "--blocks", "8"), "--blocks cannot be used with --slo"),
        (("--slo", "p95 < 1 s", "--minutes", "1", "-c", "1", "-c", "8"), "not under closed(1), closed(8)"),
        (("--slo", "p95 < 1 s", "--minutes", "1", "--arrivals", "own(0.8)"), "not under own(0.8)"),
        (("--slo", "p95 quick", "--minutes", "1"), "is not a valid objective"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused_before_anything_starts(
    invoke: Invoke, words: tuple[str, ...], says: str
) -> None:
    done = invoke("sweep", *MODEL, *AXES, *words)
    assert done.returncode == 2
    assert says in done.stderr


def test_a_dry_run_says_how_many_rounds_there_are(invoke: Invoke) -> None:
    done = invoke("sweep", *MODEL, *AXES, *LIMIT, "--minutes", "0.05", "--dry-run")
    assert done.returncode == 0
    assert "Objectives: p95 latency < 5000 ms, errors < 50 %" in done.stdout
    assert "6 settings at c = 8: 1 round, then 3 again, about 0.05 min." in done.stdout
    assert "so --minutes 0.05 may not be enough" in done.stderr
