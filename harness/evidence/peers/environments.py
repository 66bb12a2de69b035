"""Make an environment for each peer, since their requirements contradict each other.

A peer is a folder in `harness/data/peers` with a `service.py` and a `requirements.txt`. Its environment is a
folder of the same name, with a stamp that is written last: what has no stamp, or the stamp of other
requirements, is made again.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import psutil

import harness
from harness.plans.filled_command import PEERS
from harness.system import children

SOURCES = Path(harness.__file__).parent / "data" / "peers"
REQUIREMENTS = "requirements.txt"
STAMP = "execbench-ready"
PIP_OPTIONS = ("--disable-pip-version-check", "--no-input", "--progress-bar", "off")
TAIL_LINES = 5  # of pip, in a message

State = Literal["made", "there", "failed"]


class Environment(NamedTuple):
    """What became of the environment of a peer."""

    name: str
    state: State
    seconds: float
    why: str = ""  # the last lines of pip, if it failed


def names(sources: Path = SOURCES) -> list[str]:
    """Return the names of all peers."""
    return sorted(path.parent.name for path in sources.glob(f"*/{REQUIREMENTS}"))


def make_all(
    wanted: Sequence[str],
    tell: Callable[[str], None],
    folder: Path = PEERS,
    sources: Path = SOURCES,
    pip_options: Sequence[str] = (),
) -> Iterator[Environment]:
    """Make the environments one after the other; one that fails does not stop the others.

    `tell` gets a line before each. pip obeys the configuration of this machine, and `pip_options`.
    """
    for number, name in enumerate(wanted, 1):
        tell(f"{number}/{len(wanted)}: {name}")
        began = time.monotonic()
        state, why = _make(name, folder, sources, pip_options)
        yield Environment(name, state, round(time.monotonic() - began, 1), why)


def is_ready(name: str, folder: Path = PEERS, sources: Path = SOURCES) -> bool:
    """Whether the environment exists, finished, with the present requirements and this version of Python."""
    try:
        stamp = (folder / name / STAMP).read_text(encoding="utf-8")
    except OSError:
        return False
    return stamp == stamp_of(sources / name) and _python(folder / name).exists()


def log_of(name: str, folder: Path = PEERS) -> Path:
    """The file with everything that pip printed for this peer."""
    return folder / f"{name}.log"


def _make(name: str, folder: Path, sources: Path, pip_options: Sequence[str]) -> tuple[State, str]:
    if is_ready(name, folder, sources):
        return "there", ""
    folder.mkdir(parents=True, exist_ok=True)
    environment = folder / name
    python = _python(environment)
    requirements = sources / name / REQUIREMENTS
    steps = (
        [sys.executable, "-m", "venv", "--clear", environment],
        [python, "-m", "pip", "install", *PIP_OPTIONS, *pip_options, "-r", requirements],
    )
    with log_of(name, folder).open("wb") as log:
        for step in steps:
            if not _succeeds([str(word) for word in step], log.fileno()):
                shutil.rmtree(environment, ignore_errors=True)  # so that a run sees that it is missing
                return "failed", _tail(log_of(name, folder))
    (environment / STAMP).write_text(stamp_of(sources / name), encoding="utf-8")
    return "made", ""


def _python(environment: Path) -> Path:
    return environment / "bin" / "python"


def stamp_of(source: Path) -> str:
    """The version of Python, and a hash of all requirements, also of those that the peers share."""
    texts = [path.read_bytes() for path in (source / REQUIREMENTS, *sorted(source.parent.glob("*.txt")))]
    return f"{sys.version_info[0]}.{sys.version_info[1]} {hashlib.sha256(b'|'.join(texts)).hexdigest()}\n"


def _succeeds(command: list[str], log: int) -> bool:
    """Run a command to its end, its output into the log. If interrupted, end it and what it has started."""
    process = children.start(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    try:
        return process.wait() == 0
    except BaseException:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
        process.kill()
        process.wait()
        raise


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join([line for line in lines if line.strip()][-TAIL_LINES:])
