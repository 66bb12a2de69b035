"""The command line as users run it: a real process in an empty folder. No process may outlive the test."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import browsing
import psutil
import pytest
from prefork import Prefork

from harness import cli

pytest_plugins = ["clusters", "embedding", "groups", "durations"]

CHECKOUT = Path(__file__).parent.parent
MARK = "EXECBENCH_TEST"  # environment variable that every descendant inherits, even if its parent changes
ENDS_WITHIN_S = 60.0
GONE_WITHIN_S = 5.0


class Execbench:
    """Runs `execbench` in `folder`, which is empty at first."""

    def __init__(self, folder: Path, prefork: Prefork) -> None:
        self.folder = folder
        self._prefork = prefork
        self._mark = uuid.uuid4().hex
        self._started: list[subprocess.Popen[str]] = []

    def __call__(
        self, *words: str, within_s: float = ENDS_WITHIN_S, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run it until it ends, with piped output."""
        return self._prefork.run(words, self.folder, self._environment() | environment, within_s)

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Start it and return immediately. `options` are passed to Popen; by default the output is piped."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
        command = [sys.executable, "-m", "harness.cli", *words]
        environment = self._environment() | options.pop("environment", {})
        process = subprocess.Popen(command, cwd=self.folder, env=environment, **options)
        self._started.append(process)
        return process

    def processes(self, module: str = "") -> list[psutil.Process]:
        """Return running processes started here and their descendants, optionally only `python -m module`."""
        ours = [process for process in psutil.process_iter() if _has(process, self._mark)]
        return [process for process in ours if not module or module in process.cmdline()]

    def assert_nothing_is_left(self, within_s: float = GONE_WITHIN_S) -> None:
        wait_for(lambda: not self.processes(), within_s)

    def close(self) -> None:
        """Kill all processes and close all pipes, regardless of how the test ended."""
        for process in self.processes():
            process.kill()
        for started in self._started:
            with started:
                pass  # closes its pipes

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(CHECKOUT), "TERM": "xterm", MARK: self._mark}


def wait_for(condition: Callable[[], object], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s:g} s"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def prefork() -> Iterator[Prefork]:
    """The process that runs commands; it starts, and imports, with the first command."""
    started = Prefork()
    yield started
    started.close()


@pytest.fixture
def execbench(tmp_path: Path, prefork: Prefork) -> Iterator[Execbench]:
    """Runs `execbench`; fails the test if a process that it started is still running at the end."""
    with watched(tmp_path, prefork) as commands:
        yield commands


@pytest.fixture
def browser() -> Iterator[Any]:
    """Chromium; tests that need it are skipped where it is not installed.

    Each test has its own, because while one is open, its driver's event loop runs in this thread.
    """
    with browsing.chromium() as started:
        yield started


Invoke = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def invoke(
    execbench: Execbench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Invoke:
    """Runs `execbench` in this process, for commands that start no other process."""
    children = set(psutil.Process().children())
    monkeypatch.chdir(execbench.folder)

    def invoke_here(*words: str) -> subprocess.CompletedProcess[str]:
        with pytest.raises(SystemExit) as ended:
            cli.app(words, prog_name="execbench")
        assert set(psutil.Process().children()) <= children
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(words, int(str(ended.value.code)), printed.out, printed.err)

    return invoke_here


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, prefork: Prefork) -> Iterator[Execbench]:
    """As `execbench`, with one folder for all tests of a module."""
    with watched(tmp_path_factory.mktemp("shared"), prefork) as commands:
        yield commands


@contextmanager
def watched(folder: Path, prefork: Prefork) -> Iterator[Execbench]:
    commands = Execbench(folder, prefork)
    try:
        yield commands
        commands.assert_nothing_is_left()
    finally:
        commands.close()


def _has(process: psutil.Process, mark: str) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark
    except psutil.Error:
        return False  # it has ended, or belongs to another user
