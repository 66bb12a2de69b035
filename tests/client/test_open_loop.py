"""Open loop: requests are sent when due, independent of the answers, and latency counts from the due time."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import running
from running import Fire

from harness.client.link import Link
from harness.client.window import Window
from harness.wire.arrivals import parse
from harness.wire.load_options import LoadOptions
from harness.wire.records import COOLDOWN, MEASURE, PING, WARMUP, Shot

pytestmark = pytest.mark.integration

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(scope="module")
def fire() -> Iterator[Fire]:
    """One load generator for all tests, as a run has one for all its trials."""
    with running.loading() as fire:
        yield fire


@contextmanager
def answering(delay_s: Callable[[int], float]) -> Iterator[str]:
    """Yield the URL of a concurrent server that answers its n-th request after `delay_s(n)`."""
    loop, counted = asyncio.new_event_loop(), iter(range(10**9))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (await reader.readuntil(b"\r\n\r\n")).startswith(b"GET"):
            await asyncio.sleep(delay_s(next(counted)))
            writer.write(OK)

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    listening = loop.run_until_complete(asyncio.start_server(guarded, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        listening.close()
        loop.run_until_complete(end_all())
        loop.close()


async def end_all() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await asyncio.sleep(0.01)  # for the transports to close


def lag_ms(shot: Shot) -> float:
    return shot.sent_ms - shot.due_ms


@pytest.mark.timed
def test_requests_are_due_by_the_schedule_and_never_sent_earlier(fire: Fire) -> None:
    with answering(lambda number: 0.002) as url:
        outcome = fire(url, arrivals=parse("constant(100)"), duration_s=1.0)
    assert [shot.due_ms for shot in outcome.shots[:100]] == pytest.approx([10.0 * n for n in range(100)])
    assert all(lag_ms(shot) >= 0 for shot in outcome.shots)
    assert statistics.median(map(lag_ms, outcome.shots)) < 3.0
    assert len(running.measured(outcome)) == 100
    assert (outcome.window_start_ms, outcome.window_end_ms) == (0.0, 1000.0)


def test_two_trials_of_one_seed_are_due_at_the_same_times(fire: Fire) -> None:
    with answering(lambda number: 0.001) as url:
        one, other = (
            fire(url, arrivals=parse("poisson(80)"), seed=5, duration_s=0.5, settle_s=0.2) for _ in range(2)
        )
    due = [[shot.due_ms for shot in running.measured(outcome)] for outcome in (one, other)]
    assert due[0] == due[1]
    assert all(200 <= moment < 700 for moment in due[0])


@pytest.mark.timed
def test_a_stalled_server_does_not_hold_the_schedule_back_and_latency_counts_from_due(fire: Fire) -> None:
    """One answer takes 0.5 s, during which a closed loop of one user would send nothing."""
    with answering(lambda number: 0.5 if number == 10 else 0.001) as url:
        outcome = fire(url, arrivals=parse("constant(50)"), duration_s=1.0)
    assert len(running.measured(outcome)) == 50
    assert outcome.in_flight_max >= 2
    slow = [shot for shot in outcome.shots if shot.done_ms - shot.due_ms > 400]
    assert [shot.due_ms for shot in slow] == [200.0]


@pytest.mark.timed
def test_requests_beyond_the_cap_wait_and_are_counted(fire: Fire) -> None:
    with answering(lambda number: 0.1) as url:
        outcome = fire(url, arrivals=parse("constant(100)"), cap=4, duration_s=1.0)
    assert outcome.in_flight_max == 4
    assert outcome.capped > 40
    late = running.measured(outcome)[-1]
    assert lag_ms(late) > 300
    assert late.done_ms - late.due_ms > late.done_ms - late.sent_ms + 300


def test_a_request_sent_late_belongs_to_the_phase_in_which_it_was_due(fire: Fire) -> None:
    with answering(lambda number: 0.1) as url:
        outcome = fire(url, arrivals=parse("constant(50)"), cap=2, duration_s=0.4)
    measured = running.measured(outcome)
    assert [shot.due_ms for shot in measured] == pytest.approx([20.0 * n for n in range(20)])
    assert measured[-1].sent_ms > 400


@pytest.mark.timed  # a load generator without a processor sends fewer requests
def test_the_load_continues_until_the_last_measured_request_is_answered(fire: Fire) -> None:
    with answering(lambda number: 0.4) as url:
        outcome = fire(url, arrivals=parse("constant(50)"), settle_s=0.1, duration_s=0.3)
    phases = [shot.phase for shot in sorted(outcome.shots, key=lambda shot: shot.due_ms)]
    assert phases[:5] == [WARMUP] * 5
    assert phases[5:20] == [MEASURE] * 15
    assert set(phases[20:]) == {COOLDOWN}
    assert len(phases) > 35
    assert all(not shot.error for shot in outcome.shots)


def test_without_an_answer_every_due_request_is_a_row_with_its_error(fire: Fire) -> None:
    with answering(lambda number: 30.0) as url:
        outcome = fire(url, arrivals=parse("constant(50)"), duration_s=0.3, timeout_s=0.2)
    measured = running.measured(outcome)
    assert len(measured) == 15
    assert {shot.error for shot in measured} == {"timeout after 0.2 s"}
    assert all(shot.done_ms - shot.due_ms >= 200 for shot in measured)


def test_a_replay_ends_with_its_file(fire: Fire, tmp_path: Path) -> None:
    file = tmp_path / "trace"
    file.write_text("\n".join(str(number / 50) for number in range(20)))
    with answering(lambda number: 0.001) as url:
        outcome = fire(url, arrivals=parse(f"replay({file})"), duration_s=60.0)
    assert len(running.measured(outcome)) == 20
    assert outcome.window_end_ms < 5_000


@pytest.mark.timed
def test_pings_are_separate_rows_and_run_only_within_the_window(fire: Fire) -> None:
    with answering(lambda number: 0.01) as url:
        outcome = fire(url, concurrency=2, settle_s=0.2, duration_s=0.6, ping_url=url, ping_per_s=50.0)
    pings = [shot for shot in outcome.shots if shot.phase == PING]
    assert 20 <= len(pings) <= 31
    assert all(shot.sent_ms >= outcome.window_start_ms for shot in pings)
    assert all(shot.due_ms <= outcome.window_end_ms + 50 for shot in pings)
    assert outcome.in_flight_max == 2
    assert sorted(shot.seq for shot in outcome.shots) == list(range(len(outcome.shots)))


@pytest.mark.timed
def test_a_closed_window_with_both_ends_lasts_until_the_later_one(fire: Fire) -> None:
    with answering(lambda number: 0.01) as url:
        by_clock = fire(url, concurrency=2, requests=4, duration_s=0.4)
        by_count = fire(url, concurrency=2, requests=60, duration_s=0.1)
    assert len(running.measured(by_clock)) > 20
    assert by_clock.window_end_ms - by_clock.window_start_ms == pytest.approx(400)
    assert len(running.measured(by_count)) == 60
    last = max(shot.done_ms for shot in running.measured(by_count))
    assert by_count.window_end_ms == last


@pytest.mark.quick
def test_the_window_of_a_schedule_that_ends_in_its_warm_up_is_empty() -> None:
    options = LoadOptions(url="", arrivals=parse("constant(10)"), settle_s=9, duration_s=1)
    window = Window(options, Link.alone())
    assert window.next_phase(0.0) == WARMUP
    window.answered(WARMUP, 5.0)
    window.schedule_ended(6.0)
    assert window.over
    assert (window.start_ms, window.end_ms) == (6.0, 6.0)


def test_the_lag_of_the_clients_own_loop_is_measured(fire: Fire) -> None:
    with answering(lambda number: 0.001) as url:
        outcome = fire(url, concurrency=1, duration_s=0.3)
        unwatched = fire(url, concurrency=1, duration_s=0.1, probe_loop=False)
    assert outcome.client_lag_p99_ms is not None
    assert outcome.client_lag_max_ms is not None
    assert unwatched.client_lag_p99_ms is None


@pytest.mark.timed
def test_the_delivered_rate_is_the_requested_rate(fire: Fire) -> None:
    began = time.monotonic()
    with answering(lambda number: 0.001) as url:
        outcome = fire(url, arrivals=parse("constant(200)"), duration_s=2.0)
    answered = sum(0 < shot.done_ms <= 2000 and not shot.error for shot in outcome.shots)
    assert answered == pytest.approx(400, rel=0.02)
    assert time.monotonic() - began < 10
