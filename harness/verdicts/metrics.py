"""The metrics that arms are compared by, and what a plan declares about comparing. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy.typing as npt

from harness.analysis import looks, stats, summaries
from harness.analysis.looks import Looks
from harness.analysis.percentiles import Pool
from harness.analysis.stats import Effect
from harness.analysis.summaries import LATENCY, THROUGHPUT
from harness.wire.records import TWIN_SUFFIX

ROOM = 1.25  # a run stops on a verdict only if intervals that are wider by this factor give it, too


@dataclasses.dataclass(frozen=True)
class Rules:
    """What was set before the run: the differences below which arms count as equal, and its looks.

    The differences are shares, such as 0.05.
    """

    delta_latency: float = 0.05
    delta_throughput: float = 0.03
    looks: Looks | None = None  # None: the run has a fixed number of blocks
    cautious: bool = False  # widen all intervals, for the decision to stop

    def delta(self, metric: str) -> float:
        """δ of a metric: that of throughput, or else that of latency."""
        return self.delta_throughput if metric == THROUGHPUT else self.delta_latency

    def at(self, level: float) -> float:
        """The level of an interval, so that those of all looks together have `level`."""
        return level if self.looks is None else self.looks.level(level)

    def effect(self, log_ratios: npt.ArrayLike) -> Effect:
        """`stats.effect`, with intervals that allow for the looks."""
        level, tost_level = self.at(stats.LEVEL), self.at(stats.TOST_LEVEL)
        return self.widened(stats.effect(log_ratios, level=level, tost_level=tost_level))

    def tail_effect(self, arm: Pool, reference: Pool, percent: float) -> Effect:
        """`stats.tail_effect`, with intervals that allow for the looks."""
        level, tost_level = self.at(stats.LEVEL), self.at(stats.TOST_LEVEL)
        return self.widened(stats.tail_effect(arm, reference, percent, level=level, tost_level=tost_level))

    def widened(self, found: Effect) -> Effect:
        """The effect; if the rules are cautious, with room to spare, and more of it if the ratio drifts."""
        if not self.cautious:
            return found
        return stats.widened(found, ROOM * (float(stats.widening(found.lag1)) if found.drifts else 1.0))

    @property
    def alpha(self) -> float:
        """The p below which a difference after Holm's correction is more than chance."""
        return 1 - self.at(stats.LEVEL)


USUAL = Rules()


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a run's plan declares about comparing: read by `facts`."""

    arms: tuple[str, ...]  # in the plan's order, without the twin
    reference: str  # "" in a run without arms
    twin: str | None
    rules: Rules
    exclude: Mapping[str, Any]  # criteria that exclude whole blocks


def facts(record: Mapping[str, Any]) -> Facts:
    """What run.json declares; defaults for an old run without such declarations."""
    plan = record.get("plan") or {}
    planned = [arm["name"] for arm in plan.get("arms", [])] or list(record.get("arms") or {})
    reference = plan.get("reference") or next(iter(planned), "")
    rules = Rules(
        delta_latency=plan.get("delta_latency") or USUAL.delta_latency,
        delta_throughput=plan.get("delta_throughput") or USUAL.delta_throughput,
        looks=looks.recorded(record),
    )
    return Facts(
        arms=tuple(planned),
        reference=reference,
        twin=f"{reference}{TWIN_SUFFIX}" if plan.get("twin") else None,
        rules=rules,
        exclude=plan.get("exclude") or {},
    )


class Metric(NamedTuple):
    """A metric. `label` is its name for people, `phrase` the beginning of its sentence."""

    name: str
    stat: str  # one of summaries.STATS; "rate" for throughput, which has one figure per trial
    label: str
    phrase: str = ""
    primary: bool = False
    open_only: bool = False  # in a closed loop it equals the latency
    optional: bool = False  # left out if a side lacks it, or has zeros

    @property
    def lower_is_better(self) -> bool:
        return self.name != THROUGHPUT

    @property
    def waits(self) -> bool:
        """Whether it includes waiting for other requests, which grows while the arm is saturated."""
        return self.name in (LATENCY, "service_ms", "queue_ms")

    @property
    def is_seen_by_client(self) -> bool:
        """Whether it includes the load generator's own work."""
        return self.name in (LATENCY, "service_ms", THROUGHPUT)

    @property
    def tail(self) -> int | None:
        """95 or 99; None for metrics with one figure per block."""
        return int(self.stat[1:]) if self.stat.startswith("p") else None


_LONG = "{arm} takes {ratio}x as long as {reference} to answer"
_MANY = "{arm} answers {ratio}x as many requests a second as {reference}"

METRICS = (
    Metric(LATENCY, "median", "median latency", _LONG, primary=True),
    Metric(THROUGHPUT, "rate", "throughput", _MANY),
    Metric(LATENCY, "p95", "p95 latency"),
    Metric(LATENCY, "p99", "p99 latency"),
    Metric("service_ms", "median", "median service time", open_only=True),
    Metric("queue_ms", "median", "median queue time", optional=True),
    Metric("model_ms", "median", "median worker time", optional=True),
    Metric("io_ms", "median", "median I/O", optional=True),
)

NEEDED = list(  # columns of a request
    dict.fromkeys([*summaries.THROUGHPUT_COLUMNS, "status", *(one.name for one in METRICS)])
)
NEEDED.remove(THROUGHPUT)


def unit(metric: str) -> str:
    """The unit of a row's values."""
    return "requests/s" if metric == THROUGHPUT else "ms"


def label(metric: str, stat: str) -> str:
    """The name of a row's metric for people, such as "p95 latency"."""
    return next(known.label for known in METRICS if (known.name, known.stat) == (metric, stat))
