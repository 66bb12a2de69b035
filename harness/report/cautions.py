"""The warnings of a run: what to know before trusting its figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from harness.analysis import machine, saturation
from harness.analysis.rows import Rows, in_parts
from harness.numbers import users
from harness.results import store
from harness.verdicts import admissible, session_noise
from harness.verdicts.admissible import Evidence
from harness.wire.records import FAILED, PILOT_BLOCK, SOUND, in_words


def find(found: Evidence, comparisons: pd.DataFrame, overrun: pd.DataFrame) -> Iterator[str]:
    """The warnings, the most serious first; `overrun` is a table of `saturation.per_cell`."""
    run = found.run
    if noisy := found.withheld or session_noise.noisy(comparisons):
        yield noisy
    yield from run.warnings
    yield from _failures(run, found.sent)
    if found.invalid:
        yield f"Invalid: {_each_cell(found.invalid)}."
    if found.limited:
        limited = _each_cell(found.limited)
        bounds = "These figures are bounds: the server may do better."
        yield f"Limited by the client: {limited}. {bounds} {machine.beyond_the_client(run.record)}"
    if found.excluded:
        of = f"{len(found.excluded)} of {len(admissible.blocks_of(run))} blocks"
        why = "were interrupted or break" if found.interrupted else "break"
        reasons = admissible.each_block(found.excluded)
        yield f"{of} are left out because they {why} the plan's criteria ({reasons})."
    saturated = list(saturation.warnings(_by_the_arm(overrun, found.limited)))
    yield from saturated[: admissible.MOST_LISTED]
    if saturated[admissible.MOST_LISTED :]:
        more = len(saturated) - admissible.MOST_LISTED
        yield f"{more} more arms are saturated under an open loop; the table marks them with *."
    if doubt := session_noise.twin_doubt(comparisons, found.facts.twin):
        yield doubt
    yield from machine.late_generator(run.record)
    yield from machine.busy_idle_arms(run.record)
    yield from _drifts(comparisons)


def _by_the_arm(overrun: pd.DataFrame, limited: Mapping[tuple[str, str], str]) -> pd.DataFrame:
    """The rows whose backlog is not perhaps that of the load generator."""
    places = zip(overrun["arm"], overrun["load"], strict=True)
    return overrun[[place not in limited for place in places]] if len(overrun) else overrun


def unfinished(record: Mapping[str, Any]) -> Iterator[str]:
    """Warnings that the service behind the I/O died, or that the run ended before its last trial."""
    yield from (record.get("downstream") or {}).get("died", ())
    if record.get("state") not in ("finished", None):
        yield f"The run did not finish (it is marked {record['state']})."
    if (halving := record.get("halving")) and halving["searched"] is None:
        yield "The run ended during its rounds, before the final: no setting is chosen yet."


def _each_cell(reasons: Mapping[tuple[str, str], str]) -> str:
    cells = [f"{arm} at {users(load)}, because {why}" for (arm, load), why in reasons.items()]
    return admissible.abridged(cells)


def _drifts(comparisons: pd.DataFrame) -> Iterator[str]:
    primary = comparisons[comparisons["primary"].astype(bool)]
    drifting = primary[primary["drifts"].astype(bool)]
    if len(drifting):
        cells = [f"{row['arm']} at {users(row['load'])}" for row in drifting.to_dict("records")]
        yield (
            f"In {len(drifting)} of {len(primary)} comparisons of latency, consecutive blocks are "
            f"correlated, so the interval is too narrow: {admissible.abridged(cells)}."
        )


def _failures(run: store.Run, requests: Rows) -> Iterator[str]:
    trials = run.trials[run.trials["block"] > PILOT_BLOCK]
    bad = trials[~trials["state"].isin(SOUND)]
    for (arm, state), rows in bad.groupby(["arm", "state"], sort=False, observed=True):
        what = "failed" if state == FAILED else f"are {state}"
        yield f"{len(rows)} of {(trials['arm'] == arm).sum()} trials of {arm} {what}: {rows['error'].iloc[0]}"
    failed = int(trials["failed"].sum())
    if failed and (commonest := _commonest_error(requests)):
        yield (
            f"{failed} of {int(trials['measured'].sum())} measured requests got no good answer, "
            f"most often because of: {in_words(commonest, run.record.get('bad_answers') or {})}"
        )
    yield from unfinished(run.record)


def _commonest_error(requests: Rows) -> str:
    """Of the measured requests after the pilot; the first in the alphabet of several."""
    found = Counter[str]()
    for part in in_parts(requests.measured(), ["block", "error"]):
        errors = part.loc[(part["block"] > PILOT_BLOCK) & (part["error"] != ""), "error"]
        found.update({str(error): int(times) for error, times in errors.value_counts().items() if times})
    return min(found, key=lambda error: (-found[error], error), default="")
