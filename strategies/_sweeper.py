"""A small process that ends what a killed process leaves of its own Ray: `python _sweeper.py MARK FOLDER`.

When its stdin closes, it kills every process that has MARK (NAME=VALUE) in its environment, and removes FOLDER.
Ray's agents would otherwise go on. It imports the standard library alone, as it runs as a file.
"""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_MOST_ROUNDS = 100  # of killing: a process may start others while they are looked up


def main() -> None:
    """Wait for the end of stdin, then sweep."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    while os.read(0, 1024):
        pass
    _, mark, folder = sys.argv
    for _ in range(_MOST_ROUNDS):
        found = list(_marked(mark.encode()))
        if not found:
            break
        for pid in found:
            with suppress(OSError):  # it has just ended
                os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def _marked(variable: bytes) -> Iterator[int]:
    """Yield the processes of this user with this variable; none on a system without /proc."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if variable in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)


if __name__ == "__main__":
    main()
