"""A capacity run → everything that is shown of it, from its rows alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.analysis import machine, slo, stats, summaries
from harness.analysis.slo import Objective
from harness.capacity import advising, arms, chart, windows, words
from harness.capacity.arms import Arm
from harness.numbers import plain_rows
from harness.report import advice, cautions, export, report
from harness.results import store, written
from harness.verdicts import admissible
from harness.verdicts.admissible import Evidence
from harness.wire.records import OK, PILOT_BLOCK

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Report(report.Report):
    """What a capacity run says: beside the tables of any run its `windows`, and the `capacity` of each arm.

    Every window has a rate of its own, so nothing is compared by load, and nothing is ranked.
    """

    @property
    def reference(self) -> str:
        """The arm that the others' capacities are compared with."""
        return self.evidence.facts.reference

    @cached_property
    def objectives(self) -> tuple[Objective, ...]:
        """What has to hold at a rate."""
        return slo.parse(self.record["capacity"]["objectives"])

    @cached_property
    def windows(self) -> pd.DataFrame:
        """`windows.COLUMNS`."""
        return windows.table(self.evidence, self.objectives)

    @cached_property
    def capacity(self) -> pd.DataFrame:
        """`arms.COLUMNS`."""
        run, reference = self.evidence.run, next(arm for arm in self._arms if arm.name == self.reference)
        derived = summaries.derive(run.requests, run.trials, pilot=True)
        rows = [arms.row(arm, reference, self.evidence, derived) for arm in self._arms]
        return pd.DataFrame(rows, columns=arms.COLUMNS)

    @cached_property
    def finding(self) -> str:
        """The highest rate that can be promised."""
        return words.finding(self.capacity, self.objectives)

    @cached_property
    def sentences(self) -> list[str]:
        """One of each arm."""
        return [words.sentence(row, self.reference) for row in self.capacity.to_dict("records")]

    @cached_property
    def machine(self) -> str:
        """How quiet it was by its own readings."""
        return machine.sentence(self.trials, self.record, self.evidence.spoilt)

    @cached_property
    def warnings(self) -> list[str]:
        """What a reader has to know before believing the figures."""
        return [*_warnings(self.evidence, self._arms)]

    @cached_property
    def advised(self) -> advice.Advice:
        return advising.advise(
            self.capacity, self.record, self.folder, self.reference, self.evidence.withheld
        )

    @property
    def charts(self) -> Mapping[str, Callable[[], Figure]]:
        """What draws each chart, by the name of its file."""
        return {"capacity": lambda: chart.draw(self.windows, self.capacity, self.objectives)}

    @cached_property
    def _arms(self) -> list[Arm]:
        found, tried = self.evidence, self.windows
        return [arms.judge(name, found, tried, self.objectives) for name in admissible.arms_of(found.run)]


def is_capacity(record: Mapping[str, Any]) -> bool:
    return "capacity" in record


def build(run: store.Run) -> Report:
    """The report of `run`; writes nothing."""
    return Report(admissible.admit(run))


def as_json(report: Report) -> dict[str, Any]:
    """As plain data for `--json`; NaN and infinity, no JSON, are null."""
    return {
        "run": str(report.folder),
        "finding": report.finding,
        "machine": report.machine,
        "warnings": report.warnings,
        "notes": words.notes(report.capacity),
        "objectives": [str(one) for one in report.objectives],
        "capacity": plain_rows(report.capacity),
        "windows": plain_rows(report.windows),
        "sentences": report.sentences,
        "advice": list(report.advised.lines),
        "advised": advice.as_json(report.advised),
    }


def write_into(folder: Path, report: Report) -> None:
    """Write capacity.csv, windows.csv, advice.txt and charts/capacity into `folder`."""
    written.write_table(folder, "capacity.csv", report.capacity)
    written.write_table(folder, "windows.csv", report.windows)
    export.write_advice(folder, report.advised)
    export.write_charts(folder, report)


# -- the warnings --------------------------------------------------------------------------------------


def _warnings(found: Evidence, arms: Sequence[Arm]) -> Iterator[str]:
    run = found.run
    yield from run.warnings
    if found.withheld:
        yield found.withheld
    yield from cautions.unfinished(run.record)
    if run.record["capacity"]["searched"] is None:
        yield "It ended in the search, before any rate was confirmed: there is no capacity yet."
    if found.excluded:
        yield f"Left out by the plan's criteria: {admissible.each_block(found.excluded)}."
    for arm in arms:
        yield from _of_arm(arm, run.trials)
        yield from _held_back(arm, run.record["plan"]["cap"])
    yield from machine.late_generator(run.record)
    yield from machine.busy_idle_arms(run.record)


def _of_arm(arm: Arm, trials: pd.DataFrame) -> Iterator[str]:
    its = trials[(trials["arm"] == arm.name) & (trials["block"] > PILOT_BLOCK)]
    bad = its[its["state"] != OK]
    for state, rows in bad.groupby("state", observed=True):
        yield f"{len(rows)} of {len(its)} windows of {arm.name} are {state}: {rows['error'].iloc[0]}"
    if arm.crossing is not None and (blocks := len(arm.crossing.blocks)) < stats.FEWEST_BLOCKS_FOR_VERDICT:
        yield f"{arm.name} has {blocks} confirming blocks: too few for a promise or a verdict."
    for one in arm.unjudged if len(arm.confirming) else ():
        yield (
            f"{arm.name} cannot be judged by {one}: that takes {one.fewest_requests} requests, and the "
            f"confirming windows have {int(arm.confirming['requests'].sum())}. Make them longer (--window)."
        )


def _held_back(arm: Arm, cap: int) -> Iterator[str]:
    """That the load generator lets fewer in flight than it takes to break the limit (Little's law)."""
    if arm.crossing is None:
        return
    needed = arm.crossing.rate_per_s * slo.latency_limit_ms(arm.judged) / 1e3
    if cap < needed < math.inf:
        yield (
            f"At its capacity and its limit {arm.name} has about {needed:.0f} requests in flight, and no "
            f"more than {cap} are sent at once: the others wait before the server, where it can neither "
            "batch nor refuse them. --cap allows more."
        )
