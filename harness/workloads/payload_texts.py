"""What requests ask: texts of a file of the user's own, or questions made up here. Drawn by a seed."""

from __future__ import annotations

import csv
import functools
import gzip
import hashlib
import io
import json
import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.system import text_files

_SHAPE = 'A line is a JSON string, or an object with a "text": {"text": "How big is London"}'
_LIST = 'It holds a list: ["How big is London", …] or [{"text": "How big is London"}, …]'
_COLUMN = "Name the column of the texts `text` in the first line."
_QUOTES = "A text with separators stands in double quotes, and a double quote in it is doubled."
MOST_BYTES = 100_000_000  # packed, and unpacked

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
    """The texts of a file, by its name: JSON lines, a JSON list, a CSV, or else one text a line.

    Each may be packed with gzip. UsageError, with the line, for a file without texts, and for one that
    holds JSON while its name says plain lines: its texts would be sent with the JSON around them.
    """
    text = text_files.decoded(_unpacked(path), path, _STAGE)
    kind = Path(Path(path).name.lower().removesuffix(".gz")).suffix
    texts = tuple(_READERS.get(kind, _of_lines)(text, path))
    if not texts:
        raise UsageError(f"The file {path} has no texts: it is empty.", stage=_STAGE, hint="One text a line.")
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
    return hashlib.sha256(text_files.read_bytes(path, _STAGE, MOST_BYTES)).hexdigest()


def _unpacked(path: str) -> bytes:
    data = text_files.read_bytes(path, _STAGE, MOST_BYTES)
    if not data.startswith(_GZIP):
        return data
    try:
        data = gzip.GzipFile(fileobj=io.BytesIO(data)).read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"The file {path} cannot be unpacked: {error}.", stage=_STAGE) from error
    if len(data) > MOST_BYTES:
        raise text_files.too_large(path, _STAGE, MOST_BYTES)
    return data


def _lines(text: str, path: str) -> Iterator[tuple[str, str]]:
    """Line and place of those that are not empty.

    Only a newline ends a line: JSON strings may hold the others that `splitlines` knows.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if stripped := line.strip():
            yield stripped, f"{path}, line {number}"


def _of_lines(text: str, path: str) -> list[str]:
    lines = [line for line, _ in _lines(text, path)]
    is_json = all(_json(line, ("{", '"')) is not None for line in lines) or any(map(_has_a_text, lines))
    if lines and (is_json or _json(text, ("[", "{")) is not None):
        raise UsageError(
            f"The file {path} holds JSON, and its name says plain lines.",
            stage=_STAGE,
            hint="Call it .jsonl (one JSON text a line) or .json (a list), so that the texts in it are sent.",
        )
    return lines


def _of_json_lines(text: str, path: str) -> list[str]:
    return [_text_of(_parsed(line, where), where, _SHAPE) for line, where in _lines(text, path)]


def _of_json(text: str, path: str) -> list[str]:
    """A list; or JSON lines, which some programs call .json too."""
    found = _json(text, ("[",))
    if found is None:
        return _of_json_lines(text, path)
    return [_text_of(one, f"{path}, text {number}", _LIST) for number, one in enumerate(found, 1)]


def _of_table(text: str, path: str) -> list[str]:
    """The column `text` of a CSV, whatever separates its cells."""
    first = text.lstrip().partition("\n")[0]
    separator = max(",;\t", key=first.count)
    try:
        rows = list(csv.reader(io.StringIO(text.lstrip(), newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        raise UsageError(f"The file {path} is not CSV: {error}.", stage=_STAGE, hint=_QUOTES) from error
    names = [name.strip().lower() for name in rows[0]] if rows else []
    if "text" not in names:
        raise UsageError(f"The file {path} has no column `text`.", stage=_STAGE, hint=_COLUMN)
    place = names.index("text")
    return [row[place] for row in rows[1:] if len(row) > place and row[place].strip()]


_STAGE = "texts"
_GZIP = b"\x1f\x8b"
_READERS: dict[str, Callable[[str, str], list[str]]] = {
    ".jsonl": _of_json_lines,
    ".ndjson": _of_json_lines,
    ".json": _of_json,
    ".csv": _of_table,
    ".tsv": _of_table,
}


def _has_a_text(line: str) -> bool:
    found = _json(line.removesuffix(","), ("{",))
    return found is not None and isinstance(found.get("text"), str)


def _json(text: str, signs: tuple[str, ...]) -> Any:
    """What the JSON says that begins with one of these signs; None for any other text."""
    try:
        return json.loads(text) if text.lstrip().startswith(signs) else None
    except (ValueError, RecursionError):
        return None


def _parsed(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON: {error}.", stage=_STAGE, hint=_SHAPE) from error


def _text_of(found: Any, where: str, shape: str) -> str:
    text = found.get("text") if isinstance(found, dict) else found
    if not isinstance(text, str) or not text_files.is_utf8(text):
        raise UsageError(f"{where} has no text.", stage=_STAGE, hint=shape)
    return text
