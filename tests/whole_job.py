"""The main job on the real model, small: `make bench` with fewer requests, as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

CONCURRENCIES = (1, 4)
BLOCKS = 2
REQUESTS = 6
ENDS_WITHIN_S = 390.0


class WholeJob(NamedTuple):
    """It goes on while others do something else; `wait` is for its end."""

    folder: Path  # of the run
    process: subprocess.Popen[bytes]
    stdout: Path
    stderr: Path

    def wait(self) -> subprocess.CompletedProcess[str]:
        code = self.process.wait(ENDS_WITHIN_S)
        said = (path.read_text() for path in (self.stdout, self.stderr))
        return subprocess.CompletedProcess(self.process.args, code, *said)


def begin(parent: Path) -> WholeJob:
    folder, stdout, stderr = parent / "run", parent / "stdout", parent / "stderr"
    loads = [word for c in CONCURRENCIES for word in ("--concurrency", str(c))]
    command = [sys.executable, "-m", "harness.cli", "run", "article", "--no-self-check", *loads]
    command += ["--blocks", str(BLOCKS), "--requests", str(REQUESTS), "--out", str(folder)]
    with stdout.open("w") as out, stderr.open("w") as err:
        return WholeJob(folder, subprocess.Popen(command, stdout=out, stderr=err), stdout, stderr)
