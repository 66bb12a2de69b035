"""Faults of the synthetic model, to provoke failures on purpose.

With ``faults = true``, a text ``fault:KIND`` or ``fault:KIND=VALUE`` causes a fault; anything after a space
only distinguishes one such item from another. Each fault first writes a line to stderr, the server's log,
which shows whether it ran, how often and in which process. Setting up writes such a line too; it can be slow,
and it can fail.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import NoReturn

from harness.errors import HarnessError
from harness.wire.options import WorkloadOptions

FAULT_PREFIX = "fault:"
SET_UP = "set-up"
FOREVER_S = 3600.0
EXIT_CODE = 9
# exit: end the process at once. sleep: wait for VALUE seconds, then answer. unpicklable: the result is
KINDS = ("exit", "hang", "raise", "sleep", "unpicklable", "unpicklable-exception", "one-way-exception")


class Raised(Exception):
    """Raised by ``fault:raise``, as by a model that rejects its item."""


class Unpicklable(str):
    """A result that a thread can return and a process cannot."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError("this result cannot be pickled")


class UnpicklableError(Exception):
    """An exception that a process cannot send."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("this exception cannot be pickled")


class OneWayError(Exception):
    """An exception that can be pickled but not unpickled: it takes two arguments and pickles one."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")


def misbehave(item: str) -> str:
    """Cause the fault that the text names. Raises ValueError for an unknown one."""
    kind, _, value = item.partition(" ")[0].removeprefix(FAULT_PREFIX).partition("=")
    if kind not in KINDS:
        raise ValueError(f"{item!r} is not a known fault. Choose from: {', '.join(KINDS)}")
    _log(item)
    match kind:
        case "exit":
            os._exit(EXIT_CODE)
        case "raise":
            raise Raised("the model does not like this item")
        case "unpicklable":
            return Unpicklable("no process can hand this on")
        case "unpicklable-exception":
            raise UnpicklableError("the model does not like this item")
        case "one-way-exception":
            raise OneWayError("the model does not like this item", "neither does pickle")
    time.sleep(FOREVER_S if kind == "hang" else float(value))
    return item.upper()


def log_line_prefix(event: str) -> str:
    """The beginning of the log line of an item or of `SET_UP`; the process's id follows."""
    return f"EXECBENCH-FAULT {event} in process"


def _log(event: str) -> None:
    sys.stderr.write(f"{log_line_prefix(event)} {os.getpid()}\n")
    sys.stderr.flush()


def set_up(options: WorkloadOptions) -> None:
    """Take `setup_ms`, then fail if `faulty_setup` is set. With `faulty_setup_file`, only if that exists."""
    if options.faults:
        _log(SET_UP)
    time.sleep(options.setup_ms / 1e3)
    path = options.faulty_setup_file
    if options.faulty_setup is None or not (path is None or Path(path).exists()):
        return
    if options.faulty_setup == "exit":
        os._exit(EXIT_CODE)
    raise HarnessError(
        "The model fails to load because faulty_setup is set.", stage="model", hint="Leave faulty_setup out."
    )
