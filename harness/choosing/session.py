"""Run the rounds and the final of a choice on real servers. Rows are saved as those of any run."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Iterable, Sequence
from typing import Any

from harness.analysis.slo import Objective
from harness.choosing import halving
from harness.choosing.halving import Round
from harness.numbers import counted
from harness.plans import size
from harness.plans.plan import Cell, Plan
from harness.results import store
from harness.results.store import Writer
from harness.run import session as running
from harness.run.listener import Listener
from harness.run.trials import Trials
from harness.verdicts import admissible, standing


def run(
    plan: Plan, objectives: Sequence[Objective], minutes: float, writer: Writer, listener: Listener
) -> Trials:
    """Choose among the arms of `plan`, which has one load; return the trials. Leaves nothing running.

    It takes about `minutes`, with the start of the servers; longer if that is too short for a block of each
    round and a final with a verdict. At the end, the plan in run.json is that of the final.
    """
    ends_s = time.monotonic() + 60 * minutes
    with running.session(plan.model_copy(update={"twin": False}), writer, listener) as trials:
        choosing = _Choosing(plan, objectives, minutes, ends_s, trials)
        choosing.go()
        trials.note_idle()
    return trials


def least_s(plan: Plan) -> float:
    """Estimate how long the shortest choice among the arms of `plan` takes, in seconds."""
    rounds = halving.sizes(len(plan.arms))
    finalists = halving.kept_of(rounds[-1]) + plan.twin
    final_s = halving.blocks_of_final(0.0, 1.0) * size.of_block(plan, finalists)
    return sum(size.of_block(plan, arms) for arms in rounds) + final_s


@dataclasses.dataclass
class _Choosing:
    plan: Plan  # with all arms
    objectives: Sequence[Objective]
    minutes: float
    ends_s: float
    trials: Trials
    rounds: list[Round] = dataclasses.field(default_factory=list)
    blocks: int = 0  # so far
    seconds: dict[str, list[float]] = dataclasses.field(default_factory=dict)  # arm → of each of its trials

    def go(self) -> None:
        self._note()
        names = [arm.name for arm in self.plan.arms]
        budget_s = halving.SHARE_OF_ROUNDS * (self.ends_s - time.monotonic())
        always = self.plan.reference or ""
        for one in halving.halve(names, budget_s, self._block, self._rank, always=always):
            self.rounds.append(one)
            self._note()
            self.trials.servers.stop(arm for arm in one.arms if arm not in one.kept)
        self._final()

    def _note(self, **facts: Any) -> None:
        """Write the rounds to run.json; `searched` is their number of blocks, once they are over."""
        known: dict[str, Any] = {
            "objectives": [str(one) for one in self.objectives],
            "minutes": self.minutes,
            "always": self.plan.reference,
            "rounds": [one._asdict() for one in self.rounds],
            "searched": None,
        }
        self.trials.record.note(halving=known | facts)

    def _block(self, names: Sequence[str]) -> float:
        """Run a block of these arms; return how long it took."""
        planned = halving.sizes(len(self.plan.arms))
        if sum(one.blocks for one in self.rounds) == self.blocks:
            self.trials.listener.stage(
                f"round {len(self.rounds) + 1} of {len(planned)}: {counted(len(names), 'setting')}"
            )
        began = time.monotonic()
        only = [arm for arm in self.plan.arms if arm.name in names]
        plan = self.plan.model_copy(update={"arms": tuple(only), "reference": None, "twin": False})
        self._measure(plan)
        return time.monotonic() - began

    def _measure(self, plan: Plan) -> None:
        """Run the next block of this plan."""
        self.blocks += 1
        self.trials.time_bare_models(self.blocks)
        cells = [*plan.cells_of(self.blocks)]
        for place, cell in enumerate(cells):
            self._trial(cell, len(cells) - place)
        self.trials.note_idle()

    def _trial(self, cell: Cell, left_of_block: int) -> None:
        began, done = time.monotonic(), len(self.trials.done)
        so_far_s = [one_s for its in self.seconds.values() for one_s in its]
        left = math.ceil((self.ends_s - began) / statistics.fmean(so_far_s or [math.inf]))
        self.trials.listener.trial_begins(cell, done + 1, done + max(left, left_of_block))
        self.trials.run_one(cell)
        self.trials.listener.trial_ends(self.trials.done[-1])
        self.seconds.setdefault(cell.arm.name, []).append(time.monotonic() - began)

    def _rank(self, names: Sequence[str]) -> list[str]:
        found = admissible.of_rounds(store.read(self.trials.record.folder))
        return [one.arm for one in standing.of(found, names, self.objectives)]

    def _final(self) -> None:
        """Measure the finalists again, in as many blocks as fit, and make these the plan of the run."""
        kept = self.rounds[-1].kept
        arms = tuple(arm for arm in self.plan.arms if arm.name in kept)
        reference = self.plan.reference or kept[0]
        final = self.plan.model_copy(update={"arms": arms, "reference": reference})
        block_s = self._usual_s(arm.name for arm in arms) + self._usual_s([reference] * final.twin)
        blocks = halving.blocks_of_final(self.ends_s - time.monotonic(), block_s)
        final = final.model_copy(update={"blocks": blocks})
        self.trials.record.note(plan=final.model_dump(mode="json"))
        self._note(searched=self.blocks)
        self.trials.plan = self.trials.servers.plan = final
        if final.twin:
            self.trials.listener.stage("starting the twin")
            self.trials.servers.start([final.every_arm[-1]])
        self.trials.listener.stage(f"final: {counted(len(arms), 'setting')}, {counted(blocks, 'block')}")
        for _ in range(blocks):
            self._measure(final)

    def _usual_s(self, names: Iterable[str]) -> float:
        """How long a trial of each of these arms takes, together."""
        return sum(statistics.fmean(self.seconds[name]) for name in names)
