"""Why a request got no good answer, in one short line that people can read and programs can count.

The same reason gives the same text in the column `error` (`HTTP 422`), so that rows can be grouped by it. The
details in an answer may differ from request to request, so they are kept separately, once per text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from harness.system import own_limits
from harness.wire import sending
from harness.wire.records import DOWNSTREAM

MAX_LINE_CHARS = 200
BODY_BYTES_KEPT = 10_000  # an error page may have any size
_TIMEOUT = "timeout after "


def root(error: BaseException) -> BaseException:
    """Return the first cause: httpx's own errors are too coarse (a dropped connection is "connect")."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def of_timeout(timeout_s: float) -> str:
    """Return the error of a request that was not answered in time."""
    return f"{_TIMEOUT}{timeout_s:g} s"


def is_timeout(error: str) -> bool:
    """Return whether a row's error comes from `of_timeout`; a row holds only the text."""
    return error.startswith(_TIMEOUT)


def is_own_limit(error: str) -> bool:
    """Return whether the error of a request or a trial is a limit of the load generator's own process."""
    return own_limits.is_own(error)


def of_exception(error: BaseException) -> str:
    """Return the root cause of an exception in one line."""
    error = root(error)
    return _line(f"{type(error).__name__}: {error}").removesuffix(":")


def of_answer(status: int, body: bytes) -> str:
    """Return the status, with the reason if it is our own app's failed I/O."""
    why = of_io(body)
    return _line(f"HTTP {status}: {why}" if why else f"HTTP {status}")


def of_io(body: bytes) -> str:
    """Return why the I/O of our own app failed; "" if the body does not come from a failed I/O."""
    return _detail(body) if DOWNSTREAM.encode() in body[:BODY_BYTES_KEPT] else ""


def excerpt(body: bytes, secrets: Iterable[str] = ()) -> str:
    """Return the text of an answer in one printable line (may be empty); of FastAPI's errors, the messages.

    Hide all `secrets`: a server may repeat what it was sent, and the excerpt is saved.
    """
    return _line(hidden(_detail(body) or _decoded(body), secrets))


def hidden(text: str, secrets: Iterable[str]) -> str:
    """Replace each of `secrets` in the text."""
    for secret in secrets:
        text = text.replace(secret, sending.REDACTED)
    return text


def _decoded(body: bytes) -> str:
    """Decode the beginning of a body as UTF-8. Ignore the charset of its header, which may be any text."""
    return body[:BODY_BYTES_KEPT].decode("utf-8-sig", errors="replace")


def _line(text: str) -> str:
    """Return at most `MAX_LINE_CHARS` printable characters, with single spaces."""
    words = "".join(char if char.isprintable() else " " for char in text).split()
    line = " ".join(words)
    return line if len(line) <= MAX_LINE_CHARS else f"{line[: MAX_LINE_CHARS - 1]}…"


def _detail(body: bytes) -> str:
    """Return the message in `{"detail": …}`, FastAPI's error format; "" for any other format."""
    try:
        parsed = json.loads(_decoded(body))
        detail = parsed.get("detail") if isinstance(parsed, dict) else None
        if isinstance(detail, list):
            return "; ".join(map(_problem, detail))
    except (ValueError, RecursionError):  # json may parse deeply nested data that it cannot write
        return ""
    return detail if isinstance(detail, str) else ""


def _problem(one: Any) -> str:
    """Return one validation error with its place, without the input: `body.text: Field required`."""
    if not isinstance(one, dict) or "msg" not in one:
        return json.dumps(one)
    place = one.get("loc")
    where = ".".join(map(str, place)) if isinstance(place, list) else ""
    return f"{where}: {one['msg']}" if where else str(one["msg"])
