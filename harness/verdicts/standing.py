"""How the arms of a round stand, the best first. Pure.

Arms that keep every objective come first, by the figure that decides (`harness.verdicts.best_arm`). Those
that miss one follow, by how far they are from keeping it, and arms that lost a trial are last. The load
generator may be why an arm misses an objective, so an arm that it limits counts as keeping them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from harness.analysis.slo import Objective
from harness.verdicts import best_arm, objectives
from harness.verdicts.admissible import Evidence
from harness.verdicts.best_arm import LATENCIES, RATES
from harness.verdicts.metrics import Metric


class Standing(NamedTuple):
    """One arm. The figures are geometric means over blocks; NaN for an arm that lost a trial."""

    arm: str
    blocks: int
    throughput_per_s: float
    latency_p50_ms: float
    share_of_target: float  # of the objective that is nearest to its limit, or furthest beyond
    limited: bool  # by the load generator

    @property
    def misses(self) -> bool:
        return self.share_of_target >= 1 and not self.limited


def load_of(found: Evidence) -> str:
    """The load of the run, which has only one."""
    return next(iter(found.side.loads(found.side.arms()[0])), "") if found.side.arms() else ""


def metric_of(load: str) -> Metric:
    """The metric that decides under this load: see `best_arm.decisive`."""
    return RATES if load.startswith("closed(") else LATENCIES


def of(found: Evidence, arms: Sequence[str], limits: Sequence[Objective]) -> list[Standing]:
    """The arms, the best first, by all blocks that count."""
    load = load_of(found)
    means = {metric: _means(found, arms, load, metric) for metric in (RATES, LATENCIES)}
    timeout_s = found.run.record["plan"]["timeout_s"]
    rows = []
    for arm in arms:
        cell = found.side.cell(arm, load)
        judged = objectives.judge(cell.rows, limits, timeout_s)
        rows.append(
            Standing(
                arm=arm,
                blocks=len(cell.blocks),
                throughput_per_s=means[RATES].get(arm, math.nan),
                latency_p50_ms=means[LATENCIES].get(arm, math.nan),
                share_of_target=max(one.share_of_target for one in judged),
                limited=(arm, load) in found.limited,
            )
        )
    return sorted(rows, key=lambda one: _place(one, metric_of(load)))


def _means(found: Evidence, arms: Sequence[str], load: str, metric: Metric) -> dict[str, float]:
    logs = best_arm.figures(found.side, [*arms], load, metric)
    sign = -1.0 if metric.lower_is_better else 1.0
    return {str(arm): float(np.exp(sign * mean)) for arm, mean in logs.mean().items()}


def _place(one: Standing, metric: Metric) -> tuple[bool, bool, float, float]:
    """A key that sorts the best first."""
    figure = one.latency_p50_ms if metric.lower_is_better else -one.throughput_per_s
    beyond = one.share_of_target if one.misses else 0.0
    return math.isnan(figure), one.misses, beyond, figure
