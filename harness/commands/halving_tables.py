"""A choice by halving in the terminal: its rounds, and how the finalists keep the objectives."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from harness.commands.screen import folding, plain_table, right, titled
from harness.numbers import cell, percent, users
from harness.report import halving
from harness.report.halving import Halved
from harness.system.printable import one_line


def halved(found: Halved, take: str) -> Iterator[RenderableType]:
    """The rounds, the objectives, and what they say about the chosen setting."""
    if len(found.rounds):
        yield rounds(found)
    if len(found.judged):
        yield objectives(found)
    for sentence in halving.sentences(found, take):
        yield Text(f"\n{one_line(sentence)}", style="bold")


def rounds(found: Halved) -> RenderableType:
    """Each setting in the last round that it was in, the best first."""
    title = (
        f"Rounds at {users(found.load)}: they chose the finalists and count for nothing else\n"
        "round: the last one of the setting; latency: median in ms;\n"
        "of limit: score over the target of the worst objective, from 100 % on it is missed"
    )
    shown = plain_table(
        right("round"), folding("arm"), *map(right, ("blocks", "req/s", "latency", "of limit"))
    )
    last = found.rounds.sort_values(["round", "place"], ascending=[False, True], kind="stable")
    for row in last.drop_duplicates("arm").to_dict("records"):
        shown.add_row(
            "final" if row["kept"] else str(row["round"]),
            str(row["arm"]),
            str(row["blocks"]),
            *(cell(row[key]) for key in ("throughput_per_s", "latency_p50_ms")),
            _share(row["share_of_objective"]),
        )
    return titled(title, shown)


def objectives(found: Halved) -> RenderableType:
    """Each finalist with each objective, by the final alone."""
    shown = plain_table(folding("arm"), folding("objective"), folding("score"), "verdict")
    for arm, judged in found.kept.items():
        for one in judged:
            score = "-" if math.isnan(one.score) else one.objective.describe(one.score)
            shown.add_row(arm, str(one.objective), score, one.verdict)
    doubt = "not certain: the interval includes the limit, or requests are too few"
    return titled(f"Objectives, by the final alone\n{doubt}", shown)


def _share(value: Any) -> str:
    return percent(value, 0) if math.isfinite(value) else "-"
