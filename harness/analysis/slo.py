"""Service level objectives: what must hold for a rate to count as held, such as "p99 < 100 ms".

Pure. Every objective is a mean over requests of one score, held while that mean stays below a target: the
share of requests later than the limit (a percentile), the share without a good answer (errors), or the
latency itself (a mean). Scores of several windows pool by adding up, which percentiles do not.
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

LATENCY, IO, ERRORS = "latency", "io", "errors"
PERCENTILES = (50, 90, 95, 99, 99.9)
EXAMPLE = '--slo "p99 < 100 ms" --slo "errors < 0.1 %"'
LEAST_MS = 0.001
LEAST_ERRORS_PERCENT = 0.0001  # to see fewer takes more requests than a trial can hold
RULE_OF_THREE = 3.0  # no failure among n requests bounds their share by 3 / n, at 95 %

_WRITTEN = re.compile(
    r"(?:(?P<percentile>p\d+(?:\.\d+)?)(?: (?P<of>latency|io))?|mean (?P<mean_of>latency|io)|errors)"
    r" ?< ?(?P<number>\d+(?:\.\d+)?) ?(?P<unit>ms|s|%)",
    re.ASCII,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Objective:
    """One objective. Latency counts from when a request was due; a failure is later than every success."""

    metric: str  # latency, io or errors
    percent: float | None  # of a percentile; None: the mean
    limit: float  # ms; of errors: a share

    @property
    def target(self) -> float:
        """The mean score below which it is kept: a share, or ms of a mean."""
        return 1.0 - self.percent / 100 if self.percent is not None else self.limit

    @property
    def is_share(self) -> bool:
        """Whether a score is 0 or 1."""
        return self.percent is not None or self.metric == ERRORS

    @property
    def fewest_requests(self) -> int:
        """With fewer it is chance whether it was kept: MLPerf's floors, or the rule of three for errors."""
        if self.metric == ERRORS:
            return math.ceil(RULE_OF_THREE / self.limit)
        return FEWEST_REQUESTS[int(self.percent) if self.percent != 99.9 else 99.9] if self.percent else 1

    def scores(self, latency_ms: Floats, io_ms: Floats, good: Bools, timeout_ms: float) -> Floats:
        """A score a request; NaN for an I/O that nobody told.

        In a mean a failure takes at least the time-out: a quick refusal must not improve it.
        """
        if self.metric == ERRORS:
            return np.where(good, 0.0, 1.0)
        told = latency_ms if self.metric == LATENCY else io_ms
        if self.percent is None:
            return np.where(good, told, np.fmax(told, timeout_ms))
        return np.where(good, np.where(np.isnan(told), math.nan, (told > self.limit) * 1.0), 1.0)

    def shown(self, score: float) -> str:
        """A mean score in words."""
        if not self.is_share:
            return f"{score:.1f} ms on average"
        return f"{100 * score:.2g} % " + ("failed" if self.metric == ERRORS else f"above {self.limit:g} ms")

    def __str__(self) -> str:
        if self.metric == ERRORS:
            return f"errors < {100 * self.limit:.15g} %"
        which = "mean" if self.percent is None else f"p{self.percent:g}"
        return f"{which} {self.metric} < {self.limit:.15g} ms"


def parse(texts: Iterable[str]) -> tuple[Objective, ...]:
    """The objectives that the texts name; UsageError for none at all, what is none, and one said twice."""
    found = tuple(_parse(text) for text in texts)
    if not found:
        raise UsageError("No objective says what must hold.", stage="slo", hint=f"For example: {EXAMPLE}")
    for one in found:
        same = [str(other) for other in found if (other.metric, other.percent) == (one.metric, one.percent)]
        if len(same) > 1:
            raise UsageError(f"Two objectives limit the same: {' and '.join(same)}.", stage="slo")
    return found


def shown(objectives: Sequence[Objective]) -> Objective:
    """The one whose latency is drawn: the first of latency, or else the mean without a limit."""
    return next((one for one in objectives if one.metric == LATENCY), Objective(LATENCY, None, math.inf))


def latency_limit_ms(objectives: Sequence[Objective]) -> float:
    """The narrowest limit of a latency; infinite where none is limited."""
    return min((one.limit for one in objectives if one.metric == LATENCY), default=math.inf)


def hopeless_in_flight(objectives: Sequence[Objective], rate_per_s: float, window_s: float) -> int | None:
    """With so many requests in flight a window is lost whatever comes; None where no number says so.

    Of L in flight at rate r, all but the r T of the last T seconds are later than T already; together they
    have waited at least L² / 2r. Once that alone exceeds what the whole window may have, the rest is waste.
    """
    found = []
    for one in objectives:
        limit_s = one.limit / 1e3
        if one.metric != LATENCY:
            continue
        if one.percent is None:
            most = rate_per_s * math.sqrt(2 * limit_s * window_s)
        else:
            most = rate_per_s * (limit_s + one.target * window_s)
        found.append(math.ceil(most + 3 * math.sqrt(most)) + 1)  # arrivals come in bunches
    return min(found, default=None)


def _parse(text: str) -> Objective:
    written = _WRITTEN.fullmatch(" ".join(text.lower().split()))
    if written is None:
        raise _refusal(text, "is not understood")
    number, unit = float(written["number"]), written["unit"]
    if number <= 0:
        raise _refusal(text, "can never be kept")
    if text.lower().lstrip().startswith("errors"):
        return Objective(ERRORS, None, _percent(text, number, unit) / 100)
    limit_ms = _milliseconds(text, number, unit)
    if written["mean_of"]:
        return Objective(written["mean_of"], None, limit_ms)
    percent = float(written["percentile"][1:])
    if percent not in PERCENTILES:
        known = ", ".join(f"p{one:g}" for one in PERCENTILES)
        raise _refusal(text, f"names a percentile that is not judged; there are {known}")
    return Objective(written["of"] or LATENCY, percent, limit_ms)


def _percent(text: str, number: float, unit: str) -> float:
    if unit != "%" or number >= 100:
        raise _refusal(text, "is no share: errors are limited in %, below 100")
    if number < LEAST_ERRORS_PERCENT:
        raise _refusal(text, f"can never be judged: errors are limited to {LEAST_ERRORS_PERCENT} % or more")
    return number


def _milliseconds(text: str, number: float, unit: str) -> float:
    if unit == "%":
        raise _refusal(text, "is no time: it is limited in ms or s")
    limit_ms = number * (1e3 if unit == "s" else 1.0)
    if not LEAST_MS <= limit_ms <= bounds.A_DAY_MS:
        raise _refusal(text, "is out of bounds: a limit is from 0.001 ms to a day")
    return limit_ms


def _refusal(text: str, why: str) -> UsageError:
    return UsageError(f"--slo {shortened(text)!r} {why}.", stage="slo", hint=f"For example: {EXAMPLE}")
