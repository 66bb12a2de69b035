"""No slow request is lost: a rare slow answer, a server that never answers, and a cap that is reached.

The server is a real one over real sockets, and knows how long it has kept each request.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import made_up
import numpy as np
import pandas as pd
import pytest
from known_server import Answer, Arrival, KnownServer, after, answering, reply
from running import Fire, loading, measured

from harness.analysis import summaries
from harness.analysis.percentiles import percentile
from harness.wire.arrivals import closed, parse
from harness.wire.records import OK, Identity, Outcome, Sample, Trial, judge, to_rows

pytestmark = pytest.mark.timed

SLOW_MS, USUAL_MS = 5000.0, 5.0
RATE, WINDOW_S = 100, 3.5


@pytest.fixture(scope="module")
def fire() -> Iterator[Fire]:
    """One load generator for several loads in turn, as in a run."""
    with loading() as fire:
        yield fire


def identity(load: str, number: int) -> Identity:
    """The block's only trial under `load`."""
    return Identity(
        trial=number,
        block=number,
        position=0,
        arm="arm",
        strategy="thread",
        load=load,
        concurrency=parse(load).users,
        rate_per_s=parse(load).rate_per_s,
        schedule="",
        io_nominal_ms=None,
    )


def rows_of(load: str, *outcomes: Outcome) -> tuple[list[Trial], list[Sample]]:
    """The rows that a run would save for them, with one block each."""
    both = [
        to_rows(identity(load, number), outcome, started_at="now", fault=judge(outcome))
        for number, outcome in enumerate(outcomes, 1)
    ]
    return [trial for trial, _ in both], [sample for _, samples in both for sample in samples]


def summary_of(load: str, *outcomes: Outcome) -> pd.Series[float]:
    """The only row of the report's table."""
    trials, samples = rows_of(load, *outcomes)
    frame = made_up.trials_frame(trials)
    return summaries.summarise(summaries.derive(made_up.requests_frame(samples), frame), frame).iloc[0]


def latencies_ms(*outcomes: Outcome) -> list[float]:
    return sorted(
        math.inf if shot.error else shot.done_ms - shot.due_ms
        for outcome in outcomes
        for shot in measured(outcome)
    )


# -- one request in a hundred takes 5 s ----------------------------------------------------------------


def one_in_a_hundred(offset: int) -> Answer:
    """Answer one in a hundred after 5 s and the others after 5 ms. After the window all are fast."""

    async def say(arrival: Arrival) -> bytes:
        slow = arrival.number % 100 == offset and arrival.number < RATE * WINDOW_S
        await asyncio.sleep((SLOW_MS if slow else USUAL_MS) / 1e3)
        return reply()

    return say


def kept_ms(server: KnownServer) -> list[float]:
    """The time that the server kept each request, sorted."""
    return sorted(arrival.left_ms - arrival.arrived_ms for arrival in server.arrivals)


class Slow:
    """Two blocks of constant arrivals and a closed loop, at once: nine seconds instead of twenty-four."""

    def __init__(self) -> None:
        with (
            answering(one_in_a_hundred(30)) as first,
            answering(one_in_a_hundred(49)) as second,
            answering(one_in_a_hundred(10)) as third,
            ThreadPoolExecutor(3) as at_once,
        ):
            self.servers, self.closed_server = (first, second), third
            closed_loop = at_once.submit(self._ask, third.url, arrivals=closed(2), requests=60)
            constant = {"arrivals": parse(f"constant({RATE})"), "duration_s": WINDOW_S}
            blocks = [at_once.submit(self._ask, server.url, **constant) for server in self.servers]
            self.outcomes = [block.result() for block in blocks]
            self.closed_outcome = closed_loop.result()

    def _ask(self, url: str, **options: Any) -> Outcome:
        with loading() as fire:
            return fire(url, timeout_s=20, **options)


@pytest.fixture(scope="module")
def slow() -> Slow:
    return Slow()


def test_a_worker_that_is_rarely_slow_loses_no_request_and_no_answer(slow: Slow) -> None:
    for outcome, server in zip(slow.outcomes, slow.servers, strict=True):
        assert len(outcome.shots) == len(server.arrivals)
        assert len(measured(outcome)) == RATE * WINDOW_S
        assert all(shot.status == 200 and not shot.error for shot in outcome.shots)
        assert outcome.capped == 0


def test_every_slow_answer_is_in_the_tail_at_its_full_length(slow: Slow) -> None:
    """The tail has as many requests as the server answered slowly, and none of them is below 5 s."""
    tail = [latency for latency in latencies_ms(*slow.outcomes) if latency > SLOW_MS / 2]
    assert len(tail) == 8  # 4 of 350, twice
    assert min(tail) >= SLOW_MS
    assert summary_of(f"constant({RATE})", *slow.outcomes)["latency_p50_ms"] < SLOW_MS / 10


def test_the_pooled_p99_and_p99_9_match_the_servers_times(slow: Slow) -> None:
    """8 of 700 are slow, so both percentiles are among them. The server's own times are the truth."""
    pooled = [np.asarray(latencies_ms(outcome)) for outcome in slow.outcomes]
    values = np.concatenate(pooled)
    truth = [np.asarray(kept_ms(server)) for server in slow.servers]
    slowest = np.sort(np.concatenate(truth))[-8:]
    assert len(values) == 700
    for percent in (99, 99.9):
        shown = percentile(values, percent)
        assert shown == pytest.approx(float(np.percentile(values, percent)), rel=1e-9)
        assert slowest[0] <= shown <= slowest[-1] + 500  # a busy machine answers late, never early
    reported = summary_of(f"constant({RATE})", *slow.outcomes)["latency_p99_ms"]
    assert reported == pytest.approx(float(np.percentile(values, 99)), rel=1e-9)


def test_slow_answers_do_not_delay_later_requests(slow: Slow) -> None:
    """Each request is sent when it is due, so requests after a slow one are as fast as others."""
    for outcome in slow.outcomes:
        late = sorted(shot.sent_ms - shot.due_ms for shot in measured(outcome))
        assert late[len(late) // 2] < 50
        assert max(late) < SLOW_MS / 5


def test_a_closed_loop_shows_the_full_slow_answer(slow: Slow) -> None:
    """Its user waits and sends no other request, so there is one row with the full latency."""
    outcome = slow.closed_outcome
    assert len(outcome.shots) == len(slow.closed_server.arrivals)
    tail = [latency for latency in latencies_ms(outcome) if latency > SLOW_MS / 2]
    assert len(tail) == 1
    assert tail[0] >= SLOW_MS


# -- a server that times out ---------------------------------------------------------------------------

TIMEOUT_S = 0.4
SILENT_EVERY = 20


async def sometimes_silent(arrival: Arrival) -> bytes:
    """One in twenty is answered long after the time-out."""
    await asyncio.sleep(30 if arrival.number % SILENT_EVERY == 7 else USUAL_MS / 1e3)
    return reply()


@pytest.fixture(scope="module")
def silent(fire: Fire) -> tuple[Outcome, int]:
    """700 requests, and the number that reached the server."""
    with answering(sometimes_silent) as server:
        outcome = fire(server.url, arrivals=parse("constant(200)"), duration_s=3.5, timeout_s=TIMEOUT_S)
        return outcome, len(server.arrivals)


def test_every_request_that_times_out_has_a_row_with_the_error(silent: tuple[Outcome, int]) -> None:
    outcome, seen = silent
    assert len(outcome.shots) == seen
    assert len(measured(outcome)) == 700
    failed = [shot for shot in measured(outcome) if shot.error]
    assert len(failed) >= 700 // SILENT_EVERY
    assert {shot.status for shot in failed} == {None}
    assert {shot.error for shot in failed} == {f"timeout after {TIMEOUT_S:g} s"}
    assert min(shot.done_ms - shot.due_ms for shot in failed) >= TIMEOUT_S * 1e3
    trial = rows_of("constant(200)", outcome)[0][0]
    assert (trial.requests, trial.measured, trial.failed) == (seen, 700, len(failed))
    assert trial.state == OK


def test_a_timeout_ranks_above_every_success(silent: tuple[Outcome, int]) -> None:
    """5 in 100 time out after 0.4 s: the p99 is infinite, not 0.4 s, and the p90 is of those answered."""
    row = summary_of("constant(200)", silent[0])
    assert row["failed"] >= 700 // SILENT_EVERY
    assert row["latency_p99_ms"] == math.inf
    assert percentile(np.asarray(latencies_ms(silent[0])), 99.9) == math.inf
    assert row["latency_p90_ms"] < math.inf
    assert row["latency_mean_ms"] < TIMEOUT_S * 1e3  # over the answered requests only


def test_throughput_counts_good_answers_only(silent: tuple[Outcome, int]) -> None:
    outcome, _ = silent
    begin, end = outcome.window_start_ms, outcome.window_end_ms
    answered = [shot for shot in outcome.shots if begin < shot.done_ms <= end]
    good = [shot for shot in answered if not shot.error]
    assert len(good) < len(answered)
    shown = summary_of("constant(200)", outcome)["throughput_per_s"]
    assert shown == pytest.approx(len(good) / WINDOW_S, rel=1e-9)


def test_timeouts_add_no_throughput_to_a_closed_loop(fire: Fire) -> None:
    """A user who waits in vain is still in a request; that time and the pause after it count."""
    with answering(sometimes_silent) as server:
        outcome = fire(server.url, arrivals=closed(4), requests=100, timeout_s=TIMEOUT_S)
        assert len(outcome.shots) == len(server.arrivals)
    shots = measured(outcome)
    good = [shot for shot in shots if not shot.error]
    assert len(shots) == 100
    assert len(good) < 100
    in_requests_ms = sum(shot.done_ms - shot.due_ms for shot in shots)
    begin, end = outcome.window_start_ms, outcome.window_end_ms
    inside_ms = sum(max(0.0, min(shot.done_ms, end) - max(shot.due_ms, begin)) for shot in outcome.shots)
    in_requests = inside_ms / (end - begin)  # the mean number of the four users in a request
    assert in_requests < 3.99
    row = summary_of("closed(4)", outcome)
    assert row["throughput_per_s"] == pytest.approx(len(good) * in_requests / in_requests_ms * 1e3, rel=1e-9)
    assert row["answered_per_s"] > row["throughput_per_s"]


# -- more in flight than the cap allows ----------------------------------------------------------------


def test_requests_delayed_by_the_cap_are_counted_and_their_wait_is_latency(fire: Fire) -> None:
    """4 at once of 200 ms each are 20 per second. Of 80 per second most are late, but none is dropped."""
    with answering(after(200)) as server:
        outcome = fire(server.url, arrivals=parse("constant(80)"), cap=4, duration_s=1.0)
    shots = measured(outcome)
    assert len(shots) == 80
    assert len(outcome.shots) == len(server.arrivals)
    assert outcome.in_flight_max == server.most_at_once == 4
    assert outcome.capped > 40
    last = max(shots, key=lambda shot: shot.due_ms)
    late_ms = last.sent_ms - last.due_ms
    assert late_ms > 2000  # 80 at 20 a second take 4 s, and it was due after 1
    assert last.done_ms - last.due_ms >= late_ms + 200
    assert [shot.due_ms for shot in shots] == pytest.approx([12.5 * n for n in range(80)])
    trial = rows_of("constant(80)", outcome)[0][0]
    assert (trial.capped, trial.in_flight_max) == (outcome.capped, 4)


def test_below_the_cap_nothing_is_counted(fire: Fire) -> None:
    with answering(after(5)) as server:
        outcome = fire(server.url, arrivals=parse("constant(50)"), cap=40, duration_s=1.0)
    assert outcome.capped == 0
    assert outcome.in_flight_max < 40
