"""Errors for users: what happened, at which stage, and what to do next."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable

SUCCESS, FAILURE, USAGE, GATE_FAILED, NOT_COMPARABLE = range(5)
EXIT_CODES = {  # docs/reference/exit-codes.md shows them
    SUCCESS: "The command did what it was asked to do.",
    FAILURE: "A model, server, folder, port, URL, CSV or check failed. Finished trials are kept.",
    USAGE: "A flag, a plan, a name or a combination of them is wrong. Nothing was started.",
    GATE_FAILED: "`compare --fail-on slower`: an arm is slower by more than the gate allows.",
    NOT_COMPARABLE: "`compare`: no honest comparison, such as of a noisy session or of two machines.",
}  # and those of signals: see `harness.system.signals`

ERROR_MARK = "EXECBENCH-ERROR "  # starts a line in a server's log that its parent turns into a HarnessError

MAX_QUOTE_CHARS = 80  # of the user's text in a message
_MAX_LINE_CHARS = 500  # of an error from other code


class HarnessError(Exception):
    """An error that the user can fix. Only `cli.main` prints it and exits.

    what: one sentence that explains the error without a traceback.
    stage: where it happened ("plan", "server", "load", …).
    hint: how to fix it, or empty.
    `exit_code` is 1, for `UsageError` 2.
    """

    exit_code = FAILURE

    def __init__(self, what: str, *, stage: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.stage = stage
        self.hint = hint

    @property
    def sentence(self) -> str:
        """`what` without any lines of a log after it."""
        return self.what.split("\n", 1)[0]

    @property
    def clause(self) -> str:
        """`sentence` as a part of another sentence."""
        return f"{self.sentence[:1].lower()}{self.sentence[1:].removesuffix('.')}"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.stage, self.hint)


class UsageError(HarnessError):
    """A wrong flag value, plan or name: exit code 2."""

    exit_code = USAGE


def shortened(text: str, most: int = MAX_QUOTE_CHARS) -> str:
    """Return the text as quoted in a message: shortened, on one line, and printable."""
    text = (text if len(text) <= most else f"{text[:most]}…").replace("\n", "␊")
    return text.encode(errors="backslashreplace").decode()


def one_line(error: BaseException) -> str:
    """Return type and text of an error in one short printable line, even if `str(error)` fails."""
    try:
        message = str(error)
    except BaseException as another:  # noqa: BLE001 - the `__str__` of a user's class may raise anything
        message = f"(its message cannot be shown: {type(another).__name__})"
    text = f"{type(error).__name__}: {message}"[:_MAX_LINE_CHARS]
    return " ".join("".join(char if char.isprintable() else " " for char in text).split()).removesuffix(":")


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """Return a hint with the known word most similar to `word`; `otherwise` if none is similar."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"Did you mean {near[0]!r}?" if near else otherwise


def as_harness_error(
    error: BaseException, *, failed: str = "This is a bug in execbench", stage: str = "internal"
) -> HarnessError:
    """Return a HarnessError unchanged; turn any other error into one whose text starts with `failed`."""
    if isinstance(error, HarnessError):
        return error
    return HarnessError(f"{failed}: {one_line(error)}; --debug shows the traceback.", stage=stage)


def to_parent(error: BaseException, **options: str) -> dict[str, str]:
    """Return an error as JSON data for the parent process; `options` as in `as_harness_error`."""
    reported = as_harness_error(error, **options)
    trace = "" if reported is error else "".join(traceback.format_exception(error))
    return {"what": reported.what, "stage": reported.stage, "hint": reported.hint, "trace": trace}


def from_child(reported: dict[str, str], kind: type[HarnessError] = HarnessError) -> HarnessError:
    """Return the error that a child process has reported; its traceback becomes a note for --debug."""
    error = kind(reported["what"], stage=reported["stage"], hint=reported["hint"])
    if reported["trace"]:
        error.add_note(f"In the child process:\n{reported['trace']}")
    return error


def _rebuild(kind: type[HarnessError], what: str, stage: str, hint: str) -> HarnessError:
    """Recreate an unpickled error: by default, pickle calls the class without its keyword arguments."""
    return kind(what, stage=stage, hint=hint)
