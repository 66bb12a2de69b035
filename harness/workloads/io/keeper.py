"""A small process that ends a service's process group when the service dies for any reason.

The service ends with the run and cleans up; but if both were killed, PostgreSQL would keep running.
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

GROUP_ENDS_WITHIN_S = 5.0


@contextmanager
def watching() -> Iterator[None]:
    """Run a keeper of this process's own group; end the keeper if the block ends without an error."""
    theirs, ours = os.pipe()
    options = {"stdin": theirs, "stdout": subprocess.DEVNULL}
    process = children.start(children.python("harness.workloads.io.keeper"), **options)
    os.close(theirs)
    yield
    process.kill()
    process.wait()
    os.close(ours)


def end(group: int) -> None:
    """End a process group: with PostgreSQL's signal for an immediate shutdown, then with SIGKILL.

    SIGCONT wakes processes that were stopped.
    """
    _send(group, signal.SIGQUIT)
    _send(group, signal.SIGCONT)
    deadline = time.monotonic() + GROUP_ENDS_WITHIN_S
    while _runs(group) and time.monotonic() < deadline:
        time.sleep(0.02)
    _send(group, signal.SIGKILL)


def _send(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # PermissionError: the group has already ended
        os.killpg(group, number)


def _runs(group: int) -> bool:
    """Whether the group has a process other than this one. A zombie does not count: it has ended."""
    return any(_is_in(process, group) for process in psutil.process_iter() if process.pid != os.getpid())


def _is_in(process: psutil.Process, group: int) -> bool:
    try:
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, psutil.Error):
        return False


def main() -> None:
    """Wait until the pipe closes, then end the group, including this process."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(name, signal.SIG_IGN)
    while os.read(0, 1024):
        pass
    end(os.getpgrp())


if __name__ == "__main__":
    main()
