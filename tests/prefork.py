"""Runs each `execbench` command in a process forked from one that has already imported everything.

`Prefork` runs this file as a script. It reads a command per line, forks to run it, and prints its exit code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parent.parent
PRELOADED = (
    "report.report",
    "run.session",
    "capacity.report",
    "capacity.session",
    "verdicts.compare_runs",
    "report.sweep",
    "plans.from_flags",
    "run.load_generator",
)


class Prefork:
    """Runs commands one after the other in forks of a process that starts with the first command."""

    def __init__(self) -> None:
        self._started: subprocess.Popen[str] | None = None

    def run(
        self, words: Sequence[str], folder: Path, environment: Mapping[str, str], within_s: float
    ) -> subprocess.CompletedProcess[str]:
        """Run the command like `subprocess.run`. The exit code is -14 if it takes longer than `within_s`."""
        process = self._process()
        assert process.stdin is not None
        assert process.stdout is not None
        with tempfile.TemporaryDirectory() as outputs:
            request: dict[str, object] = {"words": words, "folder": str(folder)}
            request |= {"environment": dict(environment), "outputs": outputs, "within_s": within_s}
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            code = int(process.stdout.readline())
            stdout, stderr = ((Path(outputs) / name).read_text() for name in ("stdout", "stderr"))
        return subprocess.CompletedProcess(words, code, stdout, stderr)

    def close(self) -> None:
        if self._started is not None:
            self._started.communicate()  # it ends when its stdin is closed

    def _process(self) -> subprocess.Popen[str]:
        if self._started is None:
            self._started = subprocess.Popen(
                [sys.executable, __file__],
                env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        return self._started


def serve() -> None:
    """Run commands until stdin ends. A fork returns when its command has ended."""
    import importlib
    import signal

    from harness import cli

    for name in PRELOADED:
        importlib.import_module(f"harness.{name}")
    report_once()
    for line in sys.stdin:
        request = json.loads(line)
        if pid := os.fork():
            _, status = os.waitpid(pid, 0)
            sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
            sys.stdout.flush()
        else:
            become(request)
            signal.setitimer(signal.ITIMER_REAL, request["within_s"])  # SIGALRM ends it
            cli.app(request["words"], prog_name="execbench")


def report_once() -> None:
    """Write one report, because the first takes twice as long: SciPy and matplotlib load parts lazily."""
    import made_up

    from harness.report import export, report
    from harness.results import store

    requests, trials = made_up.run({("inline", 2): made_up.Point(), ("thread", 2): made_up.Point()})
    with tempfile.TemporaryDirectory() as folder:
        run = store.Run(Path(folder), {"plan": {"reference": "inline"}}, requests, trials, [])
        export.write(report.build(run))


def become(request: dict[str, Any]) -> None:
    """Change to the command's folder, environment and streams."""
    os.chdir(request["folder"])
    sys.path.pop(0)  # the folder of this script; `execbench` has no such entry either
    os.environ.clear()
    os.environ.update(request["environment"])
    written = os.O_CREAT | os.O_WRONLY
    for number, name, flags in ((0, os.devnull, os.O_RDONLY), (1, "stdout", written), (2, "stderr", written)):
        opened = os.open(Path(request["outputs"], name), flags)
        os.dup2(opened, number)
        os.close(opened)


if __name__ == "__main__":
    serve()
