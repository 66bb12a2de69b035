"""What requests ask: texts of a file of the user's own, or questions made up here. Drawn by a seed."""

from __future__ import annotations

import functools
import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.errors import UsageError

_SHAPE = 'A line is a JSON string, or an object with a "text": {"text": "How big is London"}'

_SUBJECTS = ("the harbour", "this river", "a night train", "the old bridge", "my bicycle", "the library")
_QUESTIONS = (
    "How long is {}?",
    "Who looks after {} in winter?",
    "Is {} older than it looks?",
    "Tell me where I can find {} on a map of the city",
    "What would it cost to repair {} before the end of the year?",
)


@functools.lru_cache(maxsize=4)  # a load generator asks again for each trial: one run, one set of texts
def read(path: str) -> tuple[str, ...]:
    """The texts of a file: `.jsonl` holds JSON lines, any other one text a line; empty lines are none.

    UsageError, with the line, for what is no such file.
    """
    lines = [(number, line.strip()) for number, line in enumerate(_lines(path), 1)]
    one = _of_json if Path(path).suffix == ".jsonl" else _as_it_stands
    texts = tuple(one(line, f"{path}, line {number}") for number, line in lines if line)
    if not texts:
        raise UsageError(
            f"The file {path} has no texts: it is empty.", stage="texts", hint="One text a line."
        )
    return texts


def draw(texts: Sequence[str], seed: int) -> Iterator[str]:
    """Endless texts, drawn with replacement; the same seed draws the same."""
    chance = random.Random(seed)  # noqa: S311 - texts, not secrets
    while True:
        yield chance.choice(texts)


def questions(seed: int) -> Iterator[str]:
    """Endless questions of 4 to 13 words; the same seed gives the same."""
    chance = random.Random(seed)  # noqa: S311 - texts, not secrets
    while True:
        yield chance.choice(_QUESTIONS).format(chance.choice(_SUBJECTS))


def sha256(path: str) -> str:
    """Of the file's bytes; UsageError when it cannot be read."""
    return hashlib.sha256(_bytes(path)).hexdigest()


def _lines(path: str) -> list[str]:
    """Only a newline ends a line: JSON strings may hold the others that `splitlines` knows."""
    try:
        return _bytes(path).decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"The file {path} is not UTF-8 (byte {error.start}).", stage="texts", hint="Save it as UTF-8."
        ) from error


def _bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(
            f"The file of texts {path} cannot be read: {error.strerror}.",
            stage="texts",
            hint="Is that its path? It holds one text a line, or JSON lines (.jsonl).",
        ) from error


def _as_it_stands(line: str, where: str) -> str:  # noqa: ARG001 - the other kind needs it
    return line


def _of_json(line: str, where: str) -> str:
    try:
        found: Any = json.loads(line)
    except ValueError as error:
        raise UsageError(f"{where} is not JSON: {error}.", stage="texts", hint=_SHAPE) from error
    text = found.get("text") if isinstance(found, dict) else found
    if not isinstance(text, str) or not _can_be_sent(text):
        raise UsageError(f"{where} has no text.", stage="texts", hint=_SHAPE)
    return text


def _can_be_sent(text: str) -> bool:
    """Half a surrogate pair is legal in JSON, and has no UTF-8."""
    return text.encode(errors="replace").decode() == text
