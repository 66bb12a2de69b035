"""The report of a capacity run, derived from its rows alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.analysis import machine, quietness, slo, stats
from harness.analysis.rows import Rows
from harness.analysis.slo import Objective
from harness.capacity import advising, arms, chart, client_bound, windows, words
from harness.capacity.arms import Arm
from harness.numbers import counted, plain_rows
from harness.report import advice, cautions, export, for_plots, report
from harness.results import derived_files, store
from harness.verdicts import admissible
from harness.verdicts.admissible import Evidence
from harness.wire import reasons
from harness.wire.records import PILOT_BLOCK, SOUND

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONE = "closed(1)"  # the pilot's load of a single user


class Report(report.Report):
    """A capacity report: the tables of any run, its `windows`, and the `capacity` of each arm.

    Every window has its own rate, so the report neither compares arms by load nor ranks them.
    """

    @property
    def reference(self) -> str:
        """The arm that the others' capacities are compared with."""
        return self.evidence.facts.reference

    @cached_property
    def objectives(self) -> tuple[Objective, ...]:
        """The limits that an arm must keep at a rate."""
        return slo.parse(self.record["capacity"]["objectives"])

    @cached_property
    def windows(self) -> pd.DataFrame:
        """One row per window; columns: `windows.COLUMNS`."""
        return windows.table(self.evidence, self.objectives)

    @cached_property
    def capacity(self) -> pd.DataFrame:
        """One row per arm; columns: `arms.COLUMNS`."""
        run, reference = self.evidence.run, next(arm for arm in self._arms if arm.name == self.reference)
        requests = Rows.of(run.rows, run.trials, pilot=True)
        rows = [arms.row(arm, reference, self.evidence, requests) for arm in self._arms]
        return pd.DataFrame(rows, columns=arms.COLUMNS)

    @property
    def deciding_load(self) -> str:
        """Empty, because every window has a load of its own."""
        return ""

    def _decides(self, rows: pd.DataFrame) -> pd.Series[bool]:
        return rows["trial"].isin(self.windows.loc[self.windows["confirms"].astype(bool), "trial"])

    @cached_property
    def ratios(self) -> pd.DataFrame:
        """`for_plots.RATIO_COLUMNS`: each arm's capacity over that of the reference."""
        others = self.capacity[self.capacity["arm"] != self.reference]
        others = others.assign(load="poisson", metric="capacity_per_s")
        return for_plots.ratios(others.assign(low=others["ratio_low"], high=others["ratio_high"]))

    @cached_property
    def limited(self) -> dict[str, str]:
        """Arm → why its capacity is a lower bound, if the load generator is the limit."""
        return {arm.name: arm.limited for arm in self._arms if arm.limited}

    @cached_property
    def closed_limited(self) -> set[str]:
        """The arms whose throughput in the closed loop is a lower bound: the client is the limit."""
        found, trials = self.evidence, self.trials
        pilots = trials[trials["block"] == PILOT_BLOCK].assign(block=PILOT_BLOCK + 1)
        limited = machine.limited_by_client(pilots, found.sent, self.record)
        return {arm for arm, load in limited if load != LONE}

    @cached_property
    def finding(self) -> str:
        """The headline: the highest rate that an arm can promise."""
        return words.finding(self.capacity, self.objectives)

    @cached_property
    def sentences(self) -> list[str]:
        """One text for each arm."""
        return [words.sentences(row, self.reference) for row in self.capacity.to_dict("records")]

    @cached_property
    def machine(self) -> str:
        """How quiet the machine was, by its own readings."""
        return quietness.sentence(self.trials, self.record, self.evidence.spoilt)

    @cached_property
    def trust(self) -> str:
        """`machine` in short."""
        return quietness.in_short(self.trials, self.record, self.evidence.spoilt)

    @cached_property
    def warnings(self) -> list[str]:
        """What a reader must know before trusting the figures."""
        return [*_warnings(self.evidence, self._arms)]

    @cached_property
    def advised(self) -> advice.Advice:
        return advising.advise(
            self.capacity, self.record, self.folder, self.reference, self.evidence.withheld
        )

    @property
    def charts(self) -> Mapping[str, Callable[[], Figure]]:
        """The function that draws each chart, by the name of its file."""
        return {"capacity": lambda: chart.draw(self.windows, self.capacity, self.objectives)}

    @cached_property
    def _arms(self) -> list[Arm]:
        found, tried = self.evidence, self.windows
        judged = (arms.judge(name, found, tried, self.objectives) for name in admissible.arms_of(found.run))
        return [client_bound.bounded(arm, found) for arm in judged]


def is_capacity(record: Mapping[str, Any]) -> bool:
    return "capacity" in record


def build(run: store.Run) -> Report:
    """The report of `run`; writes nothing."""
    return Report(admissible.admit(run))


def as_json(report: Report) -> dict[str, Any]:
    """Return the report as plain data for `--json`; NaN and infinity become null, as JSON has neither."""
    return {
        "run": str(report.folder),
        "finding": report.finding,
        "machine": report.machine,
        "warnings": report.warnings,
        "notes": [*report.evidence.environments(), *words.notes(report.capacity)],
        "objectives": [str(one) for one in report.objectives],
        "limited_by_client": report.limited,
        "capacity": plain_rows(report.capacity),
        "windows": plain_rows(report.windows),
        "sentences": report.sentences,
        "advice": list(report.advised.lines),
        "advised": advice.as_json(report.advised),
    }


def write_into(folder: Path, report: Report) -> None:
    """Write capacity.csv, windows.csv, advice.txt and charts/capacity into `folder`."""
    derived_files.write_table(folder, "capacity.csv", report.capacity)
    derived_files.write_table(folder, "windows.csv", report.windows)
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
        yield "The run ended during the search, before it confirmed a rate: there is no capacity yet."
    if found.excluded:
        yield f"Left out by the plan's criteria: {admissible.each_block(found.excluded)}."
    for arm in arms:
        if arm.limited:
            bound = (
                f"Limited by the client: {arm.name}, because {arm.limited}. Its capacity is a lower bound."
            )
            has_way_out = reasons.is_own_limit(arm.limited)
            yield bound if has_way_out else f"{bound} {machine.beyond_the_client(run.record)}"
        yield from _of_arm(arm, run.trials)
        yield from _held_back(arm, run.record["plan"]["cap"])
    yield from machine.late_generator(run.record)
    yield from machine.busy_idle_arms(run.record)


def _of_arm(arm: Arm, trials: pd.DataFrame) -> Iterator[str]:
    its = trials[(trials["arm"] == arm.name) & (trials["block"] > PILOT_BLOCK)]
    bad = its[~its["state"].isin(SOUND)]
    for state, rows in bad.groupby("state", observed=True):
        yield f"{len(rows)} of {len(its)} windows of {arm.name} are {state}: {rows['error'].iloc[0]}"
    if arm.crossing is not None and (blocks := len(arm.crossing.blocks)) < stats.FEWEST_BLOCKS_FOR_VERDICT:
        yield f"{arm.name} has {counted(blocks, 'confirming block')}: too few for a promise or a verdict."
    for one in arm.unjudged if len(arm.confirming) else ():
        yield (
            f"{arm.name} cannot be judged by {one}: that needs {one.fewest_requests} requests, but the "
            f"confirming windows have {int(arm.confirming['requests'].sum())}. Make them longer (--window)."
        )


def _held_back(arm: Arm, cap: int) -> Iterator[str]:
    """Warn if the cap allows fewer requests in flight than the limit takes at the capacity (Little's law)."""
    if arm.crossing is None:
        return
    needed = arm.crossing.rate_per_s * slo.latency_limit_ms(arm.judged) / 1e3
    if cap < needed < math.inf:
        yield (
            f"At its capacity and its latency limit {arm.name} has about {needed:.0f} requests in flight, "
            f"but the cap is {cap}: the others wait in the load generator, where the server can neither "
            "batch nor refuse them. Raise --cap."
        )
