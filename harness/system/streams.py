"""stdout and stderr: any encoding, no traceback if they cannot be written, and stdout for answers only."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

EXIT_UNWRITABLE = 1  # exit code
PIPE_BYTES = 2**20  # Linux lets any user have this much


def prepare() -> None:
    """Prepare stdout and stderr. Call it once, at the start.

    Characters that an encoding lacks print as "?". If stdout cannot be written, the process exits with code
    1: with a message, or silently if its reader has closed the pipe (`| head`). If stderr cannot be written,
    messages are dropped.
    """
    _open_closed_streams()
    sys.stdout = Stdout.over(sys.stdout)
    sys.stderr = Stderr.over(sys.stderr)


class Stderr(io.TextIOWrapper):
    """Drops all output after the first write that fails."""

    _beneath: TextIO

    @classmethod
    def over(cls, stream: TextIO | None) -> TextIO:
        """Return a replacement for `stream`; without a stream, one that discards everything."""
        if stream is None:
            return Path(os.devnull).open("w")
        if not isinstance(stream, io.TextIOWrapper):
            return stream
        stream.flush()
        replacement = cls(
            stream.buffer,
            encoding=stream.encoding,
            errors="replace",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        replacement._beneath = stream  # keeps it alive: on collection it would close the buffer
        return replacement

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

    def give_up(self, error: OSError) -> None:  # noqa: ARG002  used by Stdout
        """Redirect the stream to /dev/null, so that Python does not fail again when it flushes at exit."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


class Stdout(Stderr):
    """Ends the process if it cannot be written."""

    def give_up(self, error: OSError) -> None:
        """Exit, with a message unless the reader has closed the pipe."""
        super().give_up(error)
        if error.errno != errno.EPIPE:
            sys.stderr.write(f"Error (output): stdout cannot be written: {error.strerror or error}.\n")
        raise SystemExit(EXIT_UNWRITABLE) from None


def _open_closed_streams() -> None:
    """Open missing standard streams, or the next opened file would become stdin, stdout or stderr."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one


def enlarge_pipe(pipe: int) -> None:
    """Let a pipe hold `PIPE_BYTES`, if the system can: its writer then waits less for a busy reader."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):  # on Linux
        with suppress(OSError):  # the user's pipes together may have a limit
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


# -- stdout for a document or for answers only, although users' code may print --


def reserve_stdout() -> TextIO:
    """Return a stream to stdout. From now on, all other output (Python, C, children) goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


_document: TextIO | None = None


def reserve_stdout_for_document() -> None:
    """Reserve stdout for the command's JSON until the process ends, as code may also print at exit.

    Leave stdout unchanged if it is not the process's own, as in a test or in a program that calls us.
    """
    global _document
    if _document is None and _is_our_own(sys.stdout):
        sys.stdout.flush()
        _document = Stdout.over(reserve_stdout())


def document() -> TextIO:
    """Return the stream for the JSON of a command."""
    return _document or sys.stdout


def _is_our_own(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.fileno() == 1
    except (io.UnsupportedOperation, ValueError):
        return False
