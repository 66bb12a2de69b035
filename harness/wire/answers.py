"""Read an answer up to a limit: a server may send endlessly, and few bytes may decompress to many."""

from __future__ import annotations

import traceback
import zlib
from http import HTTPStatus
from typing import NamedTuple

import httpx

from harness.wire import reasons
from harness.wire.clock import now_ms

MAX_HEAD_BYTES = 64 * 2**10  # of all headers together
MAX_HEADERS = 1_024  # each costs time and memory, however short it is
MAX_BODY_BYTES = 16 * 2**20  # of a body as sent; only its first few KB are kept

_COMPRESSIONS = ("gzip", "x-gzip", "deflate")
_ZLIB_OR_GZIP = 47  # argument wbits of zlib: detect the format


class TooLong(Exception):
    """The answer exceeds a limit. The text is the error of its row, the same for all such answers."""


HEAD_TOO_LONG = f"answer too long: over {MAX_HEAD_BYTES // 2**10} KiB or {MAX_HEADERS:,} lines of headers"
BODY_TOO_LONG = f"answer too long: over {MAX_BODY_BYTES // 2**20} MiB of body"


class Body(NamedTuple):
    """A body that was read to its end."""

    start: bytes  # its first bytes, as sent
    first_byte_ms: float | None  # when it began to arrive, on the host's clock; None if it is empty


async def read(answer: httpx.Response, keep: int) -> Body:
    """Read a streamed answer to its end and close it. Keep the first `keep` bytes of its body.

    Raises TooLong beyond `MAX_HEAD_BYTES`, `MAX_HEADERS` or `MAX_BODY_BYTES`. The caller must set a timeout.
    """
    stream = answer.stream
    assert isinstance(stream, httpx.AsyncByteStream)
    try:
        if _has_a_long_head(answer):
            raise TooLong(HEAD_TOO_LONG)
        size, kept, first_byte_ms = 0, bytearray(), None
        async for chunk in stream:
            if first_byte_ms is None:
                first_byte_ms = now_ms()
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                raise TooLong(BODY_TOO_LONG)
            if keep:
                kept += chunk[: keep - len(kept)]
        return Body(bytes(kept), first_byte_ms)
    finally:
        await stream.aclose()


def _has_a_long_head(answer: httpx.Response) -> bool:
    headers = answer.headers.raw
    size = len(answer.extensions.get("reason_phrase", b""))
    for name, value in headers:
        size += len(name) + len(value)
    return len(headers) > MAX_HEADERS or size > MAX_HEAD_BYTES


def decompressed(body: bytes, encoding: str, most: int) -> bytes:
    """Decompress the beginning of a body to at most `most` bytes; empty if its encoding is unknown.

    Never decompress more, and never twice: about ten nested gzips decompress to petabytes.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body[:most]
    try:
        return zlib.decompressobj(_ZLIB_OR_GZIP).decompress(body, most) if encoding in _COMPRESSIONS else b""
    except zlib.error:
        return b""


def why_no_answer(error: Exception) -> str:
    """Return the `error` of a row without an answer; for too long a head, the same with every transport."""
    cause = reasons.root(error)
    # frees the answer at once, to which the frames refer: garbage collection is rare during a trial
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__
    if isinstance(cause, TooLong):
        return str(cause)
    return HEAD_TOO_LONG if _is_library_limit(cause) else reasons.of_exception(cause)


def _is_library_limit(error: BaseException) -> bool:
    """Return whether aiohttp got too many headers, or h11 too long a head. httpcore's error wraps h11's."""
    hints = (getattr(one, "error_status_hint", None) for one in (error, *error.args))
    return "Too many headers received" in str(error) or HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE in hints
