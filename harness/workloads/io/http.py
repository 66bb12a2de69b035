"""One GET request to a service that already runs, per request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from harness.errors import UsageError
from harness.wire import addresses
from harness.wire.options import WorkloadOptions
from harness.wire.timings import HEADER, longest_ms
from harness.workloads import Workload
from harness.workloads.io.kinds import DownstreamError, DownstreamTimeout, IoCall, IoResult

SUMMARY = "one GET request to a service that already runs (http:URL)"
PACKAGES: tuple[str, ...] = ("httpx>=0.28", "httpx-aiohttp>=0.2", "aiohttp>=3.12")
SERVICE = None

_LONGEST_VALUE = 1000  # characters of the service's answer that our answer repeats
_MOST_BYTES_READ = 4 * _LONGEST_VALUE  # a character takes at most four bytes


def check(options: WorkloadOptions) -> None:
    """Raise UsageError for an invalid address, or one with a password, which the run would record."""
    try:
        addresses.checked_without_text(options.io)
    except ValueError as error:
        raise UsageError(
            f"--io: {error}.",
            stage="plan",
            hint="Give the whole URL of a GET request, such as --io http://127.0.0.1:9000/search; it is sent "
            "without extra headers.",
        ) from error


@asynccontextmanager
async def opened(workload: Workload, options: WorkloadOptions) -> AsyncIterator[IoCall]:  # noqa: ARG001 - contract
    """GET requests. Any status but 2xx is a failure. The service's own time is its longest `Server-Timing`.

    An answer beyond the bounds of `harness.wire.answers` is a failure too, as we do not control the service.
    """
    import httpx

    from harness.wire import answers
    from harness.wire.transports import AiohttpTransport, Client

    address = addresses.parse(options.io)
    server, target = httpx.URL(address.origin), addresses.filler(address.target)("")
    # no limit on connections, or the 101st request would wait for another one
    transport = AiohttpTransport(0, httpx.codes.is_success)
    async with Client(transport) as client:

        async def call(result: Any) -> IoResult:  # noqa: ARG001 - every request is the same
            try:
                async with asyncio.timeout(options.io_timeout_s):
                    request = client.build_request("GET", server, extensions={"target": target})
                    answer = await client.send_once(request)
                    body = (await answers.read(answer, _MOST_BYTES_READ)).start
            except TimeoutError:
                message = f"no answer within {options.io_timeout_s:g} s"
                raise DownstreamTimeout("http", message) from None
            except Exception as error:  # the HTTP library may raise anything for a faulty answer
                raise DownstreamError("http", answers.why_no_answer(error)) from error
            if not answer.is_success:
                raise DownstreamError("http", f"it answered {answer.status_code}")
            encoding = answer.headers.get("content-encoding", "")
            text = answers.decompressed(body, encoding, _MOST_BYTES_READ).decode(errors="replace")
            return IoResult(text[:_LONGEST_VALUE], longest_ms(answer.headers.get(HEADER, "")))

        yield call
