"""The requests of a trial, and how one is sent with httpx and its answer read."""

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
from harness.wire.options import LoadOptions
from harness.wire.timings import HEADER
from harness.wire.transports import OverAiohttp, OverHttpx

PINGS_IN_FLIGHT = 100  # ten seconds of hanging at the usual rate, then pings stop: sockets are limited


def transport_of(options: LoadOptions) -> OverAiohttp | OverHttpx:
    """The one asked for, with a connection for each request in flight."""
    connections = options.connections + (PINGS_IN_FLIGHT if options.ping_url else 0)
    own_limits.make_room(connections)
    good = {options.expected_status, 200} if options.keep_alive else set()  # pings expect 200
    if options.transport == "aiohttp":
        return OverAiohttp(connections, good.__contains__)
    verify = urlsplit(options.url).scheme == "https"  # a TLS context takes 20 ms to make
    try:
        return OverHttpx(connections, good.__contains__, verify=verify)
    except OSError as error:
        raise HarnessError(
            f"The certificates to trust cannot be read: {error.strerror or error}.",
            stage="load",
            hint="Is SSL_CERT_FILE (or SSL_CERT_DIR) a path that is there?",
        ) from error


class Request(NamedTuple):
    """What one request says beside its headers."""

    server: httpx.URL
    target: bytes  # path and query
    body: bytes | None


class Answer(NamedTuple):
    """What came of one request."""

    status: int | None  # None: there was no answer
    error: str  # empty of a good one
    header: str = ""  # Server-Timing
    bad_body: bytes = b""  # its beginning, where the status is not the expected one and `error` says no more


async def ask(
    client: httpx.AsyncClient,
    options: LoadOptions,
    said: Request,
    headers: list[sending.Header],
) -> Answer:
    """Send one request and read its whole answer. Whatever a server does comes back as an `Answer`."""
    try:
        request = client.build_request(
            options.method,
            said.server,
            content=said.body,
            headers=headers,
            extensions={"target": said.target},
        )
        async with asyncio.timeout(options.timeout_s):
            answer = await client.send(request, stream=True)
            good = answer.status_code == options.expected_status
            start = await answers.read(answer, 0 if good else reasons.LOOKED_AT)
    except TimeoutError:
        return Answer(None, reasons.of_timeout(options.timeout_s))
    except Exception as error:  # noqa: BLE001 - a library may raise anything on account of a server
        return Answer(None, own_limits.met_by(error) or answers.why_none(error))
    status, header = answer.status_code, answer.headers.get(HEADER, "")
    if good:
        return Answer(status, "", header)
    start = answers.unpacked(start, answer.headers.get("content-encoding", ""), reasons.LOOKED_AT)
    said_by_error = bool(reasons.of_io(start))
    return Answer(status, reasons.of_answer(status, start), header, b"" if said_by_error else start)


def requests(options: LoadOptions, headers: list[sending.Header]) -> Iterator[Request]:
    """Endless: what is sent, one after the other."""
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
    """Endless: the other route; nothing where there is none."""
    if options.ping_url is None:
        return iter(())
    address = addresses.parse(options.ping_url)
    return itertools.repeat(Request(httpx.URL(address.origin), addresses.filler(address.target)(""), None))


def _template(options: LoadOptions) -> str | None:
    """The body, with a place for the text where texts are sent in it; None: there is none."""
    if options.body is not None or options.texts is None:
        return options.body
    return None if addresses.TEXT in options.url else sending.USUAL_BODY


def headers_of(options: LoadOptions) -> list[sending.Header]:
    """As they are sent: filled from the environment; a JSON body is called so unless they say what it is."""
    headers = sending.expanded(options.headers)
    body = _template(options)
    if body is None or sending.content_type(headers) or not sending.is_json(body):
        return headers
    return [*headers, ("Content-Type", "application/json")]
