"""How long processes have waited for a CPU, as counted by the kernel (Linux's pressure stall information)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

PRESSURE = Path("/proc/pressure/cpu")


class Pressure(NamedTuple):
    waited_ms: float | None = None  # time since boot in which any process waited for a CPU
    recent_share: float | None = None  # share of the last 10 s


def read() -> Pressure:
    """Read the line `some avg10=1.53 avg60=0.87 avg300=0.73 total=501316174` (percent, µs)."""
    try:
        line = PRESSURE.read_text().splitlines()[0]
    except (OSError, IndexError):
        return Pressure()  # the kernel lacks it, or it is switched off
    fields = dict(field.split("=") for field in line.split()[1:])
    return Pressure(int(fields["total"]) / 1e3, float(fields["avg10"]) / 100)
