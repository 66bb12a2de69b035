"""The walk at real servers. Its rows are written as those of any run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator, Sequence
from typing import Any

from harness.analysis import slo
from harness.analysis.machine import MOST_OF_CLIENT_LIMIT
from harness.analysis.slo import Objective
from harness.capacity import windows
from harness.capacity.crossing import Window
from harness.capacity.walk import WINDOWS_OF_SEARCH, Asked, Start, Ways, walk
from harness.plans.plan import Cell, Plan
from harness.results.store import Writer
from harness.run import session as running
from harness.run.listener import Listener
from harness.run.trials import Trials
from harness.wire import bounds
from harness.wire.arrivals import Law, closed
from harness.wire.records import PILOT_BLOCK

LONE_S = 3.0  # a lone user, to see what a request takes without a queue
BELOW_ROOFLINE = 0.9  # of the rate at which the client counts as the bottleneck: chance has room


def run(
    plan: Plan, objectives: Sequence[Objective], ways: Ways, writer: Writer, listener: Listener
) -> Trials:
    """Find what every arm of `plan` holds. Returns the trials, with the promises of `run.run`."""
    with running.session(plan, writer, listener) as trials:
        asked = {"objectives": [str(one) for one in objectives], **ways.model_dump(), "searched": None}
        trials.record.note(capacity=asked)
        listener.stage("pilot: each arm with one user, and with many")
        for place, arm in enumerate(plan.every_arm):
            trials.run_one(
                Cell(PILOT_BLOCK, place, arm, closed(1)), requests=None, duration_s=min(LONE_S, ways.window_s)
            )
        trials.see_own_throughputs()
        _Walk(objectives, ways, trials, asked).go()
        trials.note_idle()
    return trials


@dataclasses.dataclass
class _Walk:
    objectives: Sequence[Objective]
    ways: Ways
    trials: Trials
    asked: dict[str, Any]  # of the walk, as run.json has it

    def go(self) -> None:
        starts = self._starts()
        self.ways = self.ways.long_enough(starts.values())
        self._note(**self.ways.model_dump())
        steps = walk(starts, self.objectives, self.ways)
        confirming = self.ways.blocks * len(starts)
        window: Window | None = None
        number = searched = search_windows = 0
        while asked := _next(steps, window):
            number += 1
            if asked.confirms:
                self._note_searched(searched)
            else:
                searched, search_windows = asked.block, number
            expected = 0 if asked.confirms else WINDOWS_OF_SEARCH * len(starts)
            window = self._one(asked, number, max(search_windows, expected) + confirming)
        self._note_searched(searched)

    def _starts(self) -> dict[str, Start]:
        limit = self.trials.client_limit_per_s
        known = math.inf if limit is None else BELOW_ROOFLINE * MOST_OF_CLIENT_LIMIT * limit
        most = min(bounds.PER_S, known)
        return {arm: Start(own, most) for arm, own in self.trials.own_per_s.items()}

    def _note_searched(self, blocks: int) -> None:
        """Blocks beyond these confirm."""
        if self.asked["searched"] is None:
            self._note(searched=blocks)

    def _note(self, **facts: Any) -> None:
        """What was asked of the walk, into run.json."""
        self.asked |= facts
        self.trials.record.note(capacity=self.asked)

    def _one(self, asked: Asked, number: int, total: int) -> Window | None:
        arm = next(one for one in self.trials.plan.every_arm if one.name == asked.arm)
        cell = Cell(asked.block, asked.position, arm, Law("poisson", asked.rate_per_s))
        most = slo.hopeless_in_flight(self.objectives, asked.rate_per_s, asked.window_s)
        self.trials.listener.trial_begins(cell, number, total)
        samples = self.trials.run_one(
            cell,
            duration_s=asked.window_s,
            settle_s=asked.settle_s,
            give_up_in_flight=None if asked.confirms else most,
        )
        trial = self.trials.done[-1]
        self.trials.listener.trial_ends(trial)
        return windows.window_of(
            trial,
            samples,
            self.objectives,
            confirms=asked.confirms,
            timeout_s=self.trials.plan.timeout_s,
            window_s=asked.window_s,
        )


def _next(steps: Generator[Asked, Window | None, Any], window: Window | None) -> Asked | None:
    """What is asked for next; None at the end."""
    try:
        return steps.send(window)
    except StopIteration:
        return None
