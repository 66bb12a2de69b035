"""Stdout where it carries a document or answers, and nothing else may be there: users' code prints."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO

from harness.system.streams import Stdout


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
