"""The law of table T2 on made-up requests."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from made_up import requests_frame, sample, trial, trials_frame

from harness.analysis import staircase, summaries


def staircase_of_three() -> pd.DataFrame:
    """Models of 6 ms one after another on one loop, then I/O of 5 ms each; a lone user's I/O takes 5.2 ms."""
    in_flight = [
        sample(trial=2, load="closed(3)", seq=n, entered_ms=6.0 * n, model_ms=6.0, io_ms=io)
        for n, io in enumerate([12.0, 6.0, 5.2])
    ]
    lone = sample(trial=1, io_ms=5.2)
    trials = trials_frame([trial(), trial(trial=2, load="closed(3)", concurrency=3)])
    return summaries.derive(requests_frame([lone, *in_flight]), trials)


def test_the_staircase_law_is_exact_where_the_loop_does_nothing_else() -> None:
    table = staircase.table(staircase_of_three(), "inline")
    assert list(table.columns) == staircase.COLUMNS
    assert list(table["others_model_ms"]) == pytest.approx([0.0, 12.0, 6.0, 0.0])
    assert list(table["predicted_ms"]) == pytest.approx([5.2, 12.0, 6.0, 5.2])
    assert list(table["error"]) == pytest.approx([0.0] * 4)


def test_a_model_that_overlaps_the_io_in_part_counts_by_the_overlap() -> None:
    derived = staircase_of_three()
    derived.loc[derived["seq"].eq(0) & derived["trial"].eq(2), "io_ms"] = 8.0
    assert staircase.table(derived, "inline")["others_model_ms"].iloc[1] == pytest.approx(8.0)


def test_warmups_of_others_stretch_the_staircase_but_are_not_rows_of_it() -> None:
    derived = staircase_of_three()
    derived.loc[derived["seq"].eq(1), "phase"] = "warmup"
    table = staircase.table(derived, "inline")
    assert list(table["seq"]) == [0, 0, 2]
    assert list(table["others_model_ms"]) == pytest.approx([0.0, 12.0, 0.0])


def test_without_a_single_user_load_the_configured_io_is_the_nominal_io() -> None:
    derived = staircase_of_three()
    table = staircase.table(derived[derived["concurrency"] == 3], "inline")
    assert table["predicted_ms"].iloc[2] == 5.0


def test_without_any_nominal_io_there_is_no_staircase_law() -> None:
    derived = staircase_of_three().assign(io_nominal_ms=math.nan)
    assert staircase.table(derived[derived["concurrency"] == 3], "inline").empty
    assert len(staircase.table(derived, "inline")) == 4


def test_the_prefix_sums_agree_with_the_plain_sum() -> None:
    random = np.random.default_rng(7)
    starts = random.uniform(0, 1000, 50)
    ends = starts + random.uniform(0, 30, 50)
    moments = random.uniform(-10, 1100, 40)
    plain = np.clip(moments[:, None] - starts, 0, ends - starts).sum(axis=1)
    assert staircase._busy_until(moments, starts, ends) == pytest.approx(plain)


def test_the_staircase_is_summed_up_per_load() -> None:
    derived = staircase_of_three()
    derived.loc[derived["seq"].eq(2), "io_ms"] = 7.8
    summary = staircase.summarise(staircase.table(derived, "inline"))
    assert list(summary.columns) == ["arm", "concurrency", "rows", "median_error", "share_within_20pct"]
    assert summary["share_within_20pct"].to_list() == pytest.approx([1.0, 2 / 3])
    assert summary["rows"].to_list() == [1, 3]


def test_an_arm_that_was_not_run_has_no_staircase() -> None:
    table = staircase.table(staircase_of_three(), "thread")
    assert table.empty
    assert staircase.summarise(table).empty
