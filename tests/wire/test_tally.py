"""A tally counts requests in bounded memory, and knows their median dispatch lag."""

from __future__ import annotations

import random
import statistics

import pytest

from harness.system import own_limits
from harness.wire.records import MEASURE, NO_TIMINGS, PING, WARMUP, Cause, Outcome, Shot, counts_of, judge
from harness.wire.tally import MOST_ERRORS, OTHER_ERRORS, Tally


def shot(phase: str = MEASURE, lag_ms: float = 0.1, status: int | None = 200, error: str = "") -> Shot:
    return Shot(0, phase, 5.0, 5.0 + lag_ms, 7.0 + lag_ms, NO_TIMINGS, status, error)


def test_pings_and_the_warm_up_are_requests_but_not_measured() -> None:
    found = counts_of([shot(WARMUP, error="a", status=None), shot(PING, error="b"), shot(), shot(error="b")])
    assert (found.requests, found.measured, found.failed, found.unanswered) == (4, 2, 1, 1)
    assert (dict(found.errors), dict(found.measured_errors)) == ({"a": 1, "b": 2}, {"b": 1})


@pytest.mark.parametrize("scale_ms", [0.2, 5.0, 3_000.0])
def test_the_median_lag_is_within_half_a_bin(scale_ms: float) -> None:
    draw = random.Random(1)
    lags_ms = [draw.expovariate(1 / scale_ms) for _ in range(5_001)]
    found = counts_of(shot(lag_ms=lag) for lag in lags_ms).dispatch_lag_p50_ms
    assert found == pytest.approx(statistics.median(lags_ms), abs=0.03, rel=0.006)
    assert counts_of([]).dispatch_lag_p50_ms is None


def test_errors_that_are_all_different_are_counted_in_bounded_memory() -> None:
    found = counts_of(shot(error=f"failed at {number}") for number in range(3 * MOST_ERRORS))
    assert len(found.errors) == len(found.measured_errors) == MOST_ERRORS + 1
    assert found.errors[OTHER_ERRORS] == 2 * MOST_ERRORS
    assert found.failed == 3 * MOST_ERRORS


def test_a_limit_of_our_own_is_named_however_many_other_errors_came_before() -> None:
    own = own_limits.limit_in(MemoryError())
    errors = [*(f"failed at {number}" for number in range(2 * MOST_ERRORS)), own]
    fault = judge(Outcome([], 0.0, 1.0, 0.0, tally=counts_of(shot(error=error) for error in errors)))
    assert fault is not None
    assert fault.cause is Cause.OWN_LIMIT


def test_a_trial_is_judged_by_its_tally_alone() -> None:
    tally = Tally()
    for error in ("HTTP 500", "HTTP 503", "HTTP 503"):
        tally.add(measured=True, lag_ms=0.0, error=error, answered=True)
    fault = judge(Outcome([], 0.0, 1.0, 0.0, tally=tally.counts()))
    assert fault is not None
    assert fault == (Cause.NO_GOOD_ANSWER, "none of 3 requests got a good answer (HTTP 503)")
