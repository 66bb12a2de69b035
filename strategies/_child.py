"""How a worker process of any strategy ends with its parent, and its children with it."""

import multiprocessing
import os
import signal
import time
from contextlib import suppress
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from pathlib import Path
from threading import Thread

_PARENT_CHECK_INTERVAL_S = 0.2


def follow_parent() -> None:
    """Make this process end when its parent ends, and leave Ctrl-C to the parent.

    By default a worker outlives a parent that was killed (cpython #111873). `PR_SET_PDEATHSIG` does not help:
    it follows the thread that spawned the worker, not the process.

    The worker may have children, which multiprocessing forbids for a daemonic process. So it stops being
    daemonic for itself only. For the parent it stays daemonic: the parent kills it at exit and does not wait
    for a worker that hangs. The worker's children end with it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group
    multiprocessing.current_process().daemon = False
    # run before multiprocessing joins the children, which may never end, and after its pools close (priority
    # 15)
    Finalize(None, _kill_descendants, exitpriority=1)
    Thread(target=_exit_with_parent, name="strategy-follow-parent", daemon=True).start()


def kill_tree(process: BaseProcess) -> None:
    """Kill a running worker and all processes that it has started. Do nothing if it has ended."""
    if process.is_alive():
        started = descendants(process.pid)
        process.kill()
        kill(started)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a child process can follow a parent"
    try:
        parent.join()
    except ValueError:  # loky gives its children no parent that can be joined
        while os.getppid() == parent.pid:
            time.sleep(_PARENT_CHECK_INTERVAL_S)
    _kill_descendants()
    os._exit(1)


def _kill_descendants() -> None:
    kill(descendants(os.getpid()))


def kill(pids: list[int]) -> None:
    """Kill the processes that still run."""
    for pid in pids:
        with suppress(OSError):  # it has ended, or belongs to another user
            os.kill(pid, signal.SIGKILL)


def descendants(pid: int | None) -> list[int]:
    """Return all descendants of this process; an empty list on systems without /proc.

    Resource trackers are left out: they clean up and then end by themselves.
    """
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            parent = int((folder / "stat").read_bytes().rpartition(b")")[2].split()[1])
            if b"resource_tracker" not in (folder / "cmdline").read_bytes():
                children.setdefault(parent, []).append(int(folder.name))
    found = list(children.get(pid or 0, ()))
    for one in found:  # the list grows during the loop
        found += children.get(one, ())
    return found
