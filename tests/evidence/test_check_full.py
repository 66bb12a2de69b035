"""The slow checks can fail too: each gets something broken and must fail.

Pretended clients and servers, exact truth: a simulated queue for the freeze, constant windows for the cost.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from conftest import wait_for

from harness.analysis.percentiles import percentile
from harness.evidence.check import freeze, full, quick
from harness.evidence.check.bench import Bench, in_blocks
from harness.evidence.check.freeze import FreezeData
from harness.wire.load_options import LoadOptions
from harness.wire.records import COOLDOWN, MEASURE, PING, WARMUP, Outcome, Shot, Timings

# -- a freeze, simulated -------------------------------------------------------------------------------

BASE_MS = 12.0


def frozen_queue_ms(utilisation: float, *, rate: float = 50.0, window_s: float = 30.0) -> list[float]:
    """Latencies of constant arrivals at one worker that freezes in the middle for 1 s.

    Event by event: who is served when the freeze begins has to wait for its end too.
    """
    service, stop, go = utilisation / rate, window_s / 2, window_s / 2 + 1.0
    free, latencies = 0.0, []
    for number in range(int(rate * window_s)):
        due = number / rate
        begin = max(due, free)
        if stop <= begin < go:
            begin = go
        free = begin + service
        if begin < stop < free:
            free += go - stop
        latencies.append(BASE_MS + (free - service - due) * 1e3)
    return latencies


def data(open_ms: list[float], utilisation: float, **changes: Any) -> FreezeData:
    """Beside a closed loop of 4 users in which 4 requests of 3,000 took the whole second."""
    closed_ms = [4 * BASE_MS] * 2996 + [1000.0 + BASE_MS] * 4
    return FreezeData(open_ms, closed_ms, utilisation, (1.0, 1.0), 30.0)._replace(**changes)


@pytest.mark.parametrize("utilisation", [0.1, 0.3, 0.5, 0.53, 0.7, 0.9])
def test_the_formula_agrees_with_a_simulated_queue(utilisation: float) -> None:
    latencies = np.asarray(frozen_queue_ms(utilisation))
    assert percentile(latencies, 50) == pytest.approx(BASE_MS)
    theory = freeze.theory_p99_ms(BASE_MS, utilisation, 1.0, 30.0)
    assert theory == pytest.approx(BASE_MS + 1e3 * (1 - 0.3 * (1 - utilisation)))
    assert percentile(latencies, 99) == pytest.approx(theory, rel=0.02)  # an arrival every 20 ms
    assert freeze.judge(data(list(latencies), utilisation)).passed


def test_the_result_shows_how_the_closed_loop_hides_the_freeze() -> None:
    found = freeze.judge(data(frozen_queue_ms(0.5), 0.5))
    assert "closed loop 48 ms" in found.measured
    assert "4 of 3000 requests met the freeze" in found.note


def test_latencies_counted_from_sending_fail_the_check() -> None:
    """Coordinated omission: the client waits for an answer before it sends again, and counts from sending."""
    honest = frozen_queue_ms(0.5)
    omitted = [BASE_MS] * (len(honest) - 1) + [max(honest)]
    assert not freeze.judge(data(omitted, 0.5)).passed


def test_a_tail_that_is_6_percent_too_high_or_too_low_fails_the_check() -> None:
    honest = np.asarray(frozen_queue_ms(0.5))
    for factor in (0.94, 1.06):
        assert not freeze.judge(data(list(np.where(honest > 100, honest * factor, honest)), 0.5)).passed


def test_dropped_slow_requests_fail_the_check() -> None:
    """Without the slowest requests, as from a client that gives up early and keeps no row."""
    assert not freeze.judge(data(sorted(frozen_queue_ms(0.5))[:-100], 0.5)).passed


def test_requests_that_fail_in_the_freeze_fail_the_check() -> None:
    failed = [latency if latency < 500 else float("inf") for latency in frozen_queue_ms(0.5)]
    assert not freeze.judge(data(failed, 0.5)).passed


def test_a_freeze_that_did_not_happen_fails_the_check() -> None:
    """Neither without any freeze, nor without one in the closed loop."""
    assert not freeze.judge(data([BASE_MS] * 1500, 0.5)).passed
    assert not freeze.judge(data(frozen_queue_ms(0.5), 0.5, frozen_s=(1.0, 0.0))).passed


def test_a_closed_loop_that_shows_the_freeze_fails_the_check() -> None:
    """Then the check is set up wrong or has too many users, and its note would be false."""
    slow = [BASE_MS] * 900 + [1000.0] * 100
    assert not freeze.judge(data(frozen_queue_ms(0.5), 0.5, closed_ms=slow)).passed


# -- a freeze, real ------------------------------------------------------------------------------------

SLEEP = "import time; time.sleep(60)"
WITH_A_CHILD = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); {SLEEP}"


@pytest.fixture
def family() -> Iterator[psutil.Process]:
    """A process with a child."""
    with subprocess.Popen([sys.executable, "-c", WITH_A_CHILD]) as started:
        parent = psutil.Process(started.pid)
        wait_for(parent.children)
        members = [parent, *parent.children()]
        yield parent
        for member in members:
            member.kill()


def states(parent: psutil.Process) -> list[str]:
    return [process.status() for process in (parent, *parent.children(recursive=True))]


@pytest.mark.integration
def test_the_server_and_its_workers_stop_and_resume(family: psutil.Process) -> None:
    took: list[float] = []
    freezing = threading.Thread(target=lambda: took.append(freeze.stand_still(family.pid, 0.5)))
    freezing.start()
    wait_for(lambda: states(family) == [psutil.STATUS_STOPPED] * 2, within_s=5)
    freezing.join()
    assert psutil.STATUS_STOPPED not in states(family)
    assert took[0] >= 0.5


class Interrupted(BaseException):
    """As Ctrl-C is, at an awkward moment."""


@pytest.mark.integration
def test_no_process_stays_stopped_after_an_error(family: psutil.Process) -> None:
    """A stopped process does not react to SIGTERM."""

    def interrupted(seconds: float) -> None:
        wait_for(lambda: states(family) == [psutil.STATUS_STOPPED] * 2)  # a running one stops a moment later
        raise Interrupted

    with pytest.raises(Interrupted):
        freeze.stand_still(family.pid, 60.0, interrupted)
    assert psutil.STATUS_STOPPED not in states(family)


NOTHING = Outcome([], 0.0, 0.0, 0.0)


def test_a_load_that_ends_before_the_freeze_is_not_frozen() -> None:
    disturbed: list[int] = []

    def disturb() -> float:
        disturbed.append(1)
        return 1.0

    outcome, took = freeze.run_with_disturbance(lambda: NOTHING, disturb, after_s=30.0)
    assert (outcome, took, disturbed) == (NOTHING, 0.0, [])


def test_a_load_that_fails_ends_the_wait_for_the_freeze() -> None:
    def breaks() -> Outcome:
        raise Interrupted

    began = time.monotonic()
    with pytest.raises(Interrupted):
        freeze.run_with_disturbance(breaks, lambda: 1.0, after_s=30.0)
    assert time.monotonic() - began < 10


def test_the_freeze_begins_during_the_load() -> None:
    stopped = threading.Event()

    def stop() -> float:
        stopped.set()
        return 1.0

    outcome, took = freeze.run_with_disturbance(
        lambda: NOTHING if stopped.wait(30) else Outcome([], 1.0, 1.0, 1.0),
        stop,
        after_s=0.05,
    )
    assert (outcome, took) == (NOTHING, 1.0)


@pytest.mark.timed  # on a busy machine, a server that waits for a CPU does freeze
def test_a_real_server_that_never_freezes_fails_the_check() -> None:
    """The whole measurement, shortened, with a fake freeze."""
    frozen: list[int] = []

    def claim(pid: int, seconds: float) -> float:
        frozen.append(pid)
        return seconds

    with Bench() as bench:
        found = freeze.freeze(
            bench.fire,
            bench.server,
            claim,
            window_s=2.0,
            frozen_s=0.5,
        )
    assert len(frozen) == 2
    assert len(set(frozen)) == 1
    assert not found.passed


# -- the rate over a minute ----------------------------------------------------------------------------


@pytest.mark.parametrize(("found", "passes"), [(200.9, True), (199.1, True), (201.1, False), (198.9, False)])
def test_over_a_minute_the_rate_must_be_within_half_a_percent(found: float, passes: bool) -> None:
    assert quick.judge_rate(found, 200.0, 60.0, 0.005).passed is passes


# -- what the instrument costs -------------------------------------------------------------------------


class World:
    """Servers of a known service time plus a cost of instrumentation; records which ones were watched."""

    def __init__(self, added_share: float = 0.0, added_ms: float = 0.0) -> None:
        self._added_share, self._added_ms = added_share, added_ms
        self._service_ms: dict[str, float] = {}
        self.on: set[str] = set()
        self.watching: set[str] = set()
        self.loads: list[LoadOptions] = []
        self.watched_loads: list[bool] = []

    @contextmanager
    def serve(self, strategy: str, **options: Any) -> Iterator[Any]:
        url = f"http://127.0.0.1/{len(self._service_ms)}"
        instrumented = options.pop("instrumented", True)
        service = max(1.0, 8 * options["workload"].service_ms)
        if instrumented:
            self.on.add(url)
            service = service * (1 + self._added_share) + self._added_ms
        self._service_ms[url] = service
        yield SimpleNamespace(
            url=url, watch=lambda: self.watching.add(url), unwatch=lambda: self.watching.remove(url)
        )

    def fire(self, url: str, **options: Any) -> Outcome:
        load = LoadOptions.model_validate({"url": url, **options})
        self.loads.append(load)
        self.watched_loads.append(bool(self.watching))
        took = self._service_ms[url.removesuffix("/")]
        others = [Shot(0, phase, 0.0, 0.0, 5000.0, Timings(), 200, "") for phase in (WARMUP, PING, COOLDOWN)]
        shots = [
            Shot(n, MEASURE, n * took, n * took, (n + 1) * took, Timings(), 200, "") for n in range(1, 30)
        ]
        return Outcome([*others, *shots], 0.0, 600.0, 1.0)


def cost(world: World) -> list[bool]:
    """Whether the throughput and the request passed."""
    found = full.cost(world.fire, world.serve, throughput_blocks=6, request_blocks=8)
    return [result.passed for result in found]


def test_an_instrument_that_costs_little_passes() -> None:
    assert cost(World()) == [True, True]
    assert cost(World(added_share=0.015)) == [True, True]  # 15 µs of 1 ms
    assert cost(World(added_ms=0.049)) == [True, True]


def test_an_instrument_that_costs_3_percent_fails_the_check() -> None:
    assert cost(World(added_share=0.03))[0] is False


def test_an_instrument_that_costs_60_us_per_request_fails_the_check() -> None:
    assert cost(World(added_ms=0.060)) == [True, False]


def test_probes_and_pings_run_on_one_side_only_and_never_with_single_requests() -> None:
    world = World()
    full.cost(world.fire, world.serve, throughput_blocks=6, request_blocks=8)
    assert Counter(world.watched_loads) == {False: 6 + 8 + 8, True: 6}
    for load, watched in zip(world.loads, world.watched_loads, strict=True):
        assert load.probe_loop is watched
        assert (load.ping_url is not None) is watched
        assert not watched or load.url.removesuffix("/") in world.on


def test_every_window_runs_once_per_block_in_random_order() -> None:
    called: list[str] = []

    def window(name: str) -> Callable[[], float]:
        def measure() -> float:
            called.append(name)
            return 1.0

        return measure

    for names in ("ab", "abc"):
        called.clear()
        blocks = in_blocks({name: window(name) for name in names}, 20)
        assert blocks == [dict.fromkeys(names, 1.0)] * 20
        turns = [tuple(called[n : n + len(names)]) for n in range(0, len(called), len(names))]
        assert all(sorted(turn) == list(names) for turn in turns)
        assert len(set(turns)) > len(names) - 1


def blocks(on: float, off: float = 100.0, spread: float = 0.0) -> list[dict[str, float]]:
    return [{"on": on, "off": off * (1 + spread * (-1) ** n)} for n in range(20)]


def test_the_cost_is_shown_with_its_interval_and_a_remark_on_a_busy_machine() -> None:
    calm, busy = full.judge_throughput(blocks(99.0)), full.judge_throughput(blocks(99.0, spread=0.2))
    assert "-1.0% (95 %: -1.0% to -1.0%), 20 blocks" in calm.measured
    assert "too busy" not in calm.note
    assert "too busy" in busy.note


def test_an_unknown_figure_does_not_pass() -> None:
    assert not full.judge_throughput(blocks(float("nan"))).passed
    assert not full.judge_request(blocks(float("nan"))).passed
    assert not full.judge_request(blocks(float("inf"))).passed


# -- all of them ---------------------------------------------------------------------------------------


def test_the_long_checks_have_distinct_names_and_the_sizes_of_the_method() -> None:
    names = [check.name for check in (*quick.CHECKS, *full.CHECKS)]
    assert len(set(names)) == len(names)
    assert [check.name for check in full.CHECKS] == [
        "rate60",
        "freeze",
        "peers",
        "cost",
        "queue",
        "power",
        "twins",
    ]
    assert (full.TWIN_SESSIONS, full.POWER_SESSIONS, full.QUEUE_LOAD, full.QUEUE_S) == (200, 50, 0.5, 600)
    assert (freeze.WINDOW_S, freeze.FROZEN_S, freeze.WITHIN) == (30, 1, 0.05)
