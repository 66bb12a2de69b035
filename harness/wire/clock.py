"""The clock that all processes of a run share, and the time of day for its record."""

import time
from datetime import UTC, datetime


def now_ms() -> float:
    """Return milliseconds on the monotonic clock. Subtract only timestamps of processes on *one host*.

    `perf_counter` reads CLOCK_MONOTONIC on Linux and mach_absolute_time on macOS. Both count from the host's
    boot, for all processes. A difference between two hosts is meaningless.
    """
    return time.perf_counter_ns() / 1e6


def utc_now() -> str:
    """Return the time of day in ISO 8601, for people; do not compute with it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
