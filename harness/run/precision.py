"""Decide when a run may stop early: once every arm's interval against the reference is narrow enough."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from harness.analysis import stats
from harness.plans.plan import FEWEST_BLOCKS_TO_STOP
from harness.wire.records import MEASURE, OK, Sample, Trial

if TYPE_CHECKING:
    from harness.plans.plan import Plan


class Precision:
    """Collects trials and computes the width of the widest interval. The metric is a block's median latency.

    Stopping depends on widths only, never on effects, so it does not favour one verdict over another.
    """

    def __init__(self, reference: str, arms: Collection[str]) -> None:
        self._reference = reference
        self._arms = frozenset(arms)  # compared with the reference
        self._log_ms: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)

    @classmethod
    def for_plan(cls, plan: Plan) -> Precision:
        """For the arms of `plan` that do the same work as the reference: scaled I/O is different work."""
        reference = plan.reference_arm
        same = [arm.name for arm in plan.every_arm if arm.io_per_model == reference.io_per_model]
        return cls(reference.name, set(same) - {reference.name})

    def note(self, trial: Trial, samples: Iterable[Sample]) -> None:
        """Add one trial; failed trials, and trials whose median request failed, do not count."""
        latencies = [
            math.inf if sample.error else sample.done_ms - sample.due_ms
            for sample in samples
            if sample.phase == MEASURE
        ]
        self.note_median(trial, statistics.median(latencies) if latencies else math.inf)

    def note_median(self, trial: Trial, median_ms: float) -> None:
        """Add one trial by its median, as `note` does; for trials read from the disk."""
        if trial.state == OK and trial.block and 0 < median_ms < math.inf:
            self._log_ms[trial.arm, trial.load][trial.block] = math.log(median_ms)

    def half_width(self) -> float:
        """Half the width of the widest interval of any arm and load, as a share of the ratio.

        Infinite if unknown.
        """
        widths = [
            self._half_width(blocks, self._log_ms[self._reference, load])
            for (arm, load), blocks in list(self._log_ms.items())
            if arm in self._arms
        ]
        return max(widths, default=math.inf)

    def _half_width(self, arm: dict[int, float], reference: dict[int, float]) -> float:
        log_ratios = [arm[block] - reference[block] for block in sorted(arm.keys() & reference.keys())]
        if len(log_ratios) < FEWEST_BLOCKS_TO_STOP:
            return math.inf
        found = stats.effect(log_ratios)
        return math.sqrt(found.high / found.low) - 1.0
