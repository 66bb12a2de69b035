"""Text files from outside, as editors and spreadsheets save them; read to a stated size and no further."""

from __future__ import annotations

import codecs
import os
import stat

from harness.errors import UsageError

# the longer first: UTF-32 begins as UTF-16 does
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: str, stage: str, at_most_bytes: int) -> str:
    """The file's text: UTF-8 with or without a byte order mark, or UTF-16 with one.

    UsageError for a file that cannot be read, is not a regular file, is larger, or holds no text.
    """
    return decoded(read_bytes(path, stage, at_most_bytes), path, stage)


def read_bytes(path: str, stage: str, at_most_bytes: int) -> bytes:
    """The bytes of a regular file of at most so many; UsageError for any other."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a FIFO without a writer would block
        with open(descriptor, "rb") as stream:  # noqa: PTH123 - a descriptor
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UsageError(
                    f"{path} cannot be read: it is not a regular file.",
                    stage=stage,
                    hint="Save it as a file.",
                )
            data = stream.read(at_most_bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"{path} cannot be read: {why}.", stage=stage, hint="Is that its path?") from error
    if len(data) > at_most_bytes:
        raise too_large(path, stage, at_most_bytes)
    return data


def decoded(data: bytes, path: str, stage: str) -> str:
    """The text of these bytes of a file; UsageError where they are none."""
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8-sig")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UsageError(
            f"The file {path} is not UTF-8 (byte {error.start}).", stage=stage, hint="Save it as UTF-8."
        ) from error
    if "\0" in text:
        raise UsageError(
            f"The file {path} is not a text file: it holds a NUL.", stage=stage, hint="Save it as UTF-8."
        )
    return text


def too_large(path: str, stage: str, at_most_bytes: int) -> UsageError:
    """The refusal of a file that is larger, packed or unpacked."""
    return UsageError(
        f"The file {path} is larger than {at_most_bytes / 1e6:g} MB.", stage=stage, hint="Take a part of it."
    )
