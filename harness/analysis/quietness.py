"""How quiet the machine was during a run, in a sentence. Pure: rows of `trials.csv` and `run.json` go in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from harness.numbers import percent
from harness.wire.records import PILOT_BLOCK

# Upper limits for a quiet and for a usable machine; beyond those it is noisy. Foreign CPU is a share of the
# usable cores. Within the quiet limits, noise moves a figure by less than the 3 % within which two
# throughputs count as equal, and the load generator's loop lag is below the 5 ms at which it is sampled. The
# usable limits are a convention, as comparing arms within blocks cancels noise that lasts longer than a
# block; their client lag is the method's limit. Pressure is shown but has no limit: an arm with more workers
# than cores causes it itself. A CPU quota has the limits of steal, because it stops the load generator too.
QUIET = {"steal": 0.005, "throttled": 0.005, "foreign": 0.02, "client_lag_ms": 5.0, "excluded": 0.0}
USABLE = {"steal": 0.03, "throttled": 0.03, "foreign": 0.10, "client_lag_ms": 10.0, "excluded": 0.25}


class _Session(NamedTuple):
    """What `sentence` and `in_short` say of a run; means over all trials but the pilot."""

    word: str
    cores: str
    excluded: str  # of how many blocks
    foreign: float
    steal: float
    pressure: float
    throttled: float
    lag_ms: float  # of the median trial


def sentence(trials: pd.DataFrame, record: Mapping[str, Any], excluded: Mapping[int, str]) -> str:
    """One line for the top of a report: whether the machine was quiet, usable or noisy, and the figures.

    Means are over all trials except the pilot, weighted by their windows. Omits figures that the platform
    does not report. Says "not judged" if it reports none.
    """
    found = _session(trials, record, excluded)
    parts = [
        (found.cores, True),
        (f"foreign CPU {found.foreign:.2f} cores", found.foreign >= 0),  # NaN is not
        (f"steal {percent(found.steal)}", found.steal >= 0),
        (f"pressure {percent(found.pressure, 0)}", found.pressure >= 0),
        (f"throttled {percent(found.throttled)}", found.throttled > 0),  # few machines report a quota
    ]
    worst_ms = trials.loc[trials["block"] > PILOT_BLOCK, "client_lag_p99_ms"].max()
    lag = f"p99 loop lag of the load generator {found.lag_ms:.1f} ms (worst trial {worst_ms:.1f} ms); "
    lag = "" if math.isnan(found.lag_ms) else lag
    numbers = f" ({', '.join(map(str, sorted(excluded)))})" if excluded else ""
    shown = ", ".join(text for text, known in parts if known)
    return f"Machine: {found.word} – {shown}; {lag}{found.excluded}{numbers}."


def in_short(trials: pd.DataFrame, record: Mapping[str, Any], excluded: Mapping[int, str]) -> str:
    """As `sentence`, without the figures behind the word."""
    found = _session(trials, record, excluded)
    return f"Machine: {found.word} – {found.cores}, {found.excluded}."


def _session(trials: pd.DataFrame, record: Mapping[str, Any], excluded: Mapping[int, str]) -> _Session:
    trials = trials[trials["block"] > PILOT_BLOCK]
    environment = record.get("environment") or {}
    blocks = trials["block"].nunique()
    lag_ms = float(trials["client_lag_p99_ms"].median())
    foreign, steal, pressure, throttled = (
        mean(trials, name) for name in ("foreign_cpu", "steal_share", "pressure_share", "throttled_share")
    )
    usable = environment.get("usable_cores")
    figures = {"steal": steal, "throttled": throttled, "foreign": foreign / (usable or 1)}
    figures["client_lag_ms"] = lag_ms
    known = not all(map(math.isnan, figures.values()))
    return _Session(
        word=_word({**figures, "excluded": len(excluded) / max(1, blocks)}) if known else "not judged",
        cores=f"{usable or '?'} cores ({environment.get('cpu') or 'unknown CPU'})",
        excluded=f"{len(excluded)} of {blocks} blocks excluded",
        foreign=foreign,
        steal=steal,
        pressure=pressure,
        throttled=throttled,
        lag_ms=lag_ms,
    )


def _word(figures: Mapping[str, float]) -> str:
    for word, limits in (("quiet", QUIET), ("usable", USABLE)):
        if not any(value > limits[name] for name, value in figures.items()):  # NaN exceeds nothing
            return word
    return "noisy"


def mean(trials: pd.DataFrame, column: str) -> float:
    """Mean over the trials that have a reading, weighted by their windows; NaN if there are none."""
    windows = trials["window_end_ms"] - trials["window_start_ms"]
    values = pd.to_numeric(trials[column])  # a column without any reading may have dtype object
    weights = windows.where(values.notna(), 0.0)
    total = float(weights.sum())
    return float((values.fillna(0.0) * weights).sum()) / total if total else math.nan
