"""The requests of a trial: build them, send one with httpx, and read its answer."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx

from harness import workloads
from harness.errors import HarnessError
from harness.system import own_limits
from harness.wire import addresses, answers, reasons, sending
from harness.wire.load_options import LoadOptions
from harness.wire.timings import HEADER
from harness.wire.transports import AiohttpTransport, HttpxTransport

PINGS_IN_FLIGHT = 100  # at most; at the default rate, pings that hang reach it in ten seconds


def create_transport(options: LoadOptions) -> AiohttpTransport | HttpxTransport:
    """Create the transport that `options` names, with one connection for each request in flight.

    Raises HarnessError if the certificates to trust cannot be read.
    """
    connections = options.connections + (PINGS_IN_FLIGHT if options.ping_url else 0)
    own_limits.make_room(connections)
    good = {options.expected_status, 200} if options.keep_alive else set()  # 200 is what pings expect
    if options.transport == "aiohttp":
        return AiohttpTransport(connections, good.__contains__)
    verify = urlsplit(options.url).scheme == "https"  # a TLS context takes 20 ms to make
    try:
        return HttpxTransport(connections, good.__contains__, verify=verify)
    except OSError as error:
        raise HarnessError(
            f"The certificates to trust cannot be read: {error.strerror or error}.",
            stage="load",
            hint="Check that the path in SSL_CERT_FILE (or SSL_CERT_DIR) exists.",
        ) from error


class Request(NamedTuple):
    """A request without its headers."""

    server: httpx.URL
    target: bytes  # path and query
    body: bytes | None


class Answer(NamedTuple):
    """The result of a request."""

    status: int | None  # None: no answer
    error: str  # empty for a good answer
    header: str = ""  # Server-Timing
    bad_body: bytes = b""  # the first bytes, if the status is unexpected and `error` holds no details


async def send(
    client: httpx.AsyncClient,
    options: LoadOptions,
    request: Request,
    headers: list[sending.Header],
) -> Answer:
    """Send a request and read its whole answer. Return an `Answer` whatever the server does."""
    try:
        httpx_request = client.build_request(
            options.method,
            request.server,
            content=request.body,
            headers=headers,
            extensions={"target": request.target},
        )
        async with asyncio.timeout(options.timeout_s):
            answer = await client.send(httpx_request, stream=True)
            good = answer.status_code == options.expected_status
            start = await answers.read(answer, 0 if good else reasons.BODY_BYTES_KEPT)
    except TimeoutError:
        return Answer(None, reasons.of_timeout(options.timeout_s))
    except Exception as error:  # noqa: BLE001 - libraries may raise anything in reaction to a server
        return Answer(None, own_limits.limit_in(error) or answers.why_no_answer(error))
    status, header = answer.status_code, answer.headers.get(HEADER, "")
    if good:
        return Answer(status, "", header)
    start = answers.decompressed(start, answer.headers.get("content-encoding", ""), reasons.BODY_BYTES_KEPT)
    error_has_details = bool(reasons.of_io(start))
    return Answer(status, reasons.of_answer(status, start), header, b"" if error_has_details else start)


def requests(options: LoadOptions, headers: list[sending.Header]) -> Iterator[Request]:
    """Yield the requests to send, without end."""
    address = addresses.parse(options.url)
    server, target = httpx.URL(address.origin), addresses.filler(address.target)
    template = _template(options)
    if options.texts is None:
        body = None if template is None else template.encode()
        return itertools.repeat(Request(server, target(""), body))
    texts = workloads.texts(options.texts.workload, options.texts.seed)
    if template is None:
        return (Request(server, target(text), None) for text in texts)
    fill = sending.filler(template, sending.content_type(headers))
    return (Request(server, target(text), fill(text)) for text in texts)


def pings(options: LoadOptions) -> Iterator[Request]:
    """Yield pings without end; nothing if the options have no ping URL."""
    if options.ping_url is None:
        return iter(())
    address = addresses.parse(options.ping_url)
    return itertools.repeat(Request(httpx.URL(address.origin), addresses.filler(address.target)(""), None))


def _template(options: LoadOptions) -> str | None:
    """Return the body, with a placeholder if the texts are sent in it; None if requests have no body."""
    if options.body is not None or options.texts is None:
        return options.body
    return None if addresses.PLACEHOLDER in options.url else sending.DEFAULT_BODY


def headers_of(options: LoadOptions) -> list[sending.Header]:
    """Return the headers as sent: filled from the environment, and with a Content-Type for a JSON body."""
    headers = sending.expanded(options.headers)
    body = _template(options)
    if body is None or sending.content_type(headers) or not sending.is_json(body):
        return headers
    return [*headers, ("Content-Type", "application/json")]
