"""HTTP transports of httpx: over aiohttp, or httpx's own. Both send a target as it was given.

A request names its target in `extensions["target"]`, as httpx documents; its address is the origin alone.
Neither uses a connection again after a bad answer: `aiohttp_session` says why.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import httpx
from httpcore._async.http11 import AsyncHTTP11Connection
from httpx_aiohttp.transport import AiohttpResponseStream, map_aiohttp_exceptions
from yarl import URL

from harness.wire import aiohttp_session, answers
from harness.wire.aiohttp_session import Keeps


def open_client(transport: httpx.AsyncBaseTransport) -> httpx.AsyncClient:
    """An httpx client that sends a request once, to the address given.

    It has no retries, redirects, proxies or cookies. Timeouts are set around the whole request by the caller,
    as the aiohttp transport knows only some of httpx's.
    """
    client = httpx.AsyncClient(transport=transport, timeout=None, trust_env=False)  # noqa: S113
    client.cookies.jar = answers.NoCookies()
    client.event_hooks["response"].append(answers.stay)
    return client


class OverAiohttp(httpx.AsyncBaseTransport):
    """httpx-aiohttp's own transport lets yarl write the address anew; this one does not."""

    def __init__(self, connections: int, keeps: Keeps) -> None:
        self._connections = connections  # at most; 0: any number
        self._keeps = keeps
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it and return the head of the answer; its body is read from the stream."""
        if self._session is None:  # not earlier: it wants a running loop
            self._connector = aiohttp_session.Connector(limit=self._connections)
            self._session = aiohttp_session.session(self._connector, self._keeps)
        with map_aiohttp_exceptions():
            response = await self._session.request(
                request.method,
                _as_given(request),
                headers=request.headers,
                data=request.content or None,
                skip_auto_headers=("Content-Type",),
                allow_redirects=False,
                auto_decompress=False,
                compress=False,
                timeout=aiohttp.ClientTimeout(),
            )
        return httpx.Response(
            response.status,
            headers=response.raw_headers,
            stream=AiohttpResponseStream(response),
            request=request,
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": (response.reason or "").encode()},
        )

    def has_ended_one(self) -> bool:
        """Whether a connection is not open any more; asked after a request."""
        return self._connector.has_ended_one()

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()


def _as_given(request: httpx.Request) -> URL:
    """Path and query stand together in the path, which nothing looks into."""
    url = request.url
    target = request.extensions.get("target", url.raw_path)
    authority = url.netloc.decode()  # as bytes it is ASCII
    return URL.build(scheme=url.scheme, authority=authority, path=target.decode(), encoded=True)


# httpx offers no option for it: of 100 KB in short lines h11 would make thousands of headers
AsyncHTTP11Connection.MAX_INCOMPLETE_EVENT_SIZE = answers.MOST_HEAD
AsyncHTTP11Connection.READ_NUM_BYTES = answers.MOST_HEAD // 4  # the bound is looked at after each read


class OverHttpx(httpx.AsyncHTTPTransport):
    """httpx's own transport."""

    def __init__(self, connections: int, keeps: Keeps, *, verify: bool) -> None:
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        super().__init__(limits=limits, verify=verify)
        self._keeps = keeps
        self._connection: Any = None  # the latest

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it and return the head of the answer; its body is read from the stream."""
        response = await super().handle_async_request(request)
        self._connection = response.extensions["network_stream"]
        if not self._keeps(response.status_code):
            response.stream = _Last(response)
        return response

    def has_ended_one(self) -> bool:
        """Whether the latest connection is not open any more; asked after a request."""
        return self._connection is not None and bool(self._connection.get_extra_info("is_readable"))


class _Last(httpx.AsyncByteStream):
    """The body of the last answer on a connection."""

    def __init__(self, response: httpx.Response) -> None:
        self._stream = response.stream
        self._connection = response.extensions["network_stream"]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert isinstance(self._stream, httpx.AsyncByteStream)
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        await self._connection.aclose()  # first: else the pool gives it to another request
        assert isinstance(self._stream, httpx.AsyncByteStream)
        await self._stream.aclose()
