"""How good the machine was during a run, which blocks it spoilt, and what each arm took of it.

Pure: frames of `trials.csv` and `requests.csv` and the dict of `run.json` go in; words and frames come out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.percentiles import fit_to_be_shown, percentile
from harness.errors import HarnessError
from harness.numbers import percent
from harness.wire.records import MAX_PROCESSES_RECORDED, MEASURE, OK, PILOT_BLOCK, PING

# The most of each for a machine to be called quiet, and to be called usable; beyond that it is noisy. Foreign
# CPU is judged as a share of the usable cores. Quiet: what moves a figure by less than the 3 % within which
# two throughputs count as equal; a client less late than one beat. Usable: a convention, since pairing evens
# out what lasts longer than a block; the client's lag as the method bounds it. Pressure is shown and not
# judged: an arm with more workers than cores makes it by itself. A quota that holds back the run is judged as
# steal is: it stops the load generator too.
QUIET = {"steal": 0.005, "throttled": 0.005, "foreign": 0.02, "client_lag_ms": 5.0, "excluded": 0.0}
USABLE = {"steal": 0.03, "throttled": 0.03, "foreign": 0.10, "client_lag_ms": 10.0, "excluded": 0.25}

KINDS_TOLD = 4  # commands that are named of an arm's processes

IDLE_SHARE = 0.01  # an idle arm that burns more takes it from the one that is measured

# the client's lateness that a cell may have: the larger of the two
LATE_CELL_P99_MS = 10.0
LATE_CELL_SHARE = 0.05  # of the p50 latency: what two arms may differ by and still be called equivalent

# where the load generator is the bottleneck: beyond that its own queue is in every latency
MOST_OF_CLIENT_LIMIT = 0.5  # of the requests a second that it can send
MOST_OF_A_CORE = 0.5  # of the one core that it has: as much, where nobody has seen what it can send

LATE_SELF_CHECK_P50_MS = 1.0  # of the method: dispatch lag at half the roofline
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
    """One line for the top of a report: quiet, usable or noisy, and by which figures.

    Means over the blocks' trials (the pilot left out) weigh each with its window. What the platform did not
    tell is left out; "not judged" when it told nothing.
    """
    trials = trials[trials["block"] > PILOT_BLOCK]
    environment = record.get("environment") or {}
    blocks = trials["block"].nunique()
    lag_ms = float(trials["client_lag_p99_ms"].median())
    foreign, steal, pressure, throttled = (
        _mean(trials, name) for name in ("foreign_cpu", "steal_share", "pressure_share", "throttled_share")
    )
    found = {
        "steal": steal,
        "throttled": throttled,
        "foreign": foreign / (environment.get("usable_cores") or 1),
        "client_lag_ms": lag_ms,
    }
    known = not all(map(math.isnan, found.values()))
    word = _word({**found, "excluded": len(excluded) / max(1, blocks)}) if known else "not judged"
    noise = [
        (f"{environment.get('usable_cores') or '?'} cores ({environment.get('cpu') or 'unknown CPU'})", True),
        (f"foreign CPU {foreign:.2f} cores", foreign >= 0),  # NaN is not
        (f"steal {percent(steal)}", steal >= 0),
        (f"pressure {percent(pressure, 0)}", pressure >= 0),
        (f"throttled {percent(throttled)}", throttled > 0),  # most machines have no quota, nor a word for it
    ]
    worst_ms = trials["client_lag_p99_ms"].max()
    lag = f"client loop p99 {lag_ms:.1f} ms (worst trial {worst_ms:.1f}); "
    lag = "" if math.isnan(lag_ms) else lag
    which = f" ({', '.join(map(str, sorted(excluded)))})" if excluded else ""
    said = ", ".join(words for words, known in noise if known)
    return f"Machine: {word} – {said}; {lag}{len(excluded)} of {blocks} blocks excluded{which}."


def _word(found: Mapping[str, float]) -> str:
    for word, limits in (("quiet", QUIET), ("usable", USABLE)):
        if not any(value > limits[name] for name, value in found.items()):  # NaN exceeds nothing
            return word
    return "noisy"


def idle_offenders(record: Mapping[str, Any]) -> list[str]:
    """A warning for each arm that burnt more than `IDLE_SHARE` of a core while others were measured."""
    return [
        f"The idle arm {arm!r} burnt {idle['cpu_ms'] / idle['wall_ms']:.1%} of a core while others were "
        f"measured (at most {IDLE_SHARE:.0%}): what it took, they missed."
        for arm, idle in (record.get("idle") or {}).items()
        if idle["wall_ms"] and idle["cpu_ms"] / idle["wall_ms"] > IDLE_SHARE
    ]


def whose_cpu(record: Mapping[str, Any]) -> Iterator[str]:
    """Says which processes were counted as an arm's, where its server ran before."""
    counted = {
        arm: [process["command"] for process in about["processes"]]
        for arm, about in (record.get("arms") or {}).items()
        if about.get("processes")
    }
    each = [f"of {arm}: {_number_of(commands)}" for arm, commands in counted.items()]
    if each:
        yield f"CPU {'; '.join(each)}."


def _number_of(commands: list[str]) -> str:
    """4 processes (python server.py, 3 × python -c)."""
    kinds = Counter(commands).most_common()
    told = [command if times == 1 else f"{times} × {command}" for command, times in kinds[:KINDS_TOLD]]
    more = sum(times for _, times in kinds[KINDS_TOLD:])
    told += [f"{more} more"] if more else []
    number = "1 process" if len(commands) == 1 else f"{len(commands)} processes"
    number += " or more" if len(commands) >= MAX_PROCESSES_RECORDED else ""
    return f"{number} ({', '.join(told)})"


def late_generator(record: Mapping[str, Any]) -> list[str]:
    """A warning where the load generator was late at half of its limit, before the run or a resumed part."""
    late = [
        (found.get("dispatch_lag_p50_ms") or 0.0, found.get("dispatch_lag_p99_ms") or 0.0)
        for found in _self_checks(record)
    ]
    return [
        f"The load generator sent late before the run, at half of its limit: p50 {p50:.1f} ms, "
        f"p99 {p99:.1f} ms (at most {LATE_SELF_CHECK_P50_MS:g} and {LATE_SELF_CHECK_P99_MS:g})."
        for p50, p99 in late
        if p50 > LATE_SELF_CHECK_P50_MS or p99 > LATE_SELF_CHECK_P99_MS
    ]


def limited_by_client(
    trials: pd.DataFrame, requests: pd.DataFrame, record: Mapping[str, Any]
) -> dict[tuple[str, str], str]:
    """(arm, load) → why the load generator was the bottleneck there, in most of its good trials.

    A throughput is then a lower bound of what the arm can do, a latency an upper bound.
    """
    good = trials[(trials["block"] > PILOT_BLOCK) & (trials["state"] == OK)]
    sent = requests.groupby("trial")["done_ms"].agg(["size", "max"])
    good = good.merge(sent, left_on="trial", right_index=True)
    good = good[good["max"] > 0]
    busy = pd.to_numeric(good["client_cpu_ms"]) / good["max"]
    good = good.assign(sent_per_s=good["size"] / good["max"] * 1e3, busy=busy)
    limit_per_s = client_limit_per_s(record)
    cells = good.groupby(["arm", "load"], sort=False, observed=True)[["sent_per_s", "busy"]].median()
    told = {
        (str(cell["arm"]), str(cell["load"])): _client_limit(cell["sent_per_s"], cell["busy"], limit_per_s)
        for cell in cells.reset_index().to_dict("records")
    }
    return {cell: why for cell, why in told.items() if why}


def client_limit_per_s(record: Mapping[str, Any]) -> float:
    """What the load generator could send at most when the run began; NaN where nobody looked."""
    rates = [found.get("requests_per_s") for found in _self_checks(record)]
    return min((float(rate) for rate in rates if rate), default=math.nan)


def _self_checks(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """One, or one more for each time that the run was resumed."""
    told = record.get("self_check") or []
    return [told] if isinstance(told, Mapping) else told


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
    """Block → why it is left out as a whole, by maxima that the plan fixed before the run.

    `steal_share` and `foreign_cpu` bound the block's mean over its trials, weighted with their windows;
    `dispatch_lag_p99_ms` bounds the p99 of sent − due over its measured requests in open loops, but for
    trials that met their cap: those were late on account of the server. The pilot is never judged, nor is a
    block by what its platform did not tell. HarnessError for any other criterion: run.json was changed.
    """
    readings = _block_readings(trials, requests)
    strangers = sorted(criteria.keys() - readings.keys())
    if strangers:
        raise HarnessError(
            f"The plan excludes blocks by what nobody knows: {', '.join(strangers)}.",
            stage="report",
            hint=f"Under exclude in run.json there may be: {', '.join(readings)}.",
        )
    reasons: dict[int, list[str]] = {}
    for name, limit in criteria.items():
        for block, value in readings[name].items():
            if value > limit:
                reasons.setdefault(block, []).append(f"{name} {value:.3g} (at most {limit:g})")
    return {int(block): "; ".join(reasons[block]) for block in sorted(reasons)}


def _block_readings(trials: pd.DataFrame, requests: pd.DataFrame) -> dict[str, dict[int, float]]:
    """Criterion → block → what was read; NaN where nothing was."""
    trials = trials[trials["block"] > PILOT_BLOCK]
    blocks = dict(iter(trials.groupby("block")))
    open_loop = trials.loc[trials["concurrency"].isna() & (trials["capped"] == 0), "trial"]
    shots = requests[requests["trial"].isin(open_loop) & (requests["phase"] == MEASURE)]
    lags = shots["sent_ms"] - shots["due_ms"]
    return {
        "steal_share": {block: _mean(rows, "steal_share") for block, rows in blocks.items()},
        "foreign_cpu": {block: _mean(rows, "foreign_cpu") for block, rows in blocks.items()},
        "dispatch_lag_p99_ms": {
            block: percentile(np.asarray(found, dtype=np.float64), 99)
            for block, found in lags.groupby(shots["block"])
        },
    }


def _mean(trials: pd.DataFrame, column: str) -> float:
    """Mean over the trials that have a reading, each weighted with its window; NaN when none has."""
    windows = trials["window_end_ms"] - trials["window_start_ms"]
    values = pd.to_numeric(trials[column])  # a column without any reading may be of objects
    weights = windows.where(values.notna(), 0.0)
    total = float(weights.sum())
    return float((values.fillna(0.0) * weights).sum()) / total if total else math.nan


# -- arms ----------------------------------------------------------------------------------------------


def costs(
    trials: pd.DataFrame, requests: pd.DataFrame, record: Mapping[str, Any] | None = None
) -> pd.DataFrame:
    """A row per arm and load, in order of appearance, of good trials after the pilot: what a request took.

    CPU is of whole trials, warm-up included, over all their requests but the pings. `server_lag_p99_ms` and
    `client_lag_p99_ms` are medians over trials, `server_lag_max_ms` the worst. `ping_*` is the latency of the
    route without model beside the load; a failed ping ranks as infinite, and NaN stands where there were too
    few for the percentile. `memory_uss_mb` is the arm's, from `record`; NaN without.
    """
    good = trials[(trials["block"] > PILOT_BLOCK) & (trials["state"] == OK)]
    asked = requests.loc[requests["phase"] != PING, "trial"].value_counts()  # through the model's route
    good = good.assign(asked=good["trial"].map(asked).fillna(0))
    pings = requests[(requests["phase"] == PING) & requests["trial"].isin(good["trial"])]
    told = ((record or {}).get("arms") or {}).items()
    uss_mb = {arm: about["uss_bytes"] / 1e6 for arm, about in told if about.get("uss_bytes") is not None}
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
    asked = float(cell["asked"].where(values.notna(), 0).sum())
    return float(values.sum()) / asked if asked else math.nan


def _ping_figures(pings: pd.DataFrame) -> dict[str, float]:
    latencies = (pings["done_ms"] - pings["due_ms"]).where(pings["error"] == "", math.inf)
    values = np.asarray(latencies, dtype=np.float64)
    return {f"ping_p{percent}_ms": fit_to_be_shown(np.sort(values), percent) for percent in (50, 90, 99)}


def cell_lags_behind(rows: pd.DataFrame) -> str:
    """Why one arm under one load is invalid, by how late the client sent; empty when it is fine.

    `rows` are its requests, of all blocks; the measured ones are judged. The latency's p50 is of the good
    ones: a server that answers nothing does not excuse its client.
    """
    rows = rows[rows["phase"] == MEASURE]
    good = rows[rows["error"] == ""]
    late_ms = percentile(np.asarray(rows["sent_ms"] - rows["due_ms"], dtype=np.float64), 99)
    latency_ms = percentile(np.asarray(good["done_ms"] - good["due_ms"], dtype=np.float64), 50)
    limit_ms = max(LATE_CELL_P99_MS, 0.0 if math.isnan(latency_ms) else LATE_CELL_SHARE * latency_ms)
    if not late_ms > limit_ms:
        return ""
    return f"the client sent 1 % of the requests {late_ms:.1f} ms late or more (at most {limit_ms:.1f})"
