"""Run the walk on real servers. Rows are saved as those of any run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator, Sequence
from typing import Any

from harness.analysis import slo
from harness.analysis.slo import Objective
from harness.capacity import client_bound, windows
from harness.capacity.crossing import Window
from harness.capacity.walk import WINDOWS_OF_SEARCH, NextWindow, Start, WalkSettings, walk
from harness.plans.plan import Cell, Plan
from harness.results.store import Writer
from harness.run import session as running
from harness.run.listener import Listener
from harness.run.trials import Trials
from harness.wire import bounds
from harness.wire.arrivals import Law, closed
from harness.wire.records import PILOT_BLOCK

LONE_S = 3.0  # of a single user, to measure a request without a queue


def run(
    plan: Plan, objectives: Sequence[Objective], settings: WalkSettings, writer: Writer, listener: Listener
) -> Trials:
    """Find the capacity of every arm of `plan`; return the trials. Guarantees as in `run.session.run`."""
    with running.session(plan, writer, listener) as trials:
        recorded = {"objectives": [str(one) for one in objectives], **settings.model_dump(), "searched": None}
        trials.record.note(capacity=recorded)
        listener.stage("pilot: each arm with one user, then with many")
        lone_s = min(LONE_S, settings.window_s)
        for place, arm in enumerate(plan.every_arm):
            trials.run_one(Cell(PILOT_BLOCK, place, arm, closed(1)), requests=None, duration_s=lone_s)
        trials.measure_own_throughputs()
        _Walk(objectives, settings, trials, recorded).go()
        trials.note_idle()
    return trials


@dataclasses.dataclass
class _Walk:
    objectives: Sequence[Objective]
    settings: WalkSettings
    trials: Trials
    recorded: dict[str, Any]  # the entry `capacity` of run.json

    def go(self) -> None:
        starts = self._starts()
        self.settings = self.settings.long_enough(starts.values())
        self._note(**self.settings.model_dump())
        steps = walk(starts, self.objectives, self.settings)
        confirming = self.settings.blocks * len(starts)
        window: Window | None = None
        number = searched = search_windows = 0
        while step := _next(steps, window):
            number += 1
            if step.confirms:
                self._note_searched(searched)
            else:
                searched, search_windows = step.block, number
            expected = 0 if step.confirms else WINDOWS_OF_SEARCH * len(starts)
            window = self._run(step, number, max(search_windows, expected) + confirming)
        self._note_searched(searched)

    def _starts(self) -> dict[str, Start]:
        limit = self.trials.client_limit_per_s
        most = min(bounds.PER_S, client_bound.most_per_s(math.nan if limit is None else limit))
        return {arm: Start(own, most) for arm, own in self.trials.own_per_s.items()}

    def _note_searched(self, blocks: int) -> None:
        """Record the number of blocks of the search; later blocks confirm."""
        if self.recorded["searched"] is None:
            self._note(searched=blocks)

    def _note(self, **facts: Any) -> None:
        """Write the settings of the walk to run.json."""
        self.recorded |= facts
        self.trials.record.note(capacity=self.recorded)

    def _run(self, step: NextWindow, number: int, total: int) -> Window | None:
        arm = next(one for one in self.trials.plan.every_arm if one.name == step.arm)
        cell = Cell(step.block, step.position, arm, Law("poisson", step.rate_per_s))
        most = slo.hopeless_in_flight(self.objectives, step.rate_per_s, step.window_s)
        self.trials.listener.trial_begins(cell, number, total)
        samples = self.trials.run_one(
            cell,
            keep_samples=True,
            duration_s=step.window_s,
            settle_s=step.settle_s,
            give_up_in_flight=None if step.confirms else most,
        )
        trial = self.trials.done[-1]
        self.trials.listener.trial_ends(trial)
        return windows.window_of(
            trial,
            samples,
            self.objectives,
            confirms=step.confirms,
            timeout_s=self.trials.plan.timeout_s,
            window_s=step.window_s,
        )


def _next(steps: Generator[NextWindow, Window | None, Any], window: Window | None) -> NextWindow | None:
    """The next window to run; None at the end."""
    try:
        return steps.send(window)
    except StopIteration:
        return None
