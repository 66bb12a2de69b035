"""What the generators of a trial wait for: all are warm, then all are done."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from harness.wire.generator_messages import BEGIN, DONE, STOP, WARM


class Agreement:
    """Collects the steps of all generators of a trial; its methods may be called in any thread.

    members: the numbers of the generators. tell: sends a message to one. lead_ms: the window begins this much
    later than the last generator was warm, so that each learns it in time. lost: called if one is lost.
    """

    def __init__(self, members: range, tell: Callable[[int, dict[str, Any]], None], lead_ms: float) -> None:
        self._tell = tell
        self._lead_ms = lead_ms
        self._lock = threading.Lock()
        self._left = set(members)
        self._reached: dict[str, dict[int, float]] = {WARM: {}, DONE: {}}
        self._told: set[str] = set()

    def step(self, member: int, what: str, at_ms: float) -> None:
        """Note that a generator is `WARM`, or `DONE`, at this time of the trial."""
        with self._lock:
            self._reached[what][member] = at_ms
            self._tell_if_all()

    def leaves(self, member: int) -> None:
        """Note that a generator has ended its share, or was lost: the others do not wait for it."""
        with self._lock:
            self._left.discard(member)
            self._tell_if_all()

    def _tell_if_all(self) -> None:
        for what, times_ms in self._reached.items():
            if what in self._told or not self._left or not self._left <= times_ms.keys():
                continue
            self._told.add(what)
            begin_ms = max(times_ms.values()) + self._lead_ms
            message = {BEGIN: begin_ms} if what == WARM else {STOP: True}
            for member in self._left:
                self._tell(member, message)
