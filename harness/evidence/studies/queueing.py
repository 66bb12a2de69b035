"""Compare the measured queue wait of one worker under Poisson arrivals with queueing theory.

Three comparisons, from the strictest to the most general. Each wait against one step of Lindley's recursion
from the wait before it: no chance is involved. The mean wait against the recursion run on the *actual*
arrivals: both have the same chance. The mean wait against M/D/1, whose arrivals are ideal: only the
measurement has chance.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.analysis.arrays import Floats
from harness.errors import HarnessError
from harness.evidence.check.bench import Bench, Result, synthetic
from harness.evidence.frames import rows, table_of
from harness.numbers import percent
from harness.run.listener import Listener, SilentListener
from harness.wire.arrivals import Law, closed
from harness.wire.load_options import Texts
from harness.wire.records import MEASURE, Outcome

LOADS = (0.5, 0.7, 0.8)
SERVICE_MS = 20.0
BUSY_USERS = 3  # at least one always waits, so that the worker never idles
NEAR_MS = 1.0
LEAST_NEAR = 0.95
IDEAL_LOAD = 0.5  # at which chance is small enough in a run of 10 minutes
IDEAL_WITHIN = 0.10
SHORTER = 0.4  # of the time at the lightest load, for the other loads
BATCHES = 20

WORKLOAD = synthetic(SERVICE_MS)


@dataclasses.dataclass(frozen=True, slots=True)
class Served:
    """All requests that the worker served, in order of arrival."""

    entered_ms: Floats
    queue_ms: Floats
    model_ms: Floats
    measured: npt.NDArray[np.bool_]  # within the window
    window_s: float

    @classmethod
    def from_outcome(cls, outcome: Outcome) -> Served:
        """Raises HarnessError if a request failed, because the recursion cannot skip a request."""
        failed = [shot.error for shot in outcome.shots if shot.error]
        if failed:
            raise HarnessError(
                f"{len(failed)} of {len(outcome.shots)} requests failed: {failed[0]}.", stage="study"
            )
        stamps = [
            (shot.timings.entered_ms, shot.timings.queue_ms, shot.timings.model_ms, shot.phase == MEASURE)
            for shot in outcome.shots
        ]
        entered, queue, model, measured = np.array(sorted(stamps), dtype=np.float64).T
        window_s = (outcome.window_end_ms - outcome.window_start_ms) / 1e3
        return cls(entered, queue, model, measured > 0, window_s)


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One load. Waits are those of the requests within the window."""

    load: float  # nominal
    service_ms: float  # S: between two starts of a worker that is always busy, including its hand-over
    rate_per_s: float  # delivered
    utilisation: float  # delivered rate x S
    requests: int
    near_share: float  # within 1 ms of one step of the recursion
    error_p50_ms: float  # median absolute error of one step
    wait_ms: float  # mean
    wait_chance_ms: float  # standard error of that mean, by batch means
    lindley_ms: float  # the recursion run on the actual arrivals with S constant
    md1_ms: float  # rho S / 2 (1 - rho) at the delivered utilisation
    ratio: float  # wait / M/D/1
    seconds: float  # of the window


def each(
    loads: Sequence[float] = LOADS,
    seconds: float = 600,
    listener: Listener | None = None,
    *,
    settle_s: float = 5.0,
) -> Iterator[Row]:
    """One row per load: `seconds` at load 0.5, 0.4 of it at the others, each after `settle_s` of settling."""
    listener = listener or SilentListener()
    with Bench() as bench, bench.server("thread", workers=1, workload=WORKLOAD) as server:
        url = f"{server.url}/predict"
        listener.stage(f"measuring the service time: {settle_s:g} s of a closed loop")
        service_ms = busy_service_ms(_fire(bench, url, closed(BUSY_USERS), 1, settle_s, 1.0))
        for number, load in enumerate(loads, start=1):
            rate, lasts_s = load / service_ms * 1e3, seconds if load == IDEAL_LOAD else SHORTER * seconds
            ends = time.strftime("%H:%M:%S", time.localtime(time.time() + settle_s + lasts_s))
            listener.stage(f"load {load:g}: {rate:.1f} requests/s until {ends}")
            served = _fire(bench, url, Law("poisson", rate), number, lasts_s, settle_s)
            yield figures(load, service_ms, served)


def _fire(bench: Bench, url: str, law: Law, seed: int, lasts_s: float, settle_s: float) -> Served:
    return Served.from_outcome(
        bench.fire(
            url,
            method="POST",
            texts=Texts(workload=WORKLOAD, seed=seed),
            arrivals=law,
            seed=seed,
            duration_s=lasts_s,
            settle_s=settle_s,
        )
    )


# -- figures -------------------------------------------------------------------------------------------


def busy_service_ms(served: Served) -> float:
    """Mean time between two starts of a worker that is never idle: 1 / throughput."""
    starts = np.sort((served.entered_ms + served.queue_ms)[served.measured])
    return float(np.diff(starts).mean())


def figures(load: float, service_ms: float, served: Served) -> Row:
    """The row of one load."""
    waits = served.queue_ms[served.measured]
    # one error per request, except for the first, which has no predecessor
    errors = step_errors_ms(served.entered_ms, served.queue_ms, served.model_ms)[served.measured[1:]]
    rate = len(waits) / served.window_s
    ideal = md1_wait_ms(rate * service_ms / 1e3, service_ms)
    return Row(
        load=load,
        service_ms=service_ms,
        rate_per_s=rate,
        utilisation=rate * service_ms / 1e3,
        requests=len(waits),
        near_share=float((np.abs(errors) <= NEAR_MS).mean()),
        error_p50_ms=float(np.median(np.abs(errors))),
        wait_ms=float(waits.mean()),
        wait_chance_ms=batch_error(waits),
        lindley_ms=float(lindley_waits_ms(served.entered_ms, service_ms)[served.measured].mean()),
        md1_ms=ideal,
        ratio=float(waits.mean()) / ideal,
        seconds=served.window_s,
    )


def step_errors_ms(entered_ms: npt.ArrayLike, queue_ms: npt.ArrayLike, model_ms: npt.ArrayLike) -> Floats:
    """Measured minus predicted queue wait of every request except the first, one step at a time.

    W[n+1] = max(0, W[n] + S[n] − (A[n+1] − A[n])), from the *measured* W[n], in order of arrival; A is the
    arrival at the queue (`entered_ms`), S the time in the worker. Starting from predicted waits instead would
    accumulate the time that the worker needs between two requests. The arrays must have all requests that the
    worker served: leaving one out causes an error of its service time.
    """
    entered, queue, model = (
        np.asarray(values, dtype=np.float64) for values in (entered_ms, queue_ms, model_ms)
    )
    order = np.argsort(entered, kind="stable")
    entered, queue, model = entered[order], queue[order], model[order]
    predicted = np.maximum(0.0, queue[:-1] + model[:-1] - np.diff(entered))
    return np.asarray(queue[1:] - predicted, dtype=np.float64)


def lindley_waits_ms(arrivals_ms: Floats, service_ms: float) -> Floats:
    """The wait of every request by W' = max(0, W + S − gap), starting with an empty queue."""
    walk = np.concatenate([[0.0], np.cumsum(service_ms - np.diff(arrivals_ms))])
    return np.asarray(walk - np.minimum.accumulate(walk))


def md1_wait_ms(utilisation: float, service_ms: float) -> float:
    """Mean wait of Poisson arrivals at a worker of constant service time; infinite from utilisation 1 on."""
    return utilisation * service_ms / (2 * (1 - utilisation)) if utilisation < 1 else math.inf


def batch_error(waits: Floats) -> float:
    """Standard error of the mean of autocorrelated waits, from the means of long batches."""
    if len(waits) < 2 * BATCHES:
        return math.nan
    means = [part.mean() for part in np.array_split(waits, BATCHES)]
    return float(np.std(means, ddof=1) / math.sqrt(BATCHES))


# -- judging and showing -------------------------------------------------------------------------------


def judge(found: pd.DataFrame) -> list[Result]:
    """Judge each load against the recursion, and load 0.5 against M/D/1; it fails if it was not run."""
    loads = found.to_dict("records")
    steps = [
        Result(
            name=f"Lindley, load {row['load']:g}",
            goal=f"at least {percent(LEAST_NEAR, 0)} of waits within {NEAR_MS:g} ms of one step",
            measured=f"{percent(row['near_share'])} of {row['requests']}",
            passed=bool(row["near_share"] >= LEAST_NEAR),
        )
        for row in loads
    ]
    ideal = [_judge_ideal(row["ratio"], row["wait_ms"]) for row in loads if row["load"] == IDEAL_LOAD]
    return steps + (ideal or [_judge_ideal(math.nan, math.nan)])


def _judge_ideal(ratio: float, wait_ms: float) -> Result:
    known = not math.isnan(ratio)
    return Result(
        name=f"M/D/1, load {IDEAL_LOAD:g}",
        goal=f"mean wait within ±{percent(IDEAL_WITHIN, 0)}",
        measured=f"{wait_ms:.2f} ms, {ratio:.3f} x M/D/1" if known else "not measured",
        passed=abs(ratio - 1) <= IDEAL_WITHIN,
        note="" if known else f"load {IDEAL_LOAD:g} was not run",
    )


def table(found: pd.DataFrame) -> str:
    """One line per load; ± is one standard error of the mean wait."""
    return table_of(
        [
            {
                "load": f"{row.load:g}",
                "S": f"{row.service_ms:.2f} ms",
                "delivered": f"{row.rate_per_s:.2f}/s",
                "requests": row.requests,
                "within 1 ms": percent(row.near_share),
                "error p50": f"{row.error_p50_ms:.2f} ms",
                "mean wait": f"{row.wait_ms:.2f} ± {row.wait_chance_ms:.2f} ms",
                "Lindley": f"{row.lindley_ms:.2f} ms",
                "M/D/1": f"{row.md1_ms:.2f} ms",
                "ratio": f"{row.ratio:.3f}",
            }
            for row in rows(Row, found)
        ]
    )


def describe(found: pd.DataFrame) -> str:
    """Describe the table in words."""
    loads = rows(Row, found)
    off = max((row.wait_ms / row.lindley_ms - 1 for row in loads), key=abs)
    ideal = ", ".join(
        f"{row.ratio:.3f} ± {row.wait_chance_ms / row.md1_ms:.3f} at load {row.load:g}" for row in loads
    )
    return (
        f"At every load, at least {percent(min(row.near_share for row in loads))} of the waits are within "
        f"{NEAR_MS:g} ms of one step of Lindley's recursion from the wait before. The mean wait differs by "
        f"at most {100 * off:+.1f} % from the recursion run on the same arrivals: this is the error of the "
        f"instrument and the variation of the worker. The ratio to M/D/1 is {ideal}, where ± is one "
        "standard error of the mean wait, by batch means: chance, which shrinks in a longer run."
    )
