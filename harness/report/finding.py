"""The finding: a run's first line, in one sentence."""

from __future__ import annotations

import pandas as pd

from harness import numbers
from harness.analysis.summaries import THROUGHPUT
from harness.report import choice
from harness.verdicts import best_arm
from harness.verdicts.claims import CONFIRMED, INCONCLUSIVE, NOT_TESTED, REFUTED, WITHHELD


def sentence(summary: pd.DataFrame, headline: str, claims: pd.DataFrame) -> str:
    """Which arm to take, as the advice's headline says it, or else what was seen; then the claims."""
    parts = [headline or _seen(summary)]
    if len(claims):
        parts.append(f"of the article's {len(claims)} claims, {_tally(claims)}")
    return f"{'; '.join(parts)}."


def _seen(summary: pd.DataFrame) -> str:
    """The best figures at the load that decides, where no arm is taken."""
    answered = choice.answered_of(summary)
    if answered.empty:
        return "No trial got good answers, so there is nothing to compare"
    load, metric = best_arm.decisive(answered)
    name = "latency_p50_ms" if metric.lower_is_better else THROUGHPUT
    here = answered[answered["load"] == load]
    whole = here[here["failed_trials"] == 0]  # an arm that died early has only its best rows to show
    rows = whole if len(whole) else here
    row = rows.sort_values(name, ascending=metric.lower_is_better, kind="stable").iloc[0]
    least, most = ("at least ", "at most ") if row["client_limited"] else ("", "")
    seen = f"At {numbers.users(load)}, {row['arm']} answers in {most}{row['latency_p50_ms']:.1f} ms (median)"
    if not row[THROUGHPUT] > 0:
        return seen
    what = "good answers/s" if row["failed"] else "requests/s"
    return f"{seen}, {least}{row[THROUGHPUT]:.0f} {what}"


def _tally(claims: pd.DataFrame) -> str:
    found = claims["verdict"].value_counts()
    kinds = (CONFIRMED, REFUTED, INCONCLUSIVE, NOT_TESTED, WITHHELD)
    return ", ".join(f"{found[kind]} {kind}" for kind in kinds if kind in found)
