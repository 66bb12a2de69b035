"""Start this package's own Python processes, and set where they find modules."""

from __future__ import annotations

import errno
import importlib
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from harness.errors import HarnessError

MIN_OPEN_FILES = 64  # a server with one user has about 20 files open

_HINTS = {
    errno.EMFILE: "Raise the limit: ulimit -n 1024",
    errno.EAGAIN: "Stop other processes, or raise the limit: ulimit -u",
    errno.ENOMEM: "Free some memory.",
}


ELSEWHERE = Path(__file__).with_name("elsewhere")  # on the path of another Python, makes it find our packages


def python(module: str, *arguments: str, interpreter: str | None = None) -> list[str]:
    """Return the command line of `python -m module`, without imports from the current folder.

    Otherwise a file random.py there would replace the one of the standard library. multiprocessing passes the
    flag on to workers. PYTHONSAFEPATH would also change the processes that the user's code starts.
    """
    return [interpreter or sys.executable, "-P", "-m", module, *arguments]


def environment_of(interpreter: str | None) -> dict[str, str] | None:
    """Return the environment in which another Python finds this package; None for this Python: inherit ours.

    Another Python sees `harness` and `strategies` of this installation and none of the packages beside them,
    and the processes that it starts do too. The user's own PYTHONPATH stays.
    """
    if interpreter is None:
        return None
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONHOME"}  # it is that of ours
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ELSEWHERE), kept.get("PYTHONPATH", "")]))}


def let_import_from(*folders: Path) -> None:
    """Make the user's modules in these folders importable, in this process and in workers that it spawns.

    Append the folders to sys.path, so that their modules hide none of ours. The folder of this package comes
    before them, as an editable install may be found only after all of sys.path.
    """
    for folder in (Path(__file__).parents[2], *folders):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    importlib.invalidate_caches()


def start(command: list[str], **options: Any) -> subprocess.Popen[Any]:
    """Start `command` with the options of Popen. Raises HarnessError if the system refuses."""
    try:
        return subprocess.Popen(command, **options)
    except OSError as error:
        raise HarnessError(
            f"Cannot start a process: {error.strerror or error}.",
            stage="start",
            hint=_HINTS.get(error.errno or 0, ""),
        ) from error


def check_files() -> None:
    """Raise a limit of open files that is too low for any run. Raises HarnessError if that is forbidden."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= MIN_OPEN_FILES:
        return
    if hard != resource.RLIM_INFINITY and hard < MIN_OPEN_FILES:
        raise HarnessError(
            f"Only {hard} files may be open at the same time; a run needs {MIN_OPEN_FILES}.",
            stage="start",
            hint=_HINTS[errno.EMFILE],
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (MIN_OPEN_FILES, hard))


def open_log(path: Path) -> IO[bytes]:
    """Open a log to append to it. Raises HarnessError, as its folder may have been removed during the run."""
    try:
        return path.open("ab")
    except OSError as error:
        raise HarnessError(
            f"The log {path} cannot be written: {error.strerror or error}.",
            stage="results",
            hint="Keep its folder until the run has ended.",
        ) from error
