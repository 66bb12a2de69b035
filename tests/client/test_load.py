"""The load generator against servers of known behaviour, over real sockets: plans, figures, clocks."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import signal
import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psutil
import pytest
import running
from conftest import wait_for
from httpx_aiohttp import AiohttpTransport
from known_server import (
    TRANSPORTS,
    Arrival,
    KnownServer,
    after,
    answering,
    both_transports,
    fire,
    fire_here,
    load_options,
    phases,
    reply,
    service_ms,
    uneven,
)

from harness.client.engine import is_loopback, run_trial
from harness.errors import HarnessError
from harness.run.load_generator import Loader
from harness.run.local_generator import LocalProcess
from harness.run.supervisor import Supervisor
from harness.wire.clock import now_ms
from harness.wire.load_options import LoadOptions, Texts
from harness.wire.records import COOLDOWN, MEASURE, PING, WARMUP

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def loader() -> Iterator[Loader]:
    """One load generator process for all tests, as a run has one for all its trials."""
    with Supervisor() as supervisor, Loader(LocalProcess(supervisor)) as child:
        yield child


def bare_times_ms(server: KnownServer, requests: int) -> list[float]:
    """Measure sequential requests with a client that only waits for each answer."""
    times = []
    with socket.create_connection(("127.0.0.1", server.port)) as plain:
        for _ in range(requests):
            sent = now_ms()
            plain.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
            plain.recv(4096)
            times.append(now_ms() - sent)
    return times


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
def test_all_users_have_a_request_in_flight_from_the_first_measured_to_the_last(loader: Loader) -> None:
    """This includes the last tenth of the window: the cooldown keeps the load up until the end."""
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
def test_a_users_next_request_is_due_when_the_last_answer_is_complete(loader: Loader, transport: str) -> None:
    with answering(uneven) as server:
        outcome = fire(loader, server.url, concurrency=5, requests=60, transport=transport)
    due = sorted(shot.due_ms for shot in outcome.shots)
    done = sorted(shot.done_ms for shot in outcome.shots)
    assert due[5:] == done[: len(done) - 5]  # each answer except each user's last is followed by a request
    assert due[4] < done[0]
    assert all(shot.due_ms <= shot.sent_ms < shot.done_ms for shot in outcome.shots)
    assert statistics.median(shot.sent_ms - shot.due_ms for shot in outcome.shots) < 1


@both_transports
def test_a_window_of_given_duration_has_exactly_that_length_and_measures_requests_sent_in_it(
    loader: Loader, transport: str
) -> None:
    with answering(uneven) as server:
        plan = {"concurrency": 6, "warmup_requests": 6, "duration_s": 0.6}
        outcome = fire(loader, server.url, transport=transport, **plan)
    start, end = outcome.window_start_ms, outcome.window_end_ms
    assert end - start == pytest.approx(600, abs=1e-6)
    sent_inside = [shot for shot in outcome.shots if start <= shot.sent_ms < end]
    assert sent_inside == running.measured(outcome)
    assert max(shot.done_ms for shot in sent_inside) > end  # the trial waits for the last ones
    assert len(outcome.shots) == len(server.arrivals)


def test_a_slow_server_does_not_stretch_the_window(loader: Loader) -> None:
    """The trial waits for an answer even if it takes longer than the window."""
    with answering(after(400)) as server:
        outcome = fire(loader, server.url, concurrency=2, duration_s=0.1)
    assert outcome.window_end_ms - outcome.window_start_ms == pytest.approx(100, abs=1e-6)
    assert phases(outcome)[MEASURE] == 2
    assert min(shot.done_ms for shot in outcome.shots) > outcome.window_end_ms


@pytest.mark.timed
def test_the_warm_up_lasts_at_least_for_the_settling_time(loader: Loader) -> None:
    with answering(after(10)) as server:
        outcome = fire(loader, server.url, concurrency=2, warmup_requests=1, settle_s=0.4, requests=4)
    first = running.measured(outcome)[0]
    assert 400 <= first.sent_ms < 600
    assert all(shot.sent_ms < 400 for shot in outcome.shots if shot.phase == WARMUP)


def test_one_loader_runs_trial_after_trial_each_counted_from_its_own_start(loader: Loader) -> None:
    with answering(after(5)) as server:
        for _ in range(3):
            began = time.monotonic()
            outcome = fire(loader, server.url, concurrency=2, requests=6)
            assert 0 <= outcome.shots[0].due_ms < 1e3 * (time.monotonic() - began)
            assert phases(outcome)[MEASURE] == 6


def test_texts_are_posted_as_json_and_are_the_same_for_the_same_seed(loader: Loader) -> None:
    def sent_texts(seed: int) -> list[str]:
        texts = Texts(workload=running.synthetic(), seed=seed)
        with answering(after(1)) as server:
            plan = {"method": "POST", "texts": texts, "concurrency": 1, "requests": 5}
            fire(loader, f"{server.url}predict", **plan)
        assert all(arrival.head.startswith("POST /predict HTTP/1.1\r\n") for arrival in server.arrivals)
        assert all("content-type: application/json" in arrival.head.lower() for arrival in server.arrivals)
        return [json.loads(arrival.body)["text"] for arrival in server.arrivals]

    assert sent_texts(7) == list(itertools.islice(("item 7-" + str(n) for n in itertools.count()), 5))
    assert sent_texts(7) == sent_texts(7)
    assert sent_texts(8) != sent_texts(7)


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
def test_the_delay_of_a_server_is_measured_correctly(loader: Loader, transport: str, delay_ms: int) -> None:
    """Compare each request with the server's own time, and the overhead with that of a bare socket."""
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
    """Good, refused, dropped, late and truncated answers. Only the text of an error may differ."""

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


@pytest.mark.timed  # next to other tests, requests would time out
@both_transports
def test_more_than_a_hundred_connections_are_open_at_the_same_time(loader: Loader, transport: str) -> None:
    """The server answers no request before it has received all 120."""

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


def test_without_our_own_limit_aiohttp_would_open_a_hundred() -> None:
    """Shows why our own limit is needed: httpx's "no limit" becomes aiohttp's default."""

    async def ask() -> None:
        transport = AiohttpTransport(limits=httpx.Limits(max_connections=None), verify=False)
        async with httpx.AsyncClient(transport=transport, timeout=None, trust_env=False) as client:
            await asyncio.gather(*(client.get(server.url) for _ in range(120)))

    with answering(after(500)) as server:
        asyncio.run(ask())
    assert server.most_at_once == 100


@pytest.mark.timed
def test_progress_is_reported_about_twice_a_second(loader: Loader) -> None:
    heard: list[tuple[int, float]] = []
    with answering(after(20)) as server:
        options = load_options(server.url, concurrency=4, duration_s=1.3)
        outcome = loader.run(options, lambda answered, median_ms: heard.append((answered, median_ms)))
    assert 2 <= len(heard) <= 4
    answered = [count for count, _ in heard]
    assert answered == sorted(set(answered))
    assert 0 < answered[0] < answered[-1] <= len(outcome.shots)
    assert all(20 <= median < 40 for _, median in heard)


def test_the_cpu_time_of_the_client_is_reported(loader: Loader) -> None:
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
    """A forwarded port has a local address but the clock of another host."""

    async def forwarded(arrival: Arrival) -> bytes:
        stamp = f"entered={arrival.arrived_ms + off_ms:.3f}"
        return reply(headers=f'Server-Timing: queue;dur=1, handler;dur=2;desc="{stamp}"\r\n')

    with answering(forwarded) as server:
        outcome = fire(loader, server.url, concurrency=2, requests=6)
    assert {(s.timings.entered_ms, s.timings.queue_ms, s.timings.handler_ms) for s in outcome.shots} == {
        (None, 1.0, 2.0)
    }


def test_the_stamp_of_a_server_that_may_be_on_another_host_is_dropped(loader: Loader) -> None:
    """Only durations remain, as it has another clock. 0x7f000001 is 127.0.0.1 but does not look like it."""
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
def test_only_loopback_addresses_share_the_clients_clock(url: str, ours: bool) -> None:
    assert is_loopback(url) == ours


# -- engine and child ----------------------------------------------------------------------------------


async def tasks_left_by(options: LoadOptions) -> set[Any]:
    await fire_here(options)
    await asyncio.sleep(0)
    return asyncio.all_tasks() - {asyncio.current_task()}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_after_a_trial_garbage_collection_is_on_and_no_task_is_left(transport: str) -> None:
    with answering(after(5)) as server:
        plan: dict[str, Any] = {"concurrency": 4, "requests": 8, "transport": transport}
        left = asyncio.run(tasks_left_by(load_options(server.url, **plan)))
        assert gc.isenabled()
        assert left == set()
        gc.collect()  # a connection left open would warn, and warnings are errors


def test_progress_counts_requests_of_the_load_but_not_pings(loader: Loader) -> None:
    """Pings are frequent and fast, so they would dominate a median of both."""

    async def quick_ping(arrival: Arrival) -> bytes:
        await asyncio.sleep(0.0 if "/ping" in arrival.head else 0.06)
        return reply()

    reports: list[tuple[int, float]] = []
    with answering(quick_ping) as server:
        pinged = {"ping_url": f"{server.url}ping", "ping_per_s": 100.0}
        options = load_options(server.url, concurrency=1, duration_s=0.8, **pinged)
        outcome = loader.run(options, lambda answered, median_ms: reports.append((answered, median_ms)))
    assert phases(outcome)[PING] > 2 * phases(outcome)[MEASURE]
    assert reports
    assert all(answered <= phases(outcome)[MEASURE] for answered, _ in reports)
    assert all(median_ms > 55 for _, median_ms in reports)


@both_transports
def test_a_request_leaves_no_reference_cycle_behind(transport: str) -> None:
    """So the garbage collector has next to nothing to do during a trial, and pauses for no time."""
    with answering(after(0)) as server:
        options = load_options(server.url, concurrency=4, requests=400, transport=transport)
        gc.disable()
        try:
            asyncio.run(fire_here(options))
            left = gc.collect()
        finally:
            gc.enable()
    assert left < 400  # some objects of each connection


def test_during_a_trial_garbage_collection_is_on_for_new_objects_only() -> None:
    """And as before it afterwards, also if the trial is abandoned."""
    before = (True, gc.get_freeze_count() > 0)
    states: list[tuple[bool, bool]] = []

    def look() -> None:
        states.append((gc.isenabled(), gc.get_freeze_count() > 0))

    async def abandon() -> None:
        reported = asyncio.Event()

        def on_progress(answered: int, median_ms: float) -> None:
            look()
            reported.set()

        options = load_options(server.url, concurrency=2, requests=10_000)
        trial = asyncio.create_task(run_trial(options, on_progress, lambda shot: None))
        await reported.wait()
        trial.cancel()
        await trial

    with answering(after(5)) as server, pytest.raises(asyncio.CancelledError):
        asyncio.run(abandon())
    look()
    assert set(states[:-1]) == {(True, True)}
    assert states[-1] == before


@contextmanager
def loader_and_its_process() -> Iterator[tuple[Loader, psutil.Process]]:
    me = psutil.Process()
    before = set(me.children(recursive=True))
    with Supervisor() as supervisor, Loader(LocalProcess(supervisor)) as child:
        found: list[psutil.Process] = []

        def looked() -> bool:
            """A new process shows its own command line only after a moment."""
            new = set(me.children(recursive=True)) - before
            found[:] = [process for process in new if "harness.client" in process.cmdline()]
            return bool(found)

        wait_for(looked, within_s=5)
        (process,) = found
        yield child, process


def test_a_loader_that_is_killed_during_a_trial_is_reported() -> None:
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


def test_a_loader_that_died_between_two_trials_is_reported() -> None:
    with answering(after(5)) as server, loader_and_its_process() as (child, process):
        fire(child, server.url, concurrency=1, requests=2)
        process.kill()
        psutil.wait_procs([process], timeout=5)
        with pytest.raises(HarnessError, match="load generator ended"):
            fire(child, server.url, concurrency=1, requests=2)


def test_leaving_the_loader_during_a_trial_ends_it_immediately() -> None:
    """Ctrl-C is an exception from `run`."""
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
