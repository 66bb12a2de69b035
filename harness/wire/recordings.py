"""Recorded requests, which `replay(FILE)` sends again: when each was due and, in JSON lines, its text.

* A file whose name ends in .jsonl has one object per line: `{"at_s": 0.25, "text": "How big is London?"}`.
  Other keys are ignored.
* Any other file has one time per line. Lines that begin with # are comments.

Times are in seconds from the start, in any order. All functions raise ValueError, with the line, if the file
cannot be used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.system import text_files
from harness.wire import law_text

MAX_BYTES = 100_000_000
LATEST_S = 1e7
FEWEST = 2
_SUFFIXES = (".jsonl", ".ndjson")
_SHAPE = 'write {"at_s": 0.25, "text": "How big is London?"}'


def has_texts(file: str) -> bool:
    """Return whether this recording has texts, by its name."""
    return Path(file).suffix.lower() in _SUFFIXES


def times_s(file: str) -> list[float]:
    """Return the due times, in seconds, sorted."""
    times = [at_s for at_s, _ in _timed_texts(file)] if has_texts(file) else sorted(_bare_times(file))
    if len(times) < FEWEST:
        raise ValueError(f"{file} has fewer than two due times")
    return times


def texts(file: str) -> list[str]:
    """Return the text of each of `times_s`, in the same order."""
    return [text for _, text in _timed_texts(file)]


def _bare_times(file: str) -> Iterator[float]:
    for number, line in enumerate(_read(file).splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            yield law_text.number(line.strip(), f"line {number} of {file}", least=0.0, most=LATEST_S)


def _timed_texts(file: str) -> list[tuple[float, str]]:
    """Return time and text of each request, by time; requests of the same time stay in the file's order."""
    # only a newline ends a line: JSON strings may contain the other line ends that `splitlines` knows
    lines = enumerate(_read(file).split("\n"), 1)
    found = [_timed_text(line, f"line {number} of {file}") for number, line in lines if line.strip()]
    return sorted(found, key=lambda one: one[0])


def _timed_text(line: str, where: str) -> tuple[float, str]:
    try:
        item: Any = json.loads(line, parse_int=float)  # of any number of digits
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON; {_SHAPE}") from error
    item = item if isinstance(item, dict) else {}
    at_s, text = item.get("at_s"), item.get("text")
    if not isinstance(at_s, float):
        raise ValueError(f'{where} has no number "at_s"; {_SHAPE}')
    law_text.check_range(at_s, f'"at_s" in {where}', least=0.0, most=LATEST_S)
    if not isinstance(text, str) or not text_files.is_utf8(text):
        raise ValueError(f'{where} has no "text"; {_SHAPE}')
    return at_s, text


def _read(file: str) -> str:
    try:
        return text_files.read_text(file, "load", MAX_BYTES)
    except UsageError as error:
        raise ValueError(error.what.removesuffix(".")) from error
