"""The slow checks that `execbench check --full` adds: a minute to half an hour each."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from harness.analysis import stats
from harness.evidence.check.bench import Bench, Check, Fire, Result, Serve, in_blocks, measured, synthetic
from harness.evidence.check.freeze import freeze
from harness.evidence.check.peers import peers
from harness.evidence.check.quick import delivered_rate
from harness.evidence.frames import frame
from harness.evidence.studies import queueing, sessions
from harness.run.server_process import Server
from harness.wire.arrivals import closed

MOST_LOST = 0.02
MOST_US = 50.0

# -- the cost of the instrument ------------------------------------------------------------------------

USERS = 8
THROUGHPUT_BLOCKS, THROUGHPUT_S = 100, 0.6  # ±1 % if a block varies by 5 %
REQUEST_BLOCKS, REQUEST_S = 120, 0.25
ON, OFF = "on", "off"
Block = dict[str, float]  # ON and OFF → the figure of its window


def cost(
    fire: Fire,
    serve: Serve,
    *,
    throughput_blocks: int = THROUGHPUT_BLOCKS,
    request_blocks: int = REQUEST_BLOCKS,
) -> list[Result]:
    """Compare instrumentation on and off, in alternating windows of two resident servers.

    Costs per second (loop probes of server and client, pings) show in the throughput of a model of 10 ms of
    CPU. Costs per request (time stamps, writing and reading the header) show in the time of a request that
    does nothing else, measured without loop probes, which run every 5 ms and would hide it.
    """
    model = synthetic(10.0, io_ms=5.0, mode="release")
    nothing = synthetic(0.0)
    with _on_and_off(serve, "thread", workers=1, workload=model) as (on, off):
        windows = {ON: lambda: with_probes(fire, on), OFF: lambda: _rate(fire, off, probe_loop=False)}
        rates = in_blocks(windows, throughput_blocks)
    with _on_and_off(serve, "inline", workload=nothing) as (on, off):
        windows = {ON: lambda: request_ms(fire, on), OFF: lambda: request_ms(fire, off)}
        times = in_blocks(windows, request_blocks)
    return [judge_throughput(rates), judge_request(times)]


@contextmanager
def _on_and_off(serve: Serve, strategy: str, **options: object) -> Iterator[tuple[Server, Server]]:
    with serve(strategy, **options) as on, serve(strategy, **options, instrumented=False) as off:
        yield on, off


def with_probes(fire: Fire, server: Server) -> float:
    """Requests per second as a run measures them: with loop probes on both sides, and pings."""
    server.watch()
    try:
        return _rate(fire, server, probe_loop=True, ping_url=f"{server.url}/ping")
    finally:
        server.unwatch()


def _rate(fire: Fire, server: Server, **options: object) -> float:
    """Throughput by Little's law, as in the report: users / mean latency."""
    load = {"arrivals": closed(USERS), "warmup_requests": 2 * USERS, "duration_s": THROUGHPUT_S}
    shots = measured(fire(f"{server.url}/", **load, **options))
    return USERS / statistics.fmean(shot.done_ms - shot.due_ms for shot in shots) * 1e3


def request_ms(fire: Fire, server: Server) -> float:
    """The median service time of a single user's requests, without loop probes."""
    load = {"arrivals": closed(1), "warmup_requests": 10, "duration_s": REQUEST_S, "probe_loop": False}
    shots = measured(fire(f"{server.url}/", **load))
    return statistics.median(shot.done_ms - shot.sent_ms for shot in shots)


def judge_throughput(blocks: Sequence[Block]) -> Result:
    """Judge the ratio on / off; its interval is shown."""
    found = stats.effect(np.log([block[ON] / block[OFF] for block in blocks]))
    return Result(
        "instrument, throughput",
        f"on against off: at most {MOST_LOST:.0%} less",
        f"{found.ratio - 1:+.1%} (95 %: {found.low - 1:+.1%} to {found.high - 1:+.1%}), "
        f"{found.blocks} blocks",
        found.ratio >= 1 - MOST_LOST,
        "Time stamps, header, loop probes on both sides and pings; 10 ms of CPU in a thread, 8 users."
        + _wide(found.high - found.low, 2 * MOST_LOST),
    )


def judge_request(blocks: Sequence[Block]) -> Result:
    """Judge the median of on − off over blocks, with the interval of a sign test."""
    differences = [(block[ON] - block[OFF]) * 1e3 for block in blocks]
    middle = statistics.median(differences)
    low, high = stats.order_statistic_interval(differences, 50)
    return Result(
        "instrument, a request",
        f"on against off: at most {MOST_US:.0f} µs more",
        f"{middle:+.0f} µs (95 %: {low:+.0f} to {high:+.0f}), {len(blocks)} blocks",
        middle <= MOST_US,
        "Time stamps and header, written and read; a single user and a model that does nothing."
        + _wide(high - low, 2 * MOST_US),
    )


def _wide(width: float, goal: float) -> str:
    """A remark if the interval is so wide that chance could have decided."""
    return "" if width <= goal else " The interval is wider than the goal: the machine was too busy."


# -- studies: whole sessions, and queueing theory ------------------------------------------------------

TWIN_SESSIONS = 200
POWER_SESSIONS = 50
QUEUE_LOAD, QUEUE_S = 0.5, 600.0


def _queue(bench: Bench) -> list[Result]:
    found = queueing.each([QUEUE_LOAD], QUEUE_S, bench.listener)
    return queueing.judge(frame(queueing.Row, found))


def _twins(bench: Bench) -> Result:
    found = sessions.each_twin(TWIN_SESSIONS, bench.listener)
    return sessions.judge_twins(frame(sessions.Session, found))


def _power(bench: Bench) -> Result:
    found = sessions.each_slowed(POWER_SESSIONS, bench.listener)
    return sessions.judge_power(frame(sessions.Session, found))


# -- all of them ---------------------------------------------------------------------------------------


def _rate_over_a_minute(bench: Bench) -> Result:
    with bench.null_server() as url:
        return delivered_rate(bench.fire, url, seconds=60.0, within=0.005)


CHECKS = (
    Check("rate60", "the rate delivered over 60 s", 62, _rate_over_a_minute),
    Check("freeze", "a server that is frozen for 1 s", 75, lambda bench: freeze(bench.fire, bench.server)),
    Check("peers", "comparison with wrk and hey", 155, peers),
    Check("cost", "the cost of the instrument itself", 280, lambda bench: cost(bench.fire, bench.server)),
    Check("queue", "the queue of one worker against M/D/1", 615, _queue),
    Check("power", f"detection of a slow-down of 10 %, {POWER_SESSIONS} sessions", 560, _power),
    Check("twins", f"A/A: the same code twice, {TWIN_SESSIONS} sessions", 1100, _twins),
)
