"""Parse the `Server-Timing` response header (W3C) into Timings. Any server in any language can send it.

`harness.server.server_timing` writes it, for our own app and for users' apps:

    queue;dur=0.4, model;dur=8.3;desc="cpu=8.1 batch=1 pid=47", resume;dur=0.2,
    io;dur=5.1;desc="server=4.2", handler;dur=14.1

`dur` is in milliseconds. The description of `io` holds `server=`, the duration that the other side of the I/O
reports. The description of `handler` holds `entered=`, the route's entry on the host's monotonic clock, which
only a client on the same host can use.

A server may send anything, so these rules apply:

* The first `dur` of an entry counts, whatever its value (W3C). Entries with the same name add up.
* A duration is from 0 to `MAX_DURATION_MS`. If any duration of a name is invalid, the name has no duration at
  all, as its sum would lack a part. The same rule applies to `cpu=` and `server=`.
* `batch=` and `pid=` are whole numbers from 1 to `MAX_WHOLE`. The last call of the model decides.
* A header longer than `MAX_HEADER_CHARS` is ignored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from harness.wire.records import NO_TIMINGS, Timings

HEADER = "Server-Timing"

MAX_HEADER_CHARS = 16 * 2**10
MAX_DURATION_MS = 3_600_000.0  # an hour
MAX_WHOLE = 2**31 - 1  # for the size of a batch or a process id

_NAMES = ("queue", "model", "resume", "io", "handler")
# These match the text between two separators. A quoted string may contain separators; without a closing quote
# it extends to the end. Nothing after a match can fail, so they never backtrack: the time is linear in the
# length.
_QUOTED = r'"(?:[^"\\]+|\\.?)*"?'
_ENTRY = re.compile(rf'(?:[^,"]+|{_QUOTED})+', re.DOTALL)
_PART = re.compile(rf'(?:[^;"]+|{_QUOTED})+', re.DOTALL)
_STRING = re.compile(_QUOTED, re.DOTALL)
_ESCAPED = re.compile(r"\\(.?)", re.DOTALL)

_INVALID = math.nan  # makes any sum NaN

# the fields in a description: durations, which add up, and whole numbers, of which the last counts
_DESCRIPTIONS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "model": ({"cpu": "model_cpu_ms"}, {"batch": "batch_size", "pid": "worker_pid"}),
    "io": ({"server": "io_server_ms"}, {}),
    "handler": ({}, {}),
}


def decode(value: str) -> Timings:
    """Parse a header. Leave out unknown, malformed and impossible parts."""
    if not value:
        return NO_TIMINGS
    fields: dict[str, Any] = {}
    for name, parameters in _entries(value):
        if name in _NAMES:
            if "dur" in parameters:
                _add(fields, f"{name}_ms", parameters["dur"])
            if name in _DESCRIPTIONS:
                _add_description(fields, name, parameters.get("desc", ""))
    return Timings(**{field: value for field, value in fields.items() if value == value})


def longest_ms(value: str) -> float | None:
    """Return the longest duration in any server's header: the total, if there is one. None without any."""
    durations: dict[str, float] = {}
    for name, parameters in _entries(value):
        if "dur" in parameters:
            _add(durations, name, parameters["dur"])
    return max((duration for duration in durations.values() if duration == duration), default=None)


def _entries(value: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the name and the parameters of each entry. If a parameter is repeated, its first value counts."""
    if len(value) > MAX_HEADER_CHARS:
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


def _add_description(fields: dict[str, Any], name: str, description: str) -> None:
    """Add the values in the description of an entry."""
    notes = dict(pair.split("=", 1) for pair in _unquoted(description).split() if "=" in pair)
    durations, numbers = _DESCRIPTIONS[name]
    for key, field in durations.items():
        _add(fields, field, notes.get(key, ""))
    for key, field in numbers.items():
        if (number := _whole(notes.get(key, ""))) is not None:
            fields[field] = number
    if name == "handler" and (stamp := _number(notes.get("entered", ""))) is not None:
        fields["entered_ms"] = stamp


def _unquoted(text: str) -> str:
    """Return the content of a quoted string; ignore what follows it (W3C)."""
    if not text.startswith('"'):
        return text
    quoted = _STRING.match(text)
    assert quoted is not None
    inside = quoted[0][1:].removesuffix('"')
    return _ESCAPED.sub(r"\1", inside) if "\\" in inside else inside


def _add(sums: dict[str, Any], field: str, text: str) -> None:
    """Add a duration to the sum of a field. A missing or impossible one makes the sum invalid."""
    number = _number(_unquoted(text))
    total = sums.get(field, 0.0) + (_INVALID if number is None or number < 0 else number)
    sums[field] = total if total <= MAX_DURATION_MS else _INVALID


def _number(text: str) -> float | None:
    """Return a finite decimal number; None for anything else, even if Python reads it (`nan`, `1_000`)."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in text and text.isascii() else None


def _whole(text: str) -> int | None:
    number = _number(text)
    return int(number) if number is not None and 1 <= number <= MAX_WHOLE and number == int(number) else None
