"""Handling of SIGINT (Ctrl-C), SIGTERM and SIGHUP: a command cleans up and exits with code 128 + signal.

Before the command begins, the process exits immediately and without a traceback (see `harness.system.early`).
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
MEANINGS = {  # docs/reference/exit-codes.md shows them
    signal.SIGINT: "SIGINT: interrupted by Ctrl-C. Finished trials are kept.",
    signal.SIGTERM: "SIGTERM: ended by another program. Finished trials are kept.",
    signal.SIGHUP: "SIGHUP: the terminal was closed. Finished trials are kept.",
}
_NUMBERS = tuple(MEANINGS)


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP. The command cleans up as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """Return 128 + the number of the signal, like shells: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + (interrupt.number if isinstance(interrupt, Terminated) else signal.SIGINT)


def exit_codes() -> dict[int, str]:
    """Return exit code → what it means, of a process that a signal has ended."""
    return {128 + number: meaning for number, meaning in MEANINGS.items()}


def exit_on_signal() -> None:
    """Make signals end this process immediately from now on, as there is nothing to clean up.

    An ignored signal stays ignored: under nohup, or in the background of a script.
    """
    for number in _NUMBERS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _exit)


def raise_on_signal() -> None:
    """Make signals raise KeyboardInterrupt from now on, if `exit_on_signal` was called before."""
    for number in _NUMBERS:
        if signal.getsignal(number) is _exit:
            # asyncio replaces only Python's own handler with one that cancels its main task
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else _raise)


@contextmanager
def deferred() -> Iterator[None]:
    """Defer signals until the end of the block. In other threads do nothing: they receive no signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    handlers = {number: signal.getsignal(number) for number in _NUMBERS}
    ours = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in ours:
        signal.signal(number, lambda which, _: received.append(which))
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
        for which in received[:1]:
            signal.raise_signal(which)


def _exit(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - signature of a handler
    with suppress(OSError):  # stderr may be closed
        os.write(2, f"{INTERRUPTED}\n".encode())
    os._exit(128 + number)


def _raise(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - signature of a handler
    raise Terminated(number)
