"""CPU time between two made-up readings: each millisecond counts once, including that of ended processes."""

from __future__ import annotations

from collections.abc import Mapping

from harness.run.meter import Clocks, CpuUsed
from harness.run.processes import Process

Times = tuple[int, float, float]  # parent, CPU of its own, CPU of its ended children


def reading(processes: Mapping[int, Times], **created: float) -> Clocks:
    table = {
        pid: Process(parent, created.get(f"p{pid}", 1.0), cpu_ms, ended_ms)
        for pid, (parent, cpu_ms, ended_ms) in processes.items()
    }
    return Clocks(table, {pid: cpu_ms for pid, (_, cpu_ms, _) in processes.items()})


def burnt_ms(before: Mapping[int, Times], after: Mapping[int, Times], **created: float) -> float:
    """By all processes of the second reading; `created` as given there."""
    return CpuUsed(reading(before), reading(after, **created)).ms(after)


def test_a_process_that_still_runs_counts_by_its_clock() -> None:
    assert burnt_ms({5: (1, 1000, 70)}, {5: (1, 1250, 70)}) == 250


def test_a_process_started_between_the_readings_counts_with_its_ended_children() -> None:
    assert burnt_ms({5: (1, 0, 0)}, {5: (1, 0, 0), 6: (5, 40, 30)}) == 70


def test_a_child_that_started_and_ended_between_counts_once_its_parent_has_waited() -> None:
    assert burnt_ms({5: (1, 0, 0)}, {5: (1, 2, 300)}) == 302


def test_a_child_that_ended_between_counts_only_since_the_first_reading() -> None:
    assert burnt_ms({5: (1, 0, 100), 6: (5, 5000, 50)}, {5: (1, 0, 100 + 5200 + 50)}) == 200


def test_a_grandchild_that_ended_with_it_counts_only_since_the_first_reading() -> None:
    before = {5: (1, 0, 0), 6: (5, 100, 0), 7: (6, 1000, 0)}
    assert burnt_ms(before, {5: (1, 0, 110 + 1300)}) == 310


def test_an_ended_child_that_is_not_waited_for_yet_counts_as_if_it_ran() -> None:
    before, zombie, gone = ({5: (1, 0, 0), 6: (5, 100, 0)}, {5: (1, 0, 0), 6: (5, 150, 0)}, {5: (1, 0, 150)})
    assert burnt_ms(before, zombie) == 50
    assert burnt_ms(zombie, gone) == 0


def test_a_child_that_is_never_waited_for_does_not_make_the_sum_negative() -> None:
    assert burnt_ms({5: (1, 0, 0), 6: (5, 100, 0)}, {5: (1, 3, 0)}) == 3
    assert burnt_ms({5: (1, 0, 0), 6: (5, 5000, 0)}, {5: (1, 3, 40)}) == 3


def test_a_child_that_got_another_parent_counts_for_that_parent() -> None:
    before = {5: (1, 0, 0), 6: (5, 100, 0), 7: (6, 1000, 0)}
    assert burnt_ms(before, {5: (1, 0, 110), 7: (1, 1200, 0)}) == 10 + 200


def test_a_reused_pid_counts_from_zero() -> None:
    assert burnt_ms({5: (1, 0, 0), 6: (5, 700, 0)}, {5: (1, 0, 720), 6: (5, 80, 0)}, p6=2.0) == 20 + 80


def test_a_process_without_an_earlier_clock_counts_from_its_ticks_at_that_time() -> None:
    before = Clocks({5: Process(1, 1.0, 700.0, 50.0)}, {})
    assert CpuUsed(before, reading({5: (1, 730, 60)})).ms([5]) == 40
    assert CpuUsed(before, before).ms([5, 6]) == 0


def test_a_child_that_ends_between_table_and_clocks_is_not_counted_twice() -> None:
    before = reading({5: (1, 0, 0), 6: (5, 1000, 0)})
    after = reading({5: (1, 0, 1030), 6: (5, 1030, 0)})
    del after.ms[6]
    assert CpuUsed(before, after).ms([5, 6]) == 30
