"""What readers have to know about how a run's load was sent, if it was not the usual load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def find(record: Mapping[str, Any]) -> Iterator[str]:
    """The sentences about think times, new connections and neighbours; nothing for the usual load."""
    load = record.get("plan") or record.get("load") or {}
    if think := load.get("think"):
        yield f"Users of closed loops pause before each request (think time, in seconds: {think})."
    if load.get("new_connections"):
        yield "Each request opens a new connection, so its latency includes connecting."
    if neighbours := load.get("neighbours"):
        cores = "one core" if neighbours == 1 else f"{neighbours} cores"
        yield f"A process of the run kept {cores} busy all the time, as a neighbour would."
