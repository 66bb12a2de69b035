"""How quiet the machine was during a run, which blocks noise excludes, and what CPU and memory each arm used.

Pure functions: they take frames of `trials.csv` and `requests.csv` and the dict of `run.json`, and return
sentences and frames.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.percentiles import percentile, percentile_if_enough
from harness.errors import HarnessError
from harness.numbers import percent
from harness.wire.records import MAX_PROCESSES_RECORDED, MEASURE, OK, PILOT_BLOCK, PING

# Upper limits for a quiet and for a usable machine; beyond those it is noisy. Foreign CPU is a share of the
# usable cores. Within the quiet limits, noise moves a figure by less than the 3 % within which two
# throughputs count as equal, and the load generator's loop lag is below the 5 ms at which it is sampled. The
# usable limits are a convention, as comparing arms within blocks cancels noise that lasts longer than a
# block; their client lag is the method's limit. Pressure is shown but has no limit: an arm with more workers
# than cores causes it itself. A CPU quota has the limits of steal, because it stops the load generator too.
QUIET = {"steal": 0.005, "throttled": 0.005, "foreign": 0.02, "client_lag_ms": 5.0, "excluded": 0.0}
USABLE = {"steal": 0.03, "throttled": 0.03, "foreign": 0.10, "client_lag_ms": 10.0, "excluded": 0.25}

MOST_COMMANDS_SHOWN = 4  # of an arm's processes

IDLE_SHARE = 0.01  # of a core; an idle arm that uses more takes CPU from the arm that is measured

# how late the load generator may be for an arm under a load: the larger of the two
LATE_CELL_P99_MS = 10.0
LATE_CELL_SHARE = 0.05  # of the p50 latency: the difference within which two arms are equivalent

# beyond these the load generator is the bottleneck, and its own queue is part of every latency
MOST_OF_CLIENT_LIMIT = 0.5  # of the requests a second that it can send
MOST_OF_A_CORE = 0.5  # of its one core; the same limit if the roofline was not measured

LATE_SELF_CHECK_P50_MS = 1.0  # limit of the method for the dispatch lag at half the roofline
LATE_SELF_CHECK_P99_MS = 8.0

COST_COLUMNS = [
    "arm",
    "load",
    "cpu_ms_per_request",
    "client_cpu_ms_per_request",
    "server_lag_p99_ms",
    "server_lag_max_ms",
    "client_lag_p99_ms",
    "ping_p50_ms",
    "ping_p90_ms",
    "ping_p99_ms",
    "memory_uss_mb",
]


# -- the whole run -------------------------------------------------------------------------------------


def sentence(trials: pd.DataFrame, record: Mapping[str, Any], excluded: Mapping[int, str]) -> str:
    """One line for the top of a report: whether the machine was quiet, usable or noisy, and the figures.

    Means are over all trials except the pilot, weighted by their windows. Omits figures that the platform
    does not report. Says "not judged" if it reports none.
    """
    trials = trials[trials["block"] > PILOT_BLOCK]
    environment = record.get("environment") or {}
    blocks = trials["block"].nunique()
    lag_ms = float(trials["client_lag_p99_ms"].median())
    foreign, steal, pressure, throttled = (
        _mean(trials, name) for name in ("foreign_cpu", "steal_share", "pressure_share", "throttled_share")
    )
    figures = {
        "steal": steal,
        "throttled": throttled,
        "foreign": foreign / (environment.get("usable_cores") or 1),
        "client_lag_ms": lag_ms,
    }
    known = not all(map(math.isnan, figures.values()))
    word = _word({**figures, "excluded": len(excluded) / max(1, blocks)}) if known else "not judged"
    parts = [
        (f"{environment.get('usable_cores') or '?'} cores ({environment.get('cpu') or 'unknown CPU'})", True),
        (f"foreign CPU {foreign:.2f} cores", foreign >= 0),  # NaN is not
        (f"steal {percent(steal)}", steal >= 0),
        (f"pressure {percent(pressure, 0)}", pressure >= 0),
        (f"throttled {percent(throttled)}", throttled > 0),  # most machines have no quota or do not report it
    ]
    worst_ms = trials["client_lag_p99_ms"].max()
    lag = f"p99 loop lag of the load generator {lag_ms:.1f} ms (worst trial {worst_ms:.1f} ms); "
    lag = "" if math.isnan(lag_ms) else lag
    numbers = f" ({', '.join(map(str, sorted(excluded)))})" if excluded else ""
    shown = ", ".join(text for text, known in parts if known)
    return f"Machine: {word} – {shown}; {lag}{len(excluded)} of {blocks} blocks excluded{numbers}."


def _word(figures: Mapping[str, float]) -> str:
    for word, limits in (("quiet", QUIET), ("usable", USABLE)):
        if not any(value > limits[name] for name, value in figures.items()):  # NaN exceeds nothing
            return word
    return "noisy"


def busy_idle_arms(record: Mapping[str, Any]) -> list[str]:
    """A warning for each arm that used more than `IDLE_SHARE` of a core while others were measured."""
    return [
        f"The idle arm {arm!r} used {idle['cpu_ms'] / idle['wall_ms']:.1%} of a core while other arms were "
        f"measured (at most {IDLE_SHARE:.0%}), so they had less CPU."
        for arm, idle in (record.get("idle") or {}).items()
        if idle["wall_ms"] and idle["cpu_ms"] / idle["wall_ms"] > IDLE_SHARE
    ]


def counted_processes(record: Mapping[str, Any]) -> Iterator[str]:
    """A sentence that lists the processes whose CPU time counts as an arm's, for servers that already ran."""
    commands = {
        arm: [process["command"] for process in about["processes"]]
        for arm, about in (record.get("arms") or {}).items()
        if about.get("processes")
    }
    arms = [f"for {arm}: {_listed(of_arm)}" for arm, of_arm in commands.items()]
    if arms:
        yield f"CPU time counted {'; '.join(arms)}."


def _listed(commands: list[str]) -> str:
    """Such as "4 processes (python server.py, 3 × python -c)"."""
    times_of = Counter(commands).most_common()
    first, others = times_of[:MOST_COMMANDS_SHOWN], times_of[MOST_COMMANDS_SHOWN:]
    shown = [command if times == 1 else f"{times} × {command}" for command, times in first]
    more = sum(times for _, times in others)
    shown += [f"{more} more"] if more else []
    number = "1 process" if len(commands) == 1 else f"{len(commands)} processes"
    number += " or more" if len(commands) >= MAX_PROCESSES_RECORDED else ""
    return f"{number} ({', '.join(shown)})"


def late_generator(record: Mapping[str, Any]) -> list[str]:
    """A warning for each self-check, before the run or its resumption, with a late load generator."""
    lags_ms = [
        (check.get("dispatch_lag_p50_ms") or 0.0, check.get("dispatch_lag_p99_ms") or 0.0)
        for check in _self_checks(record)
    ]
    return [
        f"In the self-check before the run, the load generator sent requests late at half of its limit: "
        f"p50 {p50:.1f} ms, p99 {p99:.1f} ms (at most {LATE_SELF_CHECK_P50_MS:g} and "
        f"{LATE_SELF_CHECK_P99_MS:g} ms)."
        for p50, p99 in lags_ms
        if p50 > LATE_SELF_CHECK_P50_MS or p99 > LATE_SELF_CHECK_P99_MS
    ]


def limited_by_client(
    trials: pd.DataFrame, requests: pd.DataFrame, record: Mapping[str, Any]
) -> dict[tuple[str, str], str]:
    """(arm, load) → why the load generator was the bottleneck, by the median over the good trials.

    The measured throughput is then a lower bound for the arm, and the latency an upper bound.
    """
    good = trials[(trials["block"] > PILOT_BLOCK) & (trials["state"] == OK)]
    sent = requests.groupby("trial")["done_ms"].agg(["size", "max"])
    good = good.merge(sent, left_on="trial", right_index=True)
    good = good[good["max"] > 0]
    busy = pd.to_numeric(good["client_cpu_ms"]) / good["max"]
    good = good.assign(sent_per_s=good["size"] / good["max"] * 1e3, busy=busy)
    limit_per_s = client_limit_per_s(record)
    cells = good.groupby(["arm", "load"], sort=False, observed=True)[["sent_per_s", "busy"]].median()
    reasons = {
        (str(cell["arm"]), str(cell["load"])): _client_limit(cell["sent_per_s"], cell["busy"], limit_per_s)
        for cell in cells.reset_index().to_dict("records")
    }
    return {cell: reason for cell, reason in reasons.items() if reason}


def client_limit_per_s(record: Mapping[str, Any]) -> float:
    """The roofline: the highest request rate of the load generator before the run; NaN if not measured."""
    rates = [check.get("requests_per_s") for check in _self_checks(record)]
    return min((float(rate) for rate in rates if rate), default=math.nan)


def _self_checks(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The self-checks: one, and another for each time that the run was resumed."""
    checks = record.get("self_check") or []
    return [checks] if isinstance(checks, Mapping) else checks


def _client_limit(sent_per_s: float, busy: float, limit_per_s: float) -> str:
    if sent_per_s > MOST_OF_CLIENT_LIMIT * limit_per_s:
        return (
            f"the load generator sent {sent_per_s:.0f} of the {limit_per_s:.0f} requests/s that it can send"
        )
    if busy > MOST_OF_A_CORE:
        return f"the load generator kept {100 * busy:.0f} % of its core busy"
    return ""


# -- blocks --------------------------------------------------------------------------------------------


def excluded_blocks(
    trials: pd.DataFrame, requests: pd.DataFrame, criteria: Mapping[str, float]
) -> dict[int, str]:
    """Block → why it is excluded as a whole, by limits that the plan set before the run.

    `steal_share` and `foreign_cpu` limit the block's mean over its trials, weighted by their windows.
    `dispatch_lag_p99_ms` limits the p99 of sent − due over the measured requests of open loops, without
    trials that reached their cap, whose requests the server delayed. Never excludes the pilot, or a block
    without a reading. Raises HarnessError for an unknown criterion, which an edited run.json may have.
    """
    readings = _block_readings(trials, requests)
    unknown = sorted(criteria.keys() - readings.keys())
    if unknown:
        raise HarnessError(
            f"The plan excludes blocks by unknown criteria: {', '.join(unknown)}.",
            stage="report",
            hint=f"Use only these under exclude in run.json: {', '.join(readings)}.",
        )
    reasons: dict[int, list[str]] = {}
    for name, limit in criteria.items():
        for block, value in readings[name].items():
            if value > limit:
                reasons.setdefault(block, []).append(f"{name} {value:.3g} (at most {limit:g})")
    return {int(block): "; ".join(reasons[block]) for block in sorted(reasons)}


def _block_readings(trials: pd.DataFrame, requests: pd.DataFrame) -> dict[str, dict[int, float]]:
    """Criterion → block → reading; NaN if there is none."""
    trials = trials[trials["block"] > PILOT_BLOCK]
    blocks = dict(iter(trials.groupby("block")))
    open_loop = trials.loc[trials["concurrency"].isna() & (trials["capped"] == 0), "trial"]
    shots = requests[requests["trial"].isin(open_loop) & (requests["phase"] == MEASURE)]
    lags = shots["sent_ms"] - shots["due_ms"]
    return {
        "steal_share": {block: _mean(rows, "steal_share") for block, rows in blocks.items()},
        "foreign_cpu": {block: _mean(rows, "foreign_cpu") for block, rows in blocks.items()},
        "dispatch_lag_p99_ms": {
            block: percentile(np.asarray(of_block, dtype=np.float64), 99)
            for block, of_block in lags.groupby(shots["block"])
        },
    }


def _mean(trials: pd.DataFrame, column: str) -> float:
    """Mean over the trials that have a reading, weighted by their windows; NaN if there are none."""
    windows = trials["window_end_ms"] - trials["window_start_ms"]
    values = pd.to_numeric(trials[column])  # a column without any reading may have dtype object
    weights = windows.where(values.notna(), 0.0)
    total = float(weights.sum())
    return float((values.fillna(0.0) * weights).sum()) / total if total else math.nan


# -- arms ----------------------------------------------------------------------------------------------


def costs(
    trials: pd.DataFrame, requests: pd.DataFrame, record: Mapping[str, Any] | None = None
) -> pd.DataFrame:
    """The cost of a request per arm and load, in order of appearance, over good trials after the pilot.

    CPU time is that of whole trials, including the warm-up, divided by all their requests except pings.
    `server_lag_p99_ms` and `client_lag_p99_ms` are medians over trials, `server_lag_max_ms` is the worst.
    `ping_*` is the latency of the route without a model during the load. A failed ping counts as infinite;
    NaN if there are too few for the percentile. `memory_uss_mb` is the arm's, from `record`, or NaN.
    """
    good = trials[(trials["block"] > PILOT_BLOCK) & (trials["state"] == OK)]
    sent = requests.loc[requests["phase"] != PING, "trial"].value_counts()  # to the model's route
    good = good.assign(sent=good["trial"].map(sent).fillna(0))
    pings = requests[(requests["phase"] == PING) & requests["trial"].isin(good["trial"])]
    arms = ((record or {}).get("arms") or {}).items()
    uss_mb = {arm: about["uss_bytes"] / 1e6 for arm, about in arms if about.get("uss_bytes") is not None}
    rows = [
        {
            "arm": arm,
            "load": load,
            "cpu_ms_per_request": _per_request(cell, "server_cpu_ms"),
            "client_cpu_ms_per_request": _per_request(cell, "client_cpu_ms"),
            "server_lag_p99_ms": pd.to_numeric(cell["server_lag_p99_ms"]).median(),
            "server_lag_max_ms": pd.to_numeric(cell["server_lag_max_ms"]).max(),
            "client_lag_p99_ms": pd.to_numeric(cell["client_lag_p99_ms"]).median(),
            **_ping_figures(pings[(pings["arm"] == arm) & (pings["load"] == load)]),
            "memory_uss_mb": uss_mb.get(arm, math.nan),
        }
        for (arm, load), cell in good.groupby(["arm", "load"], sort=False)
    ]
    return pd.DataFrame(rows, columns=COST_COLUMNS)


def _per_request(cell: pd.DataFrame, column: str) -> float:
    values = pd.to_numeric(cell[column])
    sent = float(cell["sent"].where(values.notna(), 0).sum())
    return float(values.sum()) / sent if sent else math.nan


def _ping_figures(pings: pd.DataFrame) -> dict[str, float]:
    latencies = (pings["done_ms"] - pings["due_ms"]).where(pings["error"] == "", math.inf)
    values = np.asarray(latencies, dtype=np.float64)
    return {f"ping_p{percent}_ms": percentile_if_enough(np.sort(values), percent) for percent in (50, 90, 99)}


def late_cell_reason(rows: pd.DataFrame) -> str:
    """Why one arm under one load is invalid because requests were sent late; empty if it is valid.

    `rows` are its requests in all blocks, of which only the measured ones count. The limit depends on the p50
    latency of good requests only: failures must not excuse a late load generator.
    """
    rows = rows[rows["phase"] == MEASURE]
    good = rows[rows["error"] == ""]
    late_ms = percentile(np.asarray(rows["sent_ms"] - rows["due_ms"], dtype=np.float64), 99)
    latency_ms = percentile(np.asarray(good["done_ms"] - good["due_ms"], dtype=np.float64), 50)
    limit_ms = max(LATE_CELL_P99_MS, 0.0 if math.isnan(latency_ms) else LATE_CELL_SHARE * latency_ms)
    if not late_ms > limit_ms:
        return ""
    return (
        f"the load generator sent 1 % of the requests {late_ms:.1f} ms late or more "
        f"(at most {limit_ms:.1f} ms)"
    )
