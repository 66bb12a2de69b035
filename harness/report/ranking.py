"""The arms in order: how fast each is, why, and what it costs.

Pure: frames of the report and the dict of `run.json` go in; a frame and a text come out. The order is by
requests per second with the most users, a point estimate. Whether an arm differs from the reference is the
verdict's matter, which comes with its interval from the comparisons. `harness.report.choice` decides which
arm to take. The twin, and arms that do other work, are not ranked.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import pandas as pd

from harness.analysis.rows import Cells, Requests, in_parts, measured
from harness.analysis.stats import DIFFERENT
from harness.analysis.summaries import LATENCY, THROUGHPUT
from harness.numbers import share, short, times, users

MEANINGS = {  # column → what it means; docs/reference/csv.md shows it
    "rank": "1 answers most requests; arms that lost trials under this load come last.",
    "arm": "Name of the arm.",
    "load": "The closed loop with the most users.",
    THROUGHPUT: "Good answers per second under it.",
    "ratio": "throughput_per_s over that of the reference, paired by blocks.",
    "low": "Lower end of the ratio's interval.",
    "high": "Upper end of the ratio's interval.",
    "verdict": "What may be said of it; reference for the reference itself.",
    "lone_load": "The closed loop with the fewest users.",
    "lone_latency_ms": "Median latency under it.",
    "lone_ratio": "That latency over that of the reference.",
    "lone_verdict": "What may be said of it.",
    "own_load": "own(…): the open loop at the highest share of the arm's own throughput.",
    "own_latency_p50_ms": "Median latency under it.",
    "own_latency_p99_ms": "99th percentile of the latency under it.",
    "requests_per_call": "Requests that shared a call of the model: mean.",
    "because": "Which parts of a request are shorter or longer than the reference's; mean ms.",
    "efficiency": "Share of the model limit.",
    "memory_uss_mb": "Memory of the arm's own (USS); MB of 1e6 bytes.",
    "cpu_ms_per_request": "CPU of the server and its workers, per request.",
    "when_worker_dies": "What the strategy does when a worker dies.",
    "invalid": "Which of these loads are invalid for the arm, because of the load generator.",
    "client_limited": "Whether the load generator limits the arm, so that its figures are bounds.",
}
COLUMNS = list(MEANINGS)
LOADS = ("load", "lone_load", "own_load")  # the columns that name a load
REFERENCE = "reference"

# parts of a request, and the words for spending time there
PARTS = {
    "queue": "in the queue",
    "model": "in the worker",
    "resume": "on the way back",
    "io": "in the I/O",
    "outside": "outside the route",
}
SMALLEST_NAMED_CHANGE = 0.05  # of a part, as a share of the reference's mean latency
SMALLEST_NAMED_BATCH = 1.05  # requests per call
COSTS = {"memory_uss_mb": "MB of memory", "cpu_ms_per_request": "ms of CPU per request"}  # column → unit

Marks = Mapping[tuple[str, str], str]  # (arm, load) → why
Row = Mapping[str, Any]  # plain numbers and words by column; empty if a table has no such row


@dataclasses.dataclass(frozen=True, eq=False)
class Tables:
    """The tables of a report, and their rows by arm and load."""

    requests: Requests
    summary: pd.DataFrame  # of the arms to be ranked
    comparisons: pd.DataFrame
    costs: pd.DataFrame
    limits: pd.DataFrame

    def figures(self, arm: str, load: str) -> Row:
        return self._rows["summary"].get((arm, load), {})

    def cost(self, arm: str, load: str) -> Row:
        return self._rows["costs"].get((arm, load), {})

    def limit(self, arm: str, load: str) -> Row:
        return self._rows["limits"].get((arm, load), {})

    @cached_property
    def _rows(self) -> dict[str, dict[tuple[str, str], Row]]:
        return {
            name: {(str(row["arm"]), str(row["load"])): row for row in getattr(self, name).to_dict("records")}
            for name in ("summary", "costs", "limits")
        }


def rank(
    tables: Tables, record: Mapping[str, Any], reference: str, load: str, invalid: Marks, limited: Marks
) -> pd.DataFrame:
    """One row (`COLUMNS`) per arm, the best first; no row if no closed loop was run.

    The arms are ranked under `load` if it is a closed loop, else under the closed loop with the most users.
    """
    summary = tables.summary
    if summary.empty or summary["concurrency"].isna().all():
        return pd.DataFrame(columns=COLUMNS)
    load = load if load.startswith("closed(") else _load(summary, heaviest=True)
    top = summary[summary["load"] == load].assign(lost=lambda rows: rows["failed_trials"] > 0)
    top = top.sort_values(["lost", THROUGHPUT], ascending=[True, False], kind="stable")
    known = record.get("arms") or {}
    at_top = {str(row["arm"]): row for row in top.to_dict("records")}
    rows = [
        {
            "rank": rank,
            "arm": arm,
            "load": load,
            THROUGHPUT: row[THROUGHPUT],
            **compared(tables.comparisons, arm, load, THROUGHPUT, reference),
            **_alone(tables, arm, reference),
            **_at_own_load(tables, arm),
            **why(tables, arm, row, at_top.get(reference), reference),
            "efficiency": tables.limit(arm, load).get("efficiency", math.nan),
            **{name: tables.cost(arm, load).get(name, math.nan) for name in COSTS},
            "when_worker_dies": (known.get(arm) or {}).get("when_worker_dies") or "",
            "client_limited": (arm, load) in limited,
        }
        for rank, (arm, row) in enumerate(at_top.items(), 1)
    ]
    for row in rows:
        row["invalid"] = ", ".join(row[name] for name in LOADS if (row["arm"], row[name]) in invalid)
    return pd.DataFrame(rows, columns=COLUMNS)


def sentence(table: pd.DataFrame, reference: str, take: str) -> str:
    """The chosen arm in words: how fast it is, why, and what it costs; "" without a choice."""
    rows = table[table["arm"] == take]
    if rows.empty or not rows[THROUGHPUT].iloc[0] > 0:
        return ""
    taken = rows.iloc[0]
    least = "at least " if taken["client_limited"] else ""
    gain = f"{take} answers {least}{taken[THROUGHPUT]:.0f} requests/s at {users(taken['load'])}"
    theirs = bool(table.loc[table["arm"] == reference, "client_limited"].any())
    gain += _how_much(taken, reference, theirs=theirs)
    if taken["because"]:  # only a difference has a cause
        gain += f"{', because' if taken['verdict'] in DIFFERENT else ':'} a request {taken['because']}"
    parts = [gain]
    if not math.isnan(taken["efficiency"]):
        parts.append(f"It reaches {share(taken['efficiency'])} of the model limit")
    costs = {name: taken[name] for name in COSTS if not math.isnan(taken[name])}
    if costs:
        parts.append(
            "It costs " + " and ".join(f"{short(cost)} {COSTS[name]}" for name, cost in costs.items())
        )
    if taken["when_worker_dies"]:
        parts.append(f"When a worker dies, {taken['when_worker_dies']}")
    return f"{'. '.join(parts)}."


# -- a row ---------------------------------------------------------------------------------------------


def _load(summary: pd.DataFrame, *, heaviest: bool) -> str:
    """The closed loop with the most or the fewest users."""
    closed = summary[summary["concurrency"].notna()].sort_values("concurrency", kind="stable")
    return str(closed["load"].iloc[-1 if heaviest else 0])


def compared(
    comparisons: pd.DataFrame, arm: str, load: str, metric: str, reference: str
) -> dict[str, float | str]:
    """ratio, low, high and verdict of a metric; for the reference itself 1, without an interval."""
    if arm == reference:
        return {"ratio": 1.0, "low": math.nan, "high": math.nan, "verdict": REFERENCE}
    stat = "rate" if metric == THROUGHPUT else "median"
    keys = {"arm": arm, "load": load, "metric": metric, "stat": stat}
    found = comparisons
    for name, value in keys.items():
        found = found[found[name].astype(str) == value]
    if found.empty:
        return {"ratio": math.nan, "low": math.nan, "high": math.nan, "verdict": "not compared"}
    row = found.iloc[0]
    return {**{name: row[name] for name in ("ratio", "low", "high")}, "verdict": str(row["verdict"])}


def _alone(tables: Tables, arm: str, reference: str) -> dict[str, float | str]:
    load = _load(tables.summary, heaviest=False)
    row = tables.figures(arm, load)
    against = compared(tables.comparisons, arm, load, LATENCY, reference)
    return {
        "lone_load": load,
        "lone_latency_ms": row.get("latency_p50_ms", math.nan),
        "lone_ratio": against["ratio"],
        "lone_verdict": against["verdict"],
    }


def _at_own_load(tables: Tables, arm: str) -> dict[str, float | str]:
    summary = tables.summary
    shares = summary["load"].astype(str).str.extract(r"^own\((.+)\)$")[0].astype(float)
    load = "" if shares.isna().all() else str(summary["load"].iloc[int(shares.argmax())])
    row = tables.figures(arm, load)
    figures = {f"own_{name}": row.get(name, math.nan) for name in ("latency_p50_ms", "latency_p99_ms")}
    return {"own_load": load, **figures}


# -- why -----------------------------------------------------------------------------------------------


def why(
    tables: Tables, arm: str, row: Mapping[Any, Any], reference: Mapping[Any, Any] | None, name: str
) -> dict[str, float | str]:
    """requests_per_call, and in words which parts differ from the reference's, or which is the largest."""
    per_call = _requests_per_call(tables.requests, arm, str(row["load"]))
    parts = ""
    if arm == name:
        parts = largest(row)
    elif reference is not None:
        parts = _changes(parts_of(row), parts_of(reference), reference["latency_mean_ms"])
    batches = f"a model call carries {short(per_call)} requests" if per_call >= SMALLEST_NAMED_BATCH else ""
    lost = f"{row['failed_trials']} of its trials do not count" if row["failed_trials"] else ""
    return {"requests_per_call": per_call, "because": "; ".join(filter(None, [parts, batches, lost]))}


def _requests_per_call(requests: Requests, arm: str, load: str) -> float:
    """Measured requests per model call; a request in a batch of n counts as 1/n of a call."""
    rows = measured(Cells(requests).rows((arm, load), ["phase", "ok", "batch_size"]))
    parts = in_parts(rows, ["ok", "batch_size"])
    sizes = pd.concat([part.loc[part["ok"], "batch_size"].dropna() for part in parts])
    return len(sizes) / float((1.0 / sizes).sum()) if len(sizes) else math.nan


def parts_of(row: Mapping[Any, Any]) -> dict[str, float]:
    """Mean milliseconds of each part that is known."""
    found = {part: float(row[f"{part}_mean_ms"]) for part in PARTS}
    return {part: mean_ms for part, mean_ms in found.items() if not math.isnan(mean_ms)}


def largest(row: Mapping[Any, Any]) -> str:
    """Where a request spends most of its time."""
    parts = parts_of(row)
    if not parts:
        return ""
    part = max(parts, key=lambda name: parts[name])
    return f"{_verb(part)} {short(parts[part])} of {short(row['latency_mean_ms'])} ms {PARTS[part]}"


def _changes(arm: Mapping[str, float], reference: Mapping[str, float], whole_ms: float) -> str:
    """The part that is shorter by most and the one that is longer by most; "" if no part is known."""
    changed = {part: arm[part] - reference[part] for part in PARTS if part in arm and part in reference}
    if not changed:
        return ""
    by_change = sorted(changed, key=lambda part: changed[part])
    named = [(by_change[0], "less", -changed[by_change[0]]), (by_change[-1], "more", changed[by_change[-1]])]
    named = sorted(
        [one for one in named if one[2] >= SMALLEST_NAMED_CHANGE * whole_ms], key=lambda one: -one[2]
    )
    if not named:
        return f"has no part that differs by {100 * SMALLEST_NAMED_CHANGE:g} % of the latency"
    return ", but ".join(f"{_verb(part)} {short(ms)} ms {way} {PARTS[part]}" for part, way, ms in named)


def _verb(part: str) -> str:
    return "waits" if part == "queue" else "spends"


def _how_much(best: pd.Series[Any], reference: str, *, theirs: bool) -> str:
    """The ratio to the reference, with its verdict; `theirs`: whether the client limits the reference."""
    if best["verdict"] == REFERENCE or math.isnan(best["ratio"]):
        return ""
    ratio = times(best["ratio"], best["low"], best["high"])
    least = bound(bool(best["client_limited"]), theirs)
    return f", {least}{ratio} the requests/s of {reference} ({best['verdict']})"


def bound(mine: bool, theirs: bool) -> str:
    """In which direction a ratio of rates is a bound, by which side the client limits."""
    if mine == theirs:
        return "(limited by the client) " if mine else ""
    return "at least " if mine else "at most "
