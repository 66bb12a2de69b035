"""What a request awaits, in a word: `sleep:5ms`, `socket:5ms`, `pgvector`, `http:URL`."""

from __future__ import annotations

import re
from typing import Any

from harness.errors import shortened

TIMED = ("sleep", "socket")  # can be told how long to take
_TOOK = re.compile(r"(\d+(?:\.\d+)?)(ms)?", re.ASCII)
_EXAMPLES = "sleep:5ms, socket:5ms, pgvector, http://127.0.0.1:9000/search"


def parse(text: str) -> dict[str, Any]:
    """The word as workload options: `io`, and `io_ms` where it says how long; ValueError for what is none."""
    name, colon, rest = text.partition(":")
    if name in ("http", "https"):
        return {"io": rest if rest.startswith(("http:", "https:")) else text}
    if not colon:
        return {"io": text}
    took = _TOOK.fullmatch(rest)
    if name not in TIMED or took is None:
        raise ValueError(f"{shortened(text)!r} is not understood; there are {_EXAMPLES}")
    return {"io": name, "io_ms": float(took[1])}


def spelt_out(options: dict[str, Any]) -> dict[str, Any]:
    """Workload options whose `io` is a kind or an address alone; ValueError where two keys say how long."""
    said = options.get("io")
    if not isinstance(said, str):
        return options
    parsed = parse(said)
    if "io_ms" in parsed and "io_ms" in options:
        raise ValueError(f"io {said!r} and io_ms both say how long the I/O takes: give one")
    return options | parsed


def kind(io: str) -> str:
    """The kind of an I/O that is spelt out."""
    return "http" if io.startswith(("http:", "https:")) else io
