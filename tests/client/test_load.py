"""The load generator against servers whose behaviour is known, over real sockets."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import gzip
import itertools
import json
import signal
import socket
import statistics
import struct
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import httpx
import psutil
import pytest
import running
from conftest import wait_for
from httpx_aiohttp import AiohttpTransport

from harness.client.load import PAUSE_WITHOUT_ANSWER_S, is_loopback, open_client, run_trial
from harness.errors import HarnessError
from harness.run.load_generator import Loader
from harness.run.supervisor import Supervisor
from harness.wire.arrivals import closed
from harness.wire.clock import now_ms
from harness.wire.options import LoadOptions, Texts
from harness.wire.records import COOLDOWN, MEASURE, PING, WARMUP, Outcome, Shot

pytestmark = pytest.mark.integration

TRANSPORTS = ("aiohttp", "httpx")
both_transports = pytest.mark.parametrize("transport", TRANSPORTS)


# -- a server of known behaviour -----------------------------------------------------------------------


@dataclasses.dataclass
class Arrival:
    """One request as the server met it."""

    number: int  # in order of arrival, from 0
    nth: int  # on its connection, from 1
    head: str
    body: bytes
    arrived_ms: float
    left_ms: float = 0.0  # when its answer was handed to the socket


Answer = Callable[[Arrival], Awaitable[bytes | None]]


def reply(status: int = 200, headers: str = "", body: bytes = b"ok") -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def after(delay_ms: float, answer: bytes | None = None) -> Answer:
    """The same answer to all, after a while."""

    async def say(arrival: Arrival) -> bytes | None:
        await asyncio.sleep(delay_ms / 1e3)
        return reply() if answer is None else answer

    return say


async def uneven(arrival: Arrival) -> bytes:
    """10 to 50 ms, so that the users do not march in step, with the time of arrival in the header."""
    await asyncio.sleep((10 + 10 * (arrival.number % 5)) / 1e3)
    return reply(headers=f'Server-Timing: handler;dur=1;desc="entered={arrival.arrived_ms:.3f}"\r\n')


class KnownServer:
    """Raw sockets in a thread: knows each request, each connection, and how many it had at any moment.

    An answer of None closes the connection instead, and so does one that says "Connection: close".
    """

    def __init__(self, answer: Answer, *, reset: bool = False) -> None:
        self._answer = answer
        self._reset = reset
        self._loop = asyncio.new_event_loop()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self.arrivals: list[Arrival] = []
        self.connections = 0
        self.in_flight = 0
        self.levels: list[tuple[float, int]] = []  # (moment, in flight from then on)
        self._stopped = asyncio.Event()

    def serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)

    @property
    def most_at_once(self) -> int:
        return max(level for _, level in self.levels)

    def mean_in_flight(self, start_ms: float, end_ms: float) -> float:
        """Time-weighted, between two moments."""
        total = 0.0
        for (moment, level), (following, _) in itertools.pairwise([*self.levels, (end_ms, 0)]):
            total += level * max(0.0, min(following, end_ms) - max(moment, start_ms))
        return total / (end_ms - start_ms)

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, sock=self._listening)
        await self._stopped.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            for nth in itertools.count(1):
                arrival = await self._receive(reader, nth)
                self._now(+1)
                try:
                    answer = await self._answer(arrival)
                finally:
                    self._now(-1)
                if answer is None:
                    break
                arrival.left_ms = now_ms()
                writer.write(answer)
                await writer.drain()
                if b"connection: close" in answer.lower():
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        self._hang_up(writer)

    async def _receive(self, reader: asyncio.StreamReader, nth: int) -> Arrival:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lengths = [line for line in head.lower().splitlines() if line.startswith("content-length:")]
        body = await reader.readexactly(int(lengths[0].split(":")[1])) if lengths else b""
        self.arrivals.append(Arrival(len(self.arrivals), nth, head, body, now_ms()))
        return self.arrivals[-1]

    def _now(self, change: int) -> None:
        self.in_flight += change
        self.levels.append((now_ms(), self.in_flight))

    def _hang_up(self, writer: asyncio.StreamWriter) -> None:
        if self._reset:
            no_farewell = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_farewell)
        writer.close()


@contextmanager
def answering(
    answer: Answer, *, reset: bool = False, kind: type[KnownServer] = KnownServer
) -> Iterator[KnownServer]:
    server = kind(answer, reset=reset)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join()


@pytest.fixture(scope="module")
def loader() -> Iterator[Loader]:
    """One child for all tests, as a run has one for all its trials."""
    with Supervisor() as supervisor, Loader(supervisor) as child:
        yield child


def fire(loader: Loader, url: str, **options: Any) -> Outcome:
    return loader.run(load_options(url, **options), lambda answered, median_ms: None)


def load_options(url: str, *, concurrency: int | None = None, **options: Any) -> LoadOptions:
    """`concurrency` is short for a closed loop."""
    if concurrency is not None:
        options["arrivals"] = closed(concurrency)
    return LoadOptions(url=url, **options)


def phases(outcome: Outcome) -> Counter[str]:
    return Counter(shot.phase for shot in outcome.shots)


def service_ms(shot: Shot) -> float:
    return shot.done_ms - shot.sent_ms


def bare_times_ms(server: KnownServer, requests: int) -> list[float]:
    """What a client that does nothing but wait for the answer measures, one request after the other."""
    times = []
    with socket.create_connection(("127.0.0.1", server.port)) as plain:
        for _ in range(requests):
            sent = now_ms()
            plain.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
            plain.recv(4096)
            times.append(now_ms() - sent)
    return times


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


# -- the plan of a trial -------------------------------------------------------------------------------


@both_transports
@pytest.mark.parametrize(
    ("concurrency", "warmup", "requests"), [(1, 0, 1), (1, 3, 10), (8, 20, 50), (8, 0, 3)]
)
def test_exactly_the_planned_requests_are_measured_and_every_request_is_a_row(
    loader: Loader, transport: str, concurrency: int, warmup: int, requests: int
) -> None:
    with answering(uneven) as server:
        plan = {"concurrency": concurrency, "warmup_requests": warmup, "requests": requests}
        outcome = fire(loader, server.url, transport=transport, **plan)
    assert phases(outcome)[MEASURE] == requests
    assert phases(outcome)[WARMUP] >= warmup
    assert len(outcome.shots) == len(server.arrivals) == phases(outcome).total()
    assert [shot.seq for shot in outcome.shots] == list(range(len(outcome.shots)))
    assert {(shot.status, shot.error) for shot in outcome.shots} == {(200, "")}
    assert server.connections == concurrency


def test_the_phases_follow_each_other_and_bound_the_window(loader: Loader) -> None:
    with answering(uneven) as server:
        outcome = fire(loader, server.url, concurrency=8, warmup_requests=20, requests=50)
    order = [phase for phase, _ in itertools.groupby(shot.phase for shot in outcome.shots)]
    assert order == [WARMUP, MEASURE, COOLDOWN]
    measured = running.measured(outcome)
    assert outcome.window_start_ms == measured[0].sent_ms
    assert outcome.window_end_ms == max(shot.done_ms for shot in measured)


@pytest.mark.timed
def test_all_users_have_a_request_under_way_from_the_first_measured_to_the_last(loader: Loader) -> None:
    """Also in the last tenth of the window: the cooldown is there so that the end is not easier."""
    with answering(uneven) as server:
        outcome = fire(loader, server.url, concurrency=8, warmup_requests=16, requests=160)
        shot = outcome.shots[0]
        assert shot.timings.entered_ms is not None
        origin = server.arrivals[0].arrived_ms - min(
            shot.timings.entered_ms for shot in outcome.shots if shot.timings.entered_ms is not None
        )
        start, end = outcome.window_start_ms + origin, outcome.window_end_ms + origin
        assert server.most_at_once == 8
        assert server.mean_in_flight(start, end) > 7.2
        assert server.mean_in_flight(end - (end - start) / 10, end) > 6.8
        assert server.mean_in_flight(start, start + (end - start) / 10) > 6.8


@pytest.mark.timed
@both_transports
def test_a_users_next_request_is_due_when_his_last_answer_is_done(loader: Loader, transport: str) -> None:
    with answering(uneven) as server:
        outcome = fire(loader, server.url, concurrency=5, requests=60, transport=transport)
    due = sorted(shot.due_ms for shot in outcome.shots)
    done = sorted(shot.done_ms for shot in outcome.shots)
    assert due[5:] == done[: len(done) - 5]  # each answer is followed by one request, but the users' last
    assert due[4] < done[0]
    assert all(shot.due_ms <= shot.sent_ms < shot.done_ms for shot in outcome.shots)
    assert statistics.median(shot.sent_ms - shot.due_ms for shot in outcome.shots) < 1


@both_transports
def test_by_duration_the_window_is_exactly_that_long_and_measures_what_is_sent_in_it(
    loader: Loader, transport: str
) -> None:
    with answering(uneven) as server:
        plan = {"concurrency": 6, "warmup_requests": 6, "duration_s": 0.6}
        outcome = fire(loader, server.url, transport=transport, **plan)
    start, end = outcome.window_start_ms, outcome.window_end_ms
    assert end - start == pytest.approx(600, abs=1e-6)
    sent_inside = [shot for shot in outcome.shots if start <= shot.sent_ms < end]
    assert sent_inside == running.measured(outcome)
    assert max(shot.done_ms for shot in sent_inside) > end  # the last ones are waited for
    assert len(outcome.shots) == len(server.arrivals)


def test_a_slow_server_does_not_stretch_the_window(loader: Loader) -> None:
    """Longer than the window, the answer is waited for all the same."""
    with answering(after(400)) as server:
        outcome = fire(loader, server.url, concurrency=2, duration_s=0.1)
    assert outcome.window_end_ms - outcome.window_start_ms == pytest.approx(100, abs=1e-6)
    assert phases(outcome)[MEASURE] == 2
    assert min(shot.done_ms for shot in outcome.shots) > outcome.window_end_ms


@pytest.mark.timed
def test_warm_up_lasts_as_long_as_it_takes_to_settle(loader: Loader) -> None:
    with answering(after(10)) as server:
        outcome = fire(loader, server.url, concurrency=2, warmup_requests=1, settle_s=0.4, requests=4)
    first = running.measured(outcome)[0]
    assert 400 <= first.sent_ms < 600
    assert all(shot.sent_ms < 400 for shot in outcome.shots if shot.phase == WARMUP)


def test_one_loader_runs_trial_after_trial_each_counted_from_its_own_start(loader: Loader) -> None:
    with answering(after(5)) as server:
        outcomes = [fire(loader, server.url, concurrency=2, requests=6) for _ in range(3)]
    assert all(0 <= outcome.shots[0].due_ms < 500 for outcome in outcomes)
    assert all(phases(outcome)[MEASURE] == 6 for outcome in outcomes)


def test_texts_are_posted_as_json_the_same_for_the_same_seed(loader: Loader) -> None:
    def asked(seed: int) -> list[str]:
        texts = Texts(workload=running.synthetic(), seed=seed)
        with answering(after(1)) as server:
            plan = {"method": "POST", "texts": texts, "concurrency": 1, "requests": 5}
            fire(loader, f"{server.url}predict", **plan)
        assert all(arrival.head.startswith("POST /predict HTTP/1.1\r\n") for arrival in server.arrivals)
        assert all("content-type: application/json" in arrival.head.lower() for arrival in server.arrivals)
        return [json.loads(arrival.body)["text"] for arrival in server.arrivals]

    assert asked(7) == asked(7) == list(itertools.islice(("item 7-" + str(n) for n in itertools.count()), 5))
    assert asked(8) != asked(7)


@both_transports
def test_without_texts_a_request_has_no_body(loader: Loader, transport: str) -> None:
    with answering(after(1)) as server:
        fire(loader, server.url, concurrency=1, requests=2, transport=transport)
    assert all(arrival.head.startswith("GET / HTTP/1.1\r\n") for arrival in server.arrivals)
    assert all(arrival.body == b"" for arrival in server.arrivals)


# -- what is measured ----------------------------------------------------------------------------------


@pytest.mark.timed
@both_transports
@pytest.mark.parametrize("delay_ms", [5, 20, 100])
def test_a_server_of_known_delay_is_measured_right(loader: Loader, transport: str, delay_ms: int) -> None:
    """Request by request against the time the server itself took, and beside a bare socket's extra."""
    with answering(after(delay_ms)) as server:
        requests = max(6, 300 // delay_ms)
        outcome = fire(loader, server.url, concurrency=1, requests=requests, transport=transport)
        bare = bare_times_ms(server, requests)
    truth = [arrival.left_ms - arrival.arrived_ms for arrival in server.arrivals]
    assert min(truth) >= delay_ms - 0.1
    measured = [service_ms(shot) for shot in outcome.shots]
    extra = [took - true for took, true in zip(measured + bare, truth, strict=True)]
    assert min(extra) >= 0
    assert statistics.median(extra[:requests]) < 3.8 + statistics.median(extra[requests:])


@pytest.mark.timed
@both_transports
def test_both_transports_make_the_same_rows(loader: Loader, transport: str) -> None:
    """Good, refused, dropped, late, truncated: the words of an error may differ, nothing else."""

    async def script(arrival: Arrival) -> bytes | None:
        if arrival.number == 3:
            await asyncio.sleep(0.3)
        cut_short = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nConnection: close\r\n\r\nshort"
        return [reply(), reply(500), None, reply(), reply(503), reply(404), cut_short, reply()][
            arrival.number
        ]

    with answering(script) as server:
        plan = {"concurrency": 1, "requests": 8, "timeout_s": 0.15, "transport": transport}
        outcome = fire(loader, server.url, **plan)
    rows = [(shot.seq, shot.phase, shot.status, bool(shot.error)) for shot in outcome.shots]
    assert rows == [
        (0, MEASURE, 200, False),
        (1, MEASURE, 500, True),
        (2, MEASURE, None, True),
        (3, MEASURE, None, True),
        (4, MEASURE, 503, True),
        (5, MEASURE, 404, True),
        (6, MEASURE, None, True),
        (7, MEASURE, 200, False),
    ]
    assert [outcome.shots[number].error for number in (1, 3)] == ["HTTP 500", "timeout after 0.15 s"]


@both_transports
def test_more_than_a_hundred_connections_are_open_at_once(loader: Loader, transport: str) -> None:
    """The server answers nobody before all 120 are there."""

    all_are_there = asyncio.Event()

    async def when_all_are_there(arrival: Arrival) -> bytes:
        if server.in_flight == 120:
            all_are_there.set()
        await all_are_there.wait()
        return reply()

    with answering(when_all_are_there) as server:
        plan = {"concurrency": 120, "requests": 120, "timeout_s": 20, "transport": transport}
        outcome = fire(loader, server.url, **plan)
    assert server.connections == 120
    assert not [shot.error for shot in outcome.shots if shot.error]


def test_without_a_limit_of_ours_aiohttp_would_open_a_hundred() -> None:
    """The guard above is needed: httpx's "no limit" becomes aiohttp's default."""

    async def ask() -> None:
        transport = AiohttpTransport(limits=httpx.Limits(max_connections=None), verify=False)
        async with httpx.AsyncClient(transport=transport, timeout=None, trust_env=False) as client:
            await asyncio.gather(*(client.get(server.url) for _ in range(120)))

    with answering(after(500)) as server:
        asyncio.run(ask())
    assert server.most_at_once == 100


@pytest.mark.timed
def test_progress_is_told_about_twice_a_second(loader: Loader) -> None:
    heard: list[tuple[int, float]] = []
    with answering(after(20)) as server:
        options = load_options(server.url, concurrency=4, duration_s=1.3)
        outcome = loader.run(options, lambda answered, median_ms: heard.append((answered, median_ms)))
    assert 2 <= len(heard) <= 4
    answered = [count for count, _ in heard]
    assert answered == sorted(set(answered))
    assert 0 < answered[0] < answered[-1] <= len(outcome.shots)
    assert all(20 <= median < 40 for _, median in heard)


def test_the_cpu_of_the_client_is_told(loader: Loader) -> None:
    with answering(after(10)) as server:
        outcome = fire(loader, server.url, concurrency=2, requests=40)
    assert 0 < outcome.client_cpu_ms < outcome.shots[-1].done_ms


# -- clocks --------------------------------------------------------------------------------------------


@both_transports
def test_the_servers_stamp_is_counted_from_the_trials_start(loader: Loader, transport: str) -> None:
    with answering(uneven) as server:
        outcome = fire(loader, server.url, concurrency=3, requests=12, transport=transport)
    for shot in outcome.shots:
        assert shot.timings.entered_ms is not None
        assert shot.sent_ms <= shot.timings.entered_ms + 0.001 < shot.done_ms
        assert shot.timings.handler_ms == 1


@pytest.mark.parametrize("off_ms", [86_400_000.0, -86_400_000.0, -1_000.0, 1_000.0, 1e300])
def test_a_stamp_outside_of_its_request_is_dropped(loader: Loader, off_ms: float) -> None:
    """A forwarded port has a local address and the clock of another host."""

    async def forwarded(arrival: Arrival) -> bytes:
        stamp = f"entered={arrival.arrived_ms + off_ms:.3f}"
        return reply(headers=f'Server-Timing: queue;dur=1, handler;dur=2;desc="{stamp}"\r\n')

    with answering(forwarded) as server:
        outcome = fire(loader, server.url, concurrency=2, requests=6)
    assert {(s.timings.entered_ms, s.timings.queue_ms, s.timings.handler_ms) for s in outcome.shots} == {
        (None, 1.0, 2.0)
    }


def test_the_stamp_of_a_server_that_may_be_another_host_is_dropped(loader: Loader) -> None:
    """Its clock is not ours; the durations remain. 0x7f000001 is 127.0.0.1, but does not read so."""
    with answering(uneven) as server:
        outcome = fire(loader, f"http://0x7f000001:{server.port}/", concurrency=1, requests=3)
    assert [(s.timings.entered_ms, s.timings.handler_ms) for s in outcome.shots] == [(None, 1.0)] * 3


@pytest.mark.quick
@pytest.mark.parametrize(
    ("url", "ours"),
    [
        ("http://127.0.0.1:80/", True),
        ("http://127.1.2.3/x", True),
        ("http://localhost:8000", True),
        ("http://LOCALHOST/", True),
        ("http://[::1]:80/", True),
        ("http://10.0.0.1/", False),
        ("http://0.0.0.0/", False),
        ("http://[2001:db8::1]/", False),
        ("http://localhost.example.org/", False),
        ("http://127.0.0.1.example.org/", False),
        ("http://127.0.0.1@example.org/", False),
        ("nonsense", False),
    ],
)
def test_only_loopback_is_known_to_share_our_clock(url: str, ours: bool) -> None:
    assert is_loopback(url) == ours


# -- failures are rows ---------------------------------------------------------------------------------


async def never(arrival: Arrival) -> bytes | None:
    await asyncio.sleep(60)
    return None


async def head_only(arrival: Arrival) -> bytes:
    """The answer begins, and the rest never comes."""
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
    """Each byte comes in time; a timeout on reads alone would never end this."""

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
def test_what_a_packed_bad_answer_says_is_unpacked(loader: Loader, transport: str) -> None:
    body = gzip.compress(json.dumps({"detail": "no " * 1000}).encode())
    with answering(after(1, reply(500, "Content-Encoding: gzip\r\n", body))) as server:
        outcome = fire(loader, server.url, concurrency=1, requests=2, transport=transport)
    assert outcome.bad_answers["HTTP 500"].startswith("no no no")


@both_transports
def test_an_error_does_not_repeat_a_secret_that_the_server_has_sent_back(
    loader: Loader, transport: str
) -> None:
    async def echo(arrival: Arrival) -> bytes:
        return b"HTTP/1.1 s3cret-token OK\r\n\r\n"

    with answering(echo) as server:
        said = {"headers": (("X-Token", "s3cret-token"),), "timeout_s": 0.2}
        outcome = fire(loader, server.url, concurrency=1, requests=2, transport=transport, **said)
    assert all(shot.error and "s3cret" not in shot.error for shot in outcome.shots)


@both_transports
def test_what_an_unexpected_answer_says_is_kept_once_for_each_status(loader: Loader, transport: str) -> None:
    """Bodies differ from request to request; rows with the same error can be counted all the same."""

    async def refuse(arrival: Arrival) -> bytes:
        status = 503 if arrival.number % 2 else 422
        return reply(status, body=json.dumps({"detail": f"no.\x1b[1m {arrival.number}"}).encode())

    with answering(refuse) as server:
        outcome = fire(loader, server.url, concurrency=1, requests=6, transport=transport)
    assert {shot.error for shot in outcome.shots} == {"HTTP 422", "HTTP 503"}
    assert outcome.bad_answers == {"HTTP 422": "no. [1m 0", "HTTP 503": "no. [1m 1"}


def test_the_status_that_is_expected_is_no_error_and_any_other_is(loader: Loader) -> None:
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
    """All users share one client: a server with sessions would take them for one person."""
    with answering(after(1, reply(headers="Set-Cookie: session=1; Path=/\r\n"))) as server:
        fire(loader, server.url, concurrency=2, requests=6, transport=transport)
    assert len(server.arrivals) >= 6
    assert not any("cookie" in arrival.head.lower() for arrival in server.arrivals)


async def drop_every_second(arrival: Arrival) -> bytes | None:
    """The second request on a connection is taken and never answered."""
    return None if arrival.nth == 2 else reply()


@both_transports
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_dropped_connection_is_one_request_at_the_server_and_one_row(
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
def test_without_the_guard_aiohttp_asks_again_and_nobody_hears_of_it(reset: bool) -> None:
    """The guard above is needed: this is what it guards against, and what it changes."""

    async def unguarded() -> list[int | None]:
        transport = AiohttpTransport(client=aiohttp.ClientSession(), verify=False)
        return await ask_twice(httpx.AsyncClient(transport=transport, trust_env=False), server.url)

    async def guarded() -> list[int | None]:
        return await ask_twice(open_client(load_options(server.url, concurrency=1, requests=2)), server.url)

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
def test_whatever_a_server_says_the_trial_goes_on(loader: Loader, transport: str, nonsense: str) -> None:
    with answering(after(0, NONSENSE[nonsense])) as server:
        plan = {"concurrency": 2, "requests": 3, "timeout_s": 0.2, "transport": transport}
        outcome = fire(loader, server.url, **plan)
    assert phases(outcome)[MEASURE] == 3
    assert len(server.arrivals) == len(outcome.shots)
    for shot in outcome.shots:
        assert shot.status is None or 100 <= shot.status <= 999
        assert shot.error or shot.status == 200
        assert len(shot.error) <= 200
        assert "\n" not in shot.error


def test_a_server_that_goes_away_and_comes_back_leaves_its_gap_as_rows(loader: Loader) -> None:
    """Answers at first, then drops everything for a while: nothing of it is lost or hidden."""

    async def moody(arrival: Arrival) -> bytes | None:
        await asyncio.sleep(0.005)
        return None if 10 <= arrival.number < 20 else reply()

    with answering(moody) as server:
        outcome = fire(loader, server.url, concurrency=2, requests=40)
    assert len(outcome.shots) == len(server.arrivals)
    assert sum(bool(shot.error) for shot in outcome.shots) == 10
    assert running.measured(outcome)[-1].status == 200


# -- engine and child ----------------------------------------------------------------------------------


async def tasks_left_by(options: LoadOptions) -> set[Any]:
    await run_trial(options, lambda answered, median_ms: None)
    await asyncio.sleep(0)
    return asyncio.all_tasks() - {asyncio.current_task()}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_after_a_trial_the_garbage_collector_is_back_and_nothing_is_left(transport: str) -> None:
    with answering(after(5)) as server:
        plan = {"concurrency": 4, "requests": 8, "transport": transport}
        left = asyncio.run(tasks_left_by(load_options(server.url, **plan)))
        assert gc.isenabled()
        assert left == set()
        gc.collect()  # a connection left open would warn, and warnings are errors


def test_progress_tells_of_the_requests_of_the_load_and_not_of_the_pings_beside_it(loader: Loader) -> None:
    """A route without model answers at once and is asked often: in a median of both it would be the half."""

    async def quick_ping(arrival: Arrival) -> bytes:
        await asyncio.sleep(0.0 if "/ping" in arrival.head else 0.06)
        return reply()

    told: list[tuple[int, float]] = []
    with answering(quick_ping) as server:
        pinged = {"ping_url": f"{server.url}ping", "ping_per_s": 100.0}
        options = load_options(server.url, concurrency=1, duration_s=0.8, **pinged)
        outcome = loader.run(options, lambda answered, median_ms: told.append((answered, median_ms)))
    assert phases(outcome)[PING] > 2 * phases(outcome)[MEASURE]
    assert told
    assert all(answered <= phases(outcome)[MEASURE] for answered, _ in told)
    assert all(median_ms > 55 for _, median_ms in told)


def test_during_a_trial_the_garbage_collector_rests_and_an_abandoned_trial_brings_it_back() -> None:
    states: list[bool] = []

    async def abandon() -> None:
        reported = asyncio.Event()

        def look(answered: int, median_ms: float) -> None:
            states.append(gc.isenabled())
            reported.set()

        options = load_options(server.url, concurrency=2, requests=10_000)
        trial = asyncio.create_task(run_trial(options, look))
        await reported.wait()
        trial.cancel()
        await trial

    with answering(after(5)) as server, pytest.raises(asyncio.CancelledError):
        asyncio.run(abandon())
    assert set(states) == {False}
    assert gc.isenabled()


@contextmanager
def loader_and_its_process() -> Iterator[tuple[Loader, psutil.Process]]:
    me = psutil.Process()
    before = set(me.children(recursive=True))
    with Supervisor() as supervisor, Loader(supervisor) as child:
        found: list[psutil.Process] = []

        def looked() -> bool:
            """It is a moment until a new process shows its own command line."""
            new = set(me.children(recursive=True)) - before
            found[:] = [process for process in new if "harness.client.load" in process.cmdline()]
            return bool(found)

        wait_for(looked, within_s=5)
        (process,) = found
        yield child, process


def test_a_loader_that_is_killed_in_mid_run_says_so() -> None:
    with answering(after(20)) as server, loader_and_its_process() as (child, process):
        options = load_options(server.url, concurrency=2, duration_s=30)
        began = time.monotonic()
        with pytest.raises(HarnessError, match=r"load generator ended .*-9") as caught:
            child.run(options, lambda answered, median_ms: process.send_signal(signal.SIGKILL))
        assert caught.value.stage == "load"
        assert caught.value.hint
        assert time.monotonic() - began < 10
        with pytest.raises(HarnessError, match="load generator ended"):
            child.run(options, lambda answered, median_ms: None)


def test_a_loader_that_died_between_two_trials_says_so() -> None:
    with answering(after(5)) as server, loader_and_its_process() as (child, process):
        fire(child, server.url, concurrency=1, requests=2)
        process.kill()
        psutil.wait_procs([process], timeout=5)
        with pytest.raises(HarnessError, match="load generator ended"):
            fire(child, server.url, concurrency=1, requests=2)


def test_leaving_the_loader_in_mid_trial_ends_it_at_once() -> None:
    """Ctrl-C comes as an exception out of `run`."""
    processes: list[psutil.Process] = []

    def interrupt(answered: int, median_ms: float) -> None:
        raise KeyboardInterrupt

    def run_and_interrupt() -> None:
        with loader_and_its_process() as (child, process):
            processes.append(process)
            child.run(load_options(server.url, concurrency=2, duration_s=30), interrupt)

    with answering(after(20)) as server:
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            run_and_interrupt()
        assert time.monotonic() - began < 10
    assert not processes[0].is_running()
