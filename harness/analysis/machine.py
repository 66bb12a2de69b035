"""Which blocks noise excludes, where the load generator is the limit, and what CPU and memory each arm used.

Pure functions: they take the rows of `trials.csv` and `requests.csv` (all, with pings) and the dict of
`run.json`, and return sentences and frames.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from harness.analysis import quietness
from harness.analysis.arrays import Floats
from harness.analysis.percentiles import percentile, percentile_if_enough
from harness.analysis.rows import Requests, in_parts, of_trials
from harness.errors import HarnessError
from harness.wire.records import MAX_PROCESSES_RECORDED, MEASURE, PILOT_BLOCK, PING, SOUND

MOST_COMMANDS_SHOWN = 4  # of an arm's processes

IDLE_SHARE = 0.01  # of a core; an idle arm that uses more takes CPU from the arm that is measured

# how late the load generator may be for an arm under a load: the larger of the two
LATE_CELL_P99_MS = 10.0
LATE_CELL_SHARE = 0.05  # of the p50 latency: the difference within which two arms are equivalent

# beyond these the load generator is the bottleneck, and its own queue is part of every latency
MOST_OF_CLIENT_LIMIT = 0.5  # of the requests a second that it can send
MOST_OF_A_CORE = 0.5  # of its one core; the same limit if the roofline was not measured
# Beyond this and `LATE_CELL_P99_MS`, a closed loop waits for the load generator's own event loop: other
# programs, or a quota, keep it from its core.
MOST_OF_CYCLE = 0.5  # of the time from one request of a user to the next

LATE_SELF_CHECK_P50_MS = 1.0  # limit of the method for the dispatch lag at half the roofline
LATE_SELF_CHECK_P99_MS = 8.0

COST_MEANINGS = {  # column → what it means; docs/reference/csv.md shows it
    "arm": "Name of the arm.",
    "load": "The arrival law, such as closed(8).",
    "cpu_ms_per_request": "CPU of the server and its workers, per request.",
    "client_cpu_ms_per_request": "CPU of the load generator, per request.",
    "server_lag_p99_ms": "Lag of the server's event loop: median of the trials' 99th percentiles.",
    "server_lag_max_ms": "The largest lag of all trials.",
    "client_lag_p99_ms": "Lag of the load generator's event loop: median of the trials' 99th percentiles.",
    "ping_p50_ms": "Latency of a route without a model beside the load: median.",
    "ping_p90_ms": "90th percentile of it.",
    "ping_p99_ms": "99th percentile of it.",
    "memory_uss_mb": "Memory of the arm's own (USS) after its last trial; MB of 1e6 bytes.",
}
COST_COLUMNS = list(COST_MEANINGS)


# -- the whole run -------------------------------------------------------------------------------------


def busy_idle_arms(record: Mapping[str, Any]) -> list[str]:
    """A warning for each arm that used more than `IDLE_SHARE` of a core while others were measured."""
    planned = (record.get("plan") or {}).get("arms") or []
    commands = {arm["name"] for arm in planned if arm.get("command")}
    return [
        f"The idle arm {arm!r} used {idle['cpu_ms'] / idle['wall_ms']:.1%} of a core while other arms were "
        f"measured (at most {IDLE_SHARE:.0%}), so they had less CPU."
        + (" suspend_idle = true in the plan suspends it." if arm in commands else "")
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


def uncounted_clusters(record: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for the arms whose workers belong to a cluster that ran before."""
    planned = (record.get("plan") or {}).get("arms") or []
    if arms := [arm["name"] for arm in planned if (arm.get("options") or {}).get("address")]:
        yield f"{', '.join(arms)}: CPU and memory are those of the server, without the cluster's workers."


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
    trials: pd.DataFrame, requests: Requests, record: Mapping[str, Any]
) -> dict[tuple[str, str], str]:
    """(arm, load) → why the load generator was the bottleneck, by the median over the good trials.

    The measured throughput is then a lower bound for the arm, and the latency an upper bound.
    """
    good = trials[(trials["block"] > PILOT_BLOCK) & trials["state"].isin(SOUND)]
    parts = in_parts(requests, ["trial", "done_ms", "generator"])
    sent = pd.concat([_sent(part) for part in parts])
    sent = sent.groupby("trial").agg({"size": "sum", "max": "max", "generator": "max"})
    good = good.merge(sent, left_on="trial", right_index=True)
    good = good[good["max"] > 0]
    generators = good["generator"].fillna(0) + 1  # older runs have one, which has no number
    busy = pd.to_numeric(good["client_cpu_ms"]) / good["max"] / generators
    good = good.assign(sent_per_s=good["size"] / good["max"] * 1e3, busy=busy)
    limit_per_s = client_limit_per_s(record)
    lag_ms = pd.to_numeric(good["client_lag_p99_ms"])
    good = good.assign(lag_ms=lag_ms, took_ms=_took_ms(good), lag_limit_ms=_lag_limit_ms(good))
    figures = good.groupby(["arm", "load"], sort=False, observed=True)[list(_ClientFigures._fields)].median()
    reasons = {
        (str(arm), str(load)): _client_limit(_ClientFigures(*map(float, cell)), limit_per_s)
        for (arm, load), cell in zip(figures.index, figures.itertuples(index=False), strict=True)
    }
    return {cell: reason for cell, reason in reasons.items() if reason}


def _sent(part: pd.DataFrame) -> pd.DataFrame:
    """Trial → number of requests, the end of the last one, and the highest number of a generator."""
    grouped = part.groupby("trial")
    return grouped["done_ms"].agg(["size", "max"]).assign(generator=grouped["generator"].max())


class _ClientFigures(NamedTuple):
    """What shows whether the load generator was the bottleneck; NaN for what was not measured."""

    sent_per_s: float
    busy: float  # share of its core
    lag_ms: float  # p99 of its loop lag
    took_ms: float  # see `_took_ms`
    lag_limit_ms: float  # see `_lag_limit_ms`


def _took_ms(trials: pd.DataFrame) -> pd.Series[float]:
    """How long a request took, by Little's law: the mean of a closed loop, the most that an open one allows.

    In a closed loop it includes the time that a user thinks.
    """
    window_ms = trials["window_end_ms"] - trials["window_start_ms"]
    users = pd.to_numeric(trials["concurrency"])
    users = users.fillna(pd.to_numeric(trials["in_flight_max"]))
    took: pd.Series[float] = users * window_ms / trials["measured"]
    return took


def _lag_limit_ms(trials: pd.DataFrame) -> pd.Series[float]:
    """The p99 of the loop lag from which the load generator is late; NaN for an open loop below its cap.

    Such an open loop is judged by its dispatch lag. At the cap, that shows the server's delay as well.
    """
    is_open = pd.to_numeric(trials["concurrency"]).isna()
    shares = np.where(is_open, np.where(trials["capped"] > 0, LATE_CELL_SHARE, math.nan), MOST_OF_CYCLE)
    return pd.Series(shares * _took_ms(trials), dtype=float).clip(lower=LATE_CELL_P99_MS)


def beyond_the_client(record: Mapping[str, Any]) -> str:
    """A sentence that says how to measure a server that is faster than the load generator."""
    about = record.get("plan") or record.get("load") or {}
    transport = "" if about.get("transport", "aiohttp") == "aiohttp" else "use --transport aiohttp, "
    words = f"{transport}send fewer requests a second, or send them from a faster or idle machine."
    return f"To measure the server, {words}"


def client_limit_per_s(record: Mapping[str, Any]) -> float:
    """The roofline: the highest request rate of the load generator before the run; NaN if not measured."""
    rates = [check.get("requests_per_s") for check in _self_checks(record)]
    return min((float(rate) for rate in rates if rate), default=math.nan)


def _self_checks(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The self-checks: one, and another for each time that the run was resumed."""
    checks = record.get("self_check") or []
    return [checks] if isinstance(checks, Mapping) else checks


def _client_limit(found: _ClientFigures, limit_per_s: float) -> str:
    if found.sent_per_s > MOST_OF_CLIENT_LIMIT * limit_per_s:
        return (
            f"the load generator sent {found.sent_per_s:.0f} of the {limit_per_s:.0f} requests/s that it can "
            "send"
        )
    if found.busy > MOST_OF_A_CORE:
        return f"the load generator kept {100 * found.busy:.0f} % of its core busy"
    if found.lag_ms > found.lag_limit_ms:  # NaN is not
        return (
            f"the load generator was late by {found.lag_ms:.1f} ms (p99 of its loop lag) where a request "
            f"took {found.took_ms:.1f} ms"
        )
    return ""


# -- blocks --------------------------------------------------------------------------------------------


def excluded_blocks(
    trials: pd.DataFrame, requests: Requests, criteria: Mapping[str, float]
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


def _block_readings(trials: pd.DataFrame, requests: Requests) -> dict[str, dict[int, float]]:
    """Criterion → block → reading; NaN if there is none."""
    trials = trials[trials["block"] > PILOT_BLOCK]
    blocks: dict[Any, pd.DataFrame] = dict(iter(trials.groupby("block")))
    open_loop = trials.loc[trials["concurrency"].isna() & (trials["capped"] == 0), "trial"]
    lags = _lags_by_block(of_trials(requests, "trial", list(open_loop)))
    return {
        "steal_share": {block: quietness.mean(rows, "steal_share") for block, rows in blocks.items()},
        "foreign_cpu": {block: quietness.mean(rows, "foreign_cpu") for block, rows in blocks.items()},
        "dispatch_lag_p99_ms": {block: percentile(of_block, 99) for block, of_block in lags.items()},
    }


def _lags_by_block(requests: Requests) -> dict[int, Floats]:
    """Block → sent − due of its measured requests."""
    found: dict[int, list[Floats]] = {}
    for part in in_parts(requests, ["block", "phase", "due_ms", "sent_ms"]):
        shots = part[part["phase"] == MEASURE]
        lags = shots["sent_ms"] - shots["due_ms"]
        for block, of_block in lags.groupby(shots["block"]):
            found.setdefault(int(str(block)), []).append(np.asarray(of_block, dtype=np.float64))
    return {block: np.concatenate(found[block]) for block in sorted(found)}


# -- arms ----------------------------------------------------------------------------------------------


def costs(trials: pd.DataFrame, requests: Requests, record: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """The cost of a request per arm and load, in order of appearance, over good trials after the pilot.

    CPU time is that of whole trials, including the warm-up, divided by all their requests except pings.
    `server_lag_p99_ms` and `client_lag_p99_ms` are medians over trials, `server_lag_max_ms` is the worst.
    `ping_*` is the latency of the route without a model during the load. A failed ping counts as infinite;
    NaN if there are too few for the percentile. `memory_uss_mb` is the arm's, from `record`, or NaN.
    """
    good = trials[(trials["block"] > PILOT_BLOCK) & trials["state"].isin(SOUND)]
    sent, pings = _sent_and_pings(of_trials(requests, "trial", list(good["trial"])))
    good = good.assign(sent=good["trial"].map(sent).fillna(0))
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


def _sent_and_pings(requests: Requests) -> tuple[Counter[int], pd.DataFrame]:
    """Trial → the number of requests to the model's route; and the pings, which are few."""
    sent, pings = Counter[int](), []
    for part in in_parts(requests, ["arm", "load", "trial", "phase", "due_ms", "done_ms", "error"]):
        is_ping = part["phase"] == PING
        sent.update({int(str(trial)): n for trial, n in part.loc[~is_ping, "trial"].value_counts().items()})
        pings.append(part[is_ping])
    return sent, pd.concat(pings)


def _per_request(cell: pd.DataFrame, column: str) -> float:
    values = pd.to_numeric(cell[column])
    sent = float(cell["sent"].where(values.notna(), 0).sum())
    return float(values.sum()) / sent if sent else math.nan


def _ping_figures(pings: pd.DataFrame) -> dict[str, float]:
    latencies = (pings["done_ms"] - pings["due_ms"]).where(pings["error"] == "", math.inf)
    values = np.asarray(latencies, dtype=np.float64)
    return {f"ping_p{percent}_ms": percentile_if_enough(np.sort(values), percent) for percent in (50, 90, 99)}


def late_cell_reason(rows: Requests) -> str:
    """Why one arm under one load is invalid because requests were sent late; empty if it is valid.

    `rows` are its requests in all blocks, of which only the measured ones count. The limit depends on the p50
    latency of good requests only: failures must not excuse a late load generator.
    """
    lags, latencies = [], []
    for part in in_parts(rows, ["phase", "error", "due_ms", "sent_ms", "done_ms"]):
        shots = part[part["phase"] == MEASURE]
        good = shots[shots["error"] == ""]
        lags.append(np.asarray(shots["sent_ms"] - shots["due_ms"], dtype=np.float64))
        latencies.append(np.asarray(good["done_ms"] - good["due_ms"], dtype=np.float64))
    late_ms = percentile(np.concatenate(lags), 99)
    latency_ms = percentile(np.concatenate(latencies), 50)
    limit_ms = max(LATE_CELL_P99_MS, 0.0 if math.isnan(latency_ms) else LATE_CELL_SHARE * latency_ms)
    if not late_ms > limit_ms:
        return ""
    return (
        f"the load generator sent 1 % of the requests {late_ms:.1f} ms late or more "
        f"(at most {limit_ms:.1f} ms)"
    )
