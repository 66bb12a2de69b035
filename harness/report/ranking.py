"""Which strategy, how much, why, and what it costs: the arms in order, from the tables of the report.

Pure: frames of the report and the dict of `run.json` go in; a frame and a sentence come out. The order is
that of the requests a second at the most users, a point estimate: whether an arm differs from the reference
is said by the verdict beside it, which comes with its interval from the comparisons, and which arm to take by
`harness.report.choice`. The twin, and arms that do other work, have no place in it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import pandas as pd

from harness.analysis import summaries
from harness.analysis.stats import DIFFERENT
from harness.analysis.summaries import LATENCY, THROUGHPUT
from harness.numbers import share, short, times, users

COLUMNS = [
    "rank",  # 1 answers most; arms that lost trials under this load come after all that lost none
    "arm",
    "load",  # the closed loop of most users
    THROUGHPUT,
    "ratio",  # throughput over the reference's, paired by blocks
    "low",
    "high",
    "verdict",  # "reference" of the reference itself
    "lone_load",  # the closed loop of fewest users
    "lone_latency_ms",  # median
    "lone_ratio",
    "lone_verdict",
    "own_load",  # the highest open load that is a share of what the arm itself can do
    "own_latency_p50_ms",
    "own_latency_p99_ms",
    "requests_per_call",  # of the model
    "because",  # which parts of a request shrank or grew, in mean ms against the reference
    "efficiency",  # of the bare model's limit
    "memory_uss_mb",
    "cpu_ms_per_request",
    "when_worker_dies",
    "invalid",  # which of these loads say more of the load generator than of the arm
    "client_limited",  # under `load`: the figures are bounds
]
LOADS = ("load", "lone_load", "own_load")  # the columns that name one
REFERENCE = "reference"

# stretches of a request, and how people say that it spends more or less there
PARTS = {
    "queue": "in the queue",
    "model": "in the model",
    "resume": "on the way back",
    "io": "in the I/O",
    "outside": "outside the route",
}
WORTH_A_WORD = 0.05  # of the reference's mean latency; smaller changes of a part are not told
WORTH_CALLING_A_BATCH = 1.05
COSTS = {"memory_uss_mb": "MB of memory", "cpu_ms_per_request": "ms of CPU a request"}  # column → unit

Marks = Mapping[tuple[str, str], str]  # (arm, load) → why
Row = Mapping[str, Any]  # plain numbers and words by column; empty where a table has no such row


@dataclasses.dataclass(frozen=True, eq=False)
class Tables:
    """What a report has found, and its rows by arm and load."""

    derived: pd.DataFrame
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
    """One row (`COLUMNS`) per arm, the best first; none where no closed loop was run.

    `load`: the closed loop that the choice is of; else that of most users.
    """
    summary = tables.summary
    if summary.empty or summary["concurrency"].isna().all():
        return pd.DataFrame(columns=COLUMNS)
    load = load if load.startswith("closed(") else _load(summary, heaviest=True)
    top = summary[summary["load"] == load].assign(lost=lambda rows: rows["failed_trials"] > 0)
    top = top.sort_values(["lost", THROUGHPUT], ascending=[True, False], kind="stable")
    told = record.get("arms") or {}
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
            "when_worker_dies": (told.get(arm) or {}).get("when_worker_dies") or "",
            "client_limited": (arm, load) in limited,
        }
        for rank, (arm, row) in enumerate(at_top.items(), 1)
    ]
    for row in rows:
        row["invalid"] = ", ".join(row[name] for name in LOADS if (row["arm"], row[name]) in invalid)
    return pd.DataFrame(rows, columns=COLUMNS)


def sentence(table: pd.DataFrame, reference: str, take: str) -> str:
    """The arm that is taken, in words: how much, why, and what it costs; "" where there is none."""
    rows = table[table["arm"] == take]
    if rows.empty or not rows[THROUGHPUT].iloc[0] > 0:
        return ""
    taken = rows.iloc[0]
    least = "at least " if taken["client_limited"] else ""
    said = f"{take} answers {least}{taken[THROUGHPUT]:.0f} requests/s at {users(taken['load'])}"
    theirs = bool(table.loc[table["arm"] == reference, "client_limited"].any())
    said += _how_much(taken, reference, theirs=theirs)
    if taken["because"]:  # a cause is named only of a difference
        said += f"{', because' if taken['verdict'] in DIFFERENT else ':'} a request {taken['because']}"
    parts = [said]
    if not math.isnan(taken["efficiency"]):
        parts.append(f"it reaches {share(taken['efficiency'])} of what the bare model can do")
    costs = {name: taken[name] for name in COSTS if not math.isnan(taken[name])}
    if costs:
        told = " and ".join(f"{short(cost)} {COSTS[name]}" for name, cost in costs.items())
        parts.append(f"it costs {told}")
    if taken["when_worker_dies"]:
        parts.append(f"when a worker dies, {taken['when_worker_dies']}")
    return f"{'; '.join(parts)}."


# -- a row ---------------------------------------------------------------------------------------------


def _load(summary: pd.DataFrame, *, heaviest: bool) -> str:
    """The closed loop of most or fewest users."""
    closed = summary[summary["concurrency"].notna()].sort_values("concurrency", kind="stable")
    return str(closed["load"].iloc[-1 if heaviest else 0])


def compared(
    comparisons: pd.DataFrame, arm: str, load: str, metric: str, reference: str
) -> dict[str, float | str]:
    """ratio, low, high and verdict of a metric; of the reference itself 1, without interval."""
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
    """requests_per_call, and in words what changed against the reference, or where it spends most itself."""
    per_call = _requests_per_call(tables.derived, arm, str(row["load"]))
    told = ""
    if arm == name:
        told = largest(row)
    elif reference is not None:
        told = _changes(parts_of(row), parts_of(reference), reference["latency_mean_ms"])
    batches = f"a call carries {short(per_call)} requests" if per_call >= WORTH_CALLING_A_BATCH else ""
    lost = f"{row['failed_trials']} of its trials do not count" if row["failed_trials"] else ""
    return {"requests_per_call": per_call, "because": "; ".join(filter(None, [told, batches, lost]))}


def _requests_per_call(derived: pd.DataFrame, arm: str, load: str) -> float:
    """Measured requests over the calls that carried them: one of a batch of n is an n-th of a call."""
    rows = summaries.Cells(derived).select((arm, load), ["phase", "ok", "batch_size"])
    sizes = summaries.measured(rows[rows["ok"]])["batch_size"].dropna()
    return len(sizes) / float((1.0 / sizes).sum()) if len(sizes) else math.nan


def parts_of(row: Mapping[Any, Any]) -> dict[str, float]:
    """Mean milliseconds of each stretch that is known."""
    found = {part: float(row[f"{part}_mean_ms"]) for part in PARTS}
    return {part: mean_ms for part, mean_ms in found.items() if not math.isnan(mean_ms)}


def largest(row: Mapping[Any, Any]) -> str:
    """Where a request of the reference spends most."""
    parts = parts_of(row)
    if not parts:
        return ""
    part = max(parts, key=lambda name: parts[name])
    return f"{_verb(part)} {short(parts[part])} of {short(row['latency_mean_ms'])} ms {PARTS[part]}"


def _changes(arm: Mapping[str, float], reference: Mapping[str, float], whole_ms: float) -> str:
    """The part that shrank most and the one that grew most, the greater first; "" where none is known."""
    changed = {part: arm[part] - reference[part] for part in PARTS if part in arm and part in reference}
    if not changed:
        return ""
    by_change = sorted(changed, key=lambda part: changed[part])
    told = [(by_change[0], "less", -changed[by_change[0]]), (by_change[-1], "more", changed[by_change[-1]])]
    told = sorted([one for one in told if one[2] >= WORTH_A_WORD * whole_ms], key=lambda one: -one[2])
    if not told:
        return f"differs in no part by {100 * WORTH_A_WORD:g} %"
    return ", but ".join(f"{_verb(part)} {short(ms)} ms {way} {PARTS[part]}" for part, way, ms in told)


def _verb(part: str) -> str:
    return "waits" if part == "queue" else "spends"


def _how_much(best: pd.Series[Any], reference: str, *, theirs: bool) -> str:
    """`theirs`: whether the client limits the reference."""
    if best["verdict"] == REFERENCE or math.isnan(best["ratio"]):
        return ""
    ratio = times(best["ratio"], best["low"], best["high"])
    return f", {bound(bool(best['client_limited']), theirs)}{ratio} {reference} ({best['verdict']})"


def bound(mine: bool, theirs: bool) -> str:
    """What a client that could do more would make of a ratio of rates, by whose is limited."""
    if mine == theirs:
        return "(limited by the client) " if mine else ""
    return "at least " if mine else "at most "
