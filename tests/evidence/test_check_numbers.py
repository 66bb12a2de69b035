"""`execbench check` can fail: it detects wrong figures and arrival laws."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.analysis.percentiles import percentile
from harness.evidence.check import numbers, recount
from harness.wire import arrivals
from harness.wire.arrivals import Law
from harness.wire.records import MEASURE

Reported = dict[recount.Cell, recount.Figures]

# -- figures -------------------------------------------------------------------------------------------


def test_our_percentile_equals_that_of_numpy_and_scipy() -> None:
    assert numbers.quantiles().passed


def test_a_slightly_wrong_pool_fails_even_if_the_percentile_is_right() -> None:
    def off(values: Any, percent: float) -> float:
        return numbers.pooled(values, percent) * (1 + 1e-8)

    assert not numbers.quantiles(percentile, off).passed


def one_rank_off(values: Any, percent: float) -> float:
    place = round((len(values) - 1) * percent / 100)
    return float(np.sort(values)[min(place + 1, len(values) - 1)])


@pytest.mark.parametrize(
    "broken",
    [
        one_rank_off,
        lambda values, percent: float(np.sort(values)[int((len(values) - 1) * percent / 100)]),
        lambda values, percent: percentile(values[np.isfinite(values)], percent),
        lambda values, percent: percentile(values, percent) * (1 + 1e-8),
    ],
    ids=["one rank off", "not interpolated", "failures left out", "inexact"],
)
def test_a_slightly_wrong_percentile_fails_the_check(broken: Any) -> None:
    assert not numbers.quantiles(broken).passed


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numbers.small_run(tmp_path_factory.mktemp("check") / "run")


@pytest.mark.timed  # a starved client sends late, and the report then has no ratio
def test_the_numbers_of_a_real_run_equal_those_of_its_csv(small_run: Path) -> None:
    found = numbers.reported_numbers(small_run, numbers.report_of)
    assert found.passed, found
    assert int(found.measured.split()[0]) > 200


def reporting(figures: Reported, folder: Path) -> Reported:
    return figures


@pytest.mark.timed  # as above
def test_every_single_reported_number_is_compared(small_run: Path) -> None:
    """A change of any of them by a millionth fails the check."""
    sound = numbers.report_of(small_run)
    for cell, name in [(cell, name) for cell, figures in sound.items() for name in figures]:
        if np.isfinite(sound[cell][name]):
            changed = {**sound, cell: {**sound[cell], name: sound[cell][name] * (1 + 1e-6) + 1e-6}}
            found = numbers.reported_numbers(small_run, partial(reporting, changed))
            assert not found.passed, (cell, name)
            assert name in found.note


@pytest.mark.integration
@pytest.mark.parametrize(
    "change",
    [
        lambda figures: figures | {"latency_p42_ms": 1.0},
        lambda figures: figures | {"latency_p50_ms": float("nan")},
        lambda figures: figures | {"latency_p99_ms": 1.0},  # below the floor of 662 requests: not shown
    ],
    ids=["a number without a recount", "a number that is missing", "a number that must be missing"],
)
def test_an_extra_or_missing_number_fails_the_check(small_run: Path, change: Any) -> None:
    reported = {cell: change(figures) for cell, figures in numbers.report_of(small_run).items()}
    assert not numbers.reported_numbers(small_run, lambda folder: reported).passed


@pytest.mark.integration
def test_a_missing_cell_fails_the_check(small_run: Path) -> None:
    reported = numbers.report_of(small_run)
    reported.popitem()
    assert not numbers.reported_numbers(small_run, lambda folder: reported).passed
    assert not numbers.reported_numbers(small_run, lambda folder: {}).passed


@pytest.mark.integration
def test_a_csv_changed_after_the_report_fails_the_check(small_run: Path, tmp_path: Path) -> None:
    reported = numbers.report_of(small_run)
    lines = (small_run / "requests.csv").read_text().splitlines(keepends=True)
    place = lines[0].split(",").index("done_ms")
    number = next(number for number, line in enumerate(lines) if f",{MEASURE}," in line and ",200," in line)
    cells = lines[number].split(",")
    cells[place] = str(float(cells[place]) + 0.001)
    for name in ("trials.csv", "run.json"):
        (tmp_path / name).write_text((small_run / name).read_text())
    (tmp_path / "requests.csv").write_text("".join([*lines[:number], ",".join(cells), *lines[number + 1 :]]))
    assert not numbers.reported_numbers(tmp_path, lambda folder: reported).passed


def test_nan_equals_only_nan() -> None:
    assert recount.relative_error(float("nan"), float("nan")) == 0
    assert recount.relative_error(float("inf"), float("inf")) == 0
    assert recount.relative_error(1.0, float("nan")) == float("inf")
    assert recount.relative_error(float("inf"), 1.0) == float("inf")


# -- arrivals ------------------------------------------------------------------------------------------


def test_our_arrivals_follow_their_laws() -> None:
    assert numbers.poisson().passed
    assert numbers.schedules().passed


def slow(law: Law, seed: int) -> Iterator[float]:
    return (due * 1.01 for due in arrivals.due_times_s(law, seed))


def slower(law: Law, seed: int) -> Iterator[float]:
    return (due * 1.03 for due in arrivals.due_times_s(law, seed))


def in_whole_milliseconds(law: Law, seed: int) -> Iterator[float]:
    return (round(due, 2) for due in arrivals.due_times_s(law, seed))


def regular(law: Law, seed: int) -> Iterator[float]:
    return arrivals.due_times_s(law._replace(name="constant"), seed)


def in_a_narrow_band(law: Law, seed: int) -> Iterator[float]:
    """The mean and the variation of a Poisson process, but not its law."""
    draw = random.Random(seed)
    gaps = (draw.choice((0.0, 2.0)) / law.first for _ in itertools.count())
    return itertools.accumulate(gaps)


@pytest.mark.parametrize("broken", [slower, in_whole_milliseconds, regular, in_a_narrow_band])
def test_arrivals_that_are_not_poisson_fail_the_check(broken: numbers.Schedule) -> None:
    assert not numbers.poisson(broken).passed


def test_a_schedule_that_drifts_by_one_percent_fails_the_check() -> None:
    assert not numbers.schedules(slow).passed


@pytest.mark.parametrize(
    "digest",
    [
        lambda law, seed, until_s: "always the same",
        lambda law, seed, until_s: random.random(),
        lambda law, seed, until_s: f"{law}{seed}",
    ],
    ids=["no seed", "no memory", "a seed where there is none"],
)
def test_a_hash_that_does_not_follow_the_seed_fails_the_check(digest: Any) -> None:
    assert not numbers.schedules(digest=digest).passed
