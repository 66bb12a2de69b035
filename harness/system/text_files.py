"""Read files from users: regular files only, up to a given size, in the encodings that editors use."""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from harness.errors import UsageError, shortened

MAX_PATH_CHARS = 300  # in a message

# UTF-32 first: its mark starts with that of UTF-16
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LONGEST_MARK = 4  # bytes


def read_text(path: Path | str, stage: str, at_most_bytes: int) -> str:
    """Return a file's text: UTF-8 with or without a byte order mark, or UTF-16 or UTF-32 with one.

    Raises UsageError if the file cannot be read, is not a regular file, is too large, or is not text.
    """
    return decoded(read_bytes(path, stage, at_most_bytes), path, stage)


def read_bytes(path: Path | str, stage: str, at_most_bytes: int) -> bytes:
    """Return the bytes of a regular file. Raises UsageError if it cannot be read or is too large."""
    with reading(path, stage, at_most_bytes) as stream:
        try:
            data = stream.read(at_most_bytes + 1)
        except OSError as error:
            raise _unreadable(path, stage, error) from error
    if len(data) > at_most_bytes:
        raise too_large(path, stage, at_most_bytes)
    return data


@contextmanager
def reading(path: Path | str, stage: str, at_most_bytes: int) -> Iterator[BinaryIO]:
    """Yield a regular file, open for reading. Raises UsageError if it cannot be opened or is too large."""
    try:
        stream = _opened(path, stage)
    except OSError as error:
        raise _unreadable(path, stage, error) from error
    except ValueError as error:  # a NUL, or characters that the file system cannot encode
        raise UsageError(f"{_named(path)} is not a valid path: {error}.", stage=stage) from error
    with stream:
        if os.fstat(stream.fileno()).st_size > at_most_bytes:
            raise too_large(path, stage, at_most_bytes)
        yield stream


def _unreadable(path: Path | str, stage: str, error: OSError) -> UsageError:
    return UsageError(f"The file {_named(path)} cannot be read: {error.strerror}.", stage=stage)


def decoded(data: bytes, path: Path | str, stage: str) -> str:
    """Decode the bytes of a file. Raises UsageError if they are not text."""
    try:
        text = data.decode(_encoding(data))
    except UnicodeDecodeError as error:
        raise _refused(path, stage, f"is not UTF-8 (byte {error.start})", "Save it as UTF-8.") from error
    if "\0" in text:
        raise _refused(path, stage, "is not a text file: it contains a NUL", "Save it as UTF-8.")
    return text


class Readable(Protocol):
    """A file, or a compressed one."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""


def in_utf8(stream: Readable, block_bytes: int) -> Iterator[bytes]:
    """Yield a file's text in UTF-8 without a byte order mark, in blocks. Text without a mark is not checked.

    Raises UnicodeDecodeError if the text is not in the encoding that its mark names.
    """
    first = stream.read(max(block_bytes, _LONGEST_MARK))
    encoding = _encoding(first)
    if encoding == "utf-8-sig":
        yield first.removeprefix(codecs.BOM_UTF8)
        while block := stream.read(block_bytes):
            yield block
        return
    decoder = codecs.getincrementaldecoder(encoding)()
    yield decoder.decode(first).encode()
    while block := stream.read(block_bytes):
        yield decoder.decode(block).encode()
    yield decoder.decode(b"", final=True).encode()


def is_utf8(text: str) -> bool:
    """Return False if the text has half a surrogate pair, which JSON and Python allow but UTF-8 does not."""
    return text.encode(errors="replace").decode() == text


def too_large(path: Path | str, stage: str, at_most_bytes: int) -> UsageError:
    """Return the error for a file that is too large, before or after decompression."""
    return _refused(path, stage, f"is larger than {at_most_bytes / 1e6:g} MB", "Use a part of it.")


def _refused(path: Path | str, stage: str, what: str, hint: str) -> UsageError:
    return UsageError(f"The file {_named(path)} {what}.", stage=stage, hint=hint)


def _named(path: Path | str) -> str:
    return shortened(str(path), MAX_PATH_CHARS)


def _encoding(data: bytes) -> str:
    return next((name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), "utf-8-sig")


def _opened(path: Path | str, stage: str) -> BinaryIO:
    """Open a regular file. Does not block on a FIFO, which would wait for a writer."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UsageError(
            f"{_named(path)} cannot be read: it is not a regular file.",
            stage=stage,
            hint="Give the path of a file on a disk.",
        )
    return os.fdopen(descriptor, "rb")
