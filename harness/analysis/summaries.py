"""From rows to figures: what a request cost, what an arm did under a load, what a block says.

Pure: frames in, frames out, no disk. Two readings are kept apart. *Pooled* figures (`summarise`) describe
every request of an arm under a load; *per block* figures (`per_block`) are what arms are compared by, since
the requests of one trial share one server's luck.

Percentiles are numpy's default, "linear": sorted values x₀ … xₙ₋₁ read at place (n − 1) q, in between in
proportion. A failure ranks above every success in a percentile of latency, as infinity; every other metric,
and every mean, is over the good rows, with the number of failures beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.analysis.arrays import Floats
from harness.analysis.percentiles import Pool, fit_to_be_shown, percentile
from harness.wire.records import MEASURE, PILOT_BLOCK, PING

LATENCY = "latency_ms"
THROUGHPUT = "throughput_per_s"  # good answers
ANSWERED = "answered_per_s"  # the failed ones too

METRICS = (
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
IO_TOLD_APART = (IO_SERVER, IO_STALL)  # only where the other side of the I/O says what it took itself
PERCENTILES = (5, 50, 95)
TAIL_METRICS = (LATENCY, "io_ms")  # what a user waits, and what the article is about
TAIL_PERCENTILES = (5, 50, 90, 95, 99)

BLOCK_METRICS = (*METRICS, "io_nominal_ms", "model_plus_io_share", THROUGHPUT)
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
    """Every request with what follows from its stamps, in the order given. Warm-ups and failures stay.

    Left out: the pilot (block 0) unless it is asked for, requests of no trial (the torn tail of a killed
    run), and pings, which are no part of the load. From its trial each row gets `concurrency`,
    `io_nominal_ms`, `window_start_ms`, `window_end_ms` and `trial_state`.
    `model_plus_io_share` is (route_model + io) / service: how much of a call the article's parts explain.
    `model_share_ms` is the request's share of the call that it was in: model / batch size.
    Where the other side of the I/O tells its own time, `io_stall_ms` is what it did not take itself of the
    wait: the wire, the driver, the wait for a connection, and the event loop's other work.
    """
    first = PILOT_BLOCK if pilot else PILOT_BLOCK + 1
    finished = trials[trials["block"] >= first].rename(columns={"state": "trial_state"})
    finished["trial_state"] = finished["trial_state"].astype("category")  # one of two words, in every row
    theirs = pd.Index(finished["trial"]).get_indexer(requests["trial"])  # quicker and smaller than a merge
    counted = (theirs >= 0) & np.asarray(requests["phase"] != PING)
    rows = requests if counted.all() else requests[counted]
    rows = rows.reset_index(drop=True)
    told = {name: finished[name].array.take(theirs[counted]) for name in TRIAL_FACTS}
    # a server that tells one time for the model has the queue and the way back in it
    whole = rows["queue_ms"] + rows["model_ms"] + rows["resume_ms"]
    route_model = whole.where(~_is_unsplit(rows), rows["model_ms"])
    service = rows["done_ms"] - rows["sent_ms"]
    if rows[IO_SERVER].notna().any():
        told[IO_STALL] = rows["io_ms"] - rows[IO_SERVER]
    return rows.assign(
        **told,
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
    """The arms whose servers tell a time for the model, but neither queue nor way back."""
    return [str(arm) for arm in derived.loc[_is_unsplit(derived), "arm"].unique()]


class Cells:
    """Where in a frame the rows of each cell are, found once: then a cell costs no look at the others.

    A key is a tuple of values of `by`. Rows without one of them belong to no cell.
    """

    def __init__(self, frame: pd.DataFrame, by: Sequence[str] = ("arm", "load")) -> None:
        self._frame = frame
        numbers = np.asarray(frame.groupby(list(by), observed=True, sort=False).ngroup())
        order = np.argsort(numbers, kind="stable")
        found, begins = np.unique(numbers[order], return_index=True)
        parts = np.split(order, begins)[1:]  # before the first cell there is nothing
        keys = zip(*(frame[name].array.take(order[begins]) for name in by), strict=True)
        self._places = {key: at for number, key, at in zip(found, keys, parts, strict=True) if number >= 0}

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """The keys, as they first appear."""
        return iter(self._places)

    def select(self, key: tuple[Any, ...], names: Sequence[str] | None = None) -> pd.DataFrame:
        """A cell's rows, in the frame's order, with an index of their own; only these columns, if given."""
        at = self._places.get(key, np.empty(0, dtype=np.intp))
        kept = self._frame.columns if names is None else names
        return pd.DataFrame({name: self._frame[name].array.take(at) for name in kept})


def measured(derived: pd.DataFrame) -> pd.DataFrame:
    """The rows of phase measure, failures included."""
    return derived[derived["phase"] == MEASURE]


def under(law: str, frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the loads of an arrival law."""
    every = list(frame["load"].unique())
    loads = [load for load in every if str(load).startswith(f"{law}(")]
    return frame if loads == every else frame[frame["load"].isin(loads)]


def cell(derived: pd.DataFrame, arm: str, concurrency: int) -> pd.DataFrame:
    """The rows of one arm at one concurrency, every block and phase."""
    return derived[(derived["arm"] == arm) & (derived["concurrency"] == concurrency)]


def statistic(rows: pd.DataFrame, metric: str, stat: str) -> float:
    """One of `STATS` of a metric over these rows; NaN when no row has it. No floors: see `summarise`."""
    return _reduce(_values(rows, metric, stat), stat)


def _values(rows: pd.DataFrame, metric: str, stat: str) -> Floats:
    """What a statistic is taken of: good rows, and in a percentile of latency each failure as infinity."""
    values = _ranked(rows, metric, stat)
    return values[~np.isnan(values)]


def _ranked(rows: pd.DataFrame, metric: str, stat: str) -> Floats:
    """As `_values`, but row by row: NaN for one that does not count."""
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
    """Good answers a second, or those that failed too, indexed by trial; failed trials are absent.

    Closed loop: users / mean latency of the measured requests x the share of the window that the users spend
    in requests (Little's law) x the share of good ones. A user who got no answer pauses, so that share is
    below 1 when connections drop. Counting answers in a short window instead depends on where it is cut when
    answers come in bursts: inline at c = 8 and 40 requests read 7 % too high. Any other load: good answers,
    whatever their phase, within the trial's window (start, end], over its length.
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
    # the time that users spend in requests, of any phase, within the window
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
    """One figure a block of a cell's rows, indexed by block: `stat` over the block's measured requests.

    Failed trials and those without a good row are absent, never zero. Percentile floors do not apply here:
    one block's p95 is a crude reading, and how crude is what the spread over blocks shows. Throughput has
    one value a trial, so `stat` does not matter to it.
    """
    rows = rows[rows["trial_state"] == "ok"]
    in_window = measured(rows)
    answered = in_window.loc[in_window["ok"], "block"].unique()
    figures = block_throughput(rows) if metric == THROUGHPUT else block_statistic(in_window, metric, stat)
    return figures[figures.index.isin(answered)].dropna()


def block_throughput(rows: pd.DataFrame) -> pd.Series[float]:
    """Good answers a second of each block, in block order."""
    blocks = rows.groupby("trial")["block"].first().rename("block")
    return throughput(rows).groupby(blocks).mean()


def block_statistic(rows: pd.DataFrame, metric: str, stat: str) -> pd.Series[float]:
    """One figure of these rows' metric a block, in block order; blocks without one are absent."""
    found = _block_values(rows, metric, stat)
    figures = [_reduce(values, stat) for values in found.values()]
    return pd.Series(figures, index=np.array(list(found), dtype=np.int64), dtype="float64", name=metric)


def pool(rows: pd.DataFrame, metric: str, blocks: Iterable[int]) -> Pool:
    """What a percentile of these blocks is taken of, in block order; a failure is an infinite latency."""
    return Pool(list(_block_values(rows[rows["block"].isin(list(blocks))], metric, "median").values()))


def _block_values(rows: pd.DataFrame, metric: str, stat: str) -> dict[int, Floats]:
    """As `_values`, of each block that has one, in block order."""
    blocks = np.asarray(rows["block"])
    values = _ranked(rows, metric, stat)
    values, blocks = values[~np.isnan(values)], blocks[~np.isnan(values)]
    order = np.argsort(blocks, kind="stable")
    found, begins = np.unique(blocks[order], return_index=True)
    groups = np.split(values[order], begins)[1:]  # before the first block there is nothing
    return {int(block): group for block, group in zip(found, groups, strict=True)}


# -- per arm and load ----------------------------------------------------------------------------------


def summarise(derived: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """One row per arm and load, pooled over blocks: arms as they first appear in trials, concurrency rising.

    Columns: arm, strategy, load, concurrency, blocks (with a trial that did not fail), failed_trials,
    requests and failed (measured ones), window_s, throughput_per_s (good answers) and answered_per_s (medians
    over trials), and of every metric
    `<name>_mean_ms`, `_p5_ms`, `_p50_ms`, `_p95_ms`; of latency and I/O also `_p90_ms` and `_p99_ms`.
    The metrics of `IO_TOLD_APART` have columns only where some request has a value.
    NaN below the floors: p5, p90 and p95 need 64 requests, p99 needs 662.
    """
    metrics = (*METRICS, *IO_TOLD_APART) if IO_STALL in derived else METRICS
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
            figures[f"{name}_p{percent}_ms"] = fit_to_be_shown(ranked, percent)
    return figures


def pooled_percentile(rows: pd.DataFrame, metric: str, percent: int) -> float:
    """A percentile fit to be shown: NaN where there are too few requests for it (`FEWEST_REQUESTS`)."""
    return fit_to_be_shown(np.sort(_values(rows, metric, f"p{percent}")), percent)
