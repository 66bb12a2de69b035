"""Whether a run is settled, so that it may stop at a look: see `harness.analysis.looks`. Pure.

A run with claims is settled if each check that decides a claim has a verdict; another one if each comparison
of median latencies has one whose size is certain. With `precision`, the intervals must be as narrow as that.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from harness.analysis import looks
from harness.analysis.looks import Looks
from harness.analysis.stats import Verdict
from harness.numbers import users
from harness.results import store
from harness.verdicts import admissible, claims, claims_file, session_noise
from harness.verdicts.admissible import Evidence

SETTLED = "settled"  # the value of the plan's `until`


def planned(plan: Mapping[str, Any]) -> Looks | None:
    """Return the looks of a plan, as run.json has it; None if it runs all of its blocks.

    It also does so if there is no verdict to wait for: one arm, with or without its twin, and no claims.
    """
    name = plan.get("claims")
    waits = plan.get("until") == SETTLED and (name or len(plan["arms"]) > 1)
    if not waits and plan.get("precision") is None:
        return None
    return looks.planned(plan["blocks"], claims.levels(claims_file.load(name)) if name else ())


def counted_blocks(found: Evidence) -> int:
    """Return the number of blocks that count; the run is between two blocks."""
    return len(set(admissible.blocks_of(found.run)) - found.spoilt.keys())


def open_questions(found: Evidence) -> list[str]:
    """Name what holds the run up: the claims, or the arms and loads, without a verdict or too wide.

    A comparison that more blocks cannot settle holds nothing up, such as one that the client limits.
    """
    plan = found.run.record["plan"]
    rows = _primary(found)
    wide = [_name(row) for row in rows if not _is_narrow(row, plan.get("precision"))]
    if plan.get("until") != SETTLED:
        return wide
    without = _open_claims(found, plan["claims"]) if plan.get("claims") else _open_rows(rows)
    return list(dict.fromkeys([*without, *wide]))


def judged_claims(found: Evidence, name: str, noisy: str) -> pd.DataFrame:
    """Judge the claims of this name: `claims.evaluate`; `noisy` says why verdicts are withheld."""
    return claims.evaluate(
        claims_file.load(name),
        found.derived,
        found.run.trials,
        excluded=found.excluded,
        invalid=found.invalid | found.limited,
        noisy=noisy,
        rules=found.facts.rules,
    )


def _primary(found: Evidence) -> list[dict[Any, Any]]:
    """The comparisons of median latencies: of the twin, and of the arms that do the reference's work."""
    table = found.comparisons()
    return table[table["primary"].astype(bool)].to_dict("records")


def _open_claims(found: Evidence, name: str) -> Iterator[str]:
    noisy = found.withheld or session_noise.noisy(found.twins())
    table = judged_claims(found, name, noisy)
    undecided = table["decides"] & table["verdict"].isin([claims.INCONCLUSIVE, claims.WITHHELD])
    return iter(table.loc[undecided, "claim"])


def _open_rows(rows: list[dict[Any, Any]]) -> Iterator[str]:
    undecided = (
        Verdict.INCONCLUSIVE,
        Verdict.NOISY,
        Verdict.FASTER_SIZE_UNCERTAIN,
        Verdict.SLOWER_SIZE_UNCERTAIN,
    )
    return (_name(row) for row in rows if not row["twin"] and row["verdict"] in undecided)


def _is_narrow(row: Mapping[Any, Any], precision: float | None) -> bool:
    """Whether half the interval is at most `precision`, as a share of the ratio; NaN is not narrow."""
    if precision is None or row["verdict"] == Verdict.INVALID:
        return True
    return bool(math.sqrt(row["high"] / row["low"]) - 1.0 <= precision) if row["low"] > 0 else False


def _name(row: Mapping[Any, Any]) -> str:
    return f"{row['arm']} at {users(row['load'])}"


def look(run: store.Run) -> tuple[int, list[str]]:
    """Return the number of blocks that count, and the open questions at this look.

    The run is judged as its report would judge it if it stopped now, but with wider intervals, most of all
    for a ratio that drifts: a lucky stretch of blocks must not stop the run.
    """
    found = admissible.admit(run)
    blocks = counted_blocks(found)
    known = run.record["looks"]
    if blocks not in known["blocks"]:
        return blocks, []
    here = {**known, "looked": [*known["looked"], {"blocks": blocks, "open": []}]}
    stopped = admissible.admit(run._replace(record={**run.record, "looks": here}))
    rules = dataclasses.replace(stopped.facts.rules, cautious=True)
    facts = dataclasses.replace(stopped.facts, rules=rules)
    return blocks, open_questions(dataclasses.replace(stopped, facts=facts))
