"""The errors a user meets: what happened, at which stage, and what to do next."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable

USAGE = 2
FAILURE = 1

ERROR_MARK = "EXECBENCH-ERROR "  # a server's log: its parent turns such a line back into a HarnessError

LONGEST_QUOTE = 80  # characters that a message repeats
_LONGEST_LINE = 500  # characters of an error that is not ours


class HarnessError(Exception):
    """Something the user can act on. `cli.main` is the one place that prints it and exits.

    what: one sentence, no traceback needed. stage: where it happened ("plan", "server", "load", …).
    hint: the way out, or empty. `exit_code` is 1; `UsageError` has 2.
    """

    exit_code = FAILURE

    def __init__(self, what: str, *, stage: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.stage = stage
        self.hint = hint

    @property
    def sentence(self) -> str:
        """`what` without the lines of a log that may follow."""
        return self.what.split("\n", 1)[0]

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.stage, self.hint)


class UsageError(HarnessError):
    """A wrong flag value, plan or name: exit code 2."""

    exit_code = USAGE


def shortened(text: str, most: int = LONGEST_QUOTE) -> str:
    """The text as a message quotes it: on one line, shortened, and only what a terminal can show."""
    text = (text if len(text) <= most else f"{text[:most]}…").replace("\n", "␊")
    return text.encode(errors="backslashreplace").decode()


def one_line(error: BaseException) -> str:
    """Type and text of any error in one printable line of bounded length, whatever its class does."""
    try:
        said = str(error)
    except BaseException as another:  # noqa: BLE001 - the `__str__` of a user's class may raise anything
        said = f"(its message cannot be shown: {type(another).__name__})"
    text = f"{type(error).__name__}: {said}"[:_LONGEST_LINE]
    return " ".join("".join(char if char.isprintable() else " " for char in text).split()).removesuffix(":")


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """The hint that names the nearest of the known words; `otherwise` where none is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"Did you mean {near[0]!r}?" if near else otherwise


def known(
    error: BaseException, *, failed: str = "This is a fault of execbench", stage: str = "internal"
) -> HarnessError:
    """The error as a user can read it: as it is, or, if nobody foresaw it, after the words `failed`."""
    if isinstance(error, HarnessError):
        return error
    return HarnessError(f"{failed}: {one_line(error)}; --debug shows where.", stage=stage)


def to_parent(error: BaseException, **words: str) -> dict[str, str]:
    """What a child process reports of an error, for JSON; `words` are those of `known`."""
    told = known(error, **words)
    trace = "" if told is error else "".join(traceback.format_exception(error))
    return {"what": told.what, "stage": told.stage, "hint": told.hint, "trace": trace}


def from_child(reported: dict[str, str], kind: type[HarnessError] = HarnessError) -> HarnessError:
    """The error that a child process has reported; the child's traceback is a note, which --debug shows."""
    error = kind(reported["what"], stage=reported["stage"], hint=reported["hint"])
    if reported["trace"]:
        error.add_note(f"In the child process:\n{reported['trace']}")
    return error


def _rebuild(kind: type[HarnessError], what: str, stage: str, hint: str) -> HarnessError:
    """Errors cross process borders by pickle, which would call the class without its keywords."""
    return kind(what, stage=stage, hint=hint)
