"""The texts of requests: read from the user's file, or made-up questions. A seed draws them."""

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

_SHAPE = 'Write each line as a JSON string, or as an object with a "text": {"text": "How big is London"}'
_LIST = 'Write a list: ["How big is London", …] or [{"text": "How big is London"}, …]'
_COLUMN = "Name the column of the texts `text` in the first line."
_QUOTES = "Put a text that contains separators in double quotes, and double each double quote in it."
MOST_BYTES_OF_TEXTS = 100_000_000  # compressed, and also uncompressed

_SUBJECTS = ("the harbour", "this river", "a night train", "the old bridge", "my bicycle", "the library")
_QUESTIONS = (
    "How long is {}?",
    "Who looks after {} in winter?",
    "Is {} older than it looks?",
    "Tell me where I can find {} on a map of the city",
    "What would it cost to repair {} before the end of the year?",
)


@functools.lru_cache(maxsize=4)  # a load generator reads the texts for each trial of a run
def read(path: str) -> tuple[str, ...]:
    """The texts of a file. The suffix gives the format: JSON lines, a JSON list, CSV, else one text per line.

    Any of them may be compressed with gzip. Raises UsageError, with the line, if the file has no texts. Also
    raises it if a file of plain lines contains JSON: requests would carry the JSON around the texts.
    """
    text = text_files.decoded(_unpacked(path), path, _STAGE)
    suffix = Path(Path(path).name.lower().removesuffix(".gz")).suffix
    texts = tuple(_READERS.get(suffix, _of_lines)(text, path))
    if not texts:
        raise UsageError(f"The file {path} is empty.", stage=_STAGE, hint="Write one text per line.")
    return texts


def draw(texts: Sequence[str], seed: int) -> Iterator[str]:
    """Endless texts, drawn with replacement; the same seed gives the same texts."""
    chance = random.Random(seed)  # noqa: S311 - texts, not secrets
    while True:
        yield chance.choice(texts)


def questions(seed: int) -> Iterator[str]:
    """Endless questions of 4 to 13 words; the same seed gives the same questions."""
    chance = random.Random(seed)  # noqa: S311 - texts, not secrets
    while True:
        yield chance.choice(_QUESTIONS).format(chance.choice(_SUBJECTS))


def sha256(path: str) -> str:
    """Hash of the file's bytes. Raises UsageError if it cannot be read."""
    return hashlib.sha256(text_files.read_bytes(path, _STAGE, MOST_BYTES_OF_TEXTS)).hexdigest()


def _unpacked(path: str) -> bytes:
    data = text_files.read_bytes(path, _STAGE, MOST_BYTES_OF_TEXTS)
    if not data.startswith(_GZIP):
        return data
    try:
        data = gzip.GzipFile(fileobj=io.BytesIO(data)).read(MOST_BYTES_OF_TEXTS + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"The file {path} cannot be decompressed: {error}.", stage=_STAGE) from error
    if len(data) > MOST_BYTES_OF_TEXTS:
        raise text_files.too_large(path, _STAGE, MOST_BYTES_OF_TEXTS)
    return data


def _lines(text: str, path: str) -> Iterator[tuple[str, str]]:
    """Each line that is not empty, with its place for messages.

    Only a newline ends a line: JSON strings may contain the other line ends that `splitlines` knows.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if stripped := line.strip():
            yield stripped, f"{path}, line {number}"


def _of_lines(text: str, path: str) -> list[str]:
    lines = [line for line, _ in _lines(text, path)]
    is_json = all(_json(line, ("{", '"')) is not None for line in lines) or any(map(_has_a_text, lines))
    if lines and (is_json or _json(text, ("[", "{")) is not None):
        raise UsageError(
            f"The file {path} contains JSON, but its suffix means plain lines.",
            stage=_STAGE,
            hint="Rename it to .jsonl (one JSON text per line) or .json (a list) to send the texts in it.",
        )
    return lines


def _of_json_lines(text: str, path: str) -> list[str]:
    return [_text_of(_parsed(line, where), where, _SHAPE) for line, where in _lines(text, path)]


def _of_json(text: str, path: str) -> list[str]:
    """The texts of a list, or of JSON lines, which some programs call .json too."""
    items = _json(text, ("[",))
    if items is None:
        return _of_json_lines(text, path)
    return [_text_of(item, f"{path}, text {number}", _LIST) for number, item in enumerate(items, 1)]


def _of_table(text: str, path: str) -> list[str]:
    """The column `text` of a CSV with commas, semicolons or tabs."""
    first = text.lstrip().partition("\n")[0]
    separator = max(",;\t", key=first.count)
    try:
        rows = list(csv.reader(io.StringIO(text.lstrip(), newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        raise UsageError(f"The file {path} is not a CSV: {error}.", stage=_STAGE, hint=_QUOTES) from error
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
    item = _json(line.removesuffix(","), ("{",))
    return item is not None and isinstance(item.get("text"), str)


def _json(text: str, first: tuple[str, ...]) -> Any:
    """The value of JSON that begins with one of the characters `first`; None for any other text."""
    try:
        return json.loads(text) if text.lstrip().startswith(first) else None
    except (ValueError, RecursionError):
        return None


def _parsed(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON: {error}.", stage=_STAGE, hint=_SHAPE) from error


def _text_of(item: Any, where: str, shape: str) -> str:
    text = item.get("text") if isinstance(item, dict) else item
    if not isinstance(text, str) or not text_files.is_utf8(text):
        raise UsageError(f"{where} has no text.", stage=_STAGE, hint=shape)
    return text
