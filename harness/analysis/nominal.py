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

MOST_NAMED = 6  # arms and loads in the sentence; io.csv has all of them
WITHIN_MS = 2.0  # of nominal, at p99; beyond that the event loop or the machine delayed the I/O

LEAST_NOMINAL_MS = 1.0  # shorter I/O is not judged
STALLED_RATIO = 1.5  # report I/O that takes at least this many times its time for a lone user
LOOP_TURNS = 4  # a database query takes at least this many turns of the event loop, and each may be late

COLUMNS = [
    "arm",
    "load",
    "nominal_ms",  # median of the arm's I/O at c = 1
    "p99_ms",  # over all requests of the load; empty if there are too few
    "excess_ms",  # p99 - nominal
    "stays",  # whether the excess is within WITHIN_MS; empty if it is not known
]


class Source(enum.Enum):
    """The source of a nominal duration."""

    MEASURED = enum.auto()  # the arm's median for a lone user
    ASKED = enum.auto()  # the duration asked for, as no lone user was measured
    UNKNOWN = enum.auto()  # neither is known


class Nominal(NamedTuple):
    """The nominal duration of an arm's I/O; NaN if it is not known."""

    ms: float
    source: Source


def of_rows(rows: pd.DataFrame) -> Nominal:
    """The nominal I/O from an arm's derived rows."""
    lone = summaries.measured(rows[rows["concurrency"] == 1])
    return _known(summaries.statistic(lone, "io_ms", "median"), rows["io_nominal_ms"])


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


def table(derived: pd.DataFrame) -> pd.DataFrame:
    """A row for each arm and open load. Arms without a measured lone user have no row."""
    good = summaries.measured(derived)
    good = good[good["ok"]]
    nominal = {str(arm): of_rows(rows) for arm, rows in good.groupby("arm", sort=False, observed=True)}
    is_open = good[good["concurrency"].isna()]
    rows = [
        _row(str(arm), str(load), nominal[str(arm)].ms, cell)
        for (arm, load), cell in is_open.groupby(["arm", "load"], sort=False, observed=True)
        if nominal[str(arm)].source is Source.MEASURED
    ]
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


def _row(arm: str, load: str, nominal_ms: float, cell: pd.DataFrame) -> dict[str, object]:
    p99_ms = summaries.pooled_percentile(cell, "io_ms", 99)
    excess_ms = p99_ms - nominal_ms
    stays = None if math.isnan(excess_ms) else excess_ms <= WITHIN_MS
    return dict(zip(COLUMNS, (arm, load, nominal_ms, p99_ms, excess_ms, stays), strict=True))
