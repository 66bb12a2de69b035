"""Service level objectives, such as "p99 < 100 ms", which an arm must keep at a rate.

Pure functions. Each objective gives every request a score and is kept if the mean score is below a target.
The mean score is the share of requests later than the limit (for a percentile), the share without a good
answer (for errors), or the latency itself (for a mean). Unlike percentiles, scores of several windows can be
pooled by adding them up.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Sequence

import numpy as np

from harness.analysis.arrays import Bools, Floats
from harness.analysis.percentiles import FEWEST_REQUESTS
from harness.errors import UsageError, shortened
from harness.wire import bounds

METRIC_LATENCY, METRIC_IO, METRIC_ERRORS = "latency", "io", "errors"
OBJECTIVE_PERCENTILES = (50, 90, 95, 99, 99.9)
EXAMPLE = '--slo "p99 < 100 ms" --slo "errors < 0.1 %"'
LEAST_LIMIT_MS = 0.001
LEAST_ERRORS_PERCENT = 0.0001  # measuring less would need more requests than a trial can have
RULE_OF_THREE = 3.0  # without a failure among n requests, their share is below 3 / n at 95 % confidence

_SYNTAX = re.compile(
    r"(?:(?P<percentile>p\d+(?:\.\d+)?)(?: (?P<of>latency|io))?|mean (?P<mean_of>latency|io)|errors)"
    r" ?< ?(?P<number>\d+(?:\.\d+)?) ?(?P<unit>ms|s|%)",
    re.ASCII,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Objective:
    """One objective. Latency counts from when a request was due. A failure is later than every success."""

    metric: str  # latency, io or errors
    percent: float | None  # the percentile; None for the mean
    limit: float  # in ms; a share for errors

    @property
    def target(self) -> float:
        """The objective is kept if the mean score is below this: a share, or ms for a mean."""
        return 1.0 - self.percent / 100 if self.percent is not None else self.limit

    @property
    def is_share(self) -> bool:
        """Whether every score is 0 or 1."""
        return self.percent is not None or self.metric == METRIC_ERRORS

    @property
    def fewest_requests(self) -> int:
        """The number of requests needed to judge it: MLPerf's floors, or the rule of three for errors."""
        if self.metric == METRIC_ERRORS:
            return math.ceil(RULE_OF_THREE / self.limit)
        return FEWEST_REQUESTS[int(self.percent) if self.percent != 99.9 else 99.9] if self.percent else 1

    def scores(self, latency_ms: Floats, io_ms: Floats, good: Bools, timeout_ms: float) -> Floats:
        """The score of each request; NaN if its I/O time is not known.

        In a mean, a failure takes at least the time-out, so that quick refusals do not improve the mean.
        """
        if self.metric == METRIC_ERRORS:
            return np.where(good, 0.0, 1.0)
        times_ms = latency_ms if self.metric == METRIC_LATENCY else io_ms
        if self.percent is None:
            return np.where(good, times_ms, np.fmax(times_ms, timeout_ms))
        return np.where(good, np.where(np.isnan(times_ms), math.nan, (times_ms > self.limit) * 1.0), 1.0)

    def describe(self, score: float) -> str:
        """A mean score for a message."""
        if not self.is_share:
            return f"{score:.1f} ms on average"
        failed = self.metric == METRIC_ERRORS
        return f"{100 * score:.2g} % " + ("failed" if failed else f"above {self.limit:g} ms")

    def __str__(self) -> str:
        if self.metric == METRIC_ERRORS:
            return f"errors < {100 * self.limit:.15g} %"
        which = "mean" if self.percent is None else f"p{self.percent:g}"
        return f"{which} {self.metric} < {self.limit:.15g} ms"


def parse(texts: Iterable[str]) -> tuple[Objective, ...]:
    """The objectives that texts state. Raises UsageError if there are none, or one is invalid or repeated."""
    objectives = tuple(_parse(text) for text in texts)
    if not objectives:
        raise UsageError("No objective is given.", stage="slo", hint=f"For example: {EXAMPLE}")
    for one in objectives:
        key = (one.metric, one.percent)
        same = [str(other) for other in objectives if (other.metric, other.percent) == key]
        if len(same) > 1:
            raise UsageError(f"Two objectives limit the same figure: {' and '.join(same)}.", stage="slo")
    return objectives


def charted(objectives: Sequence[Objective]) -> Objective:
    """The objective whose latency a chart shows: the first of latency, or else the mean without a limit."""
    of_latency = (one for one in objectives if one.metric == METRIC_LATENCY)
    return next(of_latency, Objective(METRIC_LATENCY, None, math.inf))


def latency_limit_ms(objectives: Sequence[Objective]) -> float:
    """The lowest limit of latency; infinite if there is none."""
    return min((one.limit for one in objectives if one.metric == METRIC_LATENCY), default=math.inf)


def hopeless_in_flight(objectives: Sequence[Objective], rate_per_s: float, window_s: float) -> int | None:
    """The number of requests in flight that makes a window fail for certain; None if no number does.

    Of L requests in flight at rate r, all but the r T of the last T seconds are already later than T, and
    together they have waited at least L² / 2r. Once that exceeds what the whole window may have, the rest of
    the window is a waste of time.
    """
    numbers = []
    for one in objectives:
        limit_s = one.limit / 1e3
        if one.metric != METRIC_LATENCY:
            continue
        if one.percent is None:
            most = rate_per_s * math.sqrt(2 * limit_s * window_s)
        else:
            most = rate_per_s * (limit_s + one.target * window_s)
        numbers.append(math.ceil(most + 3 * math.sqrt(most)) + 1)  # allow for bursts of arrivals
    return min(numbers, default=None)


def _parse(text: str) -> Objective:
    match = _SYNTAX.fullmatch(" ".join(text.lower().split()))
    if match is None:
        raise _refusal(text, "is not a valid objective")
    number, unit = float(match["number"]), match["unit"]
    if number <= 0:
        raise _refusal(text, "can never be kept: its limit must be above 0")
    if text.lower().lstrip().startswith("errors"):
        return Objective(METRIC_ERRORS, None, _percent(text, number, unit) / 100)
    limit_ms = _milliseconds(text, number, unit)
    if match["mean_of"]:
        return Objective(match["mean_of"], None, limit_ms)
    percent = float(match["percentile"][1:])
    if percent not in OBJECTIVE_PERCENTILES:
        known = ", ".join(f"p{one:g}" for one in OBJECTIVE_PERCENTILES)
        raise _refusal(text, f"has an unsupported percentile; choose from {known}")
    return Objective(match["of"] or METRIC_LATENCY, percent, limit_ms)


def _percent(text: str, number: float, unit: str) -> float:
    if unit != "%" or number >= 100:
        raise _refusal(text, "is not a share: give the limit of errors in %, below 100")
    if number < LEAST_ERRORS_PERCENT:
        raise _refusal(text, f"is too low to measure: the lowest limit of errors is {LEAST_ERRORS_PERCENT} %")
    return number


def _milliseconds(text: str, number: float, unit: str) -> float:
    if unit == "%":
        raise _refusal(text, "is not a time: give the limit in ms or s")
    limit_ms = number * (1e3 if unit == "s" else 1.0)
    if not LEAST_LIMIT_MS <= limit_ms <= bounds.A_DAY_MS:
        raise _refusal(text, "is out of bounds: a limit must be between 0.001 ms and a day")
    return limit_ms


def _refusal(text: str, why: str) -> UsageError:
    return UsageError(f"--slo {shortened(text)!r} {why}.", stage="slo", hint=f"For example: {EXAMPLE}")
