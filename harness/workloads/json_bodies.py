"""Answers as JSON in UTF-8. The user's code may return anything, including what JSON cannot express."""

from __future__ import annotations

import json
import math
from typing import Any

PLACEHOLDER = "ok"  # in place of a value that JSON cannot express


def body(value: Any) -> bytes:
    """The body of an answer with status 200: the value, or "ok" if JSON cannot express it."""
    encoded = as_json(value)
    return b'{"answer":' + (f'"{PLACEHOLDER}"'.encode() if encoded is None else encoded) + b"}"


def as_json(value: Any, longest: float = math.inf) -> bytes | None:
    """The value as JSON, with arrays as lists; None if that is not possible within `longest` characters.

    Stops as soon as the text is too long: this runs on the event loop, for every request.
    """

    def plain(array: Any) -> Any:
        """The lists and numbers of NumPy arrays, torch tensors and the like. Raises for anything else."""
        if math.prod(array.shape) > longest:
            raise ValueError("too long")
        return array.tolist()

    encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=plain)
    pieces: list[str] = []
    length = 0
    try:
        for piece in encoder.iterencode(value):
            length += len(piece)
            if length > longest:
                return None
            pieces.append(piece)
        return "".join(pieces).encode()
    except BaseException:  # noqa: BLE001  the user's classes may raise anything when they are inspected
        return None
