"""The figures and sentences of a capacity report, from made-up windows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import pytest
from rich.console import Console

from harness.analysis import slo
from harness.capacity import arms, words
from harness.capacity.arms import Arm
from harness.capacity.crossing import BEYOND, Window, cross
from harness.commands import capacity_tables
from harness.verdicts.admissible import Evidence

console = Console(width=100)
P95 = slo.parse(["p95 < 100 ms"])


def window(block: int, rate: float, share: float) -> Window:
    """A confirming window of a thousand requests, of which this share is late."""
    return Window(block, rate, True, (1000.0 * share,), (1000.0,))


def held_in_the_search(block: int, rate: float, share: float = 0.0) -> Window:
    return dataclasses.replace(window(block, rate, share), confirms=False)


def broke_in_the_search(block: int, rate: float) -> Window:
    return dataclasses.replace(window(block, rate, 0.9), confirms=False, gave_up=True)


def arm_of(windows: Sequence[Window]) -> Arm:
    rows = pd.DataFrame(
        [
            {
                "arm": "thread",
                "trial": one.block,
                "block": one.block,
                "confirms": one.confirms,
                "rate_per_s": one.rate_per_s,
                "requests": one.counts[0],
                "failed": 0,
                "mean_ms": 40.0,
                "goodput_per_s": one.rate_per_s * (1 - one.sums[0] / one.counts[0]),
                "gave_up": one.gave_up,
                "kept": one.keeps(P95),
                "score_1": one.sums[0],
                "count_1": one.counts[0],
            }
            for one in windows
        ]
    )
    evidence = SimpleNamespace(run=SimpleNamespace(record={"own_per_s": {"thread": 75.0}}))
    return arms.judge("thread", cast(Evidence, evidence), rows, P95)


def row_of(windows: Sequence[Window]) -> dict[str, Any]:
    arm = arm_of(windows)
    assert arm.crossing is not None
    return arms._held(arm, arm.crossing)


# -- a rate that failed is not one that held -----------------------------------------------------------


def nearly_at_the_highest() -> list[Window]:
    """The confirming windows cross just beyond 45.52, the highest rate tried, which broke in the search."""
    rates, shares = [38.0, 40.0, 42.0, 44.0] * 3, [0.024, 0.030, 0.036, 0.043] * 3
    confirming = [window(block, *both) for block, both in enumerate(zip(rates, shares, strict=True), 3)]
    return [broke_in_the_search(1, 32.19), broke_in_the_search(2, 45.52), *confirming]


def test_a_failed_window_exactly_at_the_capacity_is_found() -> None:
    """exp(log(45.52)) is 45.52000000000001, so a rate that went through its logarithm is not found again."""
    arm = arm_of(nearly_at_the_highest())
    assert arm.crossing is not None
    assert 0 < arm.crossing.crossings[0] - math.log(45.52) < BEYOND
    assert row_of(nearly_at_the_highest())["capacity_per_s"] == 45.52
    broken = arms._first_failed_window(arm)
    assert broken is not None
    assert broken["rate_per_s"] == 45.52


def test_without_a_failed_window_above_the_capacity_the_nearest_below_is_shown() -> None:
    """Of a burst at 30 and one at 41, the latter is closer to what happens at 44."""
    bursts = [window(13, 30.0, 0.2), window(14, 41.0, 0.1)]
    arm = arm_of([*(window(block, 44.0, 0.001) for block in range(1, 13)), *bursts])
    assert arm.crossing is not None
    assert arm.crossing.rate_per_s == 44.0
    broken = arms._first_failed_window(arm)
    assert broken is not None
    assert broken["rate_per_s"] == 41.0


def test_an_arm_that_never_failed_has_no_failed_window() -> None:
    assert arms._first_failed_window(arm_of([window(1, 30.0, 0.0), window(2, 31.0, 0.0)])) is None


def test_at_least_is_the_highest_rate_that_held_and_not_the_highest_rate_tried() -> None:
    broke = broke_in_the_search(1, 45.52)
    row = row_of([broke, *(window(block, rate, 0.0) for block, rate in enumerate([38.0, 40.0] * 3, 2))])
    assert row["bound"] == arms.AT_LEAST
    assert (row["capacity_per_s"], row["low_per_s"], row["promise_per_s"]) == (40.0, 40.0, 40.0)


def test_a_lower_bound_is_described_with_the_higher_rate_that_failed() -> None:
    known: dict[str, Any] = dict.fromkeys(arms.COLUMNS, math.nan) | {"arm": "thread", "bound": arms.AT_LEAST}
    row = known | {"capacity_per_s": 40.0, "broke_at_per_s": 45.52, "broke_first": "queue"}
    text = words.sentences(row | {"how_it_broke": "queue: 9 of the 9 ms"}, "thread")
    assert text == (
        "thread handles at least 40.0 requests/s, the highest rate at which it kept every objective. "
        "At 45.5 requests/s, the wait in the queue grew most: 9 of the 9 ms."
    )
    assert words.sentences(known | {"capacity_per_s": 40.0}, "thread") == (
        "thread handles at least 40.0 requests/s, the highest rate tried, and kept every objective there."
    )


def test_the_sentences_name_the_limit_the_promise_the_ratio_and_an_error() -> None:
    row: dict[str, Any] = dict.fromkeys(arms.COLUMNS, math.nan) | {
        "arm": "batch",
        "bound": "",
        "doubt": "",
        "promise_per_s": 132.0,
        "capacity_per_s": 142.0,
        "low_per_s": 132.9,
        "high_per_s": math.inf,
        "binds": "p95 latency < 100 ms",
        "ratio": 2.13,
        "ratio_low": 1.96,
        "ratio_high": 2.48,
        "verdict": "faster",
        "broke_at_per_s": 148.0,
        "broke_first": "HTTP 503",
        "how_it_broke": "errors: 9 of 10 failed, most often HTTP 503",
    }
    assert words.sentences(row, "process") == (
        "batch handles 142 requests/s (95 % interval 133 to beyond the rates tried), "
        "limited by p95 latency < 100 ms; promise 132, the lower end. "
        "Its capacity is 2.13 times (1.96 to 2.48) that of process: faster. "
        "At 148 requests/s, 9 of 10 failed, most often HTTP 503."
    )


def test_a_promise_is_never_above_the_highest_rate_that_held() -> None:
    """All draws cross near 45.52, the highest rate tried, which broke."""
    steady = [window(block, rate, 0.044) for block, rate in enumerate([44.0, 44.5] * 6, 3)]
    found = cross([held_in_the_search(1, 36.0, 0.02), broke_in_the_search(2, 45.52), *steady], P95, 75.0)
    assert found is not None
    assert not found.at_least
    assert min(found.low_draws) > math.log(45.4)
    assert found.interval()[0] == 44.5


def test_nothing_is_promised_if_no_window_kept_all_objectives() -> None:
    """Each objective breaks in every other window, and on average both are kept."""
    two = slo.parse(["p95 < 100 ms", "errors < 5 %"])
    sums = [(80.0, 0.0), (0.0, 80.0)] * 4
    windows = [Window(block, 40.0, True, one, (1000.0, 1000.0)) for block, one in enumerate(sums, 1)]
    found = cross(windows, two, 75.0)
    assert found is not None
    assert not found.at_least
    assert found.interval()[0] == 0.0


# -- good answers at the capacity ----------------------------------------------------------------------


def test_goodput_counts_windows_at_or_below_the_capacity() -> None:
    """A tenth is late at 40.8, which is 2 % above the capacity of 40."""
    trials = arm_of([window(1, 38.0, 0.02), window(2, 40.0, 0.04), window(3, 40.8, 0.1)]).trials
    assert arms._goodput(trials, 40.0) == pytest.approx(40.0 * (38.0 * 0.98 + 40.0 * 0.96) / 78.0)


def test_no_goodput_is_shown_if_every_confirming_window_is_above_the_capacity() -> None:
    """Their share is that of an overload: it once gave 271 good answers/s for a capacity of 481."""
    low = held_in_the_search(1, 450.0)
    trials = arm_of([low, window(2, 600.0, 0.4), window(3, 630.0, 0.5)]).trials
    assert math.isnan(arms._goodput(trials, 481.0))


def test_no_goodput_is_shown_if_the_capacity_is_below_every_rate_tried() -> None:
    row = row_of([window(block, rate, 0.9) for block, rate in enumerate([30.0, 31.0] * 3, 1)])
    assert (row["bound"], row["capacity_per_s"]) == (arms.AT_MOST, 30.0)
    assert math.isnan(row["goodput_per_s"])


# -- what is promised ----------------------------------------------------------------------------------


def steep(blocks: int) -> list[Window]:
    """Windows at 40 to 46 requests a second that cross near 43 and determine it well."""
    rates = [40.0, 42.0, 44.0, 46.0] * 3
    return [window(block, rate, 0.05 * (rate / 43.0) ** 10) for block, rate in enumerate(rates[:blocks], 1)]


def bursts() -> list[Window]:
    """One block in four has a burst, as with a p99: many draws see no late request."""
    shares = [0.18, 0.0, 0.01, 0.0] * 3
    return [window(block, 43.0 + block % 4, share) for block, share in enumerate(shares, 1)]


def table_of(**arms_windows: Sequence[Window]) -> pd.DataFrame:
    known = {"reference": "thread", "verdict": "inconclusive", "ratio": math.nan}
    rows = [row_of(its) | known | {"arm": arm, "blocks": len(its)} for arm, its in arms_windows.items()]
    return pd.DataFrame(rows, columns=arms.COLUMNS)


def printed(table: pd.DataFrame) -> str:
    with console.capture() as seen:
        console.print(capacity_tables._rates(table.to_dict("records"), "thread"))
    return seen.get()


@pytest.mark.parametrize(
    ("windows", "doubt", "why"),
    [
        (steep(1), arms.TOO_FEW, "1 confirming block is too few for a promise, which needs at least 6"),
        (steep(4), arms.TOO_FEW, "4 confirming blocks are too few for a promise, which needs at least 6"),
        (bursts(), arms.TOO_WIDE, "is too wide for a promise"),
    ],
)
def test_a_doubtful_promise_is_explained_in_plain_words(windows: list[Window], doubt: str, why: str) -> None:
    table = table_of(thread=windows)
    (row,) = table.to_dict("records")
    assert row["doubt"] == doubt
    assert why in words.doubt(row)
    assert words.notes(table) == [f"thread: {words.doubt(row)}"]
    assert words.finding(table, P95).startswith("No rate can be promised yet. The estimate is ")
    assert words.finding(table, P95).endswith(f"requests/s with thread, but {words.doubt(row)}.")
    assert f"({doubt})" in printed(table)


def test_the_text_of_an_arm_warns_against_planning_with_a_doubtful_promise() -> None:
    (row,) = table_of(thread=steep(4)).to_dict("records")
    assert "; do not plan with 4" in words.sentences(row, "thread")
    assert words.doubt(row) in words.sentences(row, "thread")


def test_an_interval_wider_than_twice_its_lower_end_is_doubtful() -> None:
    arm = arm_of(steep(12))
    assert arm.crossing is not None
    assert arms._doubt(arm.crossing, 50.0, 100.0) == ""
    assert (
        arms._doubt(arm.crossing, 50.0, 101.0) == arms._doubt(arm.crossing, 50.0, math.inf) == arms.TOO_WIDE
    )


def test_enough_blocks_and_a_narrow_interval_give_a_promise() -> None:
    table = table_of(thread=steep(12))
    assert table["doubt"].tolist() == [""]
    assert words.notes(table) == []
    assert words.finding(table, P95).startswith("thread can promise 4")
    assert "(" not in printed(table).splitlines()[-1].split("[")[0]


def test_an_arm_that_never_failed_is_not_doubtful_for_its_open_interval() -> None:
    row = row_of([window(block, rate, 0.0) for block, rate in enumerate([38.0, 40.0] * 3, 1)])
    assert (row["bound"], row["doubt"], row["high_per_s"]) == (arms.AT_LEAST, "", math.inf)


def test_without_a_promise_there_is_no_doubt() -> None:
    row = row_of([window(block, 30.0, 0.9) for block in (1, 2)])
    assert (row["promise_per_s"], row["doubt"]) == (0.0, "")


def test_the_promise_of_an_arm_in_doubt_is_not_the_headline() -> None:
    table = table_of(thread=steep(12), batch=[*bursts(), window(13, 90.0, 0.0)])
    assert set(table["doubt"]) == {"", arms.TOO_WIDE}
    assert words.finding(table, P95).startswith("thread can promise ")


@pytest.mark.parametrize("scale", [0.1, 1, 10, 100])
def test_a_rate_of_three_digits_is_not_rounded(scale: float) -> None:
    """Also after its logarithm, and though 45.3 / 0.1 is 452.99999999999994."""
    for number in range(100, 1000):
        rate = number / scale
        assert arms.rounded_down(rate) == arms.rounded_down(math.exp(math.log(rate))) == rate
