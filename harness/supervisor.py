"""A tiny parent over every process of a run: when its pipe closes, it kills the whole group.

The pipe closes when the run ends, and also when the CLI dies of SIGKILL: the kernel closes it then. Every
process of a run joins the supervisor's process group; so do their children, unless they ask otherwise.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Any


class Supervisor:
    """Context manager: what `spawn` starts does not outlive it, nor this process. POSIX only."""

    def __enter__(self) -> Supervisor:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness.supervisor"],
            stdin=subprocess.PIPE,
            process_group=0,
        )
        return self

    def spawn(self, module: str, *arguments: str, stderr: IO[bytes] | int | None, **options: Any) -> Any:
        """Start `python -m module` in the supervised group; `options` are those of Popen.

        In a group of its own it does not get the terminal's Ctrl-C: the CLI stops things in order.
        """
        command: Sequence[str] = [sys.executable, "-m", module, *arguments]
        return subprocess.Popen(command, process_group=self._process.pid, stderr=stderr, **options)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def main() -> None:
    """Wait for the end of the pipe, then take the group, this process included, down."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    while os.read(0, 1024):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
