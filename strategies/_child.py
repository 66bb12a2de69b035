"""What a worker process does about its parent and its own children, whichever strategy has started it."""

import multiprocessing
import os
import signal
import time
from contextlib import suppress
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from pathlib import Path
from threading import Thread

_LOOKS_EVERY_S = 0.2


def follow_parent() -> None:
    """Tie this process's life to its parent's, from now on; leave Ctrl-C to the parent.

    A worker outlives a parent that was killed (cpython #111873). `PR_SET_PDEATHSIG` would not do: it follows
    the thread that spawned, not the process.

    The worker may have children, which a daemonic process may not. To its parent it stays daemonic where it
    was: so the parent ends it at exit, and does not wait for a worker that hangs. Its children end with it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group
    multiprocessing.current_process().daemon = False
    # before multiprocessing waits for children, which may never end, and after its pools have closed (15)
    Finalize(None, _kill_descendants, exitpriority=1)
    Thread(target=_exit_with_parent, name="strategy-follow-parent", daemon=True).start()


def kill_tree(process: BaseProcess) -> None:
    """Kill a worker that runs, and all that it has started. A worker that has ended is left alone."""
    if process.is_alive():
        started = _descendants(process.pid)
        process.kill()
        _kill(started)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a child has a parent to follow"
    try:
        parent.join()
    except ValueError:  # loky's children have been told of no parent that can be joined
        while os.getppid() == parent.pid:
            time.sleep(_LOOKS_EVERY_S)
    _kill_descendants()
    os._exit(1)


def _kill_descendants() -> None:
    _kill(_descendants(os.getpid()))


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(OSError):  # it has ended, or runs as another user
            os.kill(pid, signal.SIGKILL)


def _descendants(pid: int | None) -> list[int]:
    """All processes below this one. None are found where there is no /proc.

    Resource trackers are left out: they clean up, and then end by themselves.
    """
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            parent = int((folder / "stat").read_bytes().rpartition(b")")[2].split()[1])
            if b"resource_tracker" not in (folder / "cmdline").read_bytes():
                children.setdefault(parent, []).append(int(folder.name))
    found = list(children.get(pid or 0, ()))
    for one in found:  # grows as it goes
        found += children.get(one, ())
    return found
