"""The validity of one trial."""

from __future__ import annotations

from harness.run.trials import sent_late
from harness.wire.arrivals import Law
from harness.wire.load_options import LoadOptions
from harness.wire.records import MEASURE, Outcome, Shot, Timings


def outcome(*lags_ms: float) -> Outcome:
    shots = [Shot(0, MEASURE, 0.0, lag_ms, lag_ms + 1.0, Timings(), 200, "") for lag_ms in lags_ms]
    return Outcome(shots, 0.0, 1.0, 0.0)


def test_a_trial_whose_client_is_late_half_of_the_time_is_invalid() -> None:
    load = LoadOptions(url="http://127.0.0.1:1/", arrivals=Law("constant", 50.0), duration_s=1.0)
    assert sent_late(load, outcome(*[0.1] * 51, *[50.0] * 49)) == ""
    assert sent_late(load, outcome(*[0.1] * 49, *[50.0] * 51)) == (
        "the client sent half of the requests at least 50.0 ms late (allowed: 3 ms)"
    )
    assert sent_late(load, outcome()) == ""
