"""The advice of a capacity report, from made-up tables."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from harness.capacity import advising
from harness.capacity.arms import AT_LEAST, AT_MOST, COLUMNS, TOO_FEW, TOO_WIDE
from harness.report.advice import Advice

RECORD: dict[str, Any] = {
    "capacity": {"objectives": ["p99 latency < 100 ms"], "blocks": 12},
    "plan": {
        "arms": [
            {"name": "thread", "strategy": "thread"},
            {"name": "two", "strategy": "batch", "workers": 2, "options": {"over": "process"}},
        ],
        "workload": {"name": "synthetic", "service_ms": 20.0, "io": "socket", "io_ms": 5.0},
    },
}


def row(arm: str, capacity: float, **more: Any) -> dict[str, Any]:
    known: dict[str, Any] = {
        "arm": arm,
        "promise_per_s": 0.95 * capacity,
        "capacity_per_s": capacity,
        "low_per_s": 0.95 * capacity,
        "high_per_s": 1.05 * capacity,
        "bound": "",
        "ratio": math.nan,
        "ratio_low": math.nan,
        "ratio_high": math.nan,
        "verdict": "reference",
        "closed_per_s": capacity,
        "broke_first": "queue",
    }
    return known | more


def advise(*rows: dict[str, Any], withheld: str = "") -> Advice:
    return advising.advise(
        pd.DataFrame(rows, columns=COLUMNS), RECORD, Path("made/a-run"), "thread", withheld
    )


def better(verdict: str = "faster", **more: Any) -> dict[str, Any]:
    ratio = {"ratio": 2.0, "ratio_low": 1.8, "ratio_high": 2.2, "verdict": verdict}
    return row("two", 80.0, **(ratio | more))


def test_an_arm_that_is_surely_better_is_advised_with_its_options_and_its_ratio() -> None:
    advice = advise(row("thread", 40.0), better())
    assert advice.take == "two"
    assert "Take two (--strategy batch:workers=2,over=process): promise 76.0 requests/s." in advice.lines[0]
    assert "Its capacity is 2.00 times [1.80, 2.20] that of thread." in advice.lines[0]
    assert (advice.ratio, advice.low, advice.high) == (2.0, 1.8, 2.2)
    assert advice.command == ""


def test_faster_of_uncertain_size_is_faster() -> None:
    assert advise(row("thread", 40.0), better("faster, size uncertain")).take == "two"


def test_a_higher_promise_that_may_be_luck_changes_nothing() -> None:
    advice = advise(row("thread", 40.0), better("inconclusive"))
    assert advice.take == "thread"
    assert advice.lines[0].startswith("Stay with thread: promise 38.0 requests/s")


def test_the_best_arm_with_a_verdict_is_advised_if_a_higher_promise_may_be_luck() -> None:
    lucky = row("three", 90.0, ratio=2.3, ratio_low=0.9, ratio_high=5.0, verdict="inconclusive")
    assert advise(row("thread", 40.0), better(), lucky).take == "two"
    assert advise(row("thread", 40.0), lucky).take == "thread"


def test_the_cause_of_the_failure_decides_how_to_raise_the_capacity() -> None:
    causes = {
        "queue": "wait for the model",
        "model": "call of the model takes longer",
        "loop": "off it",
        "database": "a faster query",
        "client": "another machine",
    }
    for part, word in causes.items():
        assert word in " ".join(advise(row("thread", 40.0), better(broke_first=part)).lines), part
    failing = advise(row("thread", 40.0, broke_first="HTTP 503"))
    assert "Beyond the capacity, requests fail: HTTP 503." in failing.lines


def test_a_closed_loop_above_the_promise_is_a_warning() -> None:
    assert any(
        "Do not plan with the 48.0" in line for line in advise(row("thread", 40.0, closed_per_s=48.0)).lines
    )
    assert not any("Do not plan" in line for line in advise(row("thread", 40.0)).lines)


def test_a_single_arm_is_not_called_the_best() -> None:
    assert "It is the only arm" in advise(row("thread", 40.0)).lines[0]


def test_a_wide_interval_is_followed_by_the_command_that_makes_it_narrower() -> None:
    advice = advise(row("thread", 40.0, low_per_s=30.0))
    assert advice.command == "execbench capacity results/a-run --blocks 24"


def test_an_arm_that_never_failed_may_have_a_higher_capacity() -> None:
    advice = advise(row("thread", 40.0, bound=AT_LEAST, high_per_s=math.inf, broke_first=math.nan))
    assert advice.lines[-1] == "It kept every objective at every rate tried, so its capacity may be higher."
    assert advice.command


def test_no_advice_is_given_with_withheld_verdicts_or_without_a_promise() -> None:
    advice = advise(row("thread", 40.0), better(), withheld="the twin differs")
    assert advice.take == ""
    assert "cannot tell" in advice.lines[0]
    assert advice.command
    nothing = row("thread", math.nan, promise_per_s=0.0, bound=AT_MOST)
    assert "No arm can promise a rate" in advise(nothing).lines[0]
    assert "No arm can promise a rate" in advise(row("thread", math.nan, promise_per_s=math.nan)).lines[0]


def test_an_arm_that_failed_at_a_higher_rate_is_not_reported_as_keeping_every_objective() -> None:
    advice = advise(row("thread", 40.0, bound=AT_LEAST, high_per_s=math.inf, broke_at_per_s=45.5))
    assert "may be higher" not in " ".join(advice.lines)
    assert "wait for the model" in advice.lines[-1]


def few(arm: str, capacity: float, **more: Any) -> dict[str, Any]:
    return row(arm, capacity, doubt=TOO_FEW, blocks=4, **more)


def wide(arm: str, capacity: float, **more: Any) -> dict[str, Any]:
    ends = {"low_per_s": 0.5 * capacity, "promise_per_s": 0.5 * capacity, "high_per_s": 1.6 * capacity}
    return row(arm, capacity, doubt=TOO_WIDE, **(ends | more))


def test_no_arm_is_advised_on_doubtful_promises() -> None:
    for doubted in (few("thread", 40.0), wide("thread", 40.0), few("thread", 40.0, promise_per_s=math.nan)):
        advice = advise(doubted)
        assert (advice.take, advice.metric) == ("", "")
        assert advice.lines[0].startswith("No rate and no strategy are advised yet")
        assert advice.lines[1].startswith("Do not plan with thread yet: ")
        assert len(advice.lines) == 2
        assert advice.command


def test_a_better_arm_with_a_doubtful_promise_is_not_advised() -> None:
    ratio = {"ratio": 2.0, "ratio_low": 1.4, "ratio_high": 2.9, "verdict": "faster"}
    advice = advise(row("thread", 40.0), wide("two", 80.0, **ratio))
    assert advice.take == "thread"
    assert advice.lines[0].startswith("Stay with thread for now: promise 38.0 requests/s.")
    assert "No other arm is clearly better" not in " ".join(advice.lines)
    assert advice.lines[-1] == (
        "Do not plan with two yet: "
        "the 95 % interval is too wide for a promise (its upper end is 3.2 times the lower)."
    )
    assert advice.command


def test_arms_in_doubt_for_the_same_reason_share_a_line() -> None:
    advice = advise(few("thread", 40.0), few("process", 40.0), few("batch", 50.0), wide("two", 80.0))
    assert advice.lines[1:] == (
        "Do not plan with thread, process or batch yet: "
        "4 confirming blocks are too few for a promise, which needs at least 6.",
        "Do not plan with two yet: "
        "the 95 % interval is too wide for a promise (its upper end is 3.2 times the lower).",
    )


def test_a_better_arm_is_advised_even_if_the_promise_of_the_reference_is_doubtful() -> None:
    advice = advise(wide("thread", 40.0), better())
    assert advice.take == "two"
    assert advice.lines[-1].startswith("Do not plan with thread yet")


def test_no_change_is_advised_from_a_reference_in_doubt_to_an_arm_that_may_be_no_better() -> None:
    advice = advise(wide("thread", 40.0), better("inconclusive"))
    assert advice.take == ""
    assert advice.lines[0] == "No strategy is advised yet: none is clearly better than thread."


def test_after_a_short_run_the_next_command_has_the_default_number_of_blocks() -> None:
    short = RECORD | {"capacity": RECORD["capacity"] | {"blocks": 4}}
    table = pd.DataFrame([few("thread", 40.0)], columns=COLUMNS)
    assert advising.advise(table, short, Path("made/a-run"), "thread", "").command.endswith("--blocks 12")
