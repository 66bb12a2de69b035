"""How this package starts Python processes of its own, and where those find modules."""

from __future__ import annotations

import errno
import importlib
import resource
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from harness.errors import HarnessError

FEWEST_FILES = 64  # a server with one user has some twenty open

_WAYS_OUT = {
    errno.EMFILE: "Raise the limit: ulimit -n 1024",
    errno.EAGAIN: "End other processes, or raise the limit: ulimit -u",
    errno.ENOMEM: "Free some memory.",
}


def python(module: str, *arguments: str) -> list[str]:
    """The command line of `python -m module`, on which the current folder is not imported from.

    A file random.py there would run in place of the standard library's. The flag is passed on to workers by
    multiprocessing; PYTHONSAFEPATH would also change the processes that the user's code starts.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def let_import_from(*folders: Path) -> None:
    """Let the user's modules be imported from these folders, in this process and in workers that it spawns.

    They come last, so that none of theirs hides one of ours; before them the folder of this package, which an
    editable install may find only after all of sys.path.
    """
    for folder in (Path(__file__).parents[2], *folders):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    importlib.invalidate_caches()


def start(command: list[str], **options: Any) -> subprocess.Popen[Any]:
    """Start `command`; `options` are those of Popen. Raises HarnessError where the system refuses."""
    try:
        return subprocess.Popen(command, **options)
    except OSError as error:
        raise HarnessError(
            f"No process can be started: {error.strerror or error}.",
            stage="start",
            hint=_WAYS_OUT.get(error.errno or 0, ""),
        ) from error


def check_files() -> None:
    """Raise a limit of open files that is too low for any run; HarnessError where the system refuses."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= FEWEST_FILES:
        return
    if hard != resource.RLIM_INFINITY and hard < FEWEST_FILES:
        raise HarnessError(
            f"Only {hard} files may be open at once; a run needs {FEWEST_FILES}.",
            stage="start",
            hint=_WAYS_OUT[errno.EMFILE],
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEWEST_FILES, hard))


def open_log(path: Path) -> IO[bytes]:
    """The log, to append to. Raises HarnessError, as its folder may have been removed in mid-run."""
    try:
        return path.open("ab")
    except OSError as error:
        raise HarnessError(
            f"The log {path} cannot be written: {error.strerror or error}.",
            stage="results",
            hint="Its folder is needed until the run has ended.",
        ) from error
