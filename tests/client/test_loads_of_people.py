"""Loads that people have: think time, new connections, recorded texts, streamed answers."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import ssl
import statistics
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import made_up
import pytest
import running
from known_server import KnownServer, after, answering, both_transports, fire, phases, reply, service_ms

from harness.analysis import summaries
from harness.run.load_generator import Loader
from harness.run.local_generator import LocalProcess
from harness.run.supervisor import Supervisor
from harness.wire.load_options import Texts
from harness.wire.options import WorkloadOptions
from harness.wire.records import MEASURE, Identity, Outcome, to_rows

pytestmark = [pytest.mark.integration, pytest.mark.timed]

CERTIFICATE = Path(__file__).parents[1] / "cases" / "21_self_signed_tls" / "certificate.pem"
LATE_MS = 15.0  # what a busy machine may add


@pytest.fixture(scope="module")
def loader() -> Iterator[Loader]:
    """One load generator process for all tests, as a run has one for all its trials."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        with Supervisor() as supervisor, Loader(LocalProcess(supervisor)) as child:
            yield child


# -- think time ----------------------------------------------------------------------------------------


def test_a_request_is_due_when_the_user_has_paused_after_the_last_answer(loader: Loader) -> None:
    with answering(after(10)) as server:
        outcome = fire(loader, server.url, concurrency=1, requests=8, think="0.05")
    pauses = [two.due_ms - one.done_ms for one, two in itertools.pairwise(outcome.shots)]
    assert pauses == pytest.approx([50.0] * 7, abs=0.01)
    assert statistics.median(shot.sent_ms - shot.due_ms for shot in outcome.shots) < 3
    assert all(shot.sent_ms >= shot.due_ms for shot in outcome.shots)


def test_a_window_ends_by_the_clock_while_all_users_pause(loader: Loader) -> None:
    with answering(after(1)) as server:
        outcome = fire(loader, server.url, concurrency=2, duration_s=0.2, think=0.3)
        again = fire(loader, server.url, concurrency=2, duration_s=0.2, think=0.3)
    assert set(phases(outcome)) == {MEASURE}
    assert outcome.window_end_ms - outcome.window_start_ms == pytest.approx(200)
    one, other = (two.due_ms - first.due_ms for first, two, *_ in (outcome.shots, again.shots))
    assert one == pytest.approx(other, abs=1)  # the same seed, the same pauses
    assert one > 5  # users do not begin at the same moment


def test_throughput_counts_the_share_of_time_that_users_do_not_pause(loader: Loader) -> None:
    """Twelve users: 20 ms in a request, 100 ms in a pause. Without the share it would be six times higher."""
    with answering(after(20)) as server:
        plan = {"concurrency": 12, "warmup_requests": 24, "duration_s": 1.5, "think": "exponential(0.1)"}
        outcome = fire(loader, server.url, **plan)
    begin, end = outcome.window_start_ms, outcome.window_end_ms
    counted = sum(begin < shot.done_ms <= end for shot in outcome.shots) / (end - begin) * 1e3
    assert throughput_per_s(outcome) == pytest.approx(counted, rel=0.05)
    assert counted == pytest.approx(12 / 0.122, rel=0.15)


def throughput_per_s(outcome: Outcome) -> float:
    identity = Identity(1, 1, 0, "server", "", "closed(12)", 12, None, "", None)
    trial, samples = to_rows(identity, outcome, started_at="", fault=None)
    derived = summaries.derive(made_up.requests_frame(samples), made_up.trials_frame([trial]))
    return float(summaries.throughput(derived).loc[1])


# -- new connections -----------------------------------------------------------------------------------


@both_transports
def test_each_request_opens_a_connection(loader: Loader, transport: str) -> None:
    with answering(after(1)) as server:
        plan = {"concurrency": 2, "requests": 20, "transport": transport}
        fire(loader, server.url, **plan)
        assert server.connections == 2
        outcome = fire(loader, server.url, **plan, new_connections=True)
        assert server.connections == 2 + len(outcome.shots)
    assert not any(shot.error for shot in outcome.shots)


class SlowToConnect(KnownServer):
    """Begins the TLS handshake 30 ms after it has accepted a connection."""

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(writer.transport, asyncio.Transport)
        transport = writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()  # the handshake is for `start_tls`
        await asyncio.sleep(0.03)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(CERTIFICATE, CERTIFICATE.with_name("key.pem"))
        await writer.start_tls(context)
        await super()._connected(reader, writer)


@both_transports
def test_latency_includes_the_time_to_connect(loader: Loader, transport: str) -> None:
    with answering(after(0), kind=SlowToConnect) as server:
        url = f"https://127.0.0.1:{server.port}/"
        plan = {
            "concurrency": 1,
            "requests": 6,
            "warmup_requests": 1,
            "timeout_s": 1.0,
            "transport": transport,
        }
        kept = fire(loader, url, **plan)
        new = fire(loader, url, **plan, new_connections=True)
    assert statistics.median(map(service_ms, running.measured(kept))) < LATE_MS
    assert min(map(service_ms, running.measured(new))) >= 29.9


# -- recorded texts ------------------------------------------------------------------------------------


def test_each_recorded_text_is_sent_at_its_time(loader: Loader, tmp_path: Path) -> None:
    requests = [(0.5, "third"), (0.3, "first"), (0.4, 'second "quoted"\n'), (0.4, "also second")]
    file = tmp_path / "recorded.jsonl"
    file.write_text("\n".join(json.dumps({"at_s": at_s, "text": text}) for at_s, text in requests))
    texts = Texts(workload=WorkloadOptions(), seed=1, recording=str(file))
    with answering(after(1)) as server:
        outcome = fire(
            loader, server.url, method="POST", arrivals=f"replay({file})", duration_s=1.0, texts=texts
        )
    in_order = sorted(requests, key=lambda one: one[0])
    sent = sorted(server.arrivals, key=lambda one: one.number)
    assert [shot.due_ms for shot in outcome.shots] == pytest.approx([300, 400, 400, 500])
    assert {json.loads(one.body)["text"] for one in sent[1:3]} == {in_order[1][1], in_order[2][1]}
    assert [json.loads(sent[place].body)["text"] for place in (0, 3)] == ["first", "third"]
    assert sent[3].arrived_ms - sent[0].arrived_ms == pytest.approx(200, abs=LATE_MS)


# -- time to the first byte ----------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAMS = {  # what is sent at once, then what is sent 50 ms later
    "head and first part at once": (HEAD + b"5\r\nfirst\r\n", b"4\r\nrest\r\n0\r\n\r\n"),
    "only the head at once": (HEAD, b"4\r\nbody\r\n0\r\n\r\n"),
}


@contextmanager
def streaming(at_once: bytes, later: bytes) -> Iterator[str]:
    """Serve an answer in two parts; yield the address."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(at_once)
                await asyncio.sleep(0.05)
                writer.write(later)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def serve() -> None:
        async with await asyncio.start_server(connected, sock=listening):
            await asyncio.to_thread(stopped.wait)

    stopped = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    finally:
        stopped.set()
        thread.join()


@both_transports
@pytest.mark.parametrize("stream", STREAMS)
def test_the_first_byte_is_the_first_of_the_body(loader: Loader, transport: str, stream: str) -> None:
    with streaming(*STREAMS[stream]) as url:
        outcome = fire(loader, url, concurrency=2, requests=8, transport=transport)
    shots = running.measured(outcome)
    firsts = [shot.first_byte_ms - shot.sent_ms for shot in shots if shot.first_byte_ms is not None]
    assert len(firsts) == 8
    assert min(map(service_ms, shots)) >= 49.9
    if stream == "only the head at once":
        assert min(firsts) >= 49.9
    else:
        assert statistics.median(firsts) < LATE_MS
    assert all(shot.first_byte_ms is None or shot.first_byte_ms <= shot.done_ms for shot in shots)


@both_transports
def test_a_small_answer_ends_with_its_first_byte_and_an_empty_one_has_none(
    loader: Loader, transport: str
) -> None:
    with answering(after(5)) as server:
        outcome = fire(loader, server.url, concurrency=1, requests=8, transport=transport)
    rest = [shot.done_ms - shot.first_byte_ms for shot in outcome.shots if shot.first_byte_ms is not None]
    assert len(rest) == 8
    assert statistics.median(rest) < 2
    with answering(after(0, reply(204, body=b""))) as server:
        empty = fire(loader, server.url, concurrency=1, requests=1, expected_status=204, transport=transport)
    assert [(shot.first_byte_ms, shot.error) for shot in empty.shots] == [(None, "")]
