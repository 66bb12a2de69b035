"""The `Server-Timing` response header (W3C) → Timings. Any server in any language can send it.

`harness.server.server_timing` writes it, for our own app and for those of users:

    queue;dur=0.4, model;dur=8.3;desc="cpu=8.1 batch=1 pid=47", resume;dur=0.2,
    io;dur=5.1;desc="server=4.2", handler;dur=14.1

`dur` is in milliseconds. The description of `io` holds `server=`, what the other side of the I/O says it
took itself; that of `handler` holds `entered=`, the route's entry on the host's monotonic clock, which is of
use to a client on the same host only.

A header is what a server claims, so it is read as follows:

* The first `dur` of an entry counts, whatever it holds (W3C). Entries of one name add up.
* A duration lies between 0 and `LONGEST_MS`. A name with an impossible one has no duration at all, as the sum
  would lack a part. The same holds for `cpu=` and `server=`.
* `batch=` and `pid=` are whole numbers from 1 to `MOST`; the last call of the model says them.
* A header beyond `LONGEST` characters is not read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from harness.wire.records import Timings

HEADER = "Server-Timing"

LONGEST = 16 * 2**10  # characters of a header
LONGEST_MS = 3_600_000.0  # an hour
MOST = 2**31 - 1  # a batch, or the id of a process

_STRETCHES = ("queue", "model", "resume", "io", "handler")
# What stands between separators, where a quoted string may hold them; one without an end takes the rest.
# Nothing follows that could fail, so they never backtrack: a hostile header costs no more than its length.
_QUOTED = r'"(?:[^"\\]+|\\.?)*"?'
_ENTRY = re.compile(rf'(?:[^,"]+|{_QUOTED})+', re.DOTALL)
_PART = re.compile(rf'(?:[^;"]+|{_QUOTED})+', re.DOTALL)
_STRING = re.compile(_QUOTED, re.DOTALL)
_ESCAPED = re.compile(r"\\(.?)", re.DOTALL)

_IMPOSSIBLE = math.nan  # a sum with it is none

# what a description says: durations, which add up, and whole numbers, of which the last counts
_DESCRIBED: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "model": ({"cpu": "model_cpu_ms"}, {"batch": "batch_size", "pid": "worker_pid"}),
    "io": ({"server": "io_server_ms"}, {}),
    "handler": ({}, {}),
}


def decode(value: str) -> Timings:
    """What a header says; unknown, malformed and impossible parts are left out."""
    said: dict[str, Any] = {}
    for name, parameters in _entries(value):
        if name in _STRETCHES:
            if "dur" in parameters:
                _add(said, f"{name}_ms", parameters["dur"])
            if name in _DESCRIBED:
                _note(said, name, parameters.get("desc", ""))
    return Timings(**{field: value for field, value in said.items() if value == value})


def longest_ms(value: str) -> float | None:
    """The longest duration in anybody's header: the whole holds its parts. None where there is none."""
    said: dict[str, float] = {}
    for name, parameters in _entries(value):
        if "dur" in parameters:
            _add(said, name, parameters["dur"])
    return max((duration for duration in said.values() if duration == duration), default=None)


def _entries(value: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Each entry's name and parameters; the first of a name counts."""
    if len(value) > LONGEST:
        return
    for entry in _split(value, ",", _ENTRY):
        name, *rest = _split(entry, ";", _PART) or [""]
        parameters: dict[str, str] = {}
        for parameter in rest:
            key, _, text = parameter.partition("=")
            parameters.setdefault(key.strip().lower(), text.strip())
        yield name.strip().lower(), parameters


def _split(text: str, separator: str, between: re.Pattern[str]) -> list[str]:
    return between.findall(text) if '"' in text else text.split(separator)


def _note(said: dict[str, Any], name: str, description: str) -> None:
    """What the description of an entry adds."""
    notes = dict(pair.split("=", 1) for pair in _unquoted(description).split() if "=" in pair)
    durations, numbers = _DESCRIBED[name]
    for key, field in durations.items():
        _add(said, field, notes.get(key, ""))
    for key, field in numbers.items():
        if (number := _whole(notes.get(key, ""))) is not None:
            said[field] = number
    if name == "handler" and (stamp := _number(notes.get("entered", ""))) is not None:
        said["entered_ms"] = stamp


def _unquoted(text: str) -> str:
    """What a quoted string holds; what follows it is ignored (W3C)."""
    if not text.startswith('"'):
        return text
    quoted = _STRING.match(text)
    assert quoted is not None
    inside = quoted[0][1:].removesuffix('"')
    return _ESCAPED.sub(r"\1", inside) if "\\" in inside else inside


def _add(said: dict[str, Any], field: str, text: str) -> None:
    """Add a duration to the sum; one that is missing or cannot be makes the sum impossible."""
    number = _number(_unquoted(text))
    total = said.get(field, 0.0) + (_IMPOSSIBLE if number is None or number < 0 else number)
    said[field] = total if total <= LONGEST_MS else _IMPOSSIBLE


def _number(text: str) -> float | None:
    """A decimal number; None for anything else that Python reads as one, such as `nan` and `1_000`."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in text and text.isascii() else None


def _whole(text: str) -> int | None:
    number = _number(text)
    return int(number) if number is not None and 1 <= number <= MOST and number == int(number) else None
