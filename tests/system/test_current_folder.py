"""Files in the current folder are neither run nor imported, except the user's own workload."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import running
from conftest import CHECKOUT, Execbench

from harness.errors import UsageError
from harness.system import children
from harness.wire.options import WorkloadOptions
from harness.workloads import own_code

LURKING = (
    *("strategies/__init__.py", "random.py", "queue.py", "logging.py", "json.py", "asyncio.py"),
    *("uvicorn.py", "multiprocessing.py", "sitecustomize.py", "usercustomize.py"),
    # which libraries import if they find them
    *("email_validator.py", "watchfiles.py", "ujson.py", "orjson.py"),
)
TRAP = "print('lurking', flush=True)\nraise SystemExit(9)\n"
MINE = """
import queue
import helper
def load():
    return helper.NAME
def predict(model, items):
    assert hasattr(queue, "Queue")
    return [model] * len(items)
"""


def write_traps(folder: Path) -> None:
    for name in LURKING:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(TRAP)


@pytest.mark.integration
@pytest.mark.parametrize("workload_name", ["mine/my_workload.py", "synthetic"])
def test_files_named_as_modules_neither_run_nor_hide_them_and_a_workload_finds_its_neighbours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workload_name: str
) -> None:
    write_traps(tmp_path)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "helper.py").write_text("NAME = 'a neighbour'\n")
    (mine / "my_workload.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    workload = WorkloadOptions(name=workload_name)
    with running.serving(tmp_path / "log", "process", workload=workload) as child:
        outcome = running.fire(child.url, concurrency=1, requests=2)
    assert [shot.error for shot in outcome.shots if shot.error] == []
    assert "lurking" not in (tmp_path / "log").read_text()


def test_the_users_folders_come_after_this_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a user's folder strategies/ would hide ours in workers if the install is editable."""
    monkeypatch.setattr(sys, "path", ["/usr/lib"])
    children.let_import_from(tmp_path, tmp_path)
    assert sys.path == ["/usr/lib", str(CHECKOUT), str(tmp_path)]


LOKY = """
import asyncio, strategies, strategy_calls as calls
async def ask():
    async with strategies.get("loky").open(calls.ready, calls.double, strategies.Options()) as submit:
        return await submit(21)
if __name__ == "__main__":
    print(asyncio.run(ask()))
"""


@pytest.mark.integration
def test_workers_started_by_loky_do_not_import_from_the_current_folder_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_traps(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "tests")]))
    command = [sys.executable, "-P", "-c", LOKY]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "42\n", done.stderr


@pytest.mark.integration
def test_started_as_a_module_it_does_not_import_from_the_current_folder_either(execbench: Execbench) -> None:
    write_traps(execbench.folder)
    process = execbench.start("list")
    said, complaint = process.communicate(timeout=60)
    assert process.returncode == 0, complaint
    assert "thread" in said
    assert "lurking" not in said


@pytest.mark.integration
def test_the_users_own_processes_still_import_from_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("print('found')\n")
    code = f"import subprocess; subprocess.run([{sys.executable!r}, '-c', 'import helper'], check=True)"
    command = children.python("unused")
    command[command.index("-m") :] = ["-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "found\n", done.stderr


def test_a_module_in_the_current_folder_that_python_finds_elsewhere_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "queue.py").write_text(MINE)
    with pytest.raises(UsageError, match=r"import .*lib.*queue\.py instead of queue\.py in the current"):
        own_code.find("queue:Model")


def test_a_package_in_the_current_folder_is_found_after_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_neighbours").mkdir()
    (tmp_path / "own_neighbours" / "model.py").write_text(
        "class Model:\n    def load(self): return 1\n    def predict(self, model, items): return items\n"
    )
    assert own_code.find("own_neighbours.model:Model").label == "own_neighbours.model:Model"
    assert sys.path[-1] == str(tmp_path)
