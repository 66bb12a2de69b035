"""The environment in a run's record, and which environments are comparable."""

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness import environment
from harness.environment import code, differences

HERE = environment.collect()


def changed(**facts: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(HERE)), **facts}


# -- facts ---------------------------------------------------------------------------------------------


def test_the_record_names_neither_a_path_nor_this_host() -> None:
    text = json.dumps(HERE)
    assert str(Path(environment.__file__).parent.parent) not in text
    assert not platform.node() or f'"{platform.node()}"' not in text


@pytest.mark.integration  # loads torch
def test_the_record_has_the_versions_that_affect_the_figures() -> None:
    for package in ("fastapi", "torch", "scipy", "pandas", "matplotlib", "threadpoolctl", "psutil"):
        assert HERE["packages"][package][0].isdigit(), package


def test_the_record_has_the_number_of_usable_cores() -> None:
    assert 1 <= HERE["usable_cores"] <= HERE["cores"]


def test_the_record_says_whether_the_shell_lets_threads_of_openmp_sleep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert environment.collect()["thread_variables"]["OMP_WAIT_POLICY"] == "passive"


# -- code ----------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "harness" / "data").mkdir(parents=True)
    (tmp_path / "strategies").mkdir()
    (tmp_path / "harness" / "run.py").write_text("one = 1\n")
    (tmp_path / "harness" / "data" / "plan.toml").write_text("one = 1\n")
    (tmp_path / "strategies" / "thread.py").write_text("one = 1\n")
    return tmp_path


@pytest.mark.parametrize("name", ["harness/run.py", "harness/data/plan.toml", "strategies/thread.py"])
def test_changing_a_source_changes_the_code_committed_or_not(checkout: Path, name: str) -> None:
    before = code(checkout)
    assert len(before) == 12
    (checkout / name).write_text("one = 2\n")
    assert code(checkout) != before


def test_adding_removing_or_renaming_a_source_changes_the_code(checkout: Path) -> None:
    found = {code(checkout)}
    (checkout / "strategies" / "new.py").touch()
    found.add(code(checkout))
    (checkout / "strategies" / "new.py").rename(checkout / "strategies" / "newer.py")
    found.add(code(checkout))
    assert len(found) == 3


def test_files_other_than_sources_do_not_change_the_code(checkout: Path) -> None:
    before = code(checkout)
    (checkout / "README.md").write_text("new")
    (checkout / "harness" / "__pycache__").mkdir()
    (checkout / "harness" / "__pycache__" / "run.pyc").write_text("new")
    assert code(checkout) == before


def test_an_installed_copy_in_the_checkout_of_another_project_has_no_revision(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    commit = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "--quiet"]
    subprocess.run([*commit, "--allow-empty", "--message", "theirs"], check=True)
    installed = tmp_path / "site-packages"
    installed.mkdir()
    assert environment.revision(tmp_path) is not None
    assert environment.revision(installed) is None


# -- differences ---------------------------------------------------------------------------------------


def test_a_record_read_from_json_is_the_same_environment() -> None:
    assert differences(changed(), environment.collect()) == []


def test_temporary_facts_are_not_a_difference() -> None:
    elsewhere = {**HERE["revision"], "commit": "0" * 40} if HERE["revision"] else None
    assert differences(changed(load_average=[9, 9, 9], memory_bytes=1, revision=elsewhere), HERE) == []


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("cpu", "CPU"),
        ("usable_cores", "usable cores"),
        ("cpu_quota", "CPU quota in cores"),
        ("kernel", "kernel"),
        ("python", "Python"),
        ("event_loop", "event loop"),
        ("code", "code"),
    ],
)
def test_each_relevant_difference_is_described_in_one_phrase(key: str, name: str) -> None:
    now = HERE[key] if HERE[key] is not None else "none"
    assert differences(changed(**{key: "another"}), HERE) == [f"{name}: was another, is {now}"]


def test_every_package_and_every_thread_variable_is_a_difference() -> None:
    before = changed(
        packages={**HERE["packages"], "scipy": "1.0", "numpy": None},
        thread_variables={**HERE["thread_variables"], "OMP_NUM_THREADS": "77"},
    )
    now = os.environ.get("OMP_NUM_THREADS", "none")
    assert differences(before, HERE) == [
        f"numpy: was none, is {HERE['packages']['numpy']}",
        f"scipy: was 1.0, is {HERE['packages']['scipy']}",
        f"OMP_NUM_THREADS: was 77, is {now}",
    ]


def test_a_run_without_recorded_code_counts_as_other_code() -> None:
    old = {key: value for key, value in changed(revision={"commit": "a" * 40}).items() if key != "code"}
    assert differences(old, HERE) == [f"code: was commit {'a' * 12}, is {HERE['code']}"]
