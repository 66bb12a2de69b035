"""The study of stopping early: simulated runs, recorded sessions, and replays of a recorded run."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import committed
import numpy as np
import pandas as pd
import pytest

from harness.errors import UsageError
from harness.evidence.frames import frame
from harness.evidence.studies import replays, stopping, twin_blocks
from harness.evidence.studies.catalogue import STUDIES, Wanted, command
from harness.evidence.studies.stopping import CHECK, CLAIM, COMPARISON, TWINS, Row

GOOD = Row(
    rule=COMPARISON,
    data="normal",
    ratio=1.1,
    runs=100,
    blocks=12.0,
    stopped_early=0.9,
    coverage=0.96,
    coverage_24=0.95,
    wrong=float("nan"),
    wrong_24=float("nan"),
    exaggerated=1.05,
    verdict_24="",
    same=float("nan"),
)
SKEWED = dataclasses.replace(GOOD, data="skewed: exponential", coverage=0.91, coverage_24=0.92)
CALM = dataclasses.replace(GOOD, rule=TWINS, ratio=1.0, wrong=0.0)
DECIDED = dataclasses.replace(GOOD, rule=CLAIM, data="run C1", verdict_24="confirmed", same=0.97, wrong=0.0)


def passed(*rows: Row) -> list[bool]:
    return [result.passed for result in stopping.judge(frame(Row, rows))]


@pytest.mark.quick
def test_runs_that_differ_clearly_stop_at_the_first_look_and_others_go_on() -> None:
    rng = np.random.default_rng(1)
    far = 0.01 * rng.normal(size=(50, 24)) + 0.5
    near = 0.1 * rng.normal(size=(50, 24)) + 0.05
    assert (stopping.stop(far, COMPARISON).blocks == 8).all()
    assert stopping.stop(near, COMPARISON).blocks.mean() > 20


@pytest.mark.quick
def test_a_run_that_drifts_stops_later_than_the_same_blocks_in_another_order() -> None:
    steps = np.linspace(0.0, 0.4, 24)
    drifting = stopping.stop(steps[None, :], CHECK).blocks[0]
    orders = [np.random.default_rng(seed).permutation(steps) for seed in range(20)]
    assert drifting > np.median(stopping.stop(np.array(orders), CHECK).blocks)


@pytest.mark.quick
def test_the_study_passes_good_rows_and_fails_each_kind_of_bad_row() -> None:
    assert passed(GOOD, SKEWED, CALM, DECIDED) == [True] * 4
    assert passed(dataclasses.replace(GOOD, coverage=0.92), SKEWED)[0] is False
    assert passed(GOOD, dataclasses.replace(SKEWED, coverage=0.89))[1] is False
    assert passed(GOOD, SKEWED, dataclasses.replace(CALM, wrong=0.1))[2] is False
    assert passed(GOOD, SKEWED, dataclasses.replace(DECIDED, same=0.94))[2] is False
    assert passed(GOOD, SKEWED, dataclasses.replace(DECIDED, wrong=0.02))[2] is False


@pytest.mark.quick
def test_the_page_has_a_line_for_each_row() -> None:
    text = stopping.table(frame(Row, [GOOD, SKEWED, CALM, DECIDED]))
    assert "| comparison | normal | 1.1 | 12.0 | 96.0 % | 95.0 % |  |  | 1.05x |" in text
    assert "| run C1 | confirmed | 97.0 % | 0.0 % | 12.0 | 90 % |" in text


@pytest.mark.quick
def test_recorded_sessions_are_read_back_and_other_files_are_refused(tmp_path: Path) -> None:
    csv = tmp_path / "twin-blocks.csv"
    logs = np.random.default_rng(1).normal(0.0, 0.05, (30, 24))
    rows = [
        twin_blocks.Row(session, block, logs[session, block])
        for session, block in itertools.product(range(30), range(24))
    ]
    frame(twin_blocks.Row, rows).to_csv(csv, index=False)
    assert replays.recorded_twins(csv) == pytest.approx(logs)
    (row,) = [one for one in stopping.each(1, twins=csv) if one.rule == TWINS]
    assert (row.runs, row.wrong) == (30, 0.0)
    csv.write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match="twin-blocks"):
        replays.recorded_twins(csv)


@pytest.mark.quick
def test_the_command_of_the_study_names_its_recordings() -> None:
    wanted = STUDIES["stopping"].wanted(Wanted(twins=Path("a.csv"), runs=(Path("x"), Path("y"))))
    assert (
        command("stopping", wanted)
        == "execbench study stopping --sessions 2000 --twins a.csv --run x --run y"
    )
    with pytest.raises(ValueError, match="--runs"):
        STUDIES["coverage"].wanted(Wanted(runs=(Path("x"),)))


def test_a_claim_that_is_far_from_its_bounds_has_its_verdict_in_every_order() -> None:
    found = {one.claim: one for one in replays.claims_of(committed.run_of("article"), orders=3, seed=1)}
    assert found["C3b"].verdict == "refuted"
    assert (found["C3b"].same, found["C3b"].opposite) == (1.0, 0.0)
    assert 8 <= found["C3b"].blocks <= 24


def test_a_run_without_claims_cannot_be_replayed() -> None:
    with pytest.raises(UsageError, match="has no claims"):
        list(replays.claims_of(committed.run_of("beyond"), orders=1, seed=1))


def test_the_rows_of_the_twins_are_ratios_of_blocks() -> None:
    rows = frame(twin_blocks.Row, [twin_blocks.Row(1, 1, 0.1), twin_blocks.Row(1, 2, -0.1)])
    assert "| 1 | 2 | 0.141 |" in twin_blocks.table(rows)
    assert isinstance(rows, pd.DataFrame)
