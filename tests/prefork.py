"""`execbench` commands as processes of their own that need not import first: forked from one that has.

Run as a module by `Prefork`: reads a command a line, forks, runs it, and says its exit code.
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
    """Has such a process run commands, one after the other; it is started for the first."""

    def __init__(self) -> None:
        self._started: subprocess.Popen[str] | None = None

    def run(
        self, words: Sequence[str], folder: Path, environment: Mapping[str, str], within_s: float
    ) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run` of the command; exit code -14 when it takes longer than `within_s`."""
        process = self._process()
        assert process.stdin is not None
        assert process.stdout is not None
        with tempfile.TemporaryDirectory() as outputs:
            asked: dict[str, object] = {"words": words, "folder": str(folder)}
            asked |= {"environment": dict(environment), "outputs": outputs, "within_s": within_s}
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
            code = int(process.stdout.readline())
            stdout, stderr = ((Path(outputs) / name).read_text() for name in ("stdout", "stderr"))
        return subprocess.CompletedProcess(words, code, stdout, stderr)

    def close(self) -> None:
        if self._started is not None:
            self._started.communicate()  # it ends with its input

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
    """Until there are no more commands; in a fork, until its command has ended."""
    import importlib
    import signal

    from harness import cli

    for name in PRELOADED:
        importlib.import_module(f"harness.{name}")
    report_once()
    for line in sys.stdin:
        asked = json.loads(line)
        if pid := os.fork():
            _, status = os.waitpid(pid, 0)
            sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
            sys.stdout.flush()
        else:
            become(asked)
            signal.setitimer(signal.ITIMER_REAL, asked["within_s"])  # SIGALRM ends it
            cli.app(asked["words"], prog_name="execbench")


def report_once() -> None:
    """A process's first report takes twice as long as the next: parts of SciPy and matplotlib load late."""
    import made_up

    from harness.report import export, report
    from harness.results import store

    requests, trials = made_up.run({("inline", 2): made_up.Point(), ("thread", 2): made_up.Point()})
    with tempfile.TemporaryDirectory() as folder:
        run = store.Run(Path(folder), {"plan": {"reference": "inline"}}, requests, trials, [])
        export.write(report.build(run))


def become(asked: dict[str, Any]) -> None:
    """Take on the command's folder, environment and streams."""
    os.chdir(asked["folder"])
    sys.path.pop(0)  # of this script; `execbench` does without the current folder, too
    os.environ.clear()
    os.environ.update(asked["environment"])
    written = os.O_CREAT | os.O_WRONLY
    for number, name, flags in ((0, os.devnull, os.O_RDONLY), (1, "stdout", written), (2, "stderr", written)):
        opened = os.open(Path(asked["outputs"], name), flags)
        os.dup2(opened, number)
        os.close(opened)


if __name__ == "__main__":
    serve()
