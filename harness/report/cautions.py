"""The warnings of a run: what a reader has to know before believing the figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from harness.analysis import machine, saturation
from harness.results import store
from harness.verdicts import admissible, session_noise
from harness.verdicts.admissible import Evidence
from harness.wire.records import FAILED, MEASURE, OK, PILOT_BLOCK, in_words


def find(found: Evidence, comparisons: pd.DataFrame, overrun: pd.DataFrame) -> Iterator[str]:
    """The warnings, the gravest first; `overrun` as `saturation.per_cell` has it."""
    run = found.run
    if noisy := found.withheld or session_noise.noisy(comparisons):
        yield noisy
    yield from run.warnings
    yield from _failures(run)
    if found.invalid:
        yield f"Invalid: {_each_cell(found.invalid)}."
    if found.limited:
        limited = _each_cell(found.limited)
        yield f"Limited by the client: {limited}. Such figures are bounds: more is possible."
    if found.excluded:
        of = f"{len(found.excluded)} of {len(admissible.blocks_of(run))} blocks"
        why = "as interrupted or by the plan's criteria" if found.interrupted else "by the plan's criteria"
        yield f"{of} are left out {why} ({admissible.each_block(found.excluded)})."
    saturated = list(saturation.warnings(overrun))
    yield from saturated[: admissible.TOLD]
    if saturated[admissible.TOLD :]:
        more = len(saturated) - admissible.TOLD
        yield f"{more} more arms and open loads are saturated, marked * in the table."
    if doubt := session_noise.twin_doubt(comparisons, found.facts.twin):
        yield doubt
    yield from machine.late_generator(run.record)
    yield from machine.busy_idle_arms(run.record)
    yield from _drifts(comparisons)


def unfinished(record: Mapping[str, Any]) -> Iterator[str]:
    """That what answers the I/O has ended, or the run before its last trial."""
    yield from (record.get("downstream") or {}).get("died", ())
    if record.get("state") not in ("finished", None):
        yield f"The run did not finish (it is marked {record['state']})."


def _each_cell(reasons: Mapping[tuple[str, str], str]) -> str:
    return admissible.abridged([f"{arm} at {load}, as {why}" for (arm, load), why in reasons.items()])


def _drifts(comparisons: pd.DataFrame) -> Iterator[str]:
    primary = comparisons[comparisons["primary"].astype(bool)]
    drifting = primary[primary["drifts"].astype(bool)]
    if len(drifting):
        where = admissible.abridged([f"{row['arm']} at {row['load']}" for row in drifting.to_dict("records")])
        yield (
            f"In {len(drifting)} of {len(primary)} comparisons of latency, neighbouring blocks resemble each "
            f"other, so the interval is too narrow: {where}."
        )


def _failures(run: store.Run) -> Iterator[str]:
    trials = run.trials[run.trials["block"] > PILOT_BLOCK]
    bad = trials[trials["state"] != OK]
    for (arm, state), rows in bad.groupby(["arm", "state"], sort=False, observed=True):
        what = "failed" if state == FAILED else f"are {state}"
        yield f"{len(rows)} of {(trials['arm'] == arm).sum()} trials of {arm} {what}: {rows['error'].iloc[0]}"
    failed = int(trials["failed"].sum())
    if failed:
        rows = run.requests
        bad_rows = rows[(rows["phase"] == MEASURE) & (rows["block"] > PILOT_BLOCK) & (rows["error"] != "")]
        commonest = str(bad_rows["error"].mode().iloc[0])
        yield (
            f"{failed} of {int(trials['measured'].sum())} measured requests got no good answer, "
            f"most often: {in_words(commonest, run.record.get('bad_answers') or {})}"
        )
    yield from unfinished(run.record)
