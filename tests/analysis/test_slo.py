"""Objectives: their syntax, and their scores for a window's requests."""

from __future__ import annotations

import numpy as np
import pytest

from harness.analysis import slo
from harness.analysis.slo import Objective
from harness.errors import UsageError

LATE = np.array([10.0, 50.0, 150.0, 20.0])
NO_IO = np.full(4, np.nan)
ALL_GOOD = np.ones(4, dtype=bool)
LAST_FAILED = np.array([True, True, True, False])


@pytest.mark.parametrize(
    ("text", "objective"),
    [
        ("p99 < 100 ms", Objective("latency", 99.0, 100.0)),
        ("P95 latency<0.2s", Objective("latency", 95.0, 200.0)),
        ("p99.9 < 1 s", Objective("latency", 99.9, 1000.0)),
        ("p90 io < 20 ms", Objective("io", 90.0, 20.0)),
        ("mean latency < 60 ms", Objective("latency", None, 60.0)),
        ("errors < 0.1 %", Objective("errors", None, 0.001)),
    ],
)
def test_an_objective_is_read_in_various_spellings(text: str, objective: Objective) -> None:
    assert slo.parse([text]) == (objective,)
    assert slo.parse([str(objective)]) == (objective,)


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        ([], "No objective"),
        (["fast"], "'fast' is not a valid objective"),
        (["p99 > 100 ms"], "is not a valid objective"),
        (["p97 < 100 ms"], "p50, p90, p95, p99, p99.9"),
        (["p99 < 100 %"], "is not a time"),
        (["errors < 5 ms"], "is not a share"),
        (["errors < 100 %"], "below 100"),
        (["mean latency < 0 ms"], "never be kept"),
        (
            ["p99 < 100 ms", "p99 latency < 0.2 s"],
            "limit the same figure: p99 latency < 100 ms and p99 latency < 200",
        ),
    ],
)
def test_an_invalid_objective_is_refused_with_an_example(texts: list[str], why: str) -> None:
    with pytest.raises(UsageError, match=why) as refused:
        slo.parse(texts)
    assert refused.value.stage == "slo"


def test_a_percentile_is_the_share_of_requests_beyond_its_limit() -> None:
    (objective,) = slo.parse(["p99 < 100 ms"])
    assert objective.target == pytest.approx(0.01)
    assert list(objective.scores(LATE, NO_IO, ALL_GOOD, 1e3)) == [0.0, 0.0, 1.0, 0.0]


def test_a_failure_is_later_than_every_limit_however_quick_it_was() -> None:
    p99, mean, errors = slo.parse(["p99 < 100 ms", "mean latency < 60 ms", "errors < 1 %"])
    assert list(p99.scores(LATE, NO_IO, LAST_FAILED, 1e3)) == [0.0, 0.0, 1.0, 1.0]
    assert list(mean.scores(LATE, NO_IO, LAST_FAILED, 1e3)) == [10.0, 50.0, 150.0, 1e3]
    assert list(errors.scores(LATE, NO_IO, LAST_FAILED, 1e3)) == [0.0, 0.0, 0.0, 1.0]


def test_an_unknown_io_time_does_not_count() -> None:
    (objective,) = slo.parse(["p99 io < 20 ms"])
    io = np.array([5.0, 30.0, np.nan, np.nan])
    assert list(objective.scores(LATE, io, LAST_FAILED, 1e3)) == pytest.approx([0, 1, np.nan, 1], nan_ok=True)


def test_each_objective_needs_a_least_number_of_requests() -> None:
    texts = ["p50 < 1 s", "p95 < 1 s", "p99 < 1 s", "p99.9 < 1 s", "errors < 0.1 %", "mean latency < 1 s"]
    assert [one.fewest_requests for one in slo.parse(texts)] == [1, 64, 662, 6636, 3000, 1]


def test_a_window_is_hopeless_only_once_its_queue_alone_breaks_the_objective() -> None:
    """At 40 requests/s for 10 s, a mean of 60 ms is 24 s in all; 44 in flight have waited 44²/80 = 24 s."""
    mean, share, errors = slo.parse(["mean latency < 60 ms", "p99 < 100 ms", "errors < 1 %"])
    assert 44 <= (slo.hopeless_in_flight([mean], 40.0, 10.0) or 0) <= 70
    assert 8 <= (slo.hopeless_in_flight([share], 40.0, 10.0) or 0) <= 20
    assert slo.hopeless_in_flight([mean, share], 40.0, 10.0) == slo.hopeless_in_flight([share], 40.0, 10.0)
    assert slo.hopeless_in_flight([errors], 40.0, 10.0) is None
