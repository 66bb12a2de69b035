"""Timings ⇄ the `Server-Timing` response header (W3C), which any server in any language can send.

    queue;dur=0.4, model;dur=8.3;desc="cpu=8.1 batch=1 pid=47", resume;dur=0.2,
    io;dur=5.1;desc="server=4.2", handler;dur=14.1

`dur` is in milliseconds. The description of `io` holds `server=`, what the other side of the I/O says it
took itself; that of `handler` holds `entered=`, the route's entry on the host's monotonic clock, which is of
use to a client on the same host only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from harness.records import Timings

HEADER = "Server-Timing"

_STRETCHES = ("queue", "model", "resume", "io", "handler")
# What stands between separators, where a quoted string may hold them; one without an end takes the rest.
# Nothing follows that could fail, so they never backtrack: a hostile header costs no more than its length.
_QUOTED = r'"(?:[^"\\]+|\\.?)*"?'
_ENTRY = re.compile(rf'(?:[^,"]+|{_QUOTED})+')
_PART = re.compile(rf'(?:[^;"]+|{_QUOTED})+')


def encode(timings: Timings) -> str:
    """The header's value; parts that are None are left out."""
    described = {
        "model": {
            "cpu": timings.model_cpu_ms,
            "batch": timings.batch_size,
            "pid": timings.worker_pid,
        },
        "io": {"server": timings.io_server_ms},
        "handler": {"entered": timings.entered_ms},
    }
    entries = []
    for name in _STRETCHES:
        duration = getattr(timings, f"{name}_ms")
        if duration is not None:
            entries.append(f"{name};dur={duration:.3f}{_describe(described.get(name, {}))}")
    return ", ".join(entries)


def decode(value: str) -> Timings:
    """What can be read of a header, ours or a stranger's. Unknown or malformed parts are passed over."""
    entries = {name: parameters for name, parameters in _entries(value) if name in _STRETCHES}
    notes = dict(
        pair.split("=", 1)
        for parameters in entries.values()
        for pair in parameters.get("desc", "").split()
        if "=" in pair
    )
    durations = {name: _number(parameters.get("dur")) for name, parameters in entries.items()}
    return Timings(
        entered_ms=_number(notes.get("entered")),
        queue_ms=durations.get("queue"),
        model_ms=durations.get("model"),
        model_cpu_ms=_number(notes.get("cpu")),
        resume_ms=durations.get("resume"),
        io_ms=durations.get("io"),
        io_server_ms=_number(notes.get("server")),
        handler_ms=durations.get("handler"),
        batch_size=_whole(notes.get("batch")),
        worker_pid=_whole(notes.get("pid")),
    )


def longest_ms(value: str) -> float | None:
    """The longest duration in anybody's header: the whole holds its parts. None where there is none."""
    found = (_number(parameters.get("dur")) for _, parameters in _entries(value))
    return max((duration for duration in found if duration is not None), default=None)


def _describe(notes: dict[str, float | int | None]) -> str:
    words = [f"{key}={_plain(value)}" for key, value in notes.items() if value is not None]
    return f';desc="{" ".join(words)}"' if words else ""


def _plain(value: float | int) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _entries(value: str) -> Iterator[tuple[str, dict[str, str]]]:
    for entry in _ENTRY.findall(value):
        name, *parameters = _PART.findall(entry) or [""]
        pairs = (parameter.partition("=") for parameter in parameters)
        yield name.strip().lower(), {key.strip().lower(): text.strip().strip('"') for key, _, text in pairs}


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _whole(text: str | None) -> int | None:
    number = _number(text)
    return None if number is None else int(number)
