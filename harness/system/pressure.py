"""The kernel's own count of how long something has waited for a CPU (Linux's pressure stall information)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

PRESSURE = Path("/proc/pressure/cpu")


class Pressure(NamedTuple):
    waited_ms: float | None = None  # in which something waited for a CPU, since boot
    recent_share: float | None = None  # of the last 10 s


def read() -> Pressure:
    """From the line `some avg10=1.53 avg60=0.87 avg300=0.73 total=501316174` (percent, µs)."""
    try:
        line = PRESSURE.read_text().splitlines()[0]
    except (OSError, IndexError):
        return Pressure()  # a kernel without it, or where it is switched off
    fields = dict(field.split("=") for field in line.split()[1:])
    return Pressure(int(fields["total"]) / 1e3, float(fields["avg10"]) / 100)
