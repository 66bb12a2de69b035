"""`python -m harness.run.command_keeper`: run an arm's command and leave no process of it behind.

It reads a `Spec` as one line of JSON from stdin and starts the command. On Linux it is a subreaper: every
descendant of the command whose parent ends becomes a child of the keeper, also one that has left the process
group and the session. So the keeper can end them all, and the CPU of those that have ended counts as its own.
It ends

- with the command's exit code, when no process of the command is left;
- on SIGTERM: it sends the stop signal to the command, waits, and kills what is left;
- when stdin closes, as the run has ended or was killed: it kills them at once.

After the spec, stdin may have the bytes `SUSPEND` and `RESUME`: all processes of the command are suspended,
or go on. Signals would not do: of two that wait, the later one may arrive first.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import psutil

SUSPEND, RESUME = b"s", b"r"
_PR_SET_CHILD_SUBREAPER = 36
_KILLS_WITHIN_S = 5.0
_LOOKS_EVERY_S = 0.02
_CANNOT_START = 127  # a shell's exit code for a program that it cannot start


class Spec(NamedTuple):
    """What to start, and how to end it."""

    words: list[str]
    cwd: str | None
    env: dict[str, str]  # the whole environment of the command
    stop_signal: str  # such as SIGTERM
    stop_within_s: float


def main() -> None:
    signals = _wake_on(signal.SIGCHLD, signal.SIGTERM)
    for unanswered in (signal.SIGINT, signal.SIGHUP):
        # not SIG_IGN, which the command would inherit: `stop = "SIGINT"` could not end it
        signal.signal(unanswered, lambda *_: None)
    _adopt_orphans()
    if line := _first_line():
        sys.exit(_keep(Spec(**json.loads(line)), signals))


def _first_line() -> bytes:
    """Read stdin up to a line end, and nothing behind it; b"" if it closes before."""
    line = b""
    while not line.endswith(b"\n"):
        more = os.read(0, 1)
        if not more:
            return b""
        line += more
    return line


def _keep(spec: Spec, signals: int) -> int:
    """Run the command until it has ended or must; return the exit code."""
    try:
        started = subprocess.Popen(
            spec.words, cwd=spec.cwd, env=spec.env, stdin=subprocess.DEVNULL, process_group=0
        )
    except OSError as error:
        sys.stderr.write(f"Cannot start {spec.words[0]}: {error.strerror or error}\n")
        return _CANNOT_START
    code, end_by = 0, None
    while True:
        for pid, status in _ended_children():
            if pid == started.pid:
                code = os.waitstatus_to_exitcode(status)
        if not psutil.Process().children():
            return code if code >= 0 else 128 - code
        asked, received = _wait(signals, end_by)
        if asked is None:
            _kill_all()
            return code
        _obey(asked)
        if signal.SIGTERM in received and end_by is None:
            _ask_to_stop(signal.Signals[spec.stop_signal])
            end_by = time.monotonic() + spec.stop_within_s


def _obey(asked: bytes) -> None:
    """Do the last of what is asked."""
    if asked:
        _send_all(signal.SIGCONT if asked.endswith(RESUME) else signal.SIGSTOP)


def _wait(signals: int, end_by: float | None) -> tuple[bytes | None, bytes]:
    """Wait for stdin, a signal or the end; return what stdin has, and the numbers of the signals.

    The first is None once all must end: stdin has closed, or time is up.
    """
    wait_s = None if end_by is None else max(0.0, end_by - time.monotonic())
    readable, _, _ = select.select([0, signals], [], [], wait_s)
    received = os.read(signals, 64) if signals in readable else b""
    asked = os.read(0, 64) if 0 in readable else b""
    has_closed = 0 in readable and not asked
    is_late = end_by is not None and time.monotonic() >= end_by
    return None if has_closed or is_late else asked, received


def _ask_to_stop(how: signal.Signals) -> None:
    """Send the signal to the command; if it has ended, to what it has left."""
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            child.send_signal(how)
    _send_all(signal.SIGCONT)  # what is suspended gets the signal now


def _send_all(how: signal.Signals) -> None:
    """Send the signal to all descendants, also to those that are started meanwhile."""
    reached: set[psutil.Process] = set()
    while found := set(psutil.Process().children(recursive=True)) - reached:
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(how)
        reached |= found


def _kill_all() -> None:
    """Kill all descendants. Those of a killed process become children of this one, so look again."""
    deadline = time.monotonic() + _KILLS_WITHIN_S
    while (running := psutil.Process().children(recursive=True)) and time.monotonic() < deadline:
        for process in running:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for _ in _ended_children():
            pass
        time.sleep(_LOOKS_EVERY_S)


def _ended_children() -> Iterator[tuple[int, int]]:
    """Reap all children that have ended; yield pid and status."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        yield pid, status


def _wake_on(*signals: signal.Signals) -> int:
    """Return a file descriptor from which the numbers of these signals can be read."""
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    for one in signals:
        signal.signal(one, lambda *_: None)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    return readable


def _adopt_orphans() -> None:
    """Become the parent of descendants whose parent ends. Linux only; elsewhere, those escape."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


if __name__ == "__main__":
    main()
