"""The article's tables next to ours, and the load at which our ratio equals a printed one."""

from __future__ import annotations

import math
from typing import Any

import made_up
import pandas as pd
import pytest
from article_world import ARTICLE, TRUE_WORLD
from made_up import Point

from harness.analysis import summaries
from harness.verdicts.published import met_at, published_tables


def tables(world: made_up.World) -> pd.DataFrame:
    requests, trials = made_up.run(world, blocks=2)
    return published_tables(ARTICLE, summaries.derive(requests, trials))


def test_each_printed_table_has_our_figures_next_to_it() -> None:
    table = tables(TRUE_WORLD).set_index(["table", "arm"])
    thread: Any = table.loc[("T3", "thread")]
    assert thread["published_model"] == "26 55 34 21 20"
    assert thread["published_model_ms"] == [26.0, 55.0, 34.0, 21.0, 20.0]
    assert (thread["published_model_p50_ms"], thread["model_p50_ms"]) == (26.0, 208.0)
    assert (thread["queue_p50_ms"], thread["in_worker_p50_ms"], thread["resume_p50_ms"]) == (182.0, 26.0, 0.0)
    assert thread["model_ratio"] == pytest.approx(208 / 6)
    assert thread["met_at"] == "between 1 and 2 (c ≈ 1.4)"
    assert table.loc[("T2", "inline"), "published_io"] == "47 41 35 29 23 17 11 6 … 12"
    assert table.loc[("T2", "inline-scaled-io"), "io_ratio"] == pytest.approx(9.4)
    assert table.loc[("T1", "inline"), "met_at"] == ""


def test_a_table_whose_arm_was_not_run_is_marked() -> None:
    found = tables({("inline", 1): Point()}).set_index("arm").loc[["thread"]].iloc[0]
    assert found["note"] == "thread was not run at c = 8"
    assert found["requests"] == 0
    assert math.isnan(found["model_p50_ms"])
    assert found["met_at"] == "not measured"


def test_a_workload_without_io_has_no_io_ratio() -> None:
    assert tables({("inline", 1): Point(io_ms=0.0)})["io_ratio"].isna().all()


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (3.5, "between 2 and 4 (c ≈ 3.5)"),
        (1.5, "between 1 and 2 (c ≈ 1.5)"),
        (4.0, "c = 4"),
        (1.0, "c = 1"),
        (0.9, "already exceeded at c = 1"),
        (9.0, "not reached by c = 8"),
        (math.nan, "not measured"),
    ],
)
def test_a_published_ratio_is_met_at_a_load(target: float, text: str) -> None:
    assert met_at({8: 8.0, 1: 1.0, 2: 2.0, 4: 4.0}, target) == text


def test_a_ratio_that_was_not_measured_is_met_nowhere() -> None:
    assert met_at({1: math.nan}, 2.0) == "not measured"


def test_the_first_crossing_counts_when_noise_bends_the_levels() -> None:
    assert met_at({1: 1.0, 2: 3.0, 4: 1.0, 8: 5.0}, 2.0) == "between 1 and 2 (c ≈ 1.5)"
