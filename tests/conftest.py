"""The command line as its users have it: a real process in an empty folder, watched for what it leaves."""

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

import psutil
import pytest
from prefork import Prefork

from harness import cli

pytest_plugins = ["groups", "durations"]

CHECKOUT = Path(__file__).parent.parent
MARK = "EXECBENCH_TEST"  # in the environment, so every descendant has it, whoever its parent is by then
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
        """Run it to its end, its output piped."""
        return self._prefork.run(words, self.folder, self._environment() | environment, within_s)

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Start it and return at once; `options` are those of Popen, by default its output is piped."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
        command = [sys.executable, "-m", "harness.cli", *words]
        environment = self._environment() | options.pop("environment", {})
        process = subprocess.Popen(command, cwd=self.folder, env=environment, **options)
        self._started.append(process)
        return process

    def processes(self, module: str = "") -> list[psutil.Process]:
        """What was started here and still runs, with all descendants; only those of `python -m module`."""
        ours = [process for process in psutil.process_iter() if _has(process, self._mark)]
        return [process for process in ours if not module or module in process.cmdline()]

    def assert_nothing_is_left(self, within_s: float = GONE_WITHIN_S) -> None:
        wait_for(lambda: not self.processes(), within_s)

    def close(self) -> None:
        """Whatever the test did: no process of it goes on, and no pipe stays open."""
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
    """Begins to import when a command is first asked for."""
    started = Prefork()
    yield started
    started.close()


@pytest.fixture
def execbench(tmp_path: Path, prefork: Prefork) -> Iterator[Execbench]:
    """After the test everything that it has started must have ended by itself."""
    with _watched(tmp_path, prefork) as commands:
        yield commands


Here = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def here(execbench: Execbench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Here:
    """As `execbench`, in this process: for what is answered or refused before any other is started."""
    children = set(psutil.Process().children())
    monkeypatch.chdir(execbench.folder)

    def run_here(*words: str) -> subprocess.CompletedProcess[str]:
        with pytest.raises(SystemExit) as ended:
            cli.app(words, prog_name="execbench")
        assert set(psutil.Process().children()) <= children
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(words, int(str(ended.value.code)), printed.out, printed.err)

    return run_here


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, prefork: Prefork) -> Iterator[Execbench]:
    """As `execbench`, for what several tests of a module look at."""
    with _watched(tmp_path_factory.mktemp("shared"), prefork) as commands:
        yield commands


@contextmanager
def _watched(folder: Path, prefork: Prefork) -> Iterator[Execbench]:
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
        return False  # gone meanwhile, or not ours to look into
