"""Read an answer up to a bound: a server may send without an end, and a little may unpack to a lot."""

from __future__ import annotations

import traceback
import zlib
from http import HTTPStatus
from http.cookiejar import CookieJar
from typing import Any

import httpx

from harness.wire import reasons

MOST_HEAD = 64 * 2**10  # bytes of all headers together
MOST_HEADERS = 1_024  # each costs time and memory, however short it is
MOST_BODY = 16 * 2**20  # bytes of a body as it is sent; at most the first few KB of one are held

_NOTHING = httpx.ByteStream(b"")
_PACKED = ("gzip", "x-gzip", "deflate")
_ZLIB_OR_GZIP = 47


class TooLong(Exception):
    """The answer is longer than a bound. Its text is the error of the row, the same for all such answers."""


HEAD_TOO_LONG = f"answer too long: over {MOST_HEAD // 2**10} KiB or {MOST_HEADERS:,} lines of headers"
BODY_TOO_LONG = f"answer too long: over {MOST_BODY // 2**20} MiB of body"


async def read(answer: httpx.Response, keep: int) -> bytes:
    """Read a streamed answer to its end and close it; return the first `keep` bytes of its body, as sent.

    TooLong beyond `MOST_HEAD` or `MOST_BODY`. How long it may take is the caller's to bound.
    """
    try:
        if _has_a_long_head(answer):
            raise TooLong(HEAD_TOO_LONG)
        size, kept = 0, bytearray()
        async for chunk in answer.aiter_raw():
            size += len(chunk)
            if size > MOST_BODY:
                raise TooLong(BODY_TOO_LONG)
            kept += chunk[: keep - len(kept)]
        return bytes(kept)
    finally:
        await answer.aclose()
        # httpx has it refer to the answer, and within a trial no garbage is collected
        answer.stream = _NOTHING


def _has_a_long_head(answer: httpx.Response) -> bool:
    headers = answer.headers.raw
    size = sum(len(name) + len(value) for name, value in headers)
    return len(headers) > MOST_HEADERS or size + len(answer.extensions.get("reason_phrase", b"")) > MOST_HEAD


def unpacked(body: bytes, encoding: str, most: int) -> bytes:
    """The first `most` bytes of what the beginning of a body says; empty for a packing not known here.

    Never unpacks more than that, and never twice: some ten gzips in one another unpack to petabytes.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body[:most]
    try:
        return zlib.decompressobj(_ZLIB_OR_GZIP).decompress(body, most) if encoding in _PACKED else b""
    except zlib.error:
        return b""


def why_none(error: Exception) -> str:
    """The error of a row that has no answer; a head that is too long reads the same with every transport."""
    cause = reasons.root(error)
    # frames refer to the error and to what was read, and within a trial no garbage is collected
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__
    if isinstance(cause, TooLong):
        return str(cause)
    return HEAD_TOO_LONG if _is_a_librarys_bound(cause) else reasons.of_exception(cause)


def _is_a_librarys_bound(error: BaseException) -> bool:
    """Whether aiohttp met too many headers, or h11 100 KB without an end; httpcore's error holds h11's."""
    hints = (getattr(one, "error_status_hint", None) for one in (error, *error.args))
    return "Too many headers received" in str(error) or HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE in hints


async def stay(answer: httpx.Response) -> None:
    """An httpx response hook: forget where a redirect leads, as httpx fails on an address that is none."""
    if answer.is_redirect:
        answer.headers.pop("location", None)


class NoCookies(CookieJar):
    """Keeps none. All users share one client, and a server would take them for one person."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        """Leave the Set-Cookie lines unread: there may be thousands."""

    def add_cookie_header(self, request: Any) -> None:
        """Add nothing."""
