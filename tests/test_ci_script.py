"""docs/ci/compare.sh as a workflow runs it: two versions of a service, from two commits of one repository."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from conftest import CHECKOUT, wait_for
from ports import free_port

pytestmark = [pytest.mark.integration, pytest.mark.timed]

SCRIPT = CHECKOUT / "docs" / "ci" / "compare.sh"
WORKFLOW = CHECKOUT / "docs" / "ci" / "compare.yml"
FINE, FAILURE, SLOWER, TERMINATED = 0, 1, 3, 143
SERVICE = """
import asyncio

async def app(scope, receive, send):
    await asyncio.sleep({delay_s})
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b"{{}}"}})
"""
START = f'exec {sys.executable} -m uvicorn service:app --port "$PORT" --lifespan off --log-level warning'
# with few requests, and all blocks counted although other tests run at the same time
RUN_FLAGS = "-c 1 --requests 3 --blocks 6 --no-self-check --exclude-foreign-cpu 1000"


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def repository(folder: Path, *delays_s: float) -> Path:
    """Make a repository with a commit of a service for each delay of its answers."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    for number, delay_s in enumerate(delays_s):
        (folder / "service.py").write_text(f"{SERVICE.format(delay_s=delay_s)}# {number}\n")
        git(folder, "add", "service.py")
        git(folder, "commit", "--quiet", "--message", f"{delay_s} s")
    return folder


def git(folder: Path, *words: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *words], cwd=folder, check=True)


def start(folder: Path, base: str, **settings: str) -> subprocess.Popen[str]:
    scratch = folder.parent / "scratch"
    scratch.mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": str(CHECKOUT),
        "TMPDIR": str(scratch),
        "EXECBENCH": f"{sys.executable} -m harness.cli",
        "START": START,
        "RUN_FLAGS": RUN_FLAGS,
        "PORT_OLD": str(free_port()),
        "PORT_NEW": str(free_port()),
        **settings,
    }
    words = ["bash", str(SCRIPT), base]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(words, cwd=folder, env=environment, text=True, **pipes)


def ended(script: subprocess.Popen[str], folder: Path) -> Done:
    """Wait for the script, and check that it leaves no process and no worktree behind."""
    with script:
        try:
            out, err = script.communicate(timeout=90)
        finally:
            script.kill()
    wait_for(lambda: not commands_in(folder.parent), 5.0)
    assert list((folder.parent / "scratch").iterdir()) == [], err
    assert not list((folder / ".git").glob("worktrees/*")), err
    return Done(script.returncode, out, err)


def commands_in(folder: Path) -> list[list[str]]:
    """The command lines of the processes that work in this folder."""
    return [found for process in psutil.process_iter() if (found := command_in(process, folder))]


def command_in(process: psutil.Process, folder: Path) -> list[str]:
    try:
        return process.cmdline() if Path(process.cwd()).is_relative_to(folder) else []
    except psutil.Error:
        return []  # it has ended, or belongs to another user


def test_the_script_fails_only_when_the_new_version_is_slower(tmp_path: Path) -> None:
    slow, alike = (
        repository(tmp_path / name / "service", *delays_s)
        # not too quick: there is no verdict if the load generator is late by half of a request
        for name, delays_s in (("slow", (0.02, 0.06)), ("alike", (0.06, 0.06)))
    )
    scripts = [start(folder, "HEAD~1") for folder in (slow, alike)]  # both at once, which saves time
    with scripts[0], scripts[1]:
        slower, fine = ended(scripts[0], slow), ended(scripts[1], alike)

    assert slower.returncode == SLOWER, slower.stderr
    first = slower.stdout.splitlines()[0]
    assert first.startswith("**Slower: new at c = 1, by ")
    assert first.endswith(" The gate failed on 2 of 2 comparisons.**")
    assert "| c = 1 | new / old | median latency |" in slower.stdout

    assert fine.returncode == FINE, fine.stderr
    first = fine.stdout.splitlines()[0]
    assert not first.startswith(("**No verdict", "**Slower"))
    assert first.endswith(". The gate passed in 2 comparisons.**")


def test_the_script_shows_why_a_service_did_not_start(tmp_path: Path) -> None:
    folder = repository(tmp_path / "service", 0.005, 0.005)
    done = ended(start(folder, "HEAD~1", START="echo the model is missing; exit 5"), folder)
    assert done.returncode == FAILURE
    assert "The service of the old version does not listen" in done.stderr
    assert "the model is missing" in done.stderr
    assert done.stdout == ""


def test_an_interrupted_script_stops_what_it_started(tmp_path: Path) -> None:
    folder = repository(tmp_path / "service", 0.005, 0.005)
    lasting = tmp_path / "lasting"
    lasting.write_text("#!/bin/sh\nexec sleep 60\n")
    lasting.chmod(0o755)
    script = start(folder, "HEAD~1", EXECBENCH=str(lasting))
    with script:
        wait_for(lambda: any("sleep" in command for command in commands_in(tmp_path)), 30.0)
        assert sum("uvicorn" in command for command in commands_in(tmp_path)) == 2
        script.terminate()
        assert ended(script, folder).returncode == TERMINATED


def test_the_workflow_sets_only_what_the_script_reads() -> None:
    step = WORKFLOW.read_text().split("- name: Measure both versions")[1].split("- name:")[0]
    names = {line.split(":")[0].strip() for line in step.split("env:")[1].splitlines() if ":" in line}
    assert names == {"BASE", "EXECBENCH", "SETUP", "START", "ASK_PATH"}
    script = SCRIPT.read_text()
    assert not [name for name in names - {"BASE"} if name not in script]
