"""What a worker process does about its parent, whichever strategy has started it."""

import multiprocessing
import os
import signal
import time
from threading import Thread

_LOOKS_EVERY_S = 0.2


def follow_parent() -> None:
    """Tie this process's life to its parent's, from now on; leave Ctrl-C to the parent.

    A worker outlives a parent that was killed (cpython #111873). `PR_SET_PDEATHSIG` would not do: it follows
    the thread that spawned, not the process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group
    Thread(target=_exit_with_parent, name="strategy-follow-parent", daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a child has a parent to follow"
    try:
        parent.join()
    except ValueError:  # loky's children have been told of no parent that can be joined
        _wait_for_another_parent(parent.pid)
    os._exit(1)


def _wait_for_another_parent(pid: int | None) -> None:
    while os.getppid() == pid:
        time.sleep(_LOOKS_EVERY_S)
