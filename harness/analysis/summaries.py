"""Derive figures from rows: per request, per arm and load, and per block.

Pure functions: `Requests` in, frames out. There are two kinds of figures. *Pooled* figures (`summarise`)
describe all requests of an arm under a load. *Per-block* figures (`per_block`) are the basis for comparing
arms, since the requests of one trial are not independent.

Percentiles are numpy's default, "linear": the value at place (n − 1) q of the sorted values x₀ … xₙ₋₁, with
linear interpolation. In a percentile of latency, a failure counts as infinite and so ranks above every
success. All other metrics, and all means, are over the good rows, and the number of failures is given
separately.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.analysis.arrays import Counts, Floats
from harness.analysis.percentiles import Pool, percentile, percentile_if_enough
from harness.analysis.rows import (
    FIGURES,
    IO_SERVER,
    IO_STALL,
    OPTIONAL,
    TO_FIRST_BYTE,
    TRIAL_FACTS,
    Columns,
    Of,
    R,
    Requests,
    Rows,
    in_parts,
    is_elsewhere,
    is_unsplit,
    of_trials,
    sound,
    trial_facts,
)
from harness.analysis.rows import Cells as Cells
from harness.analysis.rows import measured as measured
from harness.wire.records import MEASURE, PILOT_BLOCK, PING, SOUND

LATENCY = "latency_ms"
THROUGHPUT = "throughput_per_s"  # good answers
ANSWERED = "answered_per_s"  # including failed ones

REQUEST_METRICS = (
    LATENCY,
    "service_ms",
    "dispatch_lag_ms",
    "route_model_ms",
    "queue_ms",
    "model_ms",
    "model_cpu_ms",
    "resume_ms",
    "io_ms",
    "handler_ms",
    "outside_ms",
)
IO_SPLIT_METRICS = (IO_SERVER, IO_STALL)  # only if the service reports its own time
PERCENTILES = (5, 50, 95)
TAIL_METRICS = (LATENCY, "io_ms")  # the user's wait, and the article's subject
TAIL_PERCENTILES = (5, 50, 90, 95, 99)
EVERY_METRIC = (*REQUEST_METRICS, *IO_SPLIT_METRICS, TO_FIRST_BYTE)  # the last three may be absent

BLOCK_METRICS = (*REQUEST_METRICS, "io_nominal_ms", "model_plus_io_share", THROUGHPUT)
STATS = {"mean": None, "median": 50, "p5": 5, "p50": 50, "p90": 90, "p95": 95, "p99": 99}

CELL_COLUMNS = ["arm", "strategy", "load", "concurrency"]
MEANINGS = {  # column of summary.csv → what it means; docs/reference/csv.md shows it
    "arm": "Name of the arm.",
    "strategy": "Name of its strategy.",
    "load": "The arrival law, such as closed(8).",
    "concurrency": "Closed loop: number of users; empty in an open loop.",
    "blocks": "Blocks with a trial that did not fail.",
    "failed_trials": "Trials that failed or are invalid.",
    "requests": "Measured requests, with failures.",
    "failed": "Those without a good answer.",
    "window_s": "Length of the measured window: median over trials.",
    THROUGHPUT: "Good answers per second: median over trials.",
    ANSWERED: "Answers per second, with failed ones: median over trials.",
    "rate_per_s": "Open loop: mean arrivals per second of the law.",
    "dispatch_lag_p99_ms": "99th percentile of the dispatch lag (sent - due).",
    "saturated": "Open loop: whether requests came faster than the arm answered them.",
    "client_limited": "Whether the load generator limits the arm, so that its figures are bounds.",
}
THROUGHPUT_COLUMNS = [
    "block",
    "trial",
    "trial_state",
    "load",
    "concurrency",
    "phase",
    "ok",
    LATENCY,
    "due_ms",
    "done_ms",
    "window_start_ms",
    "window_end_ms",
]


# -- per request ---------------------------------------------------------------------------------------


def derive(requests: pd.DataFrame, trials: pd.DataFrame, *, pilot: bool = False) -> pd.DataFrame:
    """All requests, also warm-ups and failures, with figures derived from their stamps, in the given order.

    For a short run: it is a frame of all columns. `Rows` has the same columns of a long one.

    Omits the pilot (block 0) unless `pilot` is set, requests without a trial (left by a killed run), and
    pings, which are not part of the load. Adds the trial's `concurrency`, `io_nominal_ms`, `window_start_ms`,
    `window_end_ms` and `trial_state` to each row. `model_plus_io_share` is (route_model + io) / service: the
    share of a call that the article's parts explain. `model_share_ms` is the request's share of the model
    call: model / batch size. If the service reports its own time, `io_stall_ms` is the rest of the wait: the
    network, the driver, the wait for a connection, and other work of the event loop.
    `time_to_first_byte_ms`, from due until the body began to arrive, is absent if no body was stamped.
    """
    first = PILOT_BLOCK if pilot else PILOT_BLOCK + 1
    finished = trials[trials["block"] >= first].rename(columns={"state": "trial_state"})
    finished["trial_state"] = finished["trial_state"].astype("category")  # two values repeated in every row
    places = pd.Index(finished["trial"]).get_indexer(requests["trial"])  # faster and smaller than a merge
    counted = (places >= 0) & np.asarray(requests["phase"] != PING)
    rows = requests if counted.all() else requests[counted]
    rows = rows.reset_index(drop=True)
    added = {name: finished[name].array.take(places[counted]) for name in TRIAL_FACTS}
    of = Columns(rows.__getitem__)
    optional = [name for name, (_, needed) in OPTIONAL.items() if rows[needed].notna().any()]
    return rows.assign(**added, **{name: of(name) for name in [*optional, *FIGURES]})


def unsplit_arms(rows: Requests) -> list[str]:
    """The arms whose servers report one time for the model, with the queue and the way back in it."""
    return _arms(rows, is_unsplit)


def arms_elsewhere(rows: Requests) -> list[str]:
    """The arms whose workers run on another host than their server."""
    return _arms(rows, is_elsewhere)


def _arms(rows: Requests, which: Callable[[Of], pd.Series[bool]]) -> list[str]:
    found: dict[str, None] = {}
    for part in in_parts(rows, ["arm", "queue_ms", "model_ms", "resume_ms", "worker_pid"]):
        arms = part.loc[which(part.__getitem__), "arm"].unique()
        found |= dict.fromkeys(str(arm) for arm in arms)
    return list(found)


def under(law: str, rows: R) -> R:
    """The rows whose load has this arrival law."""
    loads = trial_facts(rows)["load"].unique()
    return of_trials(rows, "load", [load for load in loads if str(load).startswith(f"{law}(")])


def cell(derived: pd.DataFrame, arm: str, concurrency: int) -> pd.DataFrame:
    """The rows of one arm at one concurrency, in all blocks and phases."""
    return derived[(derived["arm"] == arm) & (derived["concurrency"] == concurrency)]


def statistic(rows: Requests, metric: str, stat: str) -> float:
    """One of `STATS` of a metric over these rows; NaN without a value. Ignores the floors of `summarise`."""
    return _reduce(_values(rows, metric, stat), stat)


def _values(rows: Requests, metric: str, stat: str) -> Floats:
    """The values for a statistic: of good rows, and infinity for failures in a percentile of latency."""
    found = [_ranked(part, metric, stat) for part in in_parts(rows, ["ok", metric])]
    known = [values[~np.isnan(values)] for values in found]
    return known[0] if len(known) == 1 else np.concatenate(known)


def _ranked(rows: pd.DataFrame, metric: str, stat: str) -> Floats:
    """As `_values`, but with a value for each row: NaN for a row that does not count."""
    failure = math.inf if metric == LATENCY and STATS[stat] is not None else math.nan
    values = np.asarray(rows[metric], dtype=np.float64)
    return np.where(np.asarray(rows["ok"], dtype=bool), values, failure)


def _reduce(values: Floats, stat: str) -> float:
    percent = STATS[stat]
    if percent is None:
        return float(values.mean()) if len(values) else math.nan
    return percentile(values, percent)


# -- per trial and block -------------------------------------------------------------------------------


def throughput(rows: Requests, *, good_only: bool = True) -> pd.Series[float]:
    """Good answers per second, or all answers if not `good_only`, indexed by trial. Omits failed trials.

    Closed loop: users / mean latency of the measured requests x the share of the window that users spend in
    requests (Little's law) x the share of good requests. Users pause after a request without an answer, so
    they spend less than the whole window in requests if connections drop. Counting answers in a short window
    would depend on its ends if answers come in bursts: for inline at c = 8 and 40 requests it is 7 % too
    high.

    Any other load: good answers of any phase within the trial's window (start, end], divided by its length.
    """
    known: dict[int, _Trial] = {}
    for part in in_parts(rows, THROUGHPUT_COLUMNS):
        known |= _add(part, known, good_only=good_only)
    trials = [known[number] for number in sorted(known)]
    windows_ms = np.array([trial.window_ms for trial in trials])
    latency_ms, busy_ms, measured_answers, answers = (
        np.array([trial.sums for trial in trials]).reshape(-1, 4).T
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        users = busy_ms / windows_ms
        by_latency = measured_answers * users / latency_ms * 1000.0
        by_window = answers / windows_ms * 1000.0
    return pd.Series(
        np.where([trial.is_closed for trial in trials], by_latency, by_window),
        index=pd.Index(sorted(known), name="trial", dtype="int64"),
        name=THROUGHPUT,
    )


class _Trial(NamedTuple):
    """What the throughput of a trial is computed from, over the requests that were seen so far."""

    is_closed: bool
    window_ms: float
    sums: tuple[
        float, ...
    ]  # latency and time in requests within the window, both in ms; answers; within the window


def _add(part: pd.DataFrame, known: Mapping[int, _Trial], *, good_only: bool) -> dict[int, _Trial]:
    """The trials of these rows, with the rows added to what is known of them. Omits failed trials."""
    counted = np.flatnonzero(part["trial_state"].isin(SOUND))
    rows = {name: part[name].array.take(counted) for name in THROUGHPUT_COLUMNS}
    trials, first, codes = np.unique(np.asarray(rows["trial"]), return_index=True, return_inverse=True)
    done = np.asarray(rows["done_ms"], dtype=np.float64)
    begins, ends = (np.asarray(rows[f"window_{end}_ms"], dtype=np.float64) for end in ("start", "end"))
    counts = np.asarray(rows["ok"], dtype=bool) | (not good_only)
    in_window = np.asarray(rows["phase"] == MEASURE)
    latency_ms = np.where(in_window, np.asarray(rows[LATENCY], dtype=np.float64), 0.0)
    # the time within the window that users spend in requests of any phase
    begun = np.maximum(np.asarray(rows["due_ms"], dtype=np.float64), begins)
    busy_ms = np.maximum(np.minimum(done, ends) - begun, 0.0)
    values = (latency_ms, busy_ms, counts & in_window, counts & (begins < done) & (done <= ends))
    before = [known[trial].sums if trial in known else (0.0,) * len(values) for trial in trials.tolist()]
    sums = [_sums(codes, one, [sums[place] for sums in before]) for place, one in enumerate(values)]
    return {
        trial: _Trial(str(rows["load"][at]).startswith("closed("), ends[at] - begins[at], tuple(of_trial))
        for trial, at, of_trial in zip(trials.tolist(), first, zip(*sums, strict=True), strict=True)
    }


def _sums(codes: Counts, values: npt.NDArray[Any], before: Sequence[float]) -> Floats:
    """The sum of the values of each code, one value after the other, from what it was `before`."""
    if any(before):
        codes = np.concatenate([np.arange(len(before)), codes])
        values = np.concatenate([before, values])
    return np.asarray(np.bincount(codes, weights=values, minlength=len(before)), dtype=np.float64)


def per_block(rows: Requests, metric: str, stat: str = "median") -> pd.Series[float]:
    """One figure per block of a cell's rows, indexed by block: `stat` over the block's measured requests.

    Failed trials and trials without a good row are absent, not zero. Percentile floors do not apply: the p95
    of one block is imprecise, and the spread over blocks shows how imprecise. `stat` has no effect on
    throughput, which has one value per trial.
    """
    rows = sound(rows)
    in_window = measured(rows)
    answered = {
        block
        for part in in_parts(in_window, ["block", "ok"])
        for block in part.loc[part["ok"], "block"].unique()
    }
    figures = block_throughput(rows) if metric == THROUGHPUT else block_statistic(in_window, metric, stat)
    return figures[figures.index.isin(answered)].dropna()


def block_throughput(rows: Requests) -> pd.Series[float]:
    """Good answers per second of each block, in block order."""
    blocks = trial_facts(rows).groupby("trial")["block"].first().rename("block")
    return throughput(rows).groupby(blocks).mean()


def block_statistic(rows: Requests, metric: str, stat: str) -> pd.Series[float]:
    """One figure of these rows' metric per block, in block order; omits blocks without a value."""
    of_blocks = _block_values(rows, metric, stat)
    figures = [_reduce(values, stat) for values in of_blocks.values()]
    return pd.Series(figures, index=np.array(list(of_blocks), dtype=np.int64), dtype="float64", name=metric)


def pool(rows: Requests, metric: str, blocks: Iterable[int]) -> Pool:
    """The values of these blocks for percentiles, in block order; a failure has infinite latency."""
    return Pool(list(_block_values(of_trials(rows, "block", list(blocks)), metric, "median").values()))


def _block_values(rows: Requests, metric: str, stat: str) -> dict[int, Floats]:
    """As `_values`, for each block with a value, in block order."""
    if isinstance(rows, Rows):
        each = {
            int(block): of_trials(rows, "block", [block]) for block in sorted(rows.trials["block"].unique())
        }
        found = {block: _values(its, metric, stat) for block, its in each.items()}
        return {block: values for block, values in found.items() if len(values)}
    blocks = np.asarray(rows["block"])
    values = _ranked(rows, metric, stat)
    values, blocks = values[~np.isnan(values)], blocks[~np.isnan(values)]
    order = np.argsort(blocks, kind="stable")
    numbers, begins = np.unique(blocks[order], return_index=True)
    groups = np.split(values[order], begins)[1:]  # the part before the first block is empty
    return {int(number): group for number, group in zip(numbers, groups, strict=True)}


# -- per arm and load ----------------------------------------------------------------------------------


def summarise(requests: Requests, trials: pd.DataFrame) -> pd.DataFrame:
    """One row per arm and load, pooled over blocks, by order of arms in the trials, then by users and rate.

    Columns: arm, strategy, load, concurrency, blocks (with a trial that did not fail), failed_trials,
    requests and failed (measured ones), window_s, throughput_per_s (good answers) and answered_per_s (medians
    over trials). Each metric has `<name>_mean_ms`, `_p5_ms`, `_p50_ms` and `_p95_ms`; latency and I/O also
    have `_p90_ms` and `_p99_ms`. The metrics of `IO_SPLIT_METRICS` and `TO_FIRST_BYTE` have columns only if a
    request has a value. NaN below the floors: p5, p90 and p95 need 64 requests, p99 needs 662.
    """
    split = IO_SPLIT_METRICS if IO_STALL in requests else ()
    metrics = (*REQUEST_METRICS, *split, *([TO_FIRST_BYTE] if TO_FIRST_BYTE in requests else []))
    needed = list(dict.fromkeys([*THROUGHPUT_COLUMNS, *metrics]))
    cells = Cells(requests)
    place = {arm: number for number, arm in enumerate(trials["arm"].unique())}
    tried = trials[trials["block"] > PILOT_BLOCK].assign(place=trials["arm"].map(place))
    tried = tried.sort_values(["place", "concurrency", "rate_per_s", "load"])
    return pd.DataFrame(
        [
            _summary_row(its_trials, cells.rows((arm, load), needed), metrics)
            for (arm, load), its_trials in tried.groupby(["arm", "load"], sort=False, observed=True)
        ]
    )


def _summary_row(trials: pd.DataFrame, rows: Requests, metrics: Sequence[str]) -> dict[str, object]:
    good = trials[trials["state"].isin(SOUND)]
    in_window = measured(rows)
    return {
        **{name: trials[name].iloc[0] for name in CELL_COLUMNS},
        "blocks": good["block"].nunique(),
        "failed_trials": len(trials) - len(good),
        "requests": len(in_window),
        "failed": sum(int((~part["ok"]).sum()) for part in in_parts(in_window, ["ok"])),
        "window_s": ((good["window_end_ms"] - good["window_start_ms"]) / 1e3).median(),
        THROUGHPUT: throughput(rows).median(),
        ANSWERED: throughput(rows, good_only=False).median(),
        **_metric_figures(in_window, metrics),
    }


def _metric_figures(rows: Requests, metrics: Sequence[str]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for metric in metrics:
        name = metric.removesuffix("_ms")
        figures[f"{name}_mean_ms"] = statistic(rows, metric, "mean")
        ranked = np.sort(_values(rows, metric, "median"))
        for percent in percents_of(metric):
            figures[f"{name}_p{percent}_ms"] = percentile_if_enough(ranked, percent)
    return figures


def percents_of(metric: str) -> tuple[int, ...]:
    """The percentiles of a metric that the summary has."""
    return TAIL_PERCENTILES if metric in TAIL_METRICS else PERCENTILES


def pooled_percentile(rows: Requests, metric: str, percent: int) -> float:
    """A percentile over these rows; NaN if there are too few requests for it (`FEWEST_REQUESTS`)."""
    return percentile_if_enough(np.sort(_values(rows, metric, f"p{percent}")), percent)
