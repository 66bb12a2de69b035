from __future__ import annotations

import math
from unittest.mock import Mock, call

import numpy as np
import pandas as pd
import pytest

from harness.analysis import stats
from harness.evidence.frames import frame
from harness.evidence.studies import coverage


@pytest.fixture(scope="module")
def means() -> pd.DataFrame:
    """The means of a full study; tails have their own, smaller, one."""
    rows = []
    for seed, name in enumerate(coverage.MEANS):
        for blocks in coverage.BLOCKS:
            rows += coverage._mean_rows(name, blocks, 2000, np.random.default_rng([1, seed, blocks]))
    return pd.DataFrame(rows).set_index("generator")


@pytest.fixture(scope="module")
def small() -> pd.DataFrame:
    return frame(coverage.Row, coverage.each(16, blocks=(10, 17)))


@pytest.mark.parametrize("generator", ["normal", "t, 3 degrees of freedom"])
def test_the_interval_of_symmetric_blocks_covers_at_its_nominal_level(
    means: pd.DataFrame, generator: str
) -> None:
    assert means["coverage"].loc[generator].between(0.93, 0.97).all()


def test_the_interval_of_skewed_blocks_covers_a_little_less(means: pd.DataFrame) -> None:
    assert means["coverage"].loc["skewed: exponential"].between(0.88, 0.96).all()


def test_drift_makes_the_interval_too_narrow_and_the_warning_fires(means: pd.DataFrame) -> None:
    drifting = means.loc["drift: AR(1), phi 0.6"].set_index("blocks")
    assert (drifting["coverage"] < 0.80).all()
    assert drifting["drift_fires"].loc[10] > 0.35
    assert drifting["drift_fires"].loc[24] > 0.75


def test_the_study_judges_itself_by_the_bounds_of_the_method(means: pd.DataFrame) -> None:
    found = coverage.judge(means.reset_index())
    assert [result.passed for result in found] == [True] * 4, found
    assert "93% to 97%" in found[0].goal
    assert "88% or more" in found[2].goal
    assert "from 24 blocks on" in found[3].goal


@pytest.mark.parametrize(
    ("generator", "column", "value", "place"),
    [
        ("normal", "coverage", 0.92, 0),
        ("t, 3 degrees of freedom", "coverage", 0.98, 1),
        ("skewed: exponential", "coverage", 0.87, 2),
        ("drift: AR(1), phi 0.6", "drift_fires", 0.5, 3),
    ],
)
def test_each_of_its_judgements_can_fail_by_one_number_of_blocks(
    means: pd.DataFrame, generator: str, column: str, value: float, place: int
) -> None:
    found = means.reset_index()
    found.loc[(found["generator"] == generator) & (found["blocks"] == 24), column] = value
    assert [result.passed for result in coverage.judge(found)] == [at != place for at in range(4)]


def test_a_study_without_rows_passes_nothing(means: pd.DataFrame) -> None:
    assert not any(result.passed for result in coverage.judge(means.reset_index().iloc[:0]))


def test_the_drift_warning_rarely_fires_without_drift(means: pd.DataFrame) -> None:
    assert means["drift_fires"].loc["normal"].between(0.035, 0.07).all()


def test_identical_arms_are_rarely_called_faster_or_slower(means: pd.DataFrame) -> None:
    assert means["beyond"].loc["normal"].max() < 0.01


@pytest.mark.parametrize("name", coverage.MEANS)
def test_every_generator_has_the_mean_and_spread_it_is_judged_by(name: str) -> None:
    values = coverage.MEANS[name](np.random.default_rng(1), (40_000, 8))
    assert values.mean() == pytest.approx(0, abs=0.02)
    assert values.std() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", coverage.TAILS)
def test_every_tail_has_the_ratio_it_is_judged_by(name: str) -> None:
    arm, reference = coverage.TAILS[name].draw(np.random.default_rng(1), 60_000)
    measured = math.log(np.percentile(arm, 95) / np.percentile(reference, 95))
    assert measured == pytest.approx(coverage.TAILS[name].truth(95), abs=0.02)


def test_the_study_uses_the_interval_of_a_tail_effect() -> None:
    arm, reference = coverage.TAILS["same shape"].draw(np.random.default_rng(1), 12)
    sample = coverage.Sample.draw(arm, reference, 95, np.random.default_rng(7))
    found = stats.tail_effect(list(arm), list(reference), 95, seed=7)
    assert coverage.METHODS["expanded percentile"](sample) == pytest.approx(
        (math.log(found.low), math.log(found.high))
    )
    assert sample.centre == pytest.approx(math.log(found.ratio))


def test_the_study_uses_the_interval_of_an_effect() -> None:
    (row,) = coverage._mean_rows("normal", 10, 1, np.random.default_rng(1))
    found = stats.effect(coverage.SPREAD * np.random.default_rng(1).normal(size=10))
    assert row.half_width == pytest.approx(math.sqrt(found.high / found.low) - 1)
    assert row.coverage == (found.low <= 1 <= found.high)
    assert row.drift_fires == found.drifts


@pytest.mark.integration  # takes long
def test_the_used_tail_interval_covers_more_than_the_plain_and_the_corrected_bootstrap() -> None:
    rows = coverage._tail_rows("blocks differ more than requests", 95, 10, 150, np.random.default_rng(1))
    covered = {row.method: row.coverage for row in rows}
    assert covered["expanded percentile"] > 0.88
    assert covered["expanded percentile"] > covered["percentile"] > covered["BCa"]


def test_a_repeated_study_gives_the_same_numbers(small: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(small, frame(coverage.Row, coverage.each(16, blocks=(10, 17))))


def test_a_study_reports_its_progress() -> None:
    listener = Mock()
    coverage.each(8, listener, blocks=(10,))
    cells = len(coverage.MEANS) + len(coverage.TAILS)  # p99 has its floor at 662 requests
    assert listener.mock_calls == [call.stage(f"cell {done}/{cells}") for done in range(1, cells + 1)]


def test_every_row_has_bounds_of_its_share(small: pd.DataFrame) -> None:
    assert (small["coverage_low"] <= small["coverage"]).all()
    assert (small["coverage"] <= small["coverage_high"]).all()
    assert set(small["figure"]) == {"mean", "p95", "p99"}
    assert small.loc[small["figure"] == "p99", "blocks"].min() == 17


def test_the_table_shows_every_cell_once(small: pd.DataFrame) -> None:
    text = coverage.table(small)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    tails = small[small["figure"] != "mean"]
    assert len(rows) == 4 + (small["figure"] == "mean").sum() + len(tails) / len(coverage.METHODS)
    assert "expanded percentile (used)" in text
    assert "nan" not in text
