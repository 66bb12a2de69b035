"""Simulate how often the intervals of `harness.analysis.stats` cover the truth.

Means over blocks: `stats.mean_interval` on block log ratios of spread 0.10 (as for this project's twin) and
true ratio 1. Tails: `stats.tail_interval` on blocks of 40 requests per arm, compared with the intervals that
it was chosen from. Also shows what no interval can correct: drift, which the warning must catch, and a tail
caused by a few bad blocks.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import NormalDist
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from scipy import special

from harness.analysis import stats
from harness.analysis.arrays import Counts, Floats
from harness.analysis.percentiles import FEWEST_REQUESTS, RESAMPLES, Pool, resamples
from harness.evidence.check.bench import Result
from harness.evidence.frames import by_blocks, exact_bounds, range_of
from harness.numbers import percent as in_percent
from harness.report import markdown
from harness.run.listener import Listener, SilentListener

SPREAD = 0.10
DELTA = 0.05
PHI = 0.6
BLOCKS = (10, 16, 24, 32)
REQUESTS = 40  # per block and arm
STUDENTISED = 199  # resamples of the bootstrap t: each is jackknifed again, leaving one block out at a time
TAIL_SHARE = 8  # times fewer data sets for tails, which cost 10 ms each; those for means cost microseconds
NORMAL = NormalDist()

Interval = tuple[float, float]
AnyRow = TypeVar("AnyRow")


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One generator, method and number of blocks."""

    figure: str  # "mean", "p95", "p99"
    generator: str
    method: str  # of the interval
    blocks: int
    data_sets: int
    coverage: float  # share of the 95 % intervals that cover the truth
    coverage_low: float  # exact binomial 95 % bounds of the share
    coverage_high: float
    half_width: float  # median, as a share of the ratio
    drift_fires: float  # share of data sets with the autocorrelation warning; NaN for tails
    beyond: float  # share called faster or slower although the true ratio is 1; NaN if it is not 1


def each(
    sessions: int = 2000, listener: Listener | None = None, blocks: Sequence[int] = BLOCKS, seed: int = 1
) -> list[Row]:
    """One `Row` per generator, interval and number of blocks; the same arguments give the same rows.

    Means get `sessions` data sets each, tails an eighth of that.
    """
    return simulated(list(_cells(sessions, blocks)), seed, listener)


def simulated(
    cells: Sequence[Callable[[np.random.Generator], Iterable[AnyRow]]], seed: int, listener: Listener | None
) -> list[AnyRow]:
    """The rows of all cells. If stopped, it keeps nothing; it takes a minute or two to repeat."""
    listener = listener or SilentListener()
    rows: list[AnyRow] = []
    for done, cell in enumerate(cells, start=1):
        rows += cell(np.random.default_rng([seed, done]))
        listener.stage(f"cell {done}/{len(cells)}")
    return rows


def _cells(data_sets: int, blocks: Sequence[int]) -> Iterator[Callable[[np.random.Generator], list[Row]]]:
    for name in MEANS:
        for count in blocks:
            yield functools.partial(_mean_rows, name, count, data_sets)
    for percent in (95, 99):
        for name in TAILS:
            for count in blocks:
                if count * REQUESTS >= FEWEST_REQUESTS[percent]:
                    yield functools.partial(_tail_rows, name, percent, count, max(1, data_sets // TAIL_SHARE))


def table(frame: pd.DataFrame) -> str:
    """Two Markdown tables: means, then tails with a column for each method."""
    means, tails = frame[frame["figure"] == "mean"], frame[frame["figure"] != "mean"]
    return f"{_mean_table(means)}\n{_tail_table(tails)}"


# generator of the means → the lowest and the highest share of 95 % intervals that may cover the truth
COVERS = {"normal": (0.93, 0.97), "t, 3 degrees of freedom": (0.93, 0.97), "skewed: exponential": (0.88, 1.0)}
DRIFT_SEEN_FROM = 24  # blocks; with fewer the warning misses many runs that drift
DRIFT_SEEN = 0.5


def judge(frame: pd.DataFrame) -> list[Result]:
    """Judge the means: coverage at every number of blocks, and detection of drift from 24 blocks on."""
    means = frame[frame["figure"] == "mean"]
    covered = [
        _judge_coverage(name, means[means["generator"] == name], *bounds) for name, bounds in COVERS.items()
    ]
    drifting = means[means["generator"].str.startswith("drift") & (means["blocks"] >= DRIFT_SEEN_FROM)]
    drift = Result(
        "drift warning",
        f"fires in more than half of the data sets with drift, from {DRIFT_SEEN_FROM} blocks on",
        by_blocks(drifting, "drift_fires"),
        len(drifting) > 0 and bool((drifting["drift_fires"] > DRIFT_SEEN).all()),
        "With fewer blocks, it misses many runs that drift.",
    )
    return [*covered, drift]


def _judge_coverage(name: str, rows: pd.DataFrame, least: float, most: float) -> Result:
    bounds = f"{least:.0%} to {most:.0%}" if most < 1 else f"{least:.0%} or more"
    return Result(
        f"coverage, {name}",
        f"the 95 % interval covers {bounds} at every number of blocks",
        by_blocks(rows, "coverage"),
        len(rows) > 0 and bool(rows["coverage"].between(least, most).all()),
    )


def describe(found: pd.DataFrame) -> str:
    """Describe the finding in words."""
    means, tails = found[found["figure"] == "mean"], found[found["figure"] != "mean"]
    drift = means["generator"].str.startswith("drift")
    used = tails[tails["method"] == next(iter(METHODS))]
    calm = means[~drift]
    return (
        f"For means over blocks, the 95 % interval covers the truth in {range_of(calm['coverage'])} of the "
        f"data sets with independent blocks and in {range_of(means[drift]['coverage'])} of those that drift; "
        f"the drift warning fires in {range_of(calm['drift_fires'])} and "
        f"{range_of(means[drift]['drift_fires'])} of them. Without drift, two identical arms are called "
        f"faster or slower in at most {in_percent(calm['beyond'].max())} of the data sets. For tails, the "
        f"interval in use covers the truth in {range_of(used['coverage'])}."
    )


def _mean_table(rows: pd.DataFrame) -> str:
    heads = ["block log ratios", "blocks", "95 % covers", "half width", "drift warning"]
    return markdown.table(
        [*heads, "faster/slower, truth 1"],
        [
            [row.generator, *_covers(row), f"{row.drift_fires:.1%}", f"{row.beyond:.1%}"]
            for row in rows.itertuples(index=False)
        ],
    )


def _tail_table(rows: pd.DataFrame) -> str:
    used, *others = METHODS
    lines = []
    for _, cell in rows.groupby(["figure", "generator", "blocks"], sort=False):
        found = {row.method: row for row in cell.itertuples(index=False)}
        row = found[used]
        shares = [f"{found[method].coverage:.1%}" for method in others]
        lines.append([f"{row.figure}, {row.generator}", *_covers(row), *shares])
    return markdown.table(["tail", "blocks", f"{used} (used)", "half width", *others], lines)


def _covers(row: Any) -> list[str]:
    covered = f"{row.coverage:.1%} ({row.coverage_low:.1%}–{row.coverage_high:.1%})"
    return [str(row.blocks), covered, f"±{row.half_width:.1%}"]


# -- means ---------------------------------------------------------------------------------------------


def _autoregressive(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Stationary AR(1) of variance 1 along the last axis."""
    values = rng.normal(size=shape)
    for at in range(1, shape[1]):
        values[:, at] = PHI * values[:, at - 1] + math.sqrt(1 - PHI**2) * values[:, at]
    return values


# mean 0 and standard deviation 1 each; shape: (data sets, blocks)
MEANS: dict[str, Callable[[np.random.Generator, tuple[int, int]], Floats]] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "t, 3 degrees of freedom": lambda rng, shape: rng.standard_t(3, size=shape) / math.sqrt(3),
    "skewed: exponential": lambda rng, shape: rng.exponential(size=shape) - 1,
    f"drift: AR(1), phi {PHI}": _autoregressive,
}


def _mean_rows(name: str, blocks: int, data_sets: int, rng: np.random.Generator) -> list[Row]:
    log_ratios = SPREAD * MEANS[name](rng, (data_sets, blocks))
    low, high = stats.mean_interval(log_ratios)
    fires = stats.lag1_autocorrelation(log_ratios) > stats.drift_bound(blocks)
    return [_row("mean", name, "t over blocks", blocks, low, high, 0.0, drift_fires=float(fires.mean()))]


def _row(
    figure: str,
    generator: str,
    method: str,
    blocks: int,
    low: Floats,
    high: Floats,
    truth: float,
    *,
    drift_fires: float = math.nan,
) -> Row:
    """Summarise the log intervals of all data sets against the true log ratio."""
    covered = (low <= truth) & (truth <= high)
    margin = math.log1p(DELTA)
    coverage_low, coverage_high = exact_bounds(covered)
    return Row(
        figure=figure,
        generator=generator,
        method=method,
        blocks=blocks,
        data_sets=len(covered),
        coverage=float(covered.mean()),
        coverage_low=coverage_low,
        coverage_high=coverage_high,
        half_width=math.expm1(float(np.median(high - low)) / 2),
        drift_fires=drift_fires,
        beyond=float(np.mean((low > margin) | (high < -margin))) if truth == 0 else math.nan,
    )


# -- tails: data ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Tail:
    """A model of log latencies: normal effects of the block, of each arm in it and of each request."""

    arm: float  # standard deviation of a request's log latency
    reference: float
    luck: float = 0.10  # standard deviation of the effect of an arm in a block
    stalled: float = 0.0  # share of an arm's blocks in which every second request takes 3.3 times as long

    def truth(self, percent: float) -> float:
        """The true log ratio, as pooled blocks are normal too; 0 for identical arms, even with stalls."""
        if self.arm == self.reference:
            return 0.0
        arm, reference = (math.hypot(SHARED_LUCK, self.luck, own) for own in (self.arm, self.reference))
        return NORMAL.inv_cdf(percent / 100) * (arm - reference)

    def draw(self, rng: np.random.Generator, blocks: int) -> tuple[Floats, Floats]:
        """Latencies of both arms, each (blocks, requests)."""
        shared = rng.normal(0, SHARED_LUCK, (blocks, 1))
        arm, reference = (shared + self._own(rng, blocks, spread) for spread in (self.arm, self.reference))
        return np.exp(arm), np.exp(reference)

    def _own(self, rng: np.random.Generator, blocks: int, spread: float) -> Floats:
        stalls = (rng.random((blocks, 1)) < self.stalled) & (rng.random((blocks, REQUESTS)) < 0.5)
        requests = rng.normal(0, spread, (blocks, REQUESTS))
        return rng.normal(0, self.luck, (blocks, 1)) + requests + 1.2 * stalls


SHARED_LUCK = 0.15
TAILS = {
    "same shape": Tail(arm=0.4, reference=0.4),
    "arm with the heavier tail": Tail(arm=0.6, reference=0.25),
    "blocks differ more than requests": Tail(arm=0.2, reference=0.2, luck=0.2),
    "one block in seven stalls": Tail(arm=0.3, reference=0.3, stalled=0.15),
}


def _tail_rows(name: str, percent: int, blocks: int, data_sets: int, rng: np.random.Generator) -> list[Row]:
    found: dict[str, list[Interval]] = {method: [] for method in METHODS}
    for _ in range(data_sets):
        sample = Sample.draw(*TAILS[name].draw(rng, blocks), percent, rng)
        for method, interval in METHODS.items():
            found[method].append(interval(sample))
    truth = TAILS[name].truth(percent)
    rows = []
    for method, intervals in found.items():
        low, high = np.array(intervals).T
        rows.append(_row(f"p{percent}", name, method, blocks, low, high, truth))
    return rows


# -- tails: the compared intervals ---------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One data set, with the log ratios of pooled percentiles from which the intervals are computed."""

    arm: Floats  # latencies, (blocks, requests)
    reference: Floats
    percent: int
    weights: Counts  # of the resamples
    centre: float
    draws: Floats  # one per resample
    left_out: Floats  # each block left out in turn

    @classmethod
    def draw(cls, arm: Floats, reference: Floats, percent: int, rng: np.random.Generator) -> Sample:
        blocks = len(arm)
        once = np.ones((1, blocks), dtype=np.int64)
        weights = resamples(blocks, RESAMPLES, rng)
        each = np.concatenate([once, weights, once - np.eye(blocks, dtype=np.int64)])
        logs = _pooled_log_ratios(arm, reference, percent, each)
        return cls(arm, reference, percent, weights, logs[0], logs[1:-blocks], logs[-blocks:])

    @property
    def blocks(self) -> int:
        return len(self.arm)


def _pooled_log_ratios(arm: Floats, reference: Floats, percent: float, weights: Counts) -> Floats:
    """ln of the ratio of pooled percentiles, arm / reference, for each row of weights of the blocks."""
    own, other = (Pool(list(side)).percentiles(percent, weights) for side in (arm, reference))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log(own / other), dtype=np.float64)


def _percentile(sample: Sample) -> Interval:
    low, high = np.quantile(sample.draws, [0.025, 0.975])
    return float(low), float(high)


def _bca(sample: Sample) -> Interval:
    """Bias-corrected and accelerated (Efron 1987)."""
    gaps = sample.left_out.mean() - sample.left_out
    acceleration = float((gaps**3).sum() / (6 * (gaps**2).sum() ** 1.5 + 1e-300))  # 0 if all gaps are 0
    below = float(np.mean(sample.draws < sample.centre) + np.mean(sample.draws <= sample.centre)) / 2
    bias = NORMAL.inv_cdf(min(max(below, 1e-3), 1 - 1e-3))
    moved = (bias + NORMAL.inv_cdf(share) for share in (0.025, 0.975))
    shares = [NORMAL.cdf(bias + z / (1 - acceleration * z)) for z in moved]
    low, high = np.quantile(sample.draws, shares)
    return float(low), float(high)


def _jackknife_t(sample: Sample) -> Interval:
    half = float(special.stdtrit(sample.blocks - 1, 0.975)) * _jackknife_error(sample)
    return sample.centre - half, sample.centre + half


def _jackknife_error(sample: Sample) -> float:
    return math.sqrt((sample.blocks - 1) * float(sample.left_out.var()))


def _bootstrap_t(sample: Sample) -> Interval:
    """Studentised by the jackknife within each resample."""
    weights, draws = sample.weights[:STUDENTISED], sample.draws[:STUDENTISED]
    errors = np.maximum(_resampled_errors(sample, weights), 1e-9)  # a resample of one block has none
    low, high = np.quantile((draws - sample.centre) / errors, [0.025, 0.975])
    error = _jackknife_error(sample)
    return sample.centre - float(high) * error, sample.centre - float(low) * error


def _resampled_errors(sample: Sample, weights: Counts) -> Floats:
    """The jackknife error of each row of weights: a block drawn twice is left out once, and counts twice."""
    resample, block = np.nonzero(weights)
    less = weights[resample]
    less[np.arange(len(block)), block] -= 1
    logs = _pooled_log_ratios(sample.arm, sample.reference, sample.percent, less)
    times = weights[resample, block]
    mean = np.bincount(resample, times * logs) / sample.blocks
    squares = np.bincount(resample, times * (logs - mean[resample]) ** 2)
    return np.asarray(np.sqrt((sample.blocks - 1) / sample.blocks * squares))


# the first is what `stats.tail_effect` uses
METHODS: dict[str, Callable[[Sample], Interval]] = {
    "expanded percentile": lambda sample: stats.tail_interval(sample.draws, sample.blocks),
    "percentile": _percentile,
    "BCa": _bca,
    "jackknife t": _jackknife_t,
    "bootstrap t": _bootstrap_t,
}
