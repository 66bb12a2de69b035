"""One GET of a service that runs already, per request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from harness import addresses
from harness.downstream import Ask, Broken, Found, Late
from harness.errors import UsageError
from harness.options import WorkloadOptions
from harness.server_timing import HEADER, longest_ms
from harness.workloads import Workload

SUMMARY = "one GET of a service that runs already (http:URL)"
TAKES = frozenset({"io_timeout_s"})
SERVICE = None

_LONGEST_VALUE = 1000  # characters of its answer in ours


def check(options: WorkloadOptions) -> None:
    """UsageError for what is no address, and for one with a password, which would be written down."""
    try:
        addresses.checked_without_text(options.io)
    except ValueError as error:
        raise UsageError(
            f"--io: {error}.",
            stage="plan",
            hint="It is asked as it stands, without headers: --io http://127.0.0.1:9000/search",
        ) from error


@asynccontextmanager
async def opened(workload: Workload, options: WorkloadOptions) -> AsyncIterator[Ask]:  # noqa: ARG001 - contract
    """Any status but 2xx is a failure. Its own time is the longest of its `Server-Timing`, if any."""
    import aiohttp
    import httpx

    from harness.transports import OverAiohttp

    address = addresses.parse(options.io)
    server, target = httpx.URL(address.origin), addresses.filler(address.target)("")
    # no limit, or the 101st request would wait for another's connection
    transport = OverAiohttp(0, httpx.codes.is_success)
    async with httpx.AsyncClient(transport=transport, timeout=None, trust_env=False) as client:  # noqa: S113

        async def ask(result: Any) -> Found:  # noqa: ARG001 - the service is asked the same every time
            try:
                async with asyncio.timeout(options.io_timeout_s):
                    answer = await client.get(server, extensions={"target": target})
            except TimeoutError:
                raise Late("http", f"no answer within {options.io_timeout_s:g} s") from None
            except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
                raise Broken("http", f"{type(error).__name__}: {error}") from error
            if not answer.is_success:
                raise Broken("http", f"it answered {answer.status_code}")
            return Found(answer.text[:_LONGEST_VALUE], longest_ms(answer.headers.get(HEADER, "")))

        yield ask
