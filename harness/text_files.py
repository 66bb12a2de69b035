"""Files from outside, read whole: regular ones only, up to a stated size, as editors save them."""

from __future__ import annotations

import codecs
import os
import stat
from pathlib import Path
from typing import BinaryIO

from harness.errors import UsageError, shortened

LONGEST_PATH = 300  # that a message repeats

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: Path, stage: str, at_most_bytes: int) -> str:
    """The text of a file in UTF-8, with or without byte order mark, or in UTF-16 with one.

    UsageError for what cannot be read, is no regular file, is larger, or is no text.
    """
    try:
        text = decoded(read_bytes(path, stage, at_most_bytes))
    except UnicodeDecodeError as error:
        raise UsageError(
            f"The file {_named(path)} is not UTF-8 (byte {error.start}).",
            stage=stage,
            hint="Save it as UTF-8.",
        ) from error
    if "\0" in text:
        raise UsageError(
            f"The file {_named(path)} holds a NUL character, so it is no text file.",
            stage=stage,
            hint="Save it as UTF-8.",
        )
    return text


def read_bytes(path: Path, stage: str, at_most_bytes: int) -> bytes:
    """What the file holds; UsageError for what cannot be read, is no regular file, or is larger."""
    try:
        with _opened(path, stage) as stream:
            size = os.fstat(stream.fileno()).st_size
            data = b"" if size > at_most_bytes else stream.read(at_most_bytes + 1)
    except OSError as error:
        raise UsageError(f"The file {_named(path)} cannot be read: {error.strerror}.", stage=stage) from error
    except ValueError as error:  # NUL, or what the file system cannot encode
        raise UsageError(f"{_named(path)} cannot be the path of a file: {error}.", stage=stage) from error
    if max(size, len(data)) > at_most_bytes:
        raise UsageError(f"The file {_named(path)} is larger than {_size(at_most_bytes)}.", stage=stage)
    return data


def _opened(path: Path, stage: str) -> BinaryIO:
    """Without blocking, where a FIFO would wait for somebody who writes to it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UsageError(
            f"{_named(path)} is not a regular file.", stage=stage, hint="Give the path of a file on a disk."
        )
    return os.fdopen(descriptor, "rb")


def decoded(data: bytes) -> str:
    """UTF-16 where the data begin with its byte order mark, else UTF-8; without the mark."""
    return data.decode("utf-16" if data.startswith(_UTF_16) else "utf-8-sig")


def in_utf8(data: bytes) -> bytes:
    """The same text in UTF-8, without byte order mark. What is no UTF-16 is not looked into."""
    if data.startswith(_UTF_16):
        return data.decode("utf-16").encode()
    return data.removeprefix(codecs.BOM_UTF8)


def _named(path: Path) -> str:
    return shortened(str(path), LONGEST_PATH)


def _size(count: int) -> str:
    """Bytes for people."""
    return f"{count / 2**20:,.0f} MiB" if count >= 2**20 else f"{count / 2**10:,.0f} KiB"
