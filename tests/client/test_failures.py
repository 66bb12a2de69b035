"""Whatever a server does, the load generator records each request as a row and continues."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import statistics
import threading
from collections.abc import Iterator

import aiohttp
import httpx
import pytest
import running
from httpx_aiohttp import AiohttpTransport
from known_server import (
    Answer,
    Arrival,
    after,
    answering,
    both_transports,
    closed_port,
    fire,
    load_options,
    phases,
    reply,
    service_ms,
)

from harness.client.engine import PAUSE_WITHOUT_ANSWER_S
from harness.client.http_client import create_transport
from harness.run.load_generator import Loader
from harness.run.local_generator import LocalProcess
from harness.run.supervisor import Supervisor
from harness.wire.records import MEASURE
from harness.wire.transports import Client

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def loader() -> Iterator[Loader]:
    """One load generator process for all tests, as a run has one for all its trials."""
    with Supervisor() as supervisor, Loader(LocalProcess(supervisor)) as child:
        yield child


async def never(arrival: Arrival) -> bytes | None:
    await asyncio.sleep(60)
    return None


async def head_only(arrival: Arrival) -> bytes:
    """Send the head of an answer and never the rest."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nthis is"


@pytest.mark.timed
@both_transports
@pytest.mark.parametrize("silence", [never, head_only])
def test_a_timeout_is_a_row_without_status_after_the_timeout_and_not_much_later(
    loader: Loader, transport: str, silence: Answer
) -> None:
    with answering(silence) as server:
        plan = {"concurrency": 3, "requests": 6, "timeout_s": 0.2, "transport": transport}
        outcome = fire(loader, server.url, **plan)
    assert phases(outcome)[MEASURE] == 6
    assert {(shot.status, shot.error) for shot in outcome.shots} == {(None, "timeout after 0.2 s")}
    assert min(map(service_ms, outcome.shots)) >= 199
    assert statistics.median(map(service_ms, outcome.shots)) < 240
    assert len(server.arrivals) == len(outcome.shots)


@pytest.mark.timed
@both_transports
def test_an_answer_that_trickles_in_for_ever_times_out_as_a_whole(loader: Loader, transport: str) -> None:
    """Each byte arrives in time, so a timeout on single reads would never end this."""

    async def trickle() -> None:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
                while not stopped.is_set():
                    writer.write(b".")
                    await writer.drain()
                    await asyncio.sleep(0.02)
            except ConnectionError:
                pass
            writer.close()

        async with await asyncio.start_server(connected, sock=listening):
            await asyncio.to_thread(stopped.wait)

    stopped = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=lambda: asyncio.run(trickle()))
    thread.start()
    try:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        plan = {"concurrency": 1, "requests": 2, "timeout_s": 0.3, "transport": transport}
        outcome = fire(loader, url, **plan)
    finally:
        stopped.set()
        thread.join()
    assert {(shot.status, shot.error) for shot in outcome.shots} == {(None, "timeout after 0.3 s")}
    assert all(299 <= service_ms(shot) < 500 for shot in outcome.shots)


@both_transports
def test_answers_of_500_and_503_are_rows_with_status_and_error(loader: Loader, transport: str) -> None:
    async def alternate(arrival: Arrival) -> bytes:
        return reply(500 if arrival.number % 2 else 503, 'Server-Timing: model;dur=4;desc="pid=7"\r\n')

    with answering(alternate) as server:
        outcome = fire(loader, server.url, concurrency=1, requests=6, transport=transport)
    seen = [(shot.status, shot.error) for shot in outcome.shots]
    assert seen == [(503, "HTTP 503"), (500, "HTTP 500")] * 3
    assert {(shot.timings.model_ms, shot.timings.worker_pid) for shot in outcome.shots} == {(4.0, 7)}


@both_transports
def test_a_compressed_error_body_is_decompressed(loader: Loader, transport: str) -> None:
    body = gzip.compress(json.dumps({"detail": "no " * 1000}).encode())
    with answering(after(1, reply(500, "Content-Encoding: gzip\r\n", body))) as server:
        outcome = fire(loader, server.url, concurrency=1, requests=2, transport=transport)
    assert outcome.bad_answers["HTTP 500"].startswith("no no no")


@both_transports
def test_an_error_does_not_repeat_a_secret_that_the_server_sent_back(loader: Loader, transport: str) -> None:
    async def echo(arrival: Arrival) -> bytes:
        return b"HTTP/1.1 s3cret-token OK\r\n\r\n"

    with answering(echo) as server:
        said = {"headers": (("X-Token", "s3cret-token"),), "timeout_s": 0.2}
        outcome = fire(loader, server.url, concurrency=1, requests=2, transport=transport, **said)
    assert all(shot.error and "s3cret" not in shot.error for shot in outcome.shots)


@both_transports
def test_an_excerpt_of_an_unexpected_answer_is_kept_once_for_each_status(
    loader: Loader, transport: str
) -> None:
    """Bodies differ from request to request, but rows with the same error can be counted."""

    async def refuse(arrival: Arrival) -> bytes:
        status = 503 if arrival.number % 2 else 422
        return reply(status, body=json.dumps({"detail": f"no.\x1b[1m {arrival.number}"}).encode())

    with answering(refuse) as server:
        outcome = fire(loader, server.url, concurrency=1, requests=6, transport=transport)
    assert {shot.error for shot in outcome.shots} == {"HTTP 422", "HTTP 503"}
    assert outcome.bad_answers == {"HTTP 422": "no. [1m 0", "HTTP 503": "no. [1m 1"}


def test_only_an_unexpected_status_is_an_error(loader: Loader) -> None:
    async def alternate(arrival: Arrival) -> bytes:
        return reply(200 if arrival.number % 2 else 422)

    with answering(alternate) as server:
        outcome = fire(loader, server.url, concurrency=1, requests=4, expected_status=422)
    assert [shot.error for shot in outcome.shots] == ["", "HTTP 200"] * 2


@both_transports
def test_a_redirect_is_not_followed(loader: Loader, transport: str) -> None:
    with answering(after(1, reply(302, "Location: /elsewhere\r\n"))) as server:
        outcome = fire(loader, server.url, concurrency=1, requests=3, transport=transport)
    assert [shot.error for shot in outcome.shots] == ["HTTP 302"] * 3
    assert len(server.arrivals) == 3


@both_transports
def test_a_cookie_is_not_sent_back(loader: Loader, transport: str) -> None:
    """All users share one client: with cookies, a server with sessions would see a single user."""
    with answering(after(1, reply(headers="Set-Cookie: session=1; Path=/\r\n"))) as server:
        fire(loader, server.url, concurrency=2, requests=6, transport=transport)
    assert len(server.arrivals) >= 6
    assert not any("cookie" in arrival.head.lower() for arrival in server.arrivals)


async def drop_every_second(arrival: Arrival) -> bytes | None:
    """Close the connection at its second request without an answer."""
    return None if arrival.nth == 2 else reply()


@both_transports
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_on_a_dropped_connection_is_sent_once_and_is_one_row(
    loader: Loader, transport: str, reset: bool, method: str
) -> None:
    with answering(drop_every_second, reset=reset) as server:
        plan = {"concurrency": 1, "requests": 8, "method": method, "transport": transport}
        outcome = fire(loader, server.url, **plan)
    assert len(server.arrivals) == len(outcome.shots) == 8
    assert [shot.status for shot in outcome.shots] == [200, None] * 4
    assert all(shot.error for shot in outcome.shots if shot.status is None)
    assert not any("onnect call failed" in shot.error for shot in outcome.shots)


async def ask_twice(client: httpx.AsyncClient, url: str) -> list[int | None]:
    statuses: list[int | None] = []
    async with client:
        for _ in range(2):
            try:
                statuses.append((await client.get(url)).status_code)
            except (httpx.HTTPError, aiohttp.ClientError):
                statuses.append(None)
    return statuses


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_without_the_guard_aiohttp_silently_sends_the_request_again(reset: bool) -> None:
    """Shows why the middleware `_no_retry` is needed, and what it changes."""

    async def unguarded() -> list[int | None]:
        transport = AiohttpTransport(client=aiohttp.ClientSession(), verify=False)
        return await ask_twice(httpx.AsyncClient(transport=transport, trust_env=False), server.url)

    async def guarded() -> list[int | None]:
        return await ask_twice(
            Client(create_transport(load_options(server.url, concurrency=1, requests=2))), server.url
        )

    with answering(drop_every_second, reset=reset) as server:
        assert asyncio.run(unguarded()) == [200, 200]
        assert len(server.arrivals) == 3
    with answering(drop_every_second, reset=reset) as server:
        assert asyncio.run(guarded()) == [200, None]
        assert len(server.arrivals) == 2


@pytest.mark.timed
@both_transports
def test_a_refused_connection_is_a_row_and_the_client_does_not_spin(loader: Loader, transport: str) -> None:
    url = f"http://127.0.0.1:{closed_port()}/"
    outcome = fire(loader, url, concurrency=4, duration_s=0.6, transport=transport)
    assert phases(outcome)[MEASURE] > 8
    assert len(outcome.shots) <= 4 * (0.6 / PAUSE_WITHOUT_ANSWER_S + 2)
    assert {shot.status for shot in outcome.shots} == {None}
    assert all("onnect" in shot.error for shot in outcome.shots)
    assert all(shot.due_ms <= shot.sent_ms for shot in outcome.shots)
    assert outcome.client_cpu_ms < 400


NONSENSE = {
    "no HTTP": b"hello, this is no HTTP\r\n\r\n",
    "nothing but an end of line": b"\r\n\r\n\r\n",
    "a status without meaning": reply(999),
    "a status too long": b"HTTP/1.1 20000 OK\r\nContent-Length: 2\r\n\r\nok",
    "bad gzip": reply(headers="Content-Encoding: gzip\r\n"),
    "bad chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n",
    "a body cut short": b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nConnection: close\r\n\r\nok",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok",
    "a header of 100 kB": reply(headers="X: " + "x" * 100_000 + "\r\n"),
    "a header that is not ASCII": reply(headers="Server-Timing: mödel;dur=ü\r\n"),
    "a bad redirect": reply(301, "Location: http://[:::\r\n"),
    "bad cookies": reply(headers="Set-Cookie: =;;=\r\nSet-Cookie: \x01\r\n"),
    "an unknown charset": reply(headers="Content-Type: text/plain; charset=none-such\r\n"),
    "infinite timings": reply(headers='Server-Timing: model;dur=inf;desc="pid=inf batch=nan"\r\n'),
    "hostile timings": reply(headers="Server-Timing: model;dur=1" + ";b=  " * 500 + '"\r\n'),
    "a switch of protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
    "a hundred and no more": b"HTTP/1.1 100 Continue\r\n\r\n",
}


@both_transports
@pytest.mark.parametrize("nonsense", NONSENSE)
def test_the_trial_continues_whatever_a_server_answers(loader: Loader, transport: str, nonsense: str) -> None:
    with answering(after(0, NONSENSE[nonsense])) as server:
        # a timed-out request counts below only if the server has read it, which took 0.5 s on a busy machine
        plan = {"concurrency": 2, "requests": 3, "timeout_s": 1.0, "transport": transport}
        outcome = fire(loader, server.url, **plan)
    assert phases(outcome)[MEASURE] == 3
    assert len(server.arrivals) == len(outcome.shots)
    for shot in outcome.shots:
        assert shot.status is None or 100 <= shot.status <= 999
        assert shot.error or shot.status == 200
        assert len(shot.error) <= 200
        assert "\n" not in shot.error


def test_requests_during_an_outage_of_the_server_are_rows(loader: Loader) -> None:
    """The server answers, then drops all requests for a while. No request is lost or hidden."""

    async def moody(arrival: Arrival) -> bytes | None:
        await asyncio.sleep(0.005)
        return None if 10 <= arrival.number < 20 else reply()

    with answering(moody) as server:
        outcome = fire(loader, server.url, concurrency=2, requests=40)
    assert len(outcome.shots) == len(server.arrivals)
    assert sum(bool(shot.error) for shot in outcome.shots) == 10
    assert running.measured(outcome)[-1].status == 200
