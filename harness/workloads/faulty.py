"""How the synthetic model misbehaves where it is told to, so that a fault can be had at will.

By item, under ``faults = true``: a text ``fault:KIND`` or ``fault:KIND=VALUE``, and after a space whatever
tells one such item from another. Each leaves a line on stderr, which is the server's log, before it does its
worst: so one can see whether it was run, how often, and where. So does a set-up, which can take its time,
and fail.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import NoReturn

from harness.errors import HarnessError
from harness.wire.options import WorkloadOptions

MARK = "fault:"
SET_UP = "set-up"
FOREVER_S = 3600.0
EXIT_CODE = 9
# exit: its process, at once. sleep: so many seconds, then answer. unpicklable: the result
KINDS = ("exit", "hang", "raise", "sleep", "unpicklable", "unpicklable-exception", "one-way-exception")


class Raised(Exception):
    """What ``fault:raise`` raises: a model that does not like its item."""


class Unpicklable(str):
    """A result that any thread can hand on, and no process."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError("this result cannot be pickled")


class UnpicklableError(Exception):
    """An exception that no process can send."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("this exception cannot be pickled")


class OneWayError(Exception):
    """An exception that can be pickled, but not back again: made of two, it pickles as made of one."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")


def misbehave(item: str) -> str:
    """Do as the text says; ValueError when it says nothing that is known."""
    kind, _, value = item.partition(" ")[0].removeprefix(MARK).partition("=")
    if kind not in KINDS:
        raise ValueError(f"{item!r} is no fault; there are: {', '.join(KINDS)}")
    _note(item)
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


def begins(what: str) -> str:
    """How the line begins that an item, or a `SET_UP`, leaves; the process's id ends it."""
    return f"EXECBENCH-FAULT {what} in process"


def _note(what: str) -> None:
    sys.stderr.write(f"{begins(what)} {os.getpid()}\n")
    sys.stderr.flush()


def set_up(told: WorkloadOptions) -> None:
    """Take `setup_ms`; then, if told to, fail. With a path, only while a file is there."""
    if told.faults:
        _note(SET_UP)
    time.sleep(told.setup_ms / 1e3)
    path = told.faulty_setup_file
    if told.faulty_setup is None or not (path is None or Path(path).exists()):
        return
    if told.faulty_setup == "exit":
        os._exit(EXIT_CODE)
    raise HarnessError(
        "The model cannot be set up: faulty_setup says so.", stage="model", hint="Leave faulty_setup out."
    )
