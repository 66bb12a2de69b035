"""What the awaited I/O takes for a lone user, and does it stay so while the arm is busy? Is there any at all?

Pure: frames in; numbers, a table and words out. Nominal is what the same arm's I/O takes for a lone user:
timers are late anywhere. What was asked for is nominal only where no lone user was measured.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd

from harness.analysis import summaries

WITHIN_MS = 2.0  # of nominal, at p99: beyond it the event loop, or the machine, has kept the I/O waiting

LEAST_MS = 1.0  # alone; of a shorter I/O nothing is said, as there is next to none
STALLED = 1.5  # report I/O that takes so many times as long as alone
TURNS = 4  # of the event loop that the query of a database takes at least: each may come late

COLUMNS = [
    "arm",
    "load",
    "nominal_ms",  # median of the arm's I/O at c = 1
    "p99_ms",  # of all requests of the load; empty where they are too few for one
    "excess_ms",  # p99 - nominal
    "stays",  # whether the excess is within WITHIN_MS; empty where it is not known
]


class Source(enum.Enum):
    """Where a nominal I/O comes from."""

    MEASURED = enum.auto()  # the arm's median for a lone user
    ASKED = enum.auto()  # no lone user was measured: the I/O asked for
    UNKNOWN = enum.auto()  # nor is it known what was asked for


class Nominal(NamedTuple):
    """An arm's I/O for a lone user; NaN where it is not known."""

    ms: float
    source: Source


def alone(rows: pd.DataFrame) -> Nominal:
    """Of an arm's rows, as derived from its requests."""
    lone = summaries.measured(rows[rows["concurrency"] == 1])
    return _known(summaries.statistic(lone, "io_ms", "median"), rows["io_nominal_ms"])


def alone_in(summary: pd.DataFrame, arm: str, asked_ms: pd.Series[float], name: str = "io_p50_ms") -> Nominal:
    """Of a summary's row; `name` may be another of its figures of the I/O."""
    lone = summary[(summary["arm"] == arm) & (summary["concurrency"] == 1)]
    measured_ms = float(lone[name].iloc[0]) if name in lone and len(lone) else math.nan
    return _known(measured_ms, asked_ms)


def _known(measured_ms: float, asked_ms: pd.Series[float]) -> Nominal:
    if not math.isnan(measured_ms):
        return Nominal(measured_ms, Source.MEASURED)
    asked = asked_ms.dropna()
    return Nominal(float(asked.iloc[0]), Source.ASKED) if len(asked) else Nominal(math.nan, Source.UNKNOWN)


def table(derived: pd.DataFrame) -> pd.DataFrame:
    """A row for each arm and open load; none without a closed loop of one user to say what nominal is."""
    good = summaries.measured(derived)
    good = good[good["ok"]]
    nominal = {str(arm): alone(rows) for arm, rows in good.groupby("arm", sort=False, observed=True)}
    is_open = good[good["concurrency"].isna()]
    rows = [
        _row(str(arm), str(load), nominal[str(arm)].ms, cell)
        for (arm, load), cell in is_open.groupby(["arm", "load"], sort=False, observed=True)
        if nominal[str(arm)].source is Source.MEASURED
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def sentence(table: pd.DataFrame) -> str:
    """Which arms keep their I/O nominal, and which do not; empty when nothing is known."""
    known = table[table["stays"].notna()]
    if known.empty:
        return ""
    failing = known[known["stays"].eq(False)]
    if failing.empty:
        return f"The awaited I/O stays within {WITHIN_MS:g} ms of nominal at p99 in every arm."
    named = ", ".join(
        f"{row['arm']} at {row['load']} (+{row['excess_ms']:.1f})" for row in failing.to_dict("records")
    )
    return f"The awaited I/O is more than {WITHIN_MS:g} ms above nominal at p99 in: {named}."


def absence(record: Mapping[str, Any]) -> Iterator[str]:
    """That nothing is awaited after a model of the user's own, where that is so."""
    arms = list((record.get("arms") or {}).values())
    if arms and all(_awaits_nothing(arm) for arm in arms):
        model = arms[0]["about"].get("model")
        yield (
            f"No I/O is awaited after the model: {model} has none, and none was asked for "
            "(for example, with --io sleep:5ms)."
        )


def _awaits_nothing(arm: Mapping[str, Any]) -> bool:
    workload = (arm.get("options") or {}).get("workload") or {}
    own_io = (arm.get("about") or {}).get("own_io")  # None: the workload is built in
    return own_io is False and workload.get("io") == "sleep" and workload.get("io_ms") == 0


def _row(arm: str, load: str, nominal_ms: float, cell: pd.DataFrame) -> dict[str, object]:
    p99_ms = summaries.pooled_percentile(cell, "io_ms", 99)
    excess_ms = p99_ms - nominal_ms
    stays = None if math.isnan(excess_ms) else excess_ms <= WITHIN_MS
    return dict(zip(COLUMNS, (arm, load, nominal_ms, p99_ms, excess_ms, stays), strict=True))
