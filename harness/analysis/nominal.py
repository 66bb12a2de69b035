"""Compare the awaited I/O of a busy arm with its nominal duration, and report runs without any I/O.

Pure functions: frames in; numbers, a table and sentences out. Nominal is the time that the same arm's I/O
takes for a lone user (c = 1), because timers are late on every machine. If no lone user was measured, nominal
is the duration that was asked for.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd

from harness.analysis import summaries
from harness.analysis.rows import Cells, Requests, in_parts, measured, of_trials, trial_facts

MOST_NAMED = 6  # arms and loads in the sentence; io.csv has all of them
WITHIN_MS = 2.0  # of nominal, at p99; beyond that the event loop or the machine delayed the I/O

LEAST_NOMINAL_MS = 1.0  # shorter I/O is not judged
STALLED_RATIO = 1.5  # report I/O that takes at least this many times its time for a lone user
LOOP_TURNS = 4  # a database query takes at least this many turns of the event loop, and each may be late

MEANINGS = {  # column → what it means; docs/reference/csv.md shows it
    "arm": "Name of the arm.",
    "load": "The open loop.",
    "nominal_ms": "Median of the arm's I/O for a single user.",
    "p99_ms": "99th percentile of the I/O over all requests of the load; empty if there are too few.",
    "excess_ms": "p99_ms - nominal_ms.",
    "stays": "Whether the excess is at most 2 ms; empty if it is not known.",
}
COLUMNS = list(MEANINGS)


class Source(enum.Enum):
    """The source of a nominal duration."""

    MEASURED = enum.auto()  # the arm's median for a lone user
    ASKED = enum.auto()  # the duration asked for, as no lone user was measured
    UNKNOWN = enum.auto()  # neither is known


class Nominal(NamedTuple):
    """The nominal duration of an arm's I/O; NaN if it is not known."""

    ms: float
    source: Source


def of_rows(rows: Requests) -> Nominal:
    """The nominal I/O from an arm's derived rows."""
    lone = measured(of_trials(rows, "concurrency", [1]))
    return _known(summaries.statistic(lone, "io_ms", "median"), trial_facts(rows)["io_nominal_ms"])


def of_summary(
    summary: pd.DataFrame, arm: str, asked_ms: pd.Series[float], name: str = "io_p50_ms"
) -> Nominal:
    """The nominal I/O from a summary; `name` may be another figure of the I/O."""
    lone = summary[(summary["arm"] == arm) & (summary["concurrency"] == 1)]
    measured_ms = float(lone[name].iloc[0]) if name in lone and len(lone) else math.nan
    return _known(measured_ms, asked_ms)


def _known(measured_ms: float, asked_ms: pd.Series[float]) -> Nominal:
    if not math.isnan(measured_ms):
        return Nominal(measured_ms, Source.MEASURED)
    asked = asked_ms.dropna()
    return Nominal(float(asked.iloc[0]), Source.ASKED) if len(asked) else Nominal(math.nan, Source.UNKNOWN)


def table(requests: Requests) -> pd.DataFrame:
    """A row for each arm and open load. Arms without a measured lone user have no row."""
    of_loads, of_arms = Cells(requests), Cells(requests, ("arm",))
    names = ["arm", "concurrency", "io_nominal_ms", "phase", "ok", "io_ms"]
    rows = []
    for arm, load in of_loads:
        cell = measured(of_loads.rows((arm, load), names))
        is_open = trial_facts(cell)["concurrency"].isna().any()
        if not is_open or not any(part["ok"].any() for part in in_parts(cell, ["ok"])):
            continue
        nominal = of_rows(of_arms.rows((arm,), names))
        if nominal.source is Source.MEASURED:
            rows.append(_row(str(arm), str(load), nominal.ms, cell))
    return pd.DataFrame(rows, columns=COLUMNS)


def sentence(table: pd.DataFrame) -> str:
    """A sentence on which arms keep their I/O nominal; empty if nothing is known."""
    known = table[table["stays"].notna()]
    if known.empty:
        return ""
    failing = known[known["stays"].eq(False)]
    if failing.empty:
        return f"At p99, the I/O stays within {WITHIN_MS:g} ms of its nominal duration in every arm."
    largest = failing.sort_values("excess_ms", ascending=False, kind="stable")[:MOST_NAMED]
    named = ", ".join(
        f"{row['arm']} at {row['load']} (+{row['excess_ms']:.1f})" for row in largest.to_dict("records")
    )
    more = f", and {len(failing) - len(largest)} more" if len(failing) > len(largest) else ""
    longer = f"more than {WITHIN_MS:g} ms longer than its nominal duration"
    return f"At p99, the I/O takes {longer} in: {named}{more}."


def absence(record: Mapping[str, Any]) -> Iterator[str]:
    """A note if no arm awaits I/O after the user's own model."""
    arms = list((record.get("arms") or {}).values())
    if arms and all(_awaits_nothing(arm) for arm in arms):
        model = arms[0]["about"].get("model")
        yield (
            f"Requests await no I/O after the model: {model} has no function io, and --io is not set "
            "(such as --io sleep:5ms)."
        )


def _awaits_nothing(arm: Mapping[str, Any]) -> bool:
    workload = (arm.get("options") or {}).get("workload") or {}
    own_io = (arm.get("about") or {}).get("own_io")  # None for a built-in workload
    return own_io is False and workload.get("io") == "sleep" and workload.get("io_ms") == 0


def _row(arm: str, load: str, nominal_ms: float, cell: Requests) -> dict[str, object]:
    p99_ms = summaries.pooled_percentile(cell, "io_ms", 99)
    excess_ms = p99_ms - nominal_ms
    stays = None if math.isnan(excess_ms) else excess_ms <= WITHIN_MS
    return dict(zip(COLUMNS, (arm, load, nominal_ms, p99_ms, excess_ms, stays), strict=True))
