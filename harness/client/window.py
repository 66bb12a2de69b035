"""Which phase each request of a trial belongs to, and when the trial's load may end."""

from __future__ import annotations

from harness.client.link import Link
from harness.wire.generator_messages import DONE, WARM
from harness.wire.load_options import LoadOptions
from harness.wire.records import COOLDOWN, MEASURE, WARMUP


class Window:
    """Decides the phase of each request and when the load may end.

    The warm-up lasts for `warmup_requests` and `settle_s`, whichever ends later. Then requests are measured
    until `requests` of them have been sent and `duration_s` is over. The load continues until the last
    measured request is answered (cooldown), so that this one runs under the same load as the first. In an
    open loop, the time at which a request was *due* decides its phase, however late it is sent; in a closed
    loop, the time of sending.

    If several generators share the load, all have the same window. The schedule of an open loop determines
    when it begins. In a closed loop each says when its own warm-up is complete; the window begins at a time
    at which all are warm. The load continues until the last measured request of all generators is answered.
    """

    def __init__(self, options: LoadOptions, link: Link) -> None:
        self._options = options
        self._link = link
        self._follows = not options.share.is_whole  # what all generators agree on
        self._begin_ms: float | None = None  # agreed, closed loop
        self._is_warm = self._is_done = False  # as said to the others
        self._released = False
        self._warmups = 0
        self._measured = 0
        self._answered = 0
        self._closed = False  # no more requests are measured
        self._full_at_ms: float | None = None  # when the last of `requests` was sent
        self.start_ms: float | None = None
        self.end_ms: float | None = None

    @property
    def over(self) -> bool:
        return self._done and (self._released or not self._follows)

    @property
    def _done(self) -> bool:
        return self._closed and self._answered >= self._measured

    def begin_at(self, at_ms: float) -> None:
        """See `Follower`."""
        self._begin_ms = at_ms

    def release(self) -> None:
        """See `Follower`."""
        self._released = True

    @property
    def unanswered(self) -> int:
        """Measured requests without an answer, including the next one, which may be overdue."""
        return self._measured - self._answered

    def next_phase(self, at_ms: float) -> str:
        """Return the phase of a request.

        `at_ms` after the trial's start it was due (open loop) or is sent (closed loop).
        """
        if self.start_ms is None:
            settled_ms = self._options.settle_s * 1e3
            if self._warmups < self._options.warmup_requests or at_ms < settled_ms:
                self._warmups += 1
                return WARMUP
            if self._waits_to_begin(at_ms):
                return WARMUP
            # in an open loop the clock starts the window: starting it at an arrival would add one request
            by_clock = self._options.arrivals.is_open and not self._options.warmup_requests
            self.start_ms = settled_ms if by_clock else at_ms if self._begin_ms is None else self._begin_ms
        self._close_when_done(at_ms)
        self._say_when_done(at_ms)
        if self._closed:
            return COOLDOWN
        self._measured += 1
        if self._measured == self._options.requests:
            self._full_at_ms = at_ms
        return MEASURE

    def answered(self, phase: str, at_ms: float) -> None:
        """Note that a request of `phase` was answered or given up, `at_ms` after the trial's start."""
        if phase == MEASURE:
            self._answered += 1
        if self.start_ms is not None and not self._options.arrivals.is_open:
            self._close_when_done(at_ms)
        self._end_when_over(at_ms)

    def passed(self, at_ms: float) -> None:
        """Closed loop: note that it is `at_ms` after the trial's start, although no request says so."""
        if self.start_ms is not None:
            self._close_when_done(at_ms)
            self._end_when_over(at_ms)

    def schedule_ended(self, at_ms: float) -> None:
        """Note that no more requests are due, so that only those in flight remain."""
        if self.start_ms is None:
            self.start_ms = at_ms
        self._closed = True
        self._end_when_over(at_ms)

    def interrupted(self, at_ms: float) -> None:
        """Note that the load has ended early: requests in flight are given up, and the window ends."""
        self._measured = self._answered
        self._released = True
        self.schedule_ended(at_ms)

    def _waits_to_begin(self, at_ms: float) -> bool:
        """Whether the window cannot begin yet, as other generators may not be warm. Says that this one is."""
        if not self._follows or self._options.arrivals.is_open:
            return False
        if not self._is_warm:
            self._is_warm = True
            self._link.say(WARM, at_ms)
        return self._begin_ms is None or at_ms < self._begin_ms

    def _say_when_done(self, at_ms: float) -> None:
        if self._follows and self._done and not self._is_done:
            self._is_done = True
            self._link.say(DONE, at_ms)

    def _close_when_done(self, at_ms: float) -> None:
        enough = self._options.requests is None or self._measured >= self._options.requests
        assert self.start_ms is not None, "the window has not begun"
        duration_s = self._options.duration_s
        clock_end = None if duration_s is None else self.start_ms + duration_s * 1e3
        if enough and (clock_end is None or at_ms >= clock_end):
            self._closed = True
            if clock_end is not None and (self._full_at_ms is None or self._full_at_ms <= clock_end):
                self.end_ms = clock_end

    def _end_when_over(self, at_ms: float) -> None:
        if self._done and self.end_ms is None:
            self.end_ms = at_ms
        self._say_when_done(at_ms)
