"""The requests of a trial: build them, send one with httpx, and read its answer."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx

from harness import workloads
from harness.errors import HarnessError
from harness.system import own_limits
from harness.wire import addresses, answers, reasons, recordings, sending
from harness.wire.load_options import LoadOptions, Texts
from harness.wire.timings import HEADER
from harness.wire.transports import AiohttpTransport, Client, HttpxTransport

PINGS_IN_FLIGHT = 100  # at most; at the default rate, pings that hang reach it in ten seconds


def create_transport(options: LoadOptions) -> AiohttpTransport | HttpxTransport:
    """Create the transport that `options` names, with one connection for each request in flight.

    Raises HarnessError if the certificates to trust cannot be read.
    """
    connections = options.connections + (PINGS_IN_FLIGHT if options.ping_url else 0)
    own_limits.make_room(connections)
    keeps = options.keep_alive and not options.new_connections
    good = {options.expected_status, 200} if keeps else set()  # 200 is what pings expect
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


@dataclasses.dataclass(slots=True)
class Request:
    """A request without its headers."""

    server: httpx.URL
    target: bytes  # path and query
    body: bytes | None
    built: httpx.Request | None = None  # with its headers, once it was sent


class Answer(NamedTuple):
    """The result of a request."""

    status: int | None  # None: no answer
    error: str  # empty for a good answer
    header: str = ""  # Server-Timing
    bad_body: bytes = b""  # the first bytes, if the status is unexpected and `error` holds no details
    first_byte_ms: float | None = None  # when the body began to arrive, on the host's clock; None: no body


async def send(
    client: Client,
    options: LoadOptions,
    request: Request,
    headers: list[sending.Header],
) -> Answer:
    """Send a request and read its whole answer. Return an `Answer` whatever the server does."""
    built = request.built
    try:
        if built is None:
            built = request.built = client.build_request(
                options.method,
                request.server,
                content=request.body,
                headers=headers,
                extensions={"target": request.target},
            )
        async with asyncio.timeout(options.timeout_s):
            answer = await client.send_once(built)
            good = answer.status_code == options.expected_status
            body = await answers.read(answer, 0 if good else reasons.BODY_BYTES_KEPT)
    except TimeoutError:
        return Answer(None, reasons.of_timeout(options.timeout_s))
    except Exception as error:  # noqa: BLE001 - libraries may raise anything in reaction to a server
        return Answer(None, own_limits.limit_in(error) or answers.why_no_answer(error))
    status, header = answer.status_code, answer.headers.get(HEADER, "")
    if good:
        return Answer(status, "", header, first_byte_ms=body.first_byte_ms)
    start = answers.decompressed(
        body.start, answer.headers.get("content-encoding", ""), reasons.BODY_BYTES_KEPT
    )
    error_has_details = bool(reasons.of_io(start))
    bad_body = b"" if error_has_details else start
    return Answer(status, reasons.of_answer(status, start), header, bad_body, body.first_byte_ms)


def requests(options: LoadOptions, headers: list[sending.Header]) -> Iterator[Request]:
    """Yield the requests to send: those of a recording, else without end."""
    address = addresses.parse(options.url)
    server, target = httpx.URL(address.origin), addresses.filler(address.target)
    template = _template(options)
    if options.texts is None:
        body = None if template is None else template.encode()
        return itertools.repeat(Request(server, target(""), body))
    texts = _texts(options.texts)
    if template is None:
        return (Request(server, target(text), None) for text in texts)
    fill = sending.filler(template, sending.content_type(headers))
    return (Request(server, target(text), fill(text)) for text in texts)


def _texts(given: Texts) -> Iterator[str]:
    if given.recording is not None:
        return iter(recordings.texts(given.recording))
    return workloads.texts(given.workload, given.seed)


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
