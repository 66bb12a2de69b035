"""aiohttp's sessions, of the load and of `--io http`: a request goes out once, on a live connection.

What a server sends never fills the memory.
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

from harness.wire.answers import HEAD_TOO_LONG, MOST_HEAD, MOST_HEADERS, TooLong

_NEVER = 2**30  # bounds of aiohttp's that ours come before
_BUFFER = 2**16  # bytes of a body that wait for us; the usual 256 KiB times 500 connections are too many


class ConnectionDropped(aiohttp.ClientError):
    """The server closed the connection instead of answering."""


async def _no_retry(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from silently sending an idempotent request again on a dropped connection.

    It retries on these two errors; a different one reaches the caller.
    """
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise  # never connected: aiohttp does not retry that
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise ConnectionDropped(str(error)) from error


Keeps = Callable[[int], bool]  # the status of an answer → whether its connection may be used again


def session(connector: Connector, keeps: Keeps) -> aiohttp.ClientSession:
    """A session that sends each request once. What `keeps` is for says `_Response`."""
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        middlewares=(_no_retry,),
        read_bufsize=_BUFFER,
        max_line_size=_NEVER,
        max_field_size=_NEVER,
        max_headers=MOST_HEADERS,
        response_class=type("_Response", (_Response,), {"keeps": staticmethod(keeps)}),
    )


class Connector(aiohttp.TCPConnector):
    """Does not use a connection again that the server has closed.

    aiohttp learns of the end only when its event loop reads the socket, which may be after the next request
    was sent. So the socket is asked before (some 2 µs), as httpcore does.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        handler: type[ResponseHandler] = _BoundedProtocol
        self._factory = functools.partial(handler, loop=asyncio.get_running_loop())
        self._used: weakref.WeakSet[ResponseHandler] = weakref.WeakSet()

    async def connect(self, *request: Any, **options: Any) -> Connection:
        connection = await super().connect(*request, **options)
        while connection.protocol in self._used and _is_readable(connection):
            connection.close()
            connection = await super().connect(*request, **options)
        assert connection.protocol is not None
        self._used.add(connection.protocol)
        return connection

    def has_ended_one(self) -> bool:
        """Whether a connection is not open any more."""
        return any(not protocol.is_connected() for protocol in self._used)


def _is_readable(connection: Connection) -> bool:
    """Between two requests there is nothing to read but the end of the connection."""
    transport = connection.transport
    listening = None if transport is None else transport.get_extra_info("socket")
    if listening is None or listening.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(listening.fileno(), select.POLLIN)
    return bool(poll.poll(0))


class _Response(aiohttp.ClientResponse):
    """Ends its connection after an answer that is not to keep it, which a bad one is not.

    Servers close it then without saying so, uvicorn after every exception of an app. The next request may
    already be on its way, and its loss would look like one more failure of the server.
    """

    keeps: Keeps

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        protocol = connection.protocol
        answer = await super().start(connection)
        self.reason = (self.reason or "").encode("ascii", "replace").decode()  # httpx takes nothing else
        if protocol is not None and not self.keeps(self.status):
            protocol.force_close()  # once the body is read
            if self.connection is None:  # it is, and the connection in the pool
                protocol.close()
        return answer


class _BoundedProtocol(ResponseHandler):
    """Counts the bytes that bring neither a head to its end nor a body further.

    aiohttp bounds each header and their number, which is no bound of all of them together.
    """

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
        if self._idle_bytes > MOST_HEAD and self.transport is not None:
            self._parser = None  # or it would say that the answer is incomplete
            self.transport.close()
            error = TooLong(HEAD_TOO_LONG)
            self.set_exception(error)
            if self._payload is not None:
                self._payload.set_exception(error)

    def _body_bytes(self) -> int:
        return 0 if self._payload is None else self._payload.total_bytes
