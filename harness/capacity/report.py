"""A capacity run → everything that is shown of it, from its rows alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.analysis import machine, slo, stats, summaries
from harness.analysis.slo import Objective
from harness.capacity import advising, arms, chart, windows, words
from harness.capacity.arms import Arm
from harness.numbers import plain_rows
from harness.report import advice
from harness.results import store, written
from harness.verdicts import admissible
from harness.verdicts.admissible import Evidence
from harness.wire.records import OK, PILOT_BLOCK


@dataclasses.dataclass(frozen=True)
class Report:
    """What a capacity run says: `table` has `arms.COLUMNS`, `windows` has `windows.COLUMNS`."""

    folder: Path
    objectives: tuple[Objective, ...]
    reference: str
    finding: str
    machine: str
    warnings: list[str]
    table: pd.DataFrame
    windows: pd.DataFrame
    sentences: list[str]
    said: advice.Advice  # what to do

    def as_json(self) -> dict[str, Any]:
        """As plain data for `--json`; NaN and infinity, no JSON, are null."""
        return {
            "run": str(self.folder),
            "finding": self.finding,
            "machine": self.machine,
            "warnings": self.warnings,
            "notes": words.notes(self.table),
            "objectives": [str(one) for one in self.objectives],
            "capacity": plain_rows(self.table),
            "windows": plain_rows(self.windows),
            "sentences": self.sentences,
            "advice": list(self.said.lines),
            "advised": advice.as_json(self.said),
        }


def is_capacity(record: Mapping[str, Any]) -> bool:
    """Whether a run.json is that of a capacity run."""
    return "capacity" in record


def open_folder(folder: Path | str) -> Report:
    """Read a capacity run's folder and compute all that is shown of it."""
    return build(store.read(Path(folder)))


def build(run: store.Run) -> Report:
    """Compute everything that is shown of `run`; writes nothing."""
    found = admissible.admit(run)
    objectives = slo.parse(run.record["capacity"]["objectives"])
    tried = windows.table(found, objectives)
    derived = summaries.derive(run.requests, run.trials, pilot=True)
    each = [arms.judge(name, found, tried, objectives) for name in admissible.arms_of(run)]
    reference = next(arm for arm in each if arm.name == found.facts.reference)
    rows = [arms.row(arm, reference, found, derived) for arm in each]
    table = pd.DataFrame(rows, columns=arms.COLUMNS)
    return Report(
        folder=run.folder,
        objectives=objectives,
        reference=reference.name,
        finding=words.finding(table, objectives),
        machine=machine.sentence(run.trials, run.record, found.spoilt),
        warnings=[*_warnings(found, each)],
        table=table,
        windows=tried,
        sentences=[words.sentence(row, reference.name) for row in table.to_dict("records")],
        said=advising.advise(table, run.record, run.folder, reference.name, found.withheld),
    )


def write_into(folder: Path, report: Report) -> None:
    """Write capacity.csv, windows.csv, advice.txt and charts/capacity into `folder`."""
    written.write_table(folder, "capacity.csv", report.table)
    written.write_table(folder, "windows.csv", report.windows)
    written.write_text(folder, "advice.txt", "".join(f"{line}\n" for line in advice.told(report.said)))
    figure = chart.draw(report.windows, report.table, report.objectives)
    written.write_chart(folder, "capacity", figure)


# -- the warnings --------------------------------------------------------------------------------------


def _warnings(found: Evidence, arms: Sequence[Arm]) -> Iterator[str]:
    run = found.run
    yield from run.warnings
    if found.withheld:
        yield found.withheld
    yield from _state(run)
    if found.excluded:
        yield f"Left out by the plan's criteria: {admissible.each_block(found.excluded)}."
    for arm in arms:
        yield from _of_arm(arm, run.trials)
        yield from _held_back(arm, run.record["plan"]["cap"])
    yield from machine.late_generator(run.record)
    yield from machine.idle_offenders(run.record)


def _state(run: store.Run) -> Iterator[str]:
    yield from (run.record.get("downstream") or {}).get("died", ())
    if run.record.get("state") not in ("finished", None):
        yield f"The run did not finish (it is marked {run.record['state']})."
    if run.record["capacity"]["searched"] is None:
        yield "It ended in the search, before any rate was confirmed: there is no capacity yet."


def _of_arm(arm: Arm, trials: pd.DataFrame) -> Iterator[str]:
    its = trials[(trials["arm"] == arm.name) & (trials["block"] > PILOT_BLOCK)]
    bad = its[its["state"] != OK]
    for state, rows in bad.groupby("state", observed=True):
        yield f"{len(rows)} of {len(its)} windows of {arm.name} are {state}: {rows['error'].iloc[0]}"
    if arm.crossing is not None and len(arm.crossing.blocks) < stats.FEWEST_BLOCKS:
        blocks = len(arm.crossing.blocks)
        yield f"{arm.name} has {blocks} confirming blocks: too few for a promise or a verdict."
    confirming = arm.trials[arm.trials["confirms"].astype(bool)]
    for one in arm.unjudged if len(confirming) else ():
        yield (
            f"{arm.name} cannot be judged by {one}: that takes {one.fewest_requests} requests, and the "
            f"confirming windows have {int(confirming['requests'].sum())}. Make them longer (--window)."
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
