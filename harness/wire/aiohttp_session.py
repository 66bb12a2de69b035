"""aiohttp sessions for the load and for `--io http`. They send each request once, on a live connection.

No answer of a server can fill the memory.
"""

from __future__ import annotations

import asyncio
import functools
import select
import weakref
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

from harness.wire.answers import HEAD_TOO_LONG, MAX_HEAD_BYTES, MAX_HEADERS, TooLong

_UNLIMITED = 2**30  # turns off limits of aiohttp, as our own are lower
_BUFFER_BYTES = 2**16  # per connection; the default of 256 KiB is too much for 500 connections


class ConnectionDropped(aiohttp.ClientError):
    """The server closed the connection instead of answering."""


async def _no_retry(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from silently retrying an idempotent request on a dropped connection.

    aiohttp retries on the two errors caught here. `ConnectionDropped` reaches the caller instead.
    """
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise  # no connection was made, so aiohttp does not retry
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise ConnectionDropped(str(error)) from error


KeepAlive = Callable[[int], bool]  # status of an answer → whether its connection may be reused


def session(connector: Connector, keep_alive: KeepAlive) -> aiohttp.ClientSession:
    """Create a session that sends each request once. `_Response` explains `keep_alive`."""
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        middlewares=(_no_retry,),
        timeout=aiohttp.ClientTimeout(),  # none: callers set one around the whole request
        read_bufsize=_BUFFER_BYTES,
        max_line_size=_UNLIMITED,
        max_field_size=_UNLIMITED,
        max_headers=MAX_HEADERS,
        response_class=type("_Response", (_Response,), {"keep_alive": staticmethod(keep_alive)}),
    )


class Connector(aiohttp.TCPConnector):
    """A connector that never reuses a connection that the server has closed.

    aiohttp notices the end of a connection only when its event loop reads the socket, which may be after it
    sends the next request. So check the socket before (about 2 µs), like httpcore.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        handler: type[ResponseHandler] = _BoundedProtocol
        self._factory = functools.partial(handler, loop=asyncio.get_running_loop())
        self._used: weakref.WeakSet[_BoundedProtocol] = weakref.WeakSet()

    async def connect(self, *request: Any, **options: Any) -> Connection:
        connection = await super().connect(*request, **options)
        while _was_used(connection) and _has_ended(connection):
            connection.close()
            connection = await super().connect(*request, **options)
        if not _was_used(connection):
            assert isinstance(connection.protocol, _BoundedProtocol)
            connection.protocol.was_used = True
            self._used.add(connection.protocol)
        return connection

    def has_closed_connection(self) -> bool:
        """Return whether any connection has been closed."""
        return any(not protocol.is_connected() for protocol in self._used)


def _was_used(connection: Connection) -> bool:
    protocol = connection.protocol
    return isinstance(protocol, _BoundedProtocol) and protocol.was_used


def _has_ended(connection: Connection) -> bool:
    """Return whether the socket is readable: between two requests, it can only have been closed."""
    transport = connection.transport
    socket = None if transport is None else transport.get_extra_info("socket")
    if socket is None or socket.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(socket.fileno(), select.POLLIN)
    return bool(poll.poll(0))


class _Response(aiohttp.ClientResponse):
    """Closes its connection after an answer for which `keep_alive` is false, such as an error.

    Servers may close the connection after an error without announcing it; uvicorn does so after every
    exception of an app. By then the next request may be on its way, and its loss would look like another
    server failure.
    """

    keep_alive: KeepAlive

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        protocol = connection.protocol
        answer = await super().start(connection)
        self.reason = (self.reason or "").encode("ascii", "replace").decode()  # httpx accepts only ASCII
        if protocol is not None and not self.keep_alive(self.status):
            protocol.force_close()  # takes effect when the body has been read
            if self.connection is None:  # the body has been read, and the connection is in the pool
                protocol.close()
        return answer


class _BoundedProtocol(ResponseHandler):
    """Limits the bytes that neither complete a head nor add to a body.

    aiohttp limits the size of each header and their number, but not their total size.
    """

    was_used = False  # for a request
    _awaits_head = False
    _idle_bytes = 0

    def set_response_params(self, **params: Any) -> None:
        """Called by aiohttp when a request begins."""
        self._awaits_head = True
        self._idle_bytes = 0
        super().set_response_params(**params)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Called by aiohttp when a head is complete. Drop an interim one (1xx): the real one follows."""
        if data[0].code >= 200 or data[0].code == 101:
            self._awaits_head = False
            self._idle_bytes = -1
            super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """Called when bytes arrive. Close the connection if they belong to no request.

        Otherwise they would be taken for the answer to the next request.
        """
        is_idle = not self._awaits_head and (self._payload is None or self._payload.is_eof())
        if data and is_idle:
            self.close()
            return
        before = self._body_bytes()
        super().data_received(data)
        if self._idle_bytes < 0 or self._body_bytes() > before:
            self._idle_bytes = 0
            return
        self._idle_bytes += len(data)
        if self._idle_bytes > MAX_HEAD_BYTES and self.transport is not None:
            self._parser = None  # otherwise it raises that the answer is incomplete
            self.transport.close()
            error = TooLong(HEAD_TOO_LONG)
            self.set_exception(error)
            if self._payload is not None:
                self._payload.set_exception(error)

    def _body_bytes(self) -> int:
        return 0 if self._payload is None else self._payload.total_bytes
