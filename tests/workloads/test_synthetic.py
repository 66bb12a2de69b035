"""The synthetic model has the cost that it is given: the known truth of other tests."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import running

from harness import workloads
from harness.wire.options import WorkloadOptions


def synthetic_call(mode: str, service_ms: float) -> Callable[[], list[str]]:
    workload = workloads.create(running.synthetic(service_ms, mode=mode))
    model = workload.load()
    return lambda: workload.predict(model, ["a", "b"])


class Cost:
    """The wall time and the calling thread's CPU time of one call, in ms."""

    def __init__(self, call: Callable[[], object]) -> None:
        cpu, wall = time.thread_time(), time.perf_counter()
        call()
        self.wall_ms = (time.perf_counter() - wall) * 1e3
        self.cpu_ms = (time.thread_time() - cpu) * 1e3


class Counter:
    """A thread that always needs the interpreter lock; `count` is its progress."""

    def __init__(self) -> None:
        self.count = 0
        self.stopped = False

    def run(self) -> None:
        while not self.stopped:
            self.count += 1

    def per_ms_during(self, call: Callable[[], object]) -> float:
        before = self.count
        cost = Cost(call)
        return (self.count - before) / cost.wall_ms


@contextmanager
def counting() -> Iterator[Counter]:
    counter = Counter()
    thread = threading.Thread(target=counter.run)
    thread.start()
    try:
        yield counter
    finally:
        counter.stopped = True
        thread.join()


def pace_beside(mode: str, service_ms: float) -> float:
    """How fast another thread counts during a call of `mode`, as a share of its pace during a sleep."""
    busy, idle = synthetic_call(mode, service_ms), lambda: time.sleep(0.05)
    with counting() as counter:
        shares = [counter.per_ms_during(busy) / counter.per_ms_during(idle) for _ in range(3)]
    return statistics.median(shares)


@pytest.mark.timed
def test_the_synthetic_model_answers_in_capitals_in_one_service_time_for_all_items() -> None:
    call = synthetic_call("sleep", 20)
    assert call() == ["A", "B"]
    assert min(Cost(call).wall_ms for _ in range(5)) < 30


def test_a_synthetic_call_takes_longer_for_each_of_its_items() -> None:
    options = WorkloadOptions(name="synthetic", service_ms=10.0, per_item_ms=4.0)
    took_ms: list[float] = []
    workload = workloads.create(options)
    assert workload.predict(took_ms.append, ["a", "b", "c"]) == ["A", "B", "C"]
    workload.predict(took_ms.append, ["d"])
    assert took_ms == [22.0, 14.0]


@pytest.mark.timed
@pytest.mark.parametrize("mode", ["sleep", "hold"])
@pytest.mark.parametrize("service_ms", [5, 40])
def test_sleep_and_hold_take_their_wall_time_and_no_cpu(mode: str, service_ms: float) -> None:
    """Compare with a bare sleep of that length, in turn, as machines differ in the delay and cost of waking.

    Compare lower quartiles, because periodic work of other programs may hit one side more often.
    """
    call = synthetic_call(mode, service_ms)
    costs, bare = [], []
    for _ in range(9):
        costs.append(Cost(call))
        bare.append(Cost(lambda: time.sleep(service_ms / 1e3)))
    assert min(cost.wall_ms for cost in costs) >= service_ms - 0.01
    for what, bound in (("wall_ms", 1.9), ("cpu_ms", 0.45)):
        more, usual = (sorted(getattr(cost, what) for cost in side)[2] for side in (costs, bare))
        assert more - usual < bound, what


@pytest.mark.timed
@pytest.mark.parametrize("mode", ["spin", "release"])
@pytest.mark.parametrize("service_ms", [5, 40])
def test_spin_and_release_take_their_cpu_time_whatever_the_wall_time(mode: str, service_ms: float) -> None:
    costs = [Cost(synthetic_call(mode, service_ms)) for _ in range(9)]
    assert min(cost.cpu_ms for cost in costs) >= service_ms
    assert statistics.median(cost.cpu_ms for cost in costs) < service_ms + 1


@pytest.mark.timed
@pytest.mark.parametrize("mode", ["spin", "release"])
def test_the_cpu_time_is_the_same_next_to_a_busy_thread(mode: str) -> None:
    with counting():
        costs = [Cost(synthetic_call(mode, 5)) for _ in range(3)]
    assert all(5 <= cost.cpu_ms < 7 for cost in costs)


@pytest.mark.timed
@pytest.mark.parametrize("service_ms", [300, 1200])
def test_no_other_thread_runs_during_hold(service_ms: float) -> None:
    """The other thread gets turns of 5 ms just before, just after, and once a second between two C calls.

    `usleep` may refuse a whole second, so a longer hold consists of several calls.
    """
    call = synthetic_call("hold", service_ms)
    with counting() as counter:
        alone_per_ms = counter.per_ms_during(lambda: time.sleep(0.2))
        before = counter.count
        cost = Cost(call)
        ran_ms = (counter.count - before) / alone_per_ms
    assert service_ms <= cost.wall_ms < service_ms + 50
    assert ran_ms < 40


@pytest.mark.timed
def test_another_thread_shares_the_lock_with_spin_and_both_are_slower() -> None:
    assert 0.1 < pace_beside("spin", 50) < 0.8
    with counting():
        walls = [Cost(synthetic_call("spin", 50)).wall_ms for _ in range(3)]
    assert min(walls) > 65


@pytest.mark.timed
@pytest.mark.parametrize("mode", ["sleep", "release"])
def test_another_thread_runs_during_sleep_and_release(mode: str) -> None:
    assert pace_beside(mode, 10) > 0.6
