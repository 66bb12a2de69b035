"""A capacity that the load generator limits is a lower bound, whatever made its windows miss an objective."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import made_up
import pytest
from made_reports import run_of

from harness.analysis.stats import Verdict
from harness.capacity import arms, client_bound, report
from harness.capacity.report import Report
from harness.wire.records import INVALID, MEASURE, Sample, Trial

QUICK_MS, LATE_MS = 40.0, 400.0  # latencies; the objective is p95 < 100 ms
HELD, MISSED = 40, 8  # one request of so many is late
RATES = (900.0, 960.0, 1020.0, 1080.0) * 2  # of eight confirming blocks
FULL = "the load generator ran out of open files (at most 60), so 9 requests were not sent: raise the limit"


def window(
    trial: int, rate: float, one_of: int, *, arm: str = "quick", lag_ms: float = 0.5, **fields: Any
) -> tuple[Trial, list[Sample]]:
    """A trial of one second, 200 requests; one of `one_of` is late, of which `lag_ms` before it is sent."""
    load, block = f"poisson({rate:g})", trial % 100
    about = {"arm": arm, "load": load, "block": block, "trial": trial}
    rows = []
    for seq, due_ms in enumerate(range(0, 1000, 5)):
        late = seq % one_of == 0
        stamps = {
            "due_ms": float(due_ms),
            "sent_ms": due_ms + (lag_ms if late else 0.5),
            "done_ms": due_ms + (LATE_MS if late else QUICK_MS),
        }
        rows.append(made_up.sample(**about, seq=seq, phase=MEASURE, **stamps))
    whole = {
        "concurrency": None,
        "rate_per_s": rate,
        "requests": 200,
        "measured": 200,
        "client_cpu_ms": 100.0,
        "server_lag_p99_ms": 1.0,
    }
    return made_up.trial(**about, **(whole | fields)), rows


def built(*windows: tuple[Trial, list[Sample]], **record: Any) -> Report:
    trials, rows = zip(*windows, strict=True)
    run = run_of(
        made_up.requests_frame([row for its in rows for row in its]),
        made_up.trials_frame(list(trials)),
        folder=Path("run"),
        arms=list(dict.fromkeys(trial.arm for trial in trials)),
        timeout_s=30.0,
        cap=500,
    )
    settings = {"objectives": ["p95 < 100 ms"], "searched": 0, "blocks": 8, "window_s": 1.0, "search_s": 1.0}
    own = {"own_per_s": {trial.arm: 1200.0 for trial in trials}}
    return report.build(run._replace(record={**run.record, "capacity": settings, **own, **record}))


def confirmed(*, arm: str = "quick", first: int = 1, broken: float = 1020.0, **missed: Any) -> list[Any]:
    """Eight confirming windows; those at `broken` requests/s or more miss the objective."""
    return [
        window(first + number, rate, MISSED, arm=arm, **missed)
        if rate >= broken
        else window(first + number, rate, HELD, arm=arm)
        for number, rate in enumerate(RATES)
    ]


def row_of(shown: Report, arm: str = "quick") -> dict[Any, Any]:
    return {str(row["arm"]): row for row in shown.capacity.to_dict("records")}[arm]


def warned(shown: Report) -> list[str]:
    return [text for text in shown.warnings if text.startswith("Limited by the client")]


def test_windows_that_the_server_missed_give_a_level() -> None:
    shown = built(*confirmed())
    assert row_of(shown)["bound"] == ""
    assert row_of(shown)["binds"] == "p95 latency < 100 ms"
    assert warned(shown) == []


@pytest.mark.parametrize(
    ("cause", "why"),
    [
        ({"client_cpu_ms": 1020.0}, "kept 75 % of its core busy"),
        ({"lag_ms": LATE_MS - QUICK_MS}, "sent requests late"),
    ],
)
def test_windows_missed_for_a_busy_or_late_client_give_a_lower_bound(cause: dict[str, Any], why: str) -> None:
    shown = built(*confirmed(**cause))
    row = row_of(shown)
    assert (row["bound"], row["high_per_s"], row["binds"]) == (arms.AT_LEAST, float("inf"), "")
    assert 0 < row["promise_per_s"] <= row["capacity_per_s"] <= 960
    assert (row["broke_at_per_s"], row["broke_first"]) == (1020.0, "client")
    assert why in row["how_it_broke"]
    (warning,) = warned(shown)
    assert why in warning
    assert "Its capacity is a lower bound. To measure the server, send" in warning
    (said,) = shown.sentences
    assert said.startswith(
        "quick handles at least 960 requests/s, beyond which the load generator is the limit."
    )
    assert "At 1020 requests/s, an objective was missed because the load generator " in said


def test_a_late_minority_of_the_missed_windows_changes_nothing() -> None:
    """Such as a hiccup of the machine."""
    windows = confirmed()
    windows[2] = window(3, RATES[2], MISSED, lag_ms=LATE_MS - QUICK_MS)
    assert row_of(built(*windows))["bound"] == ""


def test_requests_that_the_cap_held_back_are_not_the_clients_delay() -> None:
    assert row_of(built(*confirmed(lag_ms=LATE_MS - QUICK_MS, capped=20)))["bound"] == ""


def test_a_rate_that_our_own_limit_made_impossible_is_no_broken_objective() -> None:
    own: dict[str, Any] = {"state": INVALID, "error": FULL}
    shown = built(*confirmed(broken=1080.0, **own))
    row = row_of(shown)
    assert (row["bound"], row["capacity_per_s"]) == (arms.AT_LEAST, 1020.0)
    assert FULL in warned(shown)[0]


def test_the_rate_that_the_roofline_allows_is_a_lower_bound() -> None:
    every = confirmed(broken=9999.0)
    (warning,) = warned(built(*every, self_check={"requests_per_s": 1080.0 / 0.45}))
    assert "is not asked for more than 45 % of the 2400 requests/s that it can send" in warning
    assert warned(built(*every, self_check={"requests_per_s": 1e4})) == []


def test_an_arm_without_a_window_that_held_has_no_capacity_and_is_not_called_too_slow() -> None:
    shown = built(*confirmed(broken=0.0, client_cpu_ms=1.3e3))
    assert row_of(shown)["verdict"] == Verdict.CLIENT_LIMITED
    assert shown.sentences == ["The capacity of quick is unknown."]
    assert "No arm could be judged" in shown.finding


def compared(*, busy: tuple[bool, bool], scale: float) -> str:
    """The verdict of an arm at `scale` times the rates of its reference; who is busy: (reference, arm)."""
    cpu: dict[bool, dict[str, Any]] = {True: {"client_cpu_ms": 1.3e3}, False: {}}
    first = confirmed(arm="reference", **cpu[busy[0]])
    second = [
        window(
            100 + number,
            rate * scale,
            MISSED if rate >= 1020.0 else HELD,
            arm="quick",
            **(cpu[busy[1]] if rate >= 1020.0 else {}),
        )
        for number, rate in enumerate(RATES, 1)
    ]
    return str(row_of(built(*first, *second))["verdict"])


def test_no_verdict_is_based_on_a_bound_that_a_faster_client_could_move() -> None:
    assert compared(busy=(False, False), scale=2.0) == Verdict.FASTER
    assert compared(busy=(False, True), scale=2.0) == Verdict.FASTER  # at least twice as fast
    assert compared(busy=(True, False), scale=2.0) == Verdict.CLIENT_LIMITED
    assert compared(busy=(True, True), scale=2.0) == Verdict.CLIENT_LIMITED
    assert compared(busy=(False, True), scale=0.5) == Verdict.CLIENT_LIMITED
    assert compared(busy=(True, False), scale=0.5) == Verdict.SLOWER


def test_the_walk_asks_for_less_than_half_of_the_roofline_and_for_any_rate_without_one() -> None:
    assert client_bound.most_per_s(1000.0) == pytest.approx(450.0)
    assert client_bound.most_per_s(float("nan")) == float("inf")
