"""For aiohttp's sessions, of the load and of `--io http`: a request goes out once, on a live connection."""

from __future__ import annotations

import asyncio
import functools
import select
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import aiohttp

from harness.wire import bounded

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection


class ConnectionDropped(aiohttp.ClientError):
    """The server closed the connection instead of answering."""


async def no_retry(
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
        middlewares=(no_retry,),
        **bounded.LIMITS,
        response_class=type("_Response", (_Response,), {"keeps": staticmethod(keeps)}),
    )


class Connector(aiohttp.TCPConnector):
    """Does not use a connection again that the server has closed.

    aiohttp learns of the end only when its event loop reads the socket, which may be after the next request
    was sent. So the socket is asked before (some 2 µs), as httpcore does.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        handler: type[ResponseHandler] = bounded.Connection
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
