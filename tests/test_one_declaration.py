"""A setting is declared in one place; flags, plans, sweeps, arms and documents are derived from it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent

WORKLOADS = CHECKOUT / "harness" / "wire" / "options.py"
STRATEGIES = CHECKOUT / "strategies" / "__init__.py"
OF_A_WORKLOAD = """
    patience_ms: Annotated[
        Milliseconds, Setting("Be this patient.", Panel.MODEL, obeyed_by=("synthetic",))
    ] = 7.0
"""
OF_STRATEGIES = """
    patience_ms: Annotated[float, Field(ge=1, description="Be this patient.")] = 7.0
"""
PLAN = """
name = "patient"
concurrency = [1]
requests = 1
[workload]
name = "synthetic"
patience_ms = 8
[[arms]]
name = "a"
strategy = "thread"
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def declare(tmp_path: Path) -> Callable[[Path, str, str], Run]:
    """Copies the packages, inserts a declaration before a line, and returns `execbench` of that copy."""

    def declared(file: Path, declaration: str, before: str) -> Run:
        for package in ("harness", "strategies"):
            shutil.copytree(
                CHECKOUT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
            )
        copy = tmp_path / file.relative_to(CHECKOUT)
        text = copy.read_text()
        assert text.count(before) == 1
        copy.write_text(text.replace(before, declaration + before))

        def run(*words: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "harness.cli", *words]
            environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
            return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

        return run

    return declared


@pytest.mark.integration
def test_a_workload_setting_is_declared_once_and_appears_everywhere(
    declare: Callable[[Path, str, str], Run], tmp_path: Path
) -> None:
    run = declare(WORKLOADS, OF_A_WORKLOAD, "    setup_ms: Annotated[")
    synthetic = ("--workload", "synthetic", "--dry-run", "--json")

    assert "  --patience-ms MS " in run("run", "--help").stdout
    assert "synthetic: Be this patient. [7]" in run("run", "--help").stdout

    flag = json.loads(run("run", *synthetic, "--patience-ms", "3").stdout)
    assert flag["plan"]["workload"]["patience_ms"] == 3.0

    (tmp_path / "patient.toml").write_text(PLAN)
    assert (
        json.loads(run("run", "patient.toml", *synthetic[2:]).stdout)["plan"]["workload"]["patience_ms"]
        == 8.0
    )

    axis = json.loads(run("sweep", *synthetic, "--over", "patience-ms=1,2").stdout)
    assert [arm["workload"] for arm in axis["plan"]["arms"]] == [{"patience_ms": 1.0}, {"patience_ms": 2.0}]

    arm = json.loads(run("run", *synthetic, "--strategy", "thread:patience_ms=4").stdout)
    assert arm["plan"]["arms"][0]["workload"] == {"patience_ms": 4.0}

    schema = json.loads(run("schema", "plan").stdout)
    key = schema["properties"]["workload"]["properties"]["patience_ms"]
    assert (key["description"], key["default"]) == ("synthetic: Be this patient.", 7.0)
    row = "| `patience_ms` | `[workload]` | `--patience-ms` | 7 | ✓ | synthetic: Be this patient. |"
    assert row in run("settings").stdout

    refused = run("run", "--patience-ms", "3", "--dry-run")
    assert "The workload 'embed' does not take the option patience_ms." in refused.stderr


@pytest.mark.integration
def test_a_strategy_option_is_declared_once_and_appears_everywhere(
    declare: Callable[[Path, str, str], Run], tmp_path: Path
) -> None:
    run = declare(STRATEGIES, OF_STRATEGIES, "    max_batch: Annotated[")
    thread = tmp_path / "strategies" / "thread.py"
    thread.write_text(thread.read_text().replace("TAKES = frozenset({", 'TAKES = frozenset({"patience_ms", '))
    words = ("--workload", "synthetic", "--strategy", "thread", "--dry-run", "--json")

    option = json.loads(run("run", *words, "-o", "patience_ms=3").stdout)
    assert option["plan"]["arms"][0]["options"] == {"patience_ms": 3.0}
    axis = json.loads(run("sweep", *words, "--over", "patience_ms=1,2").stdout)
    assert [arm["options"] for arm in axis["plan"]["arms"]] == [{"patience_ms": 1.0}, {"patience_ms": 2.0}]
    (tmp_path / "patient.toml").write_text(PLAN.replace("patience_ms = 8\n", "") + "patience_ms = 8\n")
    plan = json.loads(run("run", "patient.toml", *words[4:]).stdout)
    assert plan["plan"]["arms"][0]["options"] == {"patience_ms": 8.0}
    row = "| `patience_ms` | `[[arms]] options` |  | 7 | ✓ | thread, batch: Be this patient. |"
    assert row in run("settings").stdout
    assert "patience_ms" in run("list").stdout
    refused = run("run", *words, "--strategy", "thread:patience_ms=0")
    assert "patience_ms 0 is not valid: must be greater than or equal to 1." in refused.stderr
