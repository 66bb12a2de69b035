"""One clock for all processes of a run, and the time of day for its record."""

import time
from datetime import UTC, datetime


def now_ms() -> float:
    """Milliseconds on the monotonic clock; stamps of processes on *one host* can be subtracted.

    `perf_counter` reads CLOCK_MONOTONIC on Linux and mach_absolute_time on macOS: both count from the
    host's boot, for every process alike. Between two hosts the difference means nothing.
    """
    return time.perf_counter_ns() / 1e6


def utc_now() -> str:
    """The time of day, ISO 8601, for people; never subtracted."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
