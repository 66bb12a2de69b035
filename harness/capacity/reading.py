"""A trial's requests as the window that the walk and the fit know. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from harness.analysis.arrays import Bools, Floats
from harness.analysis.slo import Objective
from harness.capacity.crossing import Window
from harness.wire.records import INVALID, MEASURE, Sample, Trial

CLOCK_MS = 0.01  # a window that is not given up ends by the clock


def window_of(
    trial: Trial,
    samples: Sequence[Sample],
    objectives: Sequence[Objective],
    *,
    confirms: bool,
    timeout_s: float,
    gave_up: bool,
) -> Window | None:
    """What the trial says of its arm; None when it says nothing: invalid, or nothing was measured."""
    rows = [sample for sample in samples if sample.phase == MEASURE]
    if trial.state == INVALID or not rows or trial.rate_per_s is None:
        return None
    return window(
        block=trial.block,
        rate_per_s=trial.rate_per_s,
        confirms=confirms,
        latency_ms=np.array([row.done_ms - row.due_ms for row in rows]),
        io_ms=np.array([math.nan if row.io_ms is None else row.io_ms for row in rows]),
        good=np.array([not row.error for row in rows]),
        objectives=objectives,
        timeout_s=timeout_s,
        gave_up=gave_up,
    )


def window(
    *,
    block: int,
    rate_per_s: float,
    confirms: bool,
    latency_ms: Floats,
    io_ms: Floats,
    good: Bools,
    objectives: Sequence[Objective],
    timeout_s: float,
    gave_up: bool = False,
) -> Window:
    """Scores added up, one sum an objective; a request without a score does not count."""
    scores = [one.scores(latency_ms, io_ms, good, timeout_s * 1e3) for one in objectives]
    return Window(
        block=block,
        rate_per_s=rate_per_s,
        confirms=confirms,
        sums=tuple(float(np.nansum(score)) for score in scores),
        counts=tuple(float(np.count_nonzero(~np.isnan(score))) for score in scores),
        gave_up=gave_up,
    )


def gave_up(start_ms: float, end_ms: float, window_s: float) -> bool:
    """Whether a window did not last as long as asked for: see `slo.hopeless_in_flight`."""
    return abs(end_ms - start_ms - window_s * 1e3) > CLOCK_MS
