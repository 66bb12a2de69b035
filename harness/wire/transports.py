"""HTTP transports for httpx: one over aiohttp, and httpx's own. Both send a target exactly as it was given.

A request holds its target in `extensions["target"]`, as documented by httpx; its URL is only the origin.
Neither transport reuses a connection after a bad answer: `aiohttp_session._Response` explains why.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import aiohttp
import httpx
from httpcore._async.http11 import AsyncHTTP11Connection
from httpx_aiohttp.transport import map_aiohttp_exceptions
from multidict import CIMultiDict
from yarl import URL

from harness.wire import aiohttp_session, answers
from harness.wire.aiohttp_session import KeepAlive


class Client(httpx.AsyncClient):
    """Builds requests as httpx does, and sends each of them once, to exactly the given URL."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        super().__init__(transport=transport, timeout=None, trust_env=False)
        self._sends = transport

    async def send_once(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return the head of the answer. The caller reads and closes it.

        Unlike `send`, it leaves out authentication, redirects, cookies and hooks. The caller must set a
        timeout around the whole request, as the aiohttp transport supports only some of httpx's.
        """
        return await self._sends.handle_async_request(request)


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends requests with aiohttp. Unlike httpx-aiohttp's transport, it keeps yarl from rewriting the URL."""

    def __init__(self, connections: int, keep_alive: KeepAlive) -> None:
        self._connections = connections  # the maximum; 0: no limit
        self._keep_alive = keep_alive
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return the head of the answer. Its body is read from the stream."""
        if self._session is None:  # created here, as it needs a running loop
            self._connector = aiohttp_session.Connector(limit=self._connections)
            self._session = aiohttp_session.session(self._connector, self._keep_alive)
        known = _prepared(request)
        try:
            response = await self._session.request(
                request.method,
                known.url,
                headers=known.headers,
                data=known.content,
                skip_auto_headers=known.unwanted,
                allow_redirects=False,
                auto_decompress=False,
                compress=False,
            )
        except Exception:  # raised again, as httpx's error: only failed requests pay for it
            with map_aiohttp_exceptions():
                raise
        return httpx.Response(
            response.status,
            headers=response.raw_headers,
            stream=_Body(response),
            request=request,
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": (response.reason or "").encode()},
        )

    def has_closed_connection(self) -> bool:
        """Return whether any connection has been closed. Call it after a request."""
        return self._connector.has_closed_connection()

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()


class _Prepared(NamedTuple):
    """A request as aiohttp takes it."""

    url: URL
    headers: CIMultiDict[str]
    content: bytes | None
    unwanted: tuple[str, ...] | None  # a header that aiohttp would add


_PREPARED = "prepared"  # key in the extensions of a request
_PLAIN = ("GET", "HEAD", "OPTIONS")


def _prepared(request: httpx.Request) -> _Prepared:
    """Prepare a request, which may be sent many times, only once."""
    known: _Prepared | None = request.extensions.get(_PREPARED)
    if known is None:
        headers = CIMultiDict(request.headers)
        content = request.content or None
        has_none = "Content-Type" not in headers and (content or request.method not in _PLAIN)
        unwanted = ("Content-Type",) if has_none else None
        known = _Prepared(_as_given(request), headers, content, unwanted)
        request.extensions[_PREPARED] = known
    return known


def _as_given(request: httpx.Request) -> URL:
    """Return the URL with path and query together as the path, which yarl leaves unchanged."""
    url = request.url
    target = request.extensions.get("target", url.raw_path)
    authority = url.netloc.decode()  # the bytes are ASCII
    return URL.build(scheme=url.scheme, authority=authority, path=target.decode(), encoded=True)


class _Body(httpx.AsyncByteStream):
    """The body of an answer of aiohttp."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        content = self._response.content
        try:
            while chunk := await content.readany():
                yield chunk
        except Exception:  # raised again, as httpx's error: only failed requests pay for it
            with map_aiohttp_exceptions():
                raise

    async def aclose(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        try:
            await self._response.__aexit__(None, None, None)
        except Exception:  # raised again, as httpx's error: only failed requests pay for it
            with map_aiohttp_exceptions():
                raise


# httpx has no option for this. By default h11 accepts a head of 100 KB, which may be thousands of short
# headers.
AsyncHTTP11Connection.MAX_INCOMPLETE_EVENT_SIZE = answers.MAX_HEAD_BYTES
AsyncHTTP11Connection.READ_NUM_BYTES = answers.MAX_HEAD_BYTES // 4  # h11 checks the limit after each read


class HttpxTransport(httpx.AsyncHTTPTransport):
    """Sends requests with httpx's own transport."""

    def __init__(self, connections: int, keep_alive: KeepAlive, *, verify: bool) -> None:
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        super().__init__(limits=limits, verify=verify)
        self._keep_alive = keep_alive
        self._connection: Any = None  # the one used last

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return the head of the answer. Its body is read from the stream."""
        response = await super().handle_async_request(request)
        self._connection = response.extensions["network_stream"]
        if not self._keep_alive(response.status_code):
            response.stream = _ClosingStream(response)
        return response

    def has_closed_connection(self) -> bool:
        """Return whether the connection used last has been closed. Call it after a request."""
        return self._connection is not None and bool(self._connection.get_extra_info("is_readable"))


class _ClosingStream(httpx.AsyncByteStream):
    """The body of an answer after which the connection is closed."""

    def __init__(self, response: httpx.Response) -> None:
        self._stream = response.stream
        self._connection = response.extensions["network_stream"]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert isinstance(self._stream, httpx.AsyncByteStream)
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        await self._connection.aclose()  # first, or the pool gives it to another request
        assert isinstance(self._stream, httpx.AsyncByteStream)
        await self._stream.aclose()
