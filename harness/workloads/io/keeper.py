"""A tiny process beside a service: when the service dies, however it does, its process group goes too.

The service itself ends with the run, and tidies up; but PostgreSQL would go on when both are killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from harness.system import children

ENDS_WITHIN_S = 5.0


@contextmanager
def watching() -> Iterator[None]:
    """A keeper of this process's own group. Nothing is left that it should end where no error is raised."""
    theirs, ours = os.pipe()
    options = {"stdin": theirs, "stdout": subprocess.DEVNULL}
    process = children.start(children.python("harness.workloads.io.keeper"), **options)
    os.close(theirs)
    yield
    process.kill()
    process.wait()
    os.close(ours)


def end(group: int) -> None:
    """End a process group: at once, as PostgreSQL has it, also if it was stopped; then by force."""
    _tell(group, signal.SIGQUIT)
    _tell(group, signal.SIGCONT)
    deadline = time.monotonic() + ENDS_WITHIN_S
    while _runs(group) and time.monotonic() < deadline:
        time.sleep(0.02)
    _tell(group, signal.SIGKILL)


def _tell(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # the latter of those that have ended already
        os.killpg(group, number)


def _runs(group: int) -> bool:
    """Whether anything but this process is left of it. A zombie has ended, and its parent is slow."""
    return any(_is_of(process, group) for process in psutil.process_iter() if process.pid != os.getpid())


def _is_of(process: psutil.Process, group: int) -> bool:
    try:
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, psutil.Error):
        return False


def main() -> None:
    """Wait for the end of the pipe, then take the group, this process included, down."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(name, signal.SIG_IGN)
    while os.read(0, 1024):
        pass
    end(os.getpgrp())


if __name__ == "__main__":
    main()
