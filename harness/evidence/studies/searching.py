"""Simulate sessions of `execbench capacity` with a known truth, to check the estimate and its interval.

Each arm is one worker of constant service time: Poisson arrivals, Lindley's recursion, no overhead. The walk
that chooses the windows and the fit that evaluates them are those of real sessions.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from harness.analysis import slo
from harness.analysis.slo import Objective
from harness.capacity import windows
from harness.capacity.crossing import Window, cross, effect
from harness.capacity.walk import NextWindow, Start, WalkSettings, walk
from harness.evidence.check.bench import Result
from harness.evidence.frames import range_of
from harness.evidence.studies.queueing import lindley_waits_ms, md1_wait_ms
from harness.numbers import percent
from harness.report import markdown
from harness.run.listener import Listener, SilentListener
from harness.wire.arrivals import Law, due_times_s

SERVICE_MS = {"reference": 20.0, "slower": 22.0}
OBJECTIVES = ("mean latency < 60 ms", "p95 < 120 ms", "p99 < 200 ms")
TIMEOUT_S = 30.0
LEAST_COVERAGE = 0.9
MOST_BIAS = 0.015


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One simulated session: rates in requests per second; the ratio is slower / reference."""

    objective: str
    session: int
    truth: float
    estimate: float
    low: float
    high: float
    true_ratio: float
    ratio: float
    ratio_low: float
    ratio_high: float
    searched: int  # number of windows in the search of the reference


def each(sessions: int, listener: Listener | None = None) -> Iterator[Row]:
    """Simulate `sessions` sessions for each objective."""
    listener = listener or SilentListener()
    for text in OBJECTIVES:
        objectives = slo.parse([text])
        truths = {arm: truth_per_s(objectives[0], service) for arm, service in SERVICE_MS.items()}
        for number in range(1, sessions + 1):
            listener.stage(f"{text}: session {number}/{sessions}")
            yield row(text, number, objectives, truths)


def row(text: str, number: int, objectives: Sequence[Objective], truths: Mapping[str, float]) -> Row:
    """Simulate one session."""
    windows_of = session(SERVICE_MS, objectives, WalkSettings(seed=number))
    found = {arm: cross(its, objectives, 1e3 / SERVICE_MS[arm]) for arm, its in windows_of.items()}
    reference, slower = found["reference"], found["slower"]
    assert reference is not None
    assert slower is not None
    low, high = reference.interval()
    ratio = effect(slower, reference)
    return Row(
        objective=text,
        session=number,
        truth=truths["reference"],
        estimate=math.exp(reference.log_rate),
        low=low,
        high=high,
        true_ratio=truths["slower"] / truths["reference"],
        ratio=ratio.ratio,
        ratio_low=ratio.low,
        ratio_high=ratio.high,
        searched=sum(not window.confirms for window in windows_of["reference"]),
    )


def session(
    services_ms: Mapping[str, float], objectives: Sequence[Objective], settings: WalkSettings
) -> dict[str, list[Window]]:
    """All windows of a simulated session, by arm."""
    found: dict[str, list[Window]] = {arm: [] for arm in services_ms}
    steps = walk({arm: Start(1e3 / service) for arm, service in services_ms.items()}, objectives, settings)
    result: Window | None = None
    while True:
        try:
            step = steps.send(result)
        except StopIteration:
            return found
        result = window(step, services_ms[step.arm], objectives, settings.seed)
        found[step.arm].append(result)


def window(step: NextWindow, service_ms: float, objectives: Sequence[Objective], seed: int) -> Window:
    """Simulate one window of a worker of constant service time; arms of a block have the same arrivals."""
    until_s = step.settle_s + step.window_s
    dues = due_times_s(Law("poisson", step.rate_per_s), seed * 1000 + step.block)
    arrivals_ms = 1e3 * np.array(list(itertools.takewhile(lambda due: due < until_s, dues)))
    latency_ms = service_ms + lindley_waits_ms(arrivals_ms, service_ms)
    latency_ms = latency_ms[arrivals_ms >= step.settle_s * 1e3]
    return windows.window(
        block=step.block,
        rate_per_s=step.rate_per_s,
        confirms=step.confirms,
        latency_ms=latency_ms,
        io_ms=np.zeros(len(latency_ms)),
        good=np.ones(len(latency_ms), dtype=bool),
        objectives=objectives,
        timeout_s=TIMEOUT_S,
    )


def truth_per_s(objective: Objective, service_ms: float) -> float:
    """The rate at which M/D/1 meets the objective exactly."""
    from scipy import optimize

    def excess(load: float) -> float:
        score = service_ms + md1_wait_ms(load, service_ms)
        if objective.percent is not None:
            score = md1_share_beyond(objective.limit - service_ms, load, service_ms)
        return score - objective.target

    return float(optimize.brentq(excess, 0.01, 0.99)) / service_ms * 1e3


def md1_share_beyond(wait_ms: float, load: float, service_ms: float) -> float:
    """Share of M/D/1's waits longer than `wait_ms` (Erlang 1909).

    An alternating sum, exact for waits of up to about ten service times.
    """
    rate_per_ms = load / service_ms
    left = [rate_per_ms * (wait_ms - done * service_ms) for done in range(int(wait_ms / service_ms) + 1)]
    below = math.fsum((-one) ** done / math.factorial(done) * math.exp(one) for done, one in enumerate(left))
    return 1 - (1 - load) * below


# -- judging and showing -------------------------------------------------------------------------------


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """One row per objective: bias and spread of the estimates, and coverage of the intervals."""
    lines = []
    for text, rows in found.groupby("objective", sort=False):
        off = np.log(rows["estimate"] / rows["truth"])
        lines.append(
            {
                "objective": text,
                "truth": rows["truth"].iloc[0],
                "sessions": len(rows),
                "bias": off.mean(),
                "spread": off.std(ddof=0),
                "covers": rows["truth"].between(rows["low"], rows["high"]).mean(),
                "overpromised": (rows["low"] > rows["truth"]).mean(),
                "width": (rows["high"] / rows["low"] - 1).median(),
                "unbounded": np.isinf(rows["high"]).mean(),
                "ratio_bias": np.log(rows["ratio"] / rows["true_ratio"]).mean(),
                "ratio_covers": rows["true_ratio"].between(rows["ratio_low"], rows["ratio_high"]).mean(),
                "ratio_width": (rows["ratio_high"] / rows["ratio_low"] - 1).median(),
            }
        )
    return pd.DataFrame(lines)


def judge(found: pd.DataFrame) -> list[Result]:
    """Judge each objective by the bias of the estimates and the coverage of the intervals."""
    goal = f"bias within ±{percent(MOST_BIAS)}, intervals cover the truth in {percent(LEAST_COVERAGE, 0)}"
    return [
        Result(
            name=row["objective"],
            goal=goal,
            measured=f"{100 * row['bias']:+.1f} %, {percent(row['covers'])}, "
            f"ratios {percent(row['ratio_covers'])}",
            passed=abs(row["bias"]) <= MOST_BIAS
            and min(row["covers"], row["ratio_covers"]) >= LEAST_COVERAGE,
        )
        for row in summary(found).to_dict("records")
    ]


def table(found: pd.DataFrame) -> str:
    """One line per objective."""
    heads = ["objective", "truth", "sessions", "bias", "spread", "covers", "width", "unbounded"]
    heads += ["ratio: bias", "covers", "width"]
    return markdown.table(
        heads,
        [
            [
                row["objective"],
                f"{row['truth']:.2f}/s",
                row["sessions"],
                f"{100 * row['bias']:+.2f} %",
                percent(row["spread"]),
                percent(row["covers"]),
                percent(row["width"]),
                percent(row["unbounded"]),
                f"{100 * row['ratio_bias']:+.2f} %",
                percent(row["ratio_covers"]),
                percent(row["ratio_width"]),
            ]
            for row in summary(found).to_dict("records")
        ],
    )


def describe(found: pd.DataFrame) -> str:
    """Describe the table in words."""
    rows, settings = summary(found), WalkSettings()
    reference_ms, slower_ms = SERVICE_MS.values()
    return (
        f"The arms are a worker of {reference_ms:g} ms and one of {slower_ms:g} ms; each session has "
        f"{settings.blocks} confirming windows of {settings.window_s:g} s after "
        f"{found['searched'].mean():.1f} windows of the search. The mean estimate is off by at most "
        f"{percent(rows['bias'].abs().max())}; single sessions spread by {range_of(rows['spread'])}, by "
        f"chance in the arrivals. The 95 % interval covers the truth in {range_of(rows['covers'])} of the "
        f"sessions, that of the ratio in {range_of(rows['ratio_covers'])}. The promise, the lower end of the "
        f"interval, is above the truth in {range_of(rows['overpromised'])}; the interval has no upper end in "
        f"{range_of(rows['unbounded'])}."
    )
