"""The text of a CSV in pieces of whole lines, whatever program saved it, so that a long file needs no memory.

An editor or a spreadsheet may have saved it with a byte order mark, in UTF-16, or with other line ends. Users
may have compressed it.
"""

from __future__ import annotations

import functools
import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from harness.errors import HarnessError, UsageError
from harness.system import text_files
from harness.system.text_files import Readable

GZIP_SUFFIX = ".gz"
MOST_BYTES = 8 * 2**30  # sixty million requests
PIECE_BYTES = 32 * 2**20  # parsed at a time: 200,000 requests
BLOCK_BYTES = 2**20  # read at a time

_LINE_END = re.compile(rb"\r\n|\n|\r")
_MOST_TRIES = 1_000  # lines from the end of a piece that may all be inside one quoted text
_MOST_PIECES = 4  # without a place to cut, before one is taken anyway

_failure = functools.partial(HarnessError, stage="results")


class Piece(NamedTuple):
    """Whole lines, and the number of the first one in the file, from 1."""

    text: bytes
    first_line: int


class Lines:
    """The lines of a CSV file in pieces. At the end, `incomplete` says whether a part was left out."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.incomplete = False  # the last line has no end

    def __iter__(self) -> Iterator[Piece]:
        """Yield at least one piece, which may be empty. Raises HarnessError if the file cannot be read."""
        pending, first_line, wanted = bytearray(), 1, PIECE_BYTES
        for block in blocks(self._path):
            pending += block
            if len(pending) < wanted:
                continue
            is_long = len(pending) >= _MOST_PIECES * PIECE_BYTES
            end = _end_of_lines(pending, surely=is_long)
            if is_long and not end:  # a file without line ends would fill the memory
                most = _MOST_PIECES * PIECE_BYTES
                raise _failure(
                    f"{self._path} is no CSV of a run: a line of it is larger than {most:,} bytes."
                )
            wanted = PIECE_BYTES if end else len(pending) + PIECE_BYTES
            if end:
                piece = Piece(bytes(pending[:end]), first_line)
                del pending[:end]
                yield piece
                first_line += count_lines(piece.text)
        end = pending.rfind(b"\n") + 1
        self.incomplete = end < len(pending)
        if end or first_line == 1:
            yield Piece(bytes(pending[:end]), first_line)


def plain_or_compressed(path: Path) -> Path:
    """The file, or its `.gz` if only that exists: users may compress the rows of a long run."""
    compressed = path.with_name(path.name + GZIP_SUFFIX)
    return compressed if compressed.exists() and not path.exists() else path


def blocks(path: Path) -> Iterator[bytes]:
    """The file's text in UTF-8 without a byte order mark. Raises HarnessError if the file cannot be read."""
    found = 0
    try:
        with text_files.reading(path, "results", MOST_BYTES) as file:
            stream: Readable = gzip.GzipFile(fileobj=file) if path.suffix == GZIP_SUFFIX else file
            for block in text_files.in_utf8(stream, BLOCK_BYTES):
                found += len(block)
                if found > MOST_BYTES:
                    raise OSError(f"it has more than {MOST_BYTES:,} bytes after decompression")
                yield block
    except UsageError as error:
        raise _failure(error.what, hint=error.hint) from error
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise _failure(f"{path} cannot be read: {error}.") from error


def after_first_line(text: bytes) -> bytes:
    """The text without its first line."""
    end = _LINE_END.search(text)
    return text[end.end() :] if end else b""


def count_lines(text: bytes) -> int:
    """The number of line ends, as Python's `csv` counts them."""
    ends = text.count(b"\n")
    return ends + text.count(b"\r") - text.count(b"\r\n") if b"\r" in text else ends


def _end_of_lines(text: bytearray, *, surely: bool) -> int:
    """The place after the last line's end that is not inside a quoted text; 0 if there is none.

    It has an even number of quotes before it. If a place must be found `surely`, any line's end will do: a
    single quote in the middle of a text, which some programs write, would leave none.
    """
    last = end = text.rfind(b"\n") + 1
    quotes = text.count(b'"', 0, end)
    for _ in range(_MOST_TRIES):
        if quotes % 2 == 0:
            break
        before = text.rfind(b"\n", 0, end - 1) + 1
        quotes -= text.count(b'"', before, end)
        end = before
    found = end if quotes % 2 == 0 else 0
    return last if surely and not found else found
