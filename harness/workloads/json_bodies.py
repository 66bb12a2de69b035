"""Answers as JSON in UTF-8. The user's code may return anything, and much of that JSON cannot say."""

from __future__ import annotations

import json
import math
from typing import Any

UNSAID = "ok"  # stands for a value that JSON cannot say


def body(value: Any) -> bytes:
    """The body of an answer of 200: the value, or "ok" where JSON cannot say it."""
    said = as_json(value)
    return b'{"answer":' + (f'"{UNSAID}"'.encode() if said is None else said) + b"}"


def as_json(value: Any, longest: float = math.inf) -> bytes | None:
    """The value as JSON, arrays as lists; None if JSON cannot say it in `longest` characters.

    Stops as soon as it is too long: this runs on the event loop, for every request.
    """

    def plain(found: Any) -> Any:
        """NumPy's scalars and arrays, torch's tensors and the like. Raises for anything else."""
        if math.prod(found.shape) > longest:
            raise ValueError("too long")
        return found.tolist()

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
    except BaseException:  # noqa: BLE001  a class of the user's may raise anything when it is looked into
        return None
