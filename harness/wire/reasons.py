"""Why a request got no good answer: one short line, for people and for counting alike.

The error of a row is the same text for the same reason (`HTTP 422`), so that rows can be grouped by it. What
the answer itself says may differ from request to request, so it is kept apart, once for each such text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from harness.wire import sending
from harness.wire.records import DOWNSTREAM

LONGEST = 200  # characters
LOOKED_AT = 10_000  # bytes of a body; an error page may be of any size
_TIMEOUT = "timeout after "


def root(error: BaseException) -> BaseException:
    """What an error was first: httpx's own names are too coarse (a drop reads "connect")."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def of_timeout(timeout_s: float) -> str:
    """That nothing came within so many seconds."""
    return f"{_TIMEOUT}{timeout_s:g} s"


def is_timeout(error: str) -> bool:
    """Whether the error of a row is one of `of_timeout`: a row has only the text."""
    return error.startswith(_TIMEOUT)


def of_exception(error: BaseException) -> str:
    """The error's root cause, in a line."""
    error = root(error)
    return _line(f"{type(error).__name__}: {error}").removesuffix(":")


def of_answer(status: int, body: bytes) -> str:
    """The status; where our own app names what it awaits after the model, the reason as well."""
    why = of_io(body)
    return _line(f"HTTP {status}: {why}" if why else f"HTTP {status}")


def of_io(body: bytes) -> str:
    """Why what our own app awaits after the model gave no answer; "" for an answer that does not say it."""
    return _detail(body) if DOWNSTREAM.encode() in body[:LOOKED_AT] else ""


def excerpt(body: bytes, secrets: Iterable[str] = ()) -> str:
    """What an answer says, without control characters; of FastAPI's errors the words alone. May be empty.

    None of `secrets` is in it: a server may repeat what it was sent, and this is written down.
    """
    return _line(hidden(_detail(body) or _decoded(body), secrets))


def hidden(text: str, secrets: Iterable[str]) -> str:
    """The text without any of `secrets`."""
    for secret in secrets:
        text = text.replace(secret, sending.HIDDEN)
    return text


def _decoded(body: bytes) -> str:
    """The beginning of a body as UTF-8, whatever charset its header names: that may be any text."""
    return body[:LOOKED_AT].decode("utf-8-sig", errors="replace")


def _line(text: str) -> str:
    """At most `LONGEST` characters that can be printed, with single spaces."""
    words = "".join(char if char.isprintable() else " " for char in text).split()
    line = " ".join(words)
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def _detail(body: bytes) -> str:
    """The words of `{"detail": …}`, FastAPI's form of an error; "" for a body of another form."""
    try:
        said = json.loads(_decoded(body))
        detail = said.get("detail") if isinstance(said, dict) else None
        if isinstance(detail, list):
            return "; ".join(map(_problem, detail))
    except (ValueError, RecursionError):  # what is nested deeply may be read and not be written again
        return ""
    return detail if isinstance(detail, str) else ""


def _problem(one: Any) -> str:
    """One thing that is wrong with a request, and where, but not the request: `body.text: Field required`."""
    if not isinstance(one, dict) or "msg" not in one:
        return json.dumps(one)
    place = one.get("loc")
    where = ".".join(map(str, place)) if isinstance(place, list) else ""
    return f"{where}: {one['msg']}" if where else str(one["msg"])
