"""Files from outside, read whole: regular ones only, up to a stated size, as editors save them."""

from __future__ import annotations

import codecs
import os
import stat
from pathlib import Path
from typing import BinaryIO

from harness.errors import UsageError, shortened

LONGEST_PATH = 300  # characters that a message repeats

# the longer first: UTF-32 begins as UTF-16 does
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: Path | str, stage: str, at_most_bytes: int) -> str:
    """The file's text: UTF-8 with or without a byte order mark, or UTF-16 with one.

    UsageError for a file that cannot be read, is not a regular file, is larger, or holds no text.
    """
    return decoded(read_bytes(path, stage, at_most_bytes), path, stage)


def read_bytes(path: Path | str, stage: str, at_most_bytes: int) -> bytes:
    """The bytes of a regular file of at most so many; UsageError for any other."""
    try:
        with _opened(path, stage) as stream:
            size = os.fstat(stream.fileno()).st_size
            data = b"" if size > at_most_bytes else stream.read(at_most_bytes + 1)
    except OSError as error:
        raise UsageError(f"The file {_named(path)} cannot be read: {error.strerror}.", stage=stage) from error
    except ValueError as error:  # NUL, or what the file system cannot encode
        raise UsageError(f"{_named(path)} cannot be the path of a file: {error}.", stage=stage) from error
    if max(size, len(data)) > at_most_bytes:
        raise too_large(path, stage, at_most_bytes)
    return data


def decoded(data: bytes, path: Path | str, stage: str) -> str:
    """The text of these bytes of a file; UsageError where they are none."""
    try:
        text = data.decode(_encoding(data))
    except UnicodeDecodeError as error:
        raise _refused(path, stage, f"is not UTF-8 (byte {error.start})", "Save it as UTF-8.") from error
    if "\0" in text:
        raise _refused(path, stage, "is not a text file: it holds a NUL", "Save it as UTF-8.")
    return text


def in_utf8(data: bytes) -> bytes:
    """The same text in UTF-8 without a byte order mark; without a mark the bytes are not looked into."""
    encoding = _encoding(data)
    return data.removeprefix(codecs.BOM_UTF8) if encoding == "utf-8-sig" else data.decode(encoding).encode()


def is_utf8(text: str) -> bool:
    """False for half a surrogate pair: it is legal in JSON and in Python, and has no UTF-8."""
    return text.encode(errors="replace").decode() == text


def too_large(path: Path | str, stage: str, at_most_bytes: int) -> UsageError:
    """The refusal of a file that is larger, packed or unpacked."""
    return _refused(path, stage, f"is larger than {at_most_bytes / 1e6:g} MB", "Take a part of it.")


def _refused(path: Path | str, stage: str, what: str, hint: str) -> UsageError:
    return UsageError(f"The file {_named(path)} {what}.", stage=stage, hint=hint)


def _named(path: Path | str) -> str:
    return shortened(str(path), LONGEST_PATH)


def _encoding(data: bytes) -> str:
    return next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8-sig")


def _opened(path: Path | str, stage: str) -> BinaryIO:
    """Without blocking, where a FIFO would wait until another process writes to it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UsageError(
            f"{_named(path)} cannot be read: it is not a regular file.",
            stage=stage,
            hint="Give the path of a file on a disk.",
        )
    return os.fdopen(descriptor, "rb")
