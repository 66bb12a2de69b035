"""Checks that do not depend on the machine: percentiles, a report against its CSVs, arrival laws."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from harness.analysis.arrays import Floats
from harness.analysis.percentiles import Pool, percentile
from harness.analysis.stats import Verdict
from harness.evidence.check import recount
from harness.evidence.check.bench import Result
from harness.evidence.frames import records
from harness.plans.plan import Plan
from harness.report import report
from harness.results import store
from harness.run import session as running
from harness.run.listener import SilentListener
from harness.wire import arrivals
from harness.wire.arrivals import Law

EXACT = 1e-9  # relative


def pooled(values: Floats, percent: float) -> float:
    """The percentile of pooled blocks, by which tails are compared."""
    return Pool(np.array_split(values, 3)).whole(percent)


Percentile = Callable[[Floats, float], float]


def quantiles(*ours: Percentile) -> Result:
    """Compare our percentiles with numpy's and scipy's, on samples of many sizes, with ties and failures."""
    errors = [
        recount.relative_error(found, truth)
        for values, percent in itertools.product(_samples(), (5, 50, 90, 95, 99, 99.9))
        for found in [one(values, percent) for one in ours or (percentile, pooled)]
        for truth in _true_percentiles(values, percent)
    ]
    return Result(
        "quantiles",
        "equal to numpy's and scipy's, 1e-9 relative",
        f"{len(errors)} compared, worst {max(errors):.0e}",
        max(errors) <= EXACT,
    )


def _samples() -> Iterator[Floats]:
    draw = np.random.default_rng(1)
    for size in (*range(1, 30), 64, 100, 101, 662, 1000, 1001):
        values = draw.exponential(20.0, size)
        yield values
        yield np.round(values)  # ties
        yield np.where(draw.random(size) < 0.03, math.inf, values)  # failures


def _true_percentiles(values: Floats, percent: float) -> list[float]:
    truths = [recount.linear_percentile(values.tolist(), percent)]
    if np.isfinite(values).all():
        truths.append(float(stats.mstats.mquantiles(values, percent / 100, alphap=1, betap=1)[0]))
    return truths


Reported = Callable[[Path], dict[recount.Cell, recount.Figures]]


def reported_numbers(folder: Path, reported: Reported) -> Result:
    """Compare the figures that `reported` gives for the run in `folder` with a recount from its CSVs."""
    found = recount.compare(reported(folder), recount.count(folder))
    unknown = f"there is no recount for {', '.join(found.unknown)}" if found.unknown else ""
    return Result(
        "numbers from the CSV",
        "summary and effects equal a recount, 1e-9 relative",
        f"{found.compared} compared, worst {found.worst:.0e}",
        found.compared > 0 and found.worst <= EXACT and not found.unknown,
        unknown or (found.where if found.worst > EXACT else ""),
    )


def report_of(folder: Path) -> dict[recount.Cell, recount.Figures]:
    """Every number of the summary, and the comparisons of median latency and throughput.

    Without p of an invalid comparison, for which the report has no test.
    """
    found = report.build(store.read(folder))
    figures = {_cell(row): _numbers(row, row.keys() - NO_NUMBERS) for row in records(found.summary)}
    for row in records(found.comparisons):
        prefix = recount.EFFECTS.get((str(row["metric"]), str(row["stat"])))
        if prefix is not None:
            names = recount.EFFECT_FIGURES[: -1 if row["verdict"] == Verdict.INVALID else None]
            figures[_cell(row)] |= {f"{prefix} {name}": value for name, value in _numbers(row, names).items()}
    return figures


NO_NUMBERS = {"arm", "strategy", "load", "concurrency", "saturated", "client_limited"}
Row = dict[str, Any]


def _cell(row: Row) -> recount.Cell:
    return str(row["arm"]), str(row["load"])


def _numbers(row: Row, names: Iterable[str]) -> recount.Figures:
    return {name: math.nan if row[name] is None else float(row[name]) for name in names}


def small_run(folder: Path) -> Path:
    """Make a run of about 10 s with closed and open loads, two arms, and timeouts; return its folder."""
    running.run(SMALL, store.Writer(folder), SilentListener())
    return folder


SMALL = Plan.model_validate(
    {
        "name": "check",
        "workload": {"name": "synthetic", "service_ms": 4.0, "io_ms": 5.0},
        "arms": [{"name": name, "strategy": name} for name in ("inline", "thread")],
        "concurrency": [4],
        "arrivals": ["burst(12, 0.3)"],  # the last of a burst time out, so that failures have a rank
        "timeout_s": 0.045,
        "requests": 70,
        "blocks": 2,
        "open_duration_s": 1.2,
        "open_settle_s": 0.1,
        "self_check": False,  # other checks cover it
        # no block is excluded: see `recount`
        "exclude": {"steal_share": 1e6, "foreign_cpu": 1e6, "dispatch_lag_p99_ms": 1e6},
    }
)


# -- arrival laws: gaps, schedules, their hashes -------------------------------------------------------

DRAWS = 10_000
Schedule = Callable[[Law, int], Iterable[float]]


def poisson(schedule: Schedule = arrivals.due_times_s) -> Result:
    """Check 10,000 gaps of one seed: mean, coefficient of variation, Kolmogorov-Smirnov test."""
    rate = 50.0
    due = list(itertools.islice(schedule(Law("poisson", rate), 1), DRAWS))
    return judge_gaps(np.diff(np.asarray([0.0, *due])) * rate)


def judge_gaps(gaps: Floats) -> Result:
    """Judge whether these gaps, in units of the nominal mean, are those of a Poisson process."""
    mean = float(gaps.mean())
    variation = float(gaps.std(ddof=1)) / mean
    chance = float(stats.kstest(gaps, "expon").pvalue)
    return Result(
        "Poisson, 10k draws",
        "mean ±2 %, CV 1 ±0.03, KS p > 0.01",
        f"mean {mean - 1:+.1%}, CV {variation:.3f}, p = {chance:.2f}",
        abs(mean - 1) <= 0.02 and abs(variation - 1) <= 0.03 and chance > 0.01,
    )


def schedules(
    schedule: Schedule = arrivals.due_times_s, digest: Callable[[Law, int, float], str] = arrivals.digest
) -> Result:
    """Check constant and burst arrivals to 1 µs, and that schedules and hashes follow the seed."""
    laws = (Law("constant", 50), Law("burst", 10, 0.5), Law("poisson", 50))
    constant, burst, _ = (list(itertools.islice(schedule(law, 1), 1000)) for law in laws)
    drift_s = max(
        *(abs(due - number / 50) for number, due in enumerate(constant)),
        *(abs(due - number // 10 * 0.5) for number, due in enumerate(burst)),
    )
    same = [digest(law, 1, 10.0) == digest(law, 1, 10.0) for law in laws]
    other = [digest(law, 1, 10.0) != digest(law, 2, 10.0) for law in laws]
    return Result(
        "schedules by seed",
        "constant, burst exact to 1 µs; same seed, same hash; other seed, other Poisson",
        f"off by {drift_s * 1e6:.3f} µs; {sum(same)} of 3 hashes equal, {sum(other)} of 1 different",
        drift_s <= 1e-6 and all(same) and other == [False, False, True],
    )
