"""Generators begin one window and end it together; the offset of a clock has a bound."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.run import clocks
from harness.run.agreement import Agreement
from harness.run.clocks import Exchange, Offset
from harness.wire.generator_messages import BEGIN, DONE, STOP, WARM


class Told:
    def __init__(self, members: int) -> None:
        self.messages: list[tuple[int, dict[str, Any]]] = []
        self.agreement = Agreement(range(members), lambda to, what: self.messages.append((to, what)), 5.0)


def test_the_window_begins_for_all_once_the_last_generator_is_warm() -> None:
    told = Told(3)
    for member, at_ms in ((1, 40.0), (0, 90.0)):
        told.agreement.step(member, WARM, at_ms)
    assert told.messages == []
    told.agreement.step(2, WARM, 60.0)
    assert told.messages == [(member, {BEGIN: 95.0}) for member in range(3)]


def test_the_load_ends_for_all_once_the_last_generator_is_done() -> None:
    told = Told(2)
    told.agreement.step(0, DONE, 100.0)
    assert told.messages == []
    told.agreement.step(1, DONE, 120.0)
    assert told.messages == [(0, {STOP: True}), (1, {STOP: True})]


@pytest.mark.parametrize("what", [WARM, DONE])
def test_nobody_waits_for_a_generator_that_was_lost(what: str) -> None:
    told = Told(2)
    told.agreement.step(0, what, 100.0)
    told.agreement.leaves(1)
    assert [to for to, _ in told.messages] == [0]


def test_each_message_is_sent_once() -> None:
    told = Told(2)
    for member in range(2):
        told.agreement.step(member, DONE, 100.0)
    told.agreement.leaves(0)
    assert len(told.messages) == 2


way_ms = st.floats(0.0, 1e3)


@given(offset_ms=st.floats(-1e6, 1e6), there_ms=way_ms, back_ms=way_ms)
def test_an_offset_is_within_its_bound_however_long_the_two_ways_took(
    offset_ms: float, there_ms: float, back_ms: float
) -> None:
    found = Offset.of(Exchange(0.0, there_ms + offset_ms, there_ms + back_ms))
    assert abs(found.offset_ms - offset_ms) <= found.bound_ms + 1e-6


def test_the_shortest_of_many_round_trips_counts() -> None:
    trips = iter([9.0, 8.0, 0.2, *[7.0] * clocks.EXCHANGES])
    found = clocks.measure(lambda: Exchange(0.0, 250.0 + (trip := next(trips)), 2 * trip))
    assert (found.offset_ms, found.bound_ms) == pytest.approx((250.0, 0.2))
