"""stdout and stderr: any encoding, no traceback where they cannot be written, stdout for answers alone."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path
from typing import TextIO

UNWRITABLE = 1  # exit code


def prepare() -> None:
    """Call once, at the start. Characters that an encoding lacks print as ?.

    Ends the process with exit code 1 when stdout cannot be written: with a message, or quietly when nobody
    reads it any more (`| head`). Drops messages when stderr cannot be written.
    """
    _open_closed_ones()
    sys.stdout = Stdout.over(sys.stdout)
    sys.stderr = Stderr.over(sys.stderr)


class Stderr(io.TextIOWrapper):
    """Drops what cannot be written, from then on all."""

    _beneath: TextIO

    @classmethod
    def over(cls, stream: TextIO | None) -> TextIO:
        """Takes the place of `stream`; what has no stream goes nowhere."""
        if stream is None:
            return Path(os.devnull).open("w")
        if not isinstance(stream, io.TextIOWrapper):
            return stream
        stream.flush()
        found = cls(
            stream.buffer,
            encoding=stream.encoding,
            errors="replace",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        found._beneath = stream  # which closes the buffer when it is collected
        return found

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self.give_up(error)
        return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self.give_up(error)

    def give_up(self, error: OSError) -> None:  # noqa: ARG002  stdout tells it
        """What is buffered goes nowhere, so that Python does not fail on it again when it ends."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


class Stdout(Stderr):
    """Ends the process when it cannot be written."""

    def give_up(self, error: OSError) -> None:
        """Say why, but for a closed pipe: who closed it wants no more."""
        super().give_up(error)
        if error.errno != errno.EPIPE:
            sys.stderr.write(f"Error (output): stdout cannot be written: {error.strerror or error}.\n")
        raise SystemExit(UNWRITABLE) from None


def _open_closed_ones() -> None:
    """Else the next file that is opened would be taken for stdin, stdout or stderr by all that prints."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this


# -- stdout where it carries a document or answers: users' code prints --


def kept_for_answers() -> TextIO:
    """What stdout was. Whatever prints from now on, in Python, in C or in a child, prints to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


_document: TextIO | None = None


def keep_for_document() -> None:
    """Keep stdout for the command's JSON, to the end of this process: code may also print at exit.

    A stdout that is not this process's own (a test's, that of a program that calls us) stays as it is.
    """
    global _document
    if _document is None and _is_our_own(sys.stdout):
        sys.stdout.flush()
        _document = Stdout.over(kept_for_answers())


def document() -> TextIO:
    """Where the JSON of a command goes."""
    return _document or sys.stdout


def _is_our_own(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.fileno() == 1
    except (io.UnsupportedOperation, ValueError):
        return False
