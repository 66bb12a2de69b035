"""For aiohttp's sessions, of the load and of `--io http`: a request goes out once, or it is no row."""

from __future__ import annotations

import aiohttp


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
