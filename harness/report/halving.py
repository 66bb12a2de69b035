"""The results of a choice by halving: its rounds, and which finalist keeps which objective.

Pure: the run's evidence in, frames and texts out. The ranking of a round is the one with which the run itself
went on, made again from the rows. Only the final counts for the choice (`harness.report.choice`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from harness.analysis import slo
from harness.analysis.slo import Objective
from harness.numbers import counted
from harness.verdicts import admissible, objectives, standing
from harness.verdicts.admissible import Evidence
from harness.verdicts.objectives import Judged

ROUND_MEANINGS = {  # column → what it means; docs/reference/csv.md shows it
    "round": "Number of the round, from 1.",
    "place": "1 is the best by all blocks so far. Settings that miss an objective come after the others.",
    "arm": "Name of the arm. Next to it: a column for each axis, with the value of this setting.",
    "load": "The arrival law, such as closed(8).",
    "blocks": "Blocks so far that count.",
    "throughput_per_s": "Good answers per second: geometric mean over blocks.",
    "latency_p50_ms": "Median latency: geometric mean over blocks.",
    "share_of_objective": "Mean score over the target of the worst objective; from 1 on it is missed.",
    "kept": "Whether it went on: to the next round, or after the last one to the final.",
}
OBJECTIVE_MEANINGS = {
    "arm": "Name of the arm, a finalist.",
    "load": "The arrival law, such as closed(8).",
    "objective": "The limit that must hold.",
    "score": "Share of requests beyond the limit, share without a good answer, or mean in ms.",
    "low": "Lower end of its interval over blocks.",
    "high": "Upper end of its interval.",
    "target": "The objective is kept if the score is below this.",
    "requests": "Measured requests in the final.",
    "verdict": "keeps or misses; not certain: if the interval includes the target, or requests are too few.",
}


@dataclasses.dataclass(frozen=True)
class Halved:
    """The results, beside those of the sweep that the finalists are."""

    objectives: tuple[Objective, ...]
    load: str
    kept: Mapping[str, tuple[Judged, ...]]  # finalist → its objectives
    judged: pd.DataFrame  # `OBJECTIVE_MEANINGS`, a row for each finalist and objective
    rounds: pd.DataFrame  # `ROUND_MEANINGS`, with the axes after the arm
    summary: str  # how the finalists were found; "" if the run ended before the final


def find(found: Evidence) -> Halved | None:
    """The results of the run's halving; None for any other run."""
    if found.rounds is None:
        return None
    recorded = found.run.record["halving"]
    limits = slo.parse(recorded["objectives"])
    load = standing.load_of(admissible.of_rounds(found.rounds)) or standing.load_of(found)
    kept = _judged(found, load, limits)
    rows = [_row(arm, load, one) for arm, all_ in kept.items() for one in all_]
    return Halved(
        objectives=limits,
        load=load,
        kept=kept,
        judged=pd.DataFrame(rows, columns=list(OBJECTIVE_MEANINGS)),
        rounds=_rounds(found, load, limits),
        summary=_summary(found),
    )


def _judged(found: Evidence, load: str, limits: Sequence[Objective]) -> dict[str, tuple[Judged, ...]]:
    arms = [arm for arm in found.side.arms() if arm != found.facts.twin]
    timeout_s = found.run.record["plan"]["timeout_s"]
    return {arm: objectives.judge(found.side.cell(arm, load).rows, limits, timeout_s) for arm in arms}


def _row(arm: str, load: str, one: Judged) -> dict[str, Any]:
    return {
        "arm": arm,
        "load": load,
        "objective": str(one.objective),
        "score": one.score,
        "low": one.low,
        "high": one.high,
        "target": one.objective.target,
        "requests": one.requests,
        "verdict": one.verdict,
    }


def _rounds(found: Evidence, load: str, limits: Sequence[Objective]) -> pd.DataFrame:
    """The standing of the arms at the end of each finished round."""
    assert found.rounds is not None
    swept = found.run.record["plan"]["sweep"]
    rows, blocks = [], 0
    for number, one in enumerate(found.run.record["halving"]["rounds"], 1):
        blocks += one["blocks"]
        stood = standing.of(admissible.of_rounds(found.rounds, blocks), one["arms"], limits)
        rows += [
            {
                "round": number,
                "place": place,
                "arm": its.arm,
                **{axis: swept["settings"].get(its.arm, {}).get(axis, "") for axis in swept["axes"]},
                "load": load,
                "blocks": its.blocks,
                "throughput_per_s": its.throughput_per_s,
                "latency_p50_ms": its.latency_p50_ms,
                "share_of_objective": its.share_of_target,
                "kept": its.arm in one["kept"],
            }
            for place, its in enumerate(stood, 1)
        ]
    columns = list(ROUND_MEANINGS)
    after = columns.index("arm") + 1
    return pd.DataFrame(rows, columns=[*columns[:after], *swept["axes"], *columns[after:]])


def _summary(found: Evidence) -> str:
    recorded = found.run.record["halving"]
    rounds = recorded["rounds"]
    if recorded["searched"] is None or not rounds:
        return ""
    finalists, settings = len(rounds[-1]["kept"]), len(rounds[0]["arms"])
    finals = counted(len(admissible.blocks_of(found.run)), "block")
    return (
        f"Of {counted(settings, 'setting')}, {finalists} were left after {counted(len(rounds), 'round')}. "
        f"They were measured again in {finals}, and only these count."
    )


def sentences(found: Halved, take: str) -> Iterator[str]:
    """How the finalists were found, and how the chosen one keeps the objectives."""
    if found.summary:
        yield found.summary
    if take in found.kept:
        yield f"{take} {' and '.join(map(str, found.kept[take]))}."
