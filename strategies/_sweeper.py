"""A small process that ends what a killed process leaves of its own Ray: `python _sweeper.py MARK FOLDER`.

When its stdin closes, it removes FOLDER and kills every process that has a file open there, or that has MARK
(NAME=VALUE) in its environment. Ray's agents would otherwise go on; their title overwrites their environment.

It imports the standard library alone, as it runs as a file.
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
    """Wait for the end of stdin, then sweep. The process that started this one is spared."""
    parent = os.getppid()
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    while os.read(0, 1024):
        pass
    _, mark, folder = sys.argv
    for _ in range(_MOST_ROUNDS):
        found = [pid for pid in _ours(mark.encode(), folder) if pid not in (parent, os.getpid())]
        if not found:
            break
        for pid in found:
            with suppress(OSError):  # it has just ended
                os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def _ours(mark: bytes, folder: str) -> Iterator[int]:
    """Yield the processes of this user with this mark or folder; none on a system without /proc."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (process / "environ").read_bytes().split(b"\0") or _has_open(process, folder):
                yield int(process.name)


def _has_open(process: Path, folder: str) -> bool:
    return any(str(file.readlink()).startswith(f"{folder}/") for file in (process / "fd").iterdir())


if __name__ == "__main__":
    main()
