"""For aiohttp's sessions, of the load and of `--io http`: what a server sends never fills the memory.

aiohttp bounds each header and their number, which is no bound of all of them together.
"""

from __future__ import annotations

from typing import Any

from aiohttp.client_proto import ResponseHandler

from harness.wire.answers import HEAD_TOO_LONG, MOST_HEAD, MOST_HEADERS, TooLong

_NEVER = 2**30  # bounds of aiohttp's that ours come before
_BUFFER = 2**16  # bytes of a body that wait for us; the usual 256 KiB times 500 connections are too many


class Connection(ResponseHandler):
    """Counts the bytes that bring neither a head to its end nor a body further."""

    _awaits_head = False
    _idle_bytes = 0

    def set_response_params(self, **params: Any) -> None:
        """A request begins."""
        self._awaits_head = True
        self._idle_bytes = 0
        super().set_response_params(**params)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """A head has ended. One of 1xx is followed by another; nobody waits for it, so it is not kept."""
        if data[0].code >= 200 or data[0].code == 101:
            self._awaits_head = False
            self._idle_bytes = -1
            super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """Bytes have come. Those that nobody asked for would pass for the next request's answer."""
        if data and self._is_idle():
            self.close()
            return
        before = self._body_bytes()
        super().data_received(data)
        if self._idle_bytes < 0 or self._body_bytes() > before:
            self._idle_bytes = 0
        else:
            self._count(len(data))

    def _is_idle(self) -> bool:
        return not self._awaits_head and (self._payload is None or self._payload.is_eof())

    def _count(self, size: int) -> None:
        self._idle_bytes += size
        if self._idle_bytes > MOST_HEAD and self.transport is not None:
            self._parser = None  # or it would say that the answer is incomplete
            self.transport.close()
            error = TooLong(HEAD_TOO_LONG)
            self.set_exception(error)
            if self._payload is not None:
                self._payload.set_exception(error)

    def _body_bytes(self) -> int:
        return 0 if self._payload is None else self._payload.total_bytes


LIMITS: dict[str, Any] = {  # for a session
    "read_bufsize": _BUFFER,
    "max_line_size": _NEVER,
    "max_field_size": _NEVER,
    "max_headers": MOST_HEADERS,
}
