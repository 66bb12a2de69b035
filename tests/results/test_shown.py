"""A run folder with hostile names, on any terminal, and on a disk that cannot be written."""

from __future__ import annotations

import errno
import json
import os
import tempfile
import unicodedata
from pathlib import Path

import made_up
import pytest
from conftest import Execbench
from made_up import Point
from typer.testing import CliRunner

from harness.cli import app
from harness.results import store

pytestmark = pytest.mark.integration  # each test builds a whole report

ARM = "c$\\frac$.txt\x1b[31m [l](http://a.example/) @octo |<img src=x>\u202e"
LOAD = "replay(x[/a].txt)"
DETAIL = "status 503 \x1b]8;;http://a.example/\x07[/red]\nError (gate): forged"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    requests, trials = made_up.run({("inline", 1): Point(), ("thread", 1): Point(model_ms=9)}, blocks=8)
    names = {"inline": "inline", "thread": ARM}
    renamed = [rows.assign(arm=rows["arm"].map(names), load=LOAD) for rows in (requests, trials)]
    requests, trials = renamed[0], renamed[1].assign(concurrency=None, rate_per_s=50.0)
    requests.loc[requests.index % 9 == 4, "error"] = DETAIL
    trials = trials.assign(failed=0)
    arms = [{"name": name, "io_per_model": None} for name in names.values()]
    store.Writer(folder).write_record(
        {
            "state": "finished\x1b[2J",
            "plan": {"name": "x", "reference": "inline", "arms": arms, "ranking": True, "notes": [DETAIL]},
            "environment": {"cpu": "\x9b31mEPYC"},
            "arms": {name: {} for name in names.values()},
        }
    )
    requests.to_csv(folder / "requests.csv", index=False)
    trials.to_csv(folder / "trials.csv", index=False)
    return folder


def printed(*words: str | Path) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return str(done.stdout)


def steers(text: str) -> bool:
    return any(unicodedata.category(one) in ("Cc", "Cf", "Cs") and one != "\n" for one in text)


def test_a_report_shows_hostile_names_without_effect(run: Path) -> None:
    said = printed("report", run)
    assert LOAD in said
    assert "c$\\frac$.txt␛[31m [l](http://a.example/) @octo |<img src=x>\ufffd" in said
    assert "\nError (gate)" not in said
    files = (run / name for name in ("report.txt", "advice.txt", "report.html"))
    for text in (said, *(file.read_text() for file in files)):
        assert not steers(text)
    assert "\\frac" in (run / "report.html").read_text()


def test_a_comment_on_a_pull_request_contains_only_text(run: Path) -> None:
    said = printed("compare", run, "--markdown")
    assert not steers(said)
    assert "\\[l\\](http:&#8203;//a.example/) @&#8203;octo \\|&lt;img src=x&gt;" in said
    for active in ("[l](", "://a", "@octo", "<img"):
        assert active not in said


def test_json_contains_the_names_unchanged(run: Path) -> None:
    document = printed("report", run, "--reference", "inline", "--json")  # which draws no charts
    assert document.isascii()
    assert ARM in {row["arm"] for row in json.loads(document)["summary"]}


def test_a_report_that_cannot_be_written_is_still_shown(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: object, **named: object) -> str:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "mkdtemp", fails)
    done = CliRunner().invoke(app, ["report", str(run), "--full"])
    assert done.exit_code == 0
    assert LOAD in done.stdout
    assert done.stdout.endswith(f"\nRows: {run}\n")
    assert done.stderr == f"Nothing was written to {run}: Read-only file system.\n"


def test_a_terminal_without_utf_8_gets_question_marks_with_any_matplotlib_backend(
    run: Path, execbench: Execbench
) -> None:
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "MPLBACKEND": "garbage"}
    process = execbench.start("report", str(run), environment=environment)
    said, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    assert said.isascii()
    assert "?[31m [l]" in said
