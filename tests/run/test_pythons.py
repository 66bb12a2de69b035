"""Arms in environments of their own: a real run, its record and its report."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest
import running
from conftest import Invoke
from other_pythons import for_servers, pretend
from sessions import Quiet, plan, record

from harness.errors import HarnessError
from harness.report import report
from harness.results import store
from harness.run import resume, server_process, session
from harness.run.supervisor import Supervisor
from harness.verdicts.environments import MARK
from harness.wire.options import ServerOptions

pytestmark = pytest.mark.integration

OURS = version("starlette")


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment whose Starlette says that it is newer."""
    python = for_servers(tmp_path_factory.mktemp("newer") / "newer")
    pretend(python, "starlette", "99.0")
    return python


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, newer: Path) -> Path:
    """A run of two environments, interrupted in its last block."""
    found = tmp_path_factory.mktemp("run") / "run"
    arms = [
        {"name": "ours", "strategy": "thread"},
        {"name": "newer", "strategy": "process", "python": str(newer)},
    ]
    with pytest.raises(KeyboardInterrupt):
        session.run(plan(arms=arms), store.Writer(found), Quiet(stop_after=3))
    return found


def test_each_server_records_the_versions_that_it_sees(folder: Path) -> None:
    seen = {name: arm["environment"]["packages"] for name, arm in record(folder)["arms"].items()}
    assert {name: packages["starlette"] for name, packages in seen.items()} == {
        "ours": OURS,
        "newer": "99.0",
    }
    assert seen["ours"]["fastapi"] == seen["newer"]["fastapi"] == version("fastapi")


def test_both_versions_stand_beside_the_verdict(folder: Path, invoke: Invoke) -> None:
    words = f"newer has starlette 99.0; ours has starlette {OURS}."
    done = invoke("report", str(folder))
    assert f"{MARK} {words}" in " ".join(done.stdout.split())
    assert re.search(rf"^newer .*{MARK}$", done.stdout, re.MULTILINE)
    full = " ".join(invoke("report", str(folder), "--full").stdout.split())
    assert f"{MARK} {words}" in full
    found = report.build(store.read(folder))
    assert found.comparisons["sentence"].str.endswith(words).all()
    assert words in (folder / "report.html").read_text()


def test_a_run_does_not_go_on_in_a_changed_environment(folder: Path, newer: Path) -> None:
    pretend(newer, "starlette", "100.0")
    planned, writer, checkpoint = resume.reopen(folder)
    with pytest.raises(HarnessError, match=r"environment of arm 'newer' has changed.*was 99\.0, is 100\.0"):
        session.run(planned, writer, Quiet(), checkpoint)


def test_another_python_finds_our_packages_without_the_path_of_this_one(
    tmp_path: Path, newer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds no other package of this environment, such as psutil."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    options = ServerOptions(strategy="process", workload=running.synthetic())
    with (
        Supervisor() as supervisor,
        server_process.start("a", options, supervisor, log=tmp_path / "log", interpreter=str(newer)) as child,
    ):
        health = child.wait_ready(running.READY_WITHIN_S)
    assert "starlette" in health["environment"]["packages"]
    assert health["about"]["threadpools"] is None  # what reads them is not installed there
