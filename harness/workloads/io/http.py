"""One GET of a service that runs already, per request."""

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
from harness.workloads.io.kinds import Ask, Broken, Found, Late

SUMMARY = "one GET of a service that runs already (http:URL)"
SERVICE = None

_LONGEST_VALUE = 1000  # characters of its answer in ours
_LOOKED_AT = 4 * _LONGEST_VALUE  # bytes, of which a character takes four at most


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
    """Any status but 2xx is a failure. Its own time is the longest of its `Server-Timing`, if any.

    The service is not ours: an answer beyond the bounds of `harness.wire.answers` is a failure.
    """
    import httpx

    from harness.wire import answers
    from harness.wire.transports import AiohttpTransport, open_client

    address = addresses.parse(options.io)
    server, target = httpx.URL(address.origin), addresses.filler(address.target)("")
    # no limit, or the 101st request would wait for another's connection
    transport = AiohttpTransport(0, httpx.codes.is_success)
    async with open_client(transport) as client:

        async def ask(result: Any) -> Found:  # noqa: ARG001 - the service is asked the same every time
            try:
                async with asyncio.timeout(options.io_timeout_s):
                    request = client.build_request("GET", server, extensions={"target": target})
                    answer = await client.send(request, stream=True)
                    body = await answers.read(answer, _LOOKED_AT)
            except TimeoutError:
                raise Late("http", f"no answer within {options.io_timeout_s:g} s") from None
            except Exception as error:  # a library may raise anything on account of a server
                raise Broken("http", answers.why_no_answer(error)) from error
            if not answer.is_success:
                raise Broken("http", f"it answered {answer.status_code}")
            said = answers.decompressed(body, answer.headers.get("content-encoding", ""), _LOOKED_AT)
            text = said.decode(errors="replace")[:_LONGEST_VALUE]
            return Found(text, longest_ms(answer.headers.get(HEADER, "")))

        yield ask
