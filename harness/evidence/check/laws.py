"""Checks of the arrival laws, which need no server: gaps, schedules, their hashes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import numpy as np
from scipy import stats

from harness.evidence.check.bench import Result
from harness.evidence.check.lindley import Floats
from harness.wire import arrivals
from harness.wire.arrivals import Law

DRAWS = 10_000
Schedule = Callable[[Law, int], Iterable[float]]


def poisson(schedule: Schedule = arrivals.due_times_s) -> Result:
    """10,000 gaps of one seed: their mean, their coefficient of variation, and Kolmogorov-Smirnov."""
    rate = 50.0
    due = list(itertools.islice(schedule(Law("poisson", rate), 1), DRAWS))
    return judge_gaps(np.diff(np.asarray([0.0, *due])) * rate)


def judge_gaps(gaps: Floats) -> Result:
    """Are these gaps, in units of the mean that was asked for, those of a Poisson process?"""
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
    """Constant and burst arrivals to the microsecond; schedules and their hashes follow the seed."""
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
        "constant, burst to 1 µs; same seed, same hash; other seed, other Poisson",
        f"off by {drift_s * 1e6:.3f} µs; {sum(same)} of 3 the same, {sum(other)} of 1 other",
        drift_s <= 1e-6 and all(same) and other == [False, False, True],
    )
