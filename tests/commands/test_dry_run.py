"""`--dry-run` shows what a run would do, and starts and writes nothing."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness import cli


def dry(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(cli.app, [*words, "--dry-run"])
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_dry_run_shows_arms_loads_trials_and_time(folder: Path) -> None:
    code, shown, _ = dry("run", "smoke", "--blocks", "8")

    assert code == 0
    assert shown.splitlines()[1:] == [
        "Arms: inline, thread, process, default_pool",
        "Loads: closed(1), closed(4)",
        "Model: synthetic; I/O: sleep",
        "8 blocks, 64 trials, about 2 min.",
        "Nothing was started.",
    ]
    assert list(folder.iterdir()) == []


def test_a_dry_run_gives_the_whole_plan_as_json() -> None:
    code, shown, _ = dry("run", "--strategy", "inline", "--workload", "synthetic", "-c", "2", "--json")

    document = json.loads(shown)
    assert code == 0
    assert (document["arms"], document["loads"], document["trials"]) == (
        ["inline"],
        ["closed(2)"],
        document["blocks"],
    )
    assert document["plan"]["workload"]["name"] == "synthetic"


def test_a_dry_run_refuses_invalid_options_as_the_run_does() -> None:
    assert dry("run", "no-such-plan")[0] == 2
    assert dry("run", "smoke", "--strategy", "no-such-strategy")[0] == 2


def test_a_dry_run_warns_if_the_run_will_give_no_verdict() -> None:
    _, _, warned = dry("run", "smoke", "--blocks", "2")
    assert warned == "2 blocks will give no verdict: use at least 6 (--blocks 6).\n"


def test_a_sweep_has_a_dry_run_too(folder: Path) -> None:
    code, shown, _ = dry("sweep", "--workload", "synthetic", "--over", "workers=1,2")

    assert code == 0
    assert "Arms: process-workers-1, process-workers-2\n" in shown
    assert list(folder.iterdir()) == []


def test_a_dry_run_of_a_run_to_resume_is_refused() -> None:
    code, _, stderr = dry("run", "--resume", "somewhere")
    assert code == 2
    assert "Give either --dry-run or --resume, not both." in stderr
