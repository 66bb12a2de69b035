"""Derive figures from rows: per request, per arm and load, and per block.

Pure functions: frames in, frames out. There are two kinds of figures. *Pooled* figures (`summarise`) describe
all requests of an arm under a load. *Per-block* figures (`per_block`) are the basis for comparing arms, since
the requests of one trial are not independent.

Percentiles are numpy's default, "linear": the value at place (n − 1) q of the sorted values x₀ … xₙ₋₁, with
linear interpolation. In a percentile of latency, a failure counts as infinite and so ranks above every
success. All other metrics, and all means, are over the good rows, and the number of failures is given
separately.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.analysis.arrays import Floats
from harness.analysis.percentiles import Pool, percentile, percentile_if_enough
from harness.wire.records import MEASURE, PILOT_BLOCK, PING

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
IO_SERVER, IO_STALL = "io_server_ms", "io_stall_ms"
IO_SPLIT_METRICS = (IO_SERVER, IO_STALL)  # only if the service reports its own time
PERCENTILES = (5, 50, 95)
TAIL_METRICS = (LATENCY, "io_ms")  # the user's wait, and the article's subject
TAIL_PERCENTILES = (5, 50, 90, 95, 99)

BLOCK_METRICS = (*REQUEST_METRICS, "io_nominal_ms", "model_plus_io_share", THROUGHPUT)
STATS = {"mean": None, "median": 50, "p5": 5, "p50": 50, "p90": 90, "p95": 95, "p99": 99}

TRIAL_FACTS = ["concurrency", "io_nominal_ms", "window_start_ms", "window_end_ms", "trial_state"]
CELL_COLUMNS = ["arm", "strategy", "load", "concurrency"]
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

    Omits the pilot (block 0) unless `pilot` is set, requests without a trial (left by a killed run), and
    pings, which are not part of the load. Adds the trial's `concurrency`, `io_nominal_ms`, `window_start_ms`,
    `window_end_ms` and `trial_state` to each row. `model_plus_io_share` is (route_model + io) / service: the
    share of a call that the article's parts explain. `model_share_ms` is the request's share of the model
    call: model / batch size. If the service reports its own time, `io_stall_ms` is the rest of the wait: the
    network, the driver, the wait for a connection, and other work of the event loop.
    """
    first = PILOT_BLOCK if pilot else PILOT_BLOCK + 1
    finished = trials[trials["block"] >= first].rename(columns={"state": "trial_state"})
    finished["trial_state"] = finished["trial_state"].astype("category")  # two values repeated in every row
    places = pd.Index(finished["trial"]).get_indexer(requests["trial"])  # faster and smaller than a merge
    counted = (places >= 0) & np.asarray(requests["phase"] != PING)
    rows = requests if counted.all() else requests[counted]
    rows = rows.reset_index(drop=True)
    added = {name: finished[name].array.take(places[counted]) for name in TRIAL_FACTS}
    # if a server reports a single time for the model, it includes the queue and the way back
    whole = rows["queue_ms"] + rows["model_ms"] + rows["resume_ms"]
    route_model = whole.where(~_is_unsplit(rows), rows["model_ms"])
    service = rows["done_ms"] - rows["sent_ms"]
    if rows[IO_SERVER].notna().any():
        added[IO_STALL] = rows["io_ms"] - rows[IO_SERVER]
    return rows.assign(
        **added,
        ok=rows["error"] == "",
        route_model_ms=route_model,
        outside_ms=service - rows["handler_ms"],
        latency_ms=rows["done_ms"] - rows["due_ms"],
        service_ms=service,
        dispatch_lag_ms=rows["sent_ms"] - rows["due_ms"],
        model_plus_io_share=(route_model + rows["io_ms"]) / service,
        model_share_ms=rows["model_ms"] / rows["batch_size"],
    )


def _is_unsplit(rows: pd.DataFrame) -> pd.Series[bool]:
    return rows["queue_ms"].isna() & rows["resume_ms"].isna() & rows["model_ms"].notna()


def unsplit_arms(derived: pd.DataFrame) -> list[str]:
    """The arms whose servers report a time for the model, but neither the queue nor the way back."""
    return [str(arm) for arm in derived.loc[_is_unsplit(derived), "arm"].unique()]


class Cells:
    """An index of a frame's rows by cell, so that selecting a cell need not search the other rows.

    A key is a tuple of values of the columns `by`. Rows with a missing value belong to no cell.
    """

    def __init__(self, frame: pd.DataFrame, by: Sequence[str] = ("arm", "load")) -> None:
        self._frame = frame
        numbers = np.asarray(frame.groupby(list(by), observed=True, sort=False).ngroup())
        order = np.argsort(numbers, kind="stable")
        cells, begins = np.unique(numbers[order], return_index=True)
        parts = np.split(order, begins)[1:]  # the part before the first cell is empty
        keys = zip(*(frame[name].array.take(order[begins]) for name in by), strict=True)
        self._places = {key: at for number, key, at in zip(cells, keys, parts, strict=True) if number >= 0}

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """The keys, in order of first appearance."""
        return iter(self._places)

    def select(self, key: tuple[Any, ...], names: Sequence[str] | None = None) -> pd.DataFrame:
        """A cell's rows in the frame's order, with a new index; only the columns `names`, if given."""
        at = self._places.get(key, np.empty(0, dtype=np.intp))
        columns = self._frame.columns if names is None else names
        return pd.DataFrame({name: self._frame[name].array.take(at) for name in columns})


def measured(derived: pd.DataFrame) -> pd.DataFrame:
    """The rows of phase measure, including failures."""
    return derived[derived["phase"] == MEASURE]


def under(law: str, frame: pd.DataFrame) -> pd.DataFrame:
    """The rows whose load has this arrival law."""
    every = list(frame["load"].unique())
    loads = [load for load in every if str(load).startswith(f"{law}(")]
    return frame if loads == every else frame[frame["load"].isin(loads)]


def cell(derived: pd.DataFrame, arm: str, concurrency: int) -> pd.DataFrame:
    """The rows of one arm at one concurrency, in all blocks and phases."""
    return derived[(derived["arm"] == arm) & (derived["concurrency"] == concurrency)]


def statistic(rows: pd.DataFrame, metric: str, stat: str) -> float:
    """One of `STATS` of a metric over these rows; NaN without a value. Ignores the floors of `summarise`."""
    return _reduce(_values(rows, metric, stat), stat)


def _values(rows: pd.DataFrame, metric: str, stat: str) -> Floats:
    """The values for a statistic: of good rows, and infinity for failures in a percentile of latency."""
    values = _ranked(rows, metric, stat)
    return values[~np.isnan(values)]


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


def throughput(derived: pd.DataFrame, *, good_only: bool = True) -> pd.Series[float]:
    """Good answers per second, or all answers if not `good_only`, indexed by trial. Omits failed trials.

    Closed loop: users / mean latency of the measured requests x the share of the window that users spend in
    requests (Little's law) x the share of good requests. Users pause after a request without an answer, so
    they spend less than the whole window in requests if connections drop. Counting answers in a short window
    would depend on its ends if answers come in bursts: for inline at c = 8 and 40 requests it is 7 % too
    high.

    Any other load: good answers of any phase within the trial's window (start, end], divided by its length.
    """
    sound = np.flatnonzero(derived["trial_state"] == "ok")
    rows = {name: derived[name].array.take(sound) for name in THROUGHPUT_COLUMNS}
    trials, first, codes = np.unique(np.asarray(rows["trial"]), return_index=True, return_inverse=True)
    done = np.asarray(rows["done_ms"], dtype=np.float64)
    begins, ends = (np.asarray(rows[f"window_{end}_ms"], dtype=np.float64) for end in ("start", "end"))
    counts = np.asarray(rows["ok"], dtype=bool) | (not good_only)
    windows_ms = (ends - begins)[first]

    def sums(values: npt.NDArray[Any]) -> Floats:
        return np.asarray(np.bincount(codes, weights=values, minlength=len(trials)), dtype=np.float64)

    in_window = np.asarray(rows["phase"] == MEASURE)
    latency_ms = sums(np.where(in_window, np.asarray(rows[LATENCY], dtype=np.float64), 0.0))
    # the time within the window that users spend in requests of any phase
    begun = np.maximum(np.asarray(rows["due_ms"], dtype=np.float64), begins)
    users = sums(np.maximum(np.minimum(done, ends) - begun, 0.0)) / windows_ms
    with np.errstate(divide="ignore", invalid="ignore"):
        by_latency = sums(counts & in_window) * users / latency_ms * 1000.0
    by_window = sums(counts & (begins < done) & (done <= ends)) / windows_ms * 1000.0
    closed = [str(rows["load"][place]).startswith("closed(") for place in first]
    return pd.Series(
        np.where(closed, by_latency, by_window), index=pd.Index(trials, name="trial"), name=THROUGHPUT
    )


def per_block(rows: pd.DataFrame, metric: str, stat: str = "median") -> pd.Series[float]:
    """One figure per block of a cell's rows, indexed by block: `stat` over the block's measured requests.

    Failed trials and trials without a good row are absent, not zero. Percentile floors do not apply: the p95
    of one block is imprecise, and the spread over blocks shows how imprecise. `stat` has no effect on
    throughput, which has one value per trial.
    """
    rows = rows[rows["trial_state"] == "ok"]
    in_window = measured(rows)
    answered = in_window.loc[in_window["ok"], "block"].unique()
    figures = block_throughput(rows) if metric == THROUGHPUT else block_statistic(in_window, metric, stat)
    return figures[figures.index.isin(answered)].dropna()


def block_throughput(rows: pd.DataFrame) -> pd.Series[float]:
    """Good answers per second of each block, in block order."""
    blocks = rows.groupby("trial")["block"].first().rename("block")
    return throughput(rows).groupby(blocks).mean()


def block_statistic(rows: pd.DataFrame, metric: str, stat: str) -> pd.Series[float]:
    """One figure of these rows' metric per block, in block order; omits blocks without a value."""
    of_blocks = _block_values(rows, metric, stat)
    figures = [_reduce(values, stat) for values in of_blocks.values()]
    return pd.Series(figures, index=np.array(list(of_blocks), dtype=np.int64), dtype="float64", name=metric)


def pool(rows: pd.DataFrame, metric: str, blocks: Iterable[int]) -> Pool:
    """The values of these blocks for percentiles, in block order; a failure has infinite latency."""
    return Pool(list(_block_values(rows[rows["block"].isin(list(blocks))], metric, "median").values()))


def _block_values(rows: pd.DataFrame, metric: str, stat: str) -> dict[int, Floats]:
    """As `_values`, for each block with a value, in block order."""
    blocks = np.asarray(rows["block"])
    values = _ranked(rows, metric, stat)
    values, blocks = values[~np.isnan(values)], blocks[~np.isnan(values)]
    order = np.argsort(blocks, kind="stable")
    numbers, begins = np.unique(blocks[order], return_index=True)
    groups = np.split(values[order], begins)[1:]  # the part before the first block is empty
    return {int(number): group for number, group in zip(numbers, groups, strict=True)}


# -- per arm and load ----------------------------------------------------------------------------------


def summarise(derived: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """One row per arm and load, pooled over blocks, by order of arms in the trials and then by concurrency.

    Columns: arm, strategy, load, concurrency, blocks (with a trial that did not fail), failed_trials,
    requests and failed (measured ones), window_s, throughput_per_s (good answers) and answered_per_s (medians
    over trials). Each metric has `<name>_mean_ms`, `_p5_ms`, `_p50_ms` and `_p95_ms`; latency and I/O also
    have `_p90_ms` and `_p99_ms`. The metrics of `IO_SPLIT_METRICS` have columns only if a request has a
    value. NaN below the floors: p5, p90 and p95 need 64 requests, p99 needs 662.
    """
    metrics = (*REQUEST_METRICS, *IO_SPLIT_METRICS) if IO_STALL in derived else REQUEST_METRICS
    needed = list(dict.fromkeys([*THROUGHPUT_COLUMNS, *metrics]))
    cells = Cells(derived)
    place = {arm: number for number, arm in enumerate(trials["arm"].unique())}
    tried = trials[trials["block"] > PILOT_BLOCK].assign(place=trials["arm"].map(place))
    tried = tried.sort_values(["place", "concurrency", "load"])
    return pd.DataFrame(
        [
            _summary_row(its_trials, cells.select((arm, load), needed), metrics)
            for (arm, load), its_trials in tried.groupby(["arm", "load"], sort=False, observed=True)
        ]
    )


def _summary_row(trials: pd.DataFrame, rows: pd.DataFrame, metrics: Sequence[str]) -> dict[str, object]:
    good = trials[trials["state"] == "ok"]
    in_window = measured(rows)
    return {
        **{name: trials[name].iloc[0] for name in CELL_COLUMNS},
        "blocks": good["block"].nunique(),
        "failed_trials": len(trials) - len(good),
        "requests": len(in_window),
        "failed": int((~in_window["ok"]).sum()),
        "window_s": ((good["window_end_ms"] - good["window_start_ms"]) / 1e3).median(),
        THROUGHPUT: throughput(rows).median(),
        ANSWERED: throughput(rows, good_only=False).median(),
        **_metric_figures(in_window, metrics),
    }


def _metric_figures(rows: pd.DataFrame, metrics: Sequence[str]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for metric in metrics:
        name = metric.removesuffix("_ms")
        figures[f"{name}_mean_ms"] = statistic(rows, metric, "mean")
        ranked = np.sort(_values(rows, metric, "median"))
        for percent in TAIL_PERCENTILES if metric in TAIL_METRICS else PERCENTILES:
            figures[f"{name}_p{percent}_ms"] = percentile_if_enough(ranked, percent)
    return figures


def pooled_percentile(rows: pd.DataFrame, metric: str, percent: int) -> float:
    """A percentile over these rows; NaN if there are too few requests for it (`FEWEST_REQUESTS`)."""
    return percentile_if_enough(np.sort(_values(rows, metric, f"p{percent}")), percent)
