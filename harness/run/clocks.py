"""What another process's monotonic clock shows more than ours, and within which bound that is known.

A message is stamped when it is sent, when it arrives there, and when its answer is back. Whatever the two
ways took, the clock there showed its stamp at some moment between the first and the last of these. So the
middle of them is wrong by at most half of the round trip (F. Cristian, Probabilistic clock synchronization,
Distributed Computing 3, 1989). The exchange with the shortest round trip has the smallest bound.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

EXCHANGES = 16


class Exchange(NamedTuple):
    """A message and its answer, on two clocks, in ms."""

    sent_ms: float
    there_ms: float
    received_ms: float

    @property
    def round_trip_ms(self) -> float:
        return self.received_ms - self.sent_ms


class Offset(NamedTuple):
    """What the clock there shows more than ours, wrong by at most `bound_ms`."""

    offset_ms: float
    bound_ms: float

    @classmethod
    def of(cls, exchange: Exchange) -> Offset:
        middle_ms = (exchange.sent_ms + exchange.received_ms) / 2
        return cls(exchange.there_ms - middle_ms, exchange.round_trip_ms / 2)


def measure(exchange: Callable[[], Exchange]) -> Offset:
    """Exchange some messages and return the offset that is known best."""
    return min((Offset.of(exchange()) for _ in range(EXCHANGES)), key=lambda offset: offset.bound_ms)
