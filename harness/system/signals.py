"""What Ctrl-C, TERM and HUP do to a command: it ends in order, as by Ctrl-C, with exit code 128 + signal.

Until the command begins, the process ends at once and without a traceback (see `harness.system.early`).
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

INTERRUPTED = "Interrupted."
_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ended(KeyboardInterrupt):
    """TERM or HUP: everything is tidied up as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """128 + the signal's number, as shells have it: 130 of Ctrl-C, 143 of TERM, 129 of HUP."""
    return 128 + (interrupt.number if isinstance(interrupt, Ended) else signal.SIGINT)


def leave_at_once() -> None:
    """From now on a signal ends this process quietly: nothing has been started that must be stopped.

    A signal that is ignored stays so: under nohup, or in the background of a script.
    """
    for number in _NUMBERS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)


def tidy_up() -> None:
    """From now on a signal raises KeyboardInterrupt, if `leave_at_once` was called before."""
    for number in _NUMBERS:
        if signal.getsignal(number) is _leave:
            # Python's own is the one in whose place asyncio cancels its main task
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else _raise)


@contextmanager
def deferred() -> Iterator[None]:
    """Let a signal that comes inside have its effect on leaving. Only the main thread ever sees one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen: list[int] = []
    handlers = {number: signal.getsignal(number) for number in _NUMBERS}
    ours = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in ours:
        signal.signal(number, lambda which, _: seen.append(which))
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
        for which in seen[:1]:
            signal.raise_signal(which)


def _leave(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - as handlers are called
    with suppress(OSError):  # stderr may be closed
        os.write(2, f"{INTERRUPTED}\n".encode())
    os._exit(128 + number)


def _raise(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - as handlers are called
    raise Ended(number)
