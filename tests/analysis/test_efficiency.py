"""Efficiency: an arm's throughput over the bare model's and an ideal service's, on made-up runs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import made_up
import pandas as pd
import pytest
from made_reports import BATCHES, closed, open_trial, opened, with_limits
from made_up import Point

from harness.analysis import efficiency
from harness.report import export, report

pytestmark = pytest.mark.integration  # each test builds a whole report, which is slow

WORLD: made_up.World = {
    ("thread", 1): Point(model_ms=11.0, io_ms=5.0, outside_ms=1.0),
    ("thread", 8): Point(model_ms=11.0, queue_ms=77.0, io_ms=5.0, outside_ms=1.0),
    ("batch", 1): Point(model_ms=11.0, io_ms=5.0, outside_ms=1.0),
    ("batch", 8): Point(model_ms=18.0, queue_ms=0.0, io_ms=5.0, outside_ms=1.0),
}


def table(world: made_up.World = WORLD, arms: tuple[str, ...] = ("thread", "batch"), **said: Any) -> Any:
    built = report.build(with_limits(closed(world), *arms, **said))
    return built.limits.set_index(["arm", "load"])


def test_the_limit_is_the_best_batch_that_the_users_could_fill() -> None:
    found = table()
    assert found.loc[("thread", "closed(1)"), "limit_per_s"] == pytest.approx(1 / 11e-3)
    assert found.loc[("thread", "closed(8)"), "limit_per_s"] == pytest.approx(8 / 18e-3)
    assert list(found["limit_batch"]) == [1, 8, 1, 8]


def test_efficiency_is_the_arms_throughput_over_the_limit() -> None:
    found = table()
    assert found.loc[("thread", "closed(8)"), "efficiency"] == pytest.approx((8 / 94) / (8 / 18))
    assert found.loc[("batch", "closed(8)"), "efficiency"] == pytest.approx((8 / 24) / (8 / 18))


def test_the_shares_are_taken_within_each_block_if_the_model_was_timed_there() -> None:
    """In one block the model takes 50 times as long, in the others as long as the arm needs."""
    run = with_limits(closed(WORLD), "batch")
    run.record["limits"][0]["by_block"] = {
        str(block): {size: took * (50.0 if block == 3 else 1.0) for size, took in BATCHES.items()}
        for block in range(1, 13)
    }
    found = report.build(run).limits.set_index("load").loc["closed(8)"]
    for name in ("efficiency", "efficiency_low"):
        assert found[name] == pytest.approx((8 / 24) / (8 / 18)), name
    assert found["efficiency_high"] > 10.0  # so few blocks have the widest of intervals


def test_shares_of_a_model_that_was_timed_only_once_have_no_interval() -> None:
    assert table()["efficiency_low"].isna().all()


def test_the_ideal_adds_the_io_once_and_the_overhead_of_each_request() -> None:
    row = table().loc[("batch", "closed(8)")]
    assert (row["call_ms"], row["io_ms"], row["null_ms"]) == (18.0, 5.0, 0.5)
    assert row["ideal_per_s"] == pytest.approx(8 / 27e-3)
    assert row["of_ideal"] == pytest.approx((8 / 24) / (8 / 27))


def test_larger_batches_without_a_gain_do_not_change_the_limit() -> None:
    run = with_limits(closed(WORLD), "thread")
    run.record["limits"][0]["batches"] = {"1": 10.0, "2": 18.0, "4": 40.0, "8": 90.0}
    found = report.build(run).limits.set_index("load").loc["closed(8)"]
    assert (found["limit_batch"], found["limit_per_s"]) == (2, pytest.approx(2 / 18e-3))


@pytest.mark.parametrize(("items", "took_ms"), [(1, 11.0), (3, 13.0), (24, 34.0), (64, 74.0), (128, 148.0)])
def test_batch_sizes_are_interpolated_and_larger_ones_count_as_several_calls(
    items: int, took_ms: float
) -> None:
    batches = {int(size): took for size, took in BATCHES.items()}
    assert efficiency.call_ms(batches, items) == pytest.approx(took_ms)


def test_the_nominal_io_is_a_single_users_or_else_the_configured_duration() -> None:
    stalled = {("inline", 1): Point(io_ms=5.3), ("inline", 8): Point(io_ms=40.0)}
    assert set(table(stalled, ("inline",))["io_ms"]) == {5.3}
    run = with_limits(closed({("inline", 8): Point(io_ms=40.0)}), "inline")
    run.record["arms"] = {"inline": {"options": {"workload": {"io_ms": 5.0}}}}
    assert list(report.build(run).limits["io_ms"]) == [5.0]


def test_the_users_own_io_has_no_nominal_duration_without_a_lone_user() -> None:
    run = with_limits(closed({("inline", 8): Point(io_ms=40.0)}), "inline")
    options = {"workload": {"io_ms": 5.0}}
    run.record["arms"] = {"inline": {"options": options, "about": {"own_io": True}}}
    assert report.build(run).limits["io_ms"].isna().all()


def test_an_arm_without_a_limit_has_no_row() -> None:
    assert set(table(arms=("batch",)).index.get_level_values("arm")) == {"batch"}


def test_an_open_load_has_no_efficiency() -> None:
    run = with_limits(opened(*(open_trial(number) for number in range(1, 9))), "thread")
    assert report.build(run).limits.empty


@pytest.mark.integration  # takes long
def test_a_run_without_limits_has_a_report_without_efficiency(tmp_path: Path) -> None:
    built = report.build(closed(WORLD, folder=tmp_path))
    export.write(built)
    assert built.limits.empty
    assert export.as_json(built)["limits"] == []
    assert not {path.name for path in tmp_path.iterdir()} & {"limits.csv", "ranking.csv"}


@pytest.mark.integration  # takes long
def test_limits_are_in_a_csv_and_in_the_json(tmp_path: Path) -> None:
    built = report.build(with_limits(closed(WORLD, folder=tmp_path), "thread", null_ms=None))
    export.write(built)
    assert list(pd.read_csv(tmp_path / "limits.csv").columns) == efficiency.COLUMNS
    limits = json.loads(json.dumps(export.as_json(built), allow_nan=False))["limits"]
    assert [row["concurrency"] for row in limits] == [1, 8]
    assert all(row["of_ideal"] is None and not math.isnan(row["efficiency"]) for row in limits)
