"""The studies: small real sessions, judgements that can fail, and pages that say how they were made."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from harness.analysis import stats
from harness.analysis.stats import Verdict
from harness.commands import study as command
from harness.errors import UsageError
from harness.evidence.frames import frame
from harness.evidence.page import Made
from harness.evidence.studies import capacity as capacities
from harness.evidence.studies import choosing, queueing, searching, sessions
from harness.evidence.studies.catalogue import STUDIES, Wanted, render
from harness.evidence.studies.queueing import Served
from harness.evidence.studies.sessions import Session

SERVICE_MS = 20.0
COMMITTED = Path(__file__).parent.parent.parent / "docs" / "studies"


def session(**figures: Any) -> Session:
    plain: dict[str, Any] = {
        "session": 1,
        "blocks": 10,
        "window_s": 0.5,
        "requests": 20.0,
        "ratio": 1.0,
        "low": 0.97,
        "high": 1.03,
        "spread": 0.04,
        "p": 0.9,
        "lag1": -0.1,
        "drifts": False,
        "verdict": Verdict.EQUIVALENT,
        "seconds": 5.0,
    }
    return Session(**plain | figures)


def many(**kinds: int) -> pd.DataFrame:
    """The given number of sessions of each kind: see `known`."""
    known = {
        "faster": session(ratio=0.9, low=0.88, high=0.92, verdict=Verdict.FASTER),
        "unsure": session(ratio=0.97, low=0.95, high=0.99, verdict=Verdict.FASTER_SIZE_UNCERTAIN),
        "found": session(ratio=1.1, low=1.07, high=1.13, verdict=Verdict.SLOWER),
        "missed": session(ratio=1.1, low=0.98, high=1.23, verdict=Verdict.INCONCLUSIVE),
        "huge": session(ratio=1.4, low=1.3, high=1.5, verdict=Verdict.SLOWER),
        "alike": session(),
    }
    return frame(Session, [known[kind] for kind, times in kinds.items() for _ in range(times)])


ONE_CAPACITY = capacities.Row(
    400.0, 20, 20.4, 22.4, 38.5, 39.0, 38.1, 40.2, 38.1, 39.0 / 38.5, "Machine: quiet."
)


def swept(lead: float = 0.14) -> choosing.Row:
    return choosing.Row(
        0, choosing.FULL, 100.0, 120, 12, 10, choosing.BEST, 1, 200.0, lead, "Machine: quiet."
    )


def chosen(seed: int, take: str = choosing.BEST, seconds: float = 36.0) -> choosing.Row:
    return choosing.Row(seed, choosing.CHOICE, seconds, 43, 8, 3, take, 0, 198.0, 0.13, "Machine: quiet.")


# -- judges --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kinds", "passed"),
    [
        ({"alike": 200}, True),
        ({"alike": 191, "faster": 9}, True),  # bound 7.7 %
        ({"alike": 190, "faster": 10}, False),  # bound 8.3 %
        ({"alike": 150, "unsure": 50}, True),  # size uncertain is not verdict 3
        ({"alike": 30}, False),  # too few to show anything
        ({}, False),
    ],
)
def test_twins_pass_only_if_false_verdicts_are_surely_rare(kinds: dict[str, int], passed: bool) -> None:
    assert sessions.judge_twins(many(**kinds)).passed is passed


@pytest.mark.parametrize(
    ("kinds", "passed"),
    [
        ({"found": 50}, True),
        ({"found": 45, "missed": 5}, True),
        ({"found": 44, "missed": 6}, False),
        ({"found": 40, "faster": 10}, False),  # excluding 1 on the wrong side is not finding it
        ({"huge": 50}, False),  # what was found was no slow-down of 10 %
        ({}, False),
    ],
)
def test_power_passes_only_when_a_slow_down_of_10_percent_is_found(
    kinds: dict[str, int], passed: bool
) -> None:
    assert sessions.judge_power(many(**kinds)).passed is passed


def test_the_capacity_passes_only_within_5_percent_of_md1() -> None:
    """With a service time of 20 ms and no overhead, 40 of 60 ms are left to wait: load 0.8, 40 requests/s."""
    assert capacities.predicted_per_s(20.0, 20.0, 60.0) == pytest.approx(40.0)
    assert capacities.predicted_per_s(20.0, 22.0, 60.0) < 40.0
    for ratio, passed in ((0.94, False), (0.96, True), (1.04, True), (1.06, False), (math.nan, False)):
        (result,) = capacities.judge(frame(capacities.Row, [dataclasses.replace(ONE_CAPACITY, ratio=ratio)]))
        assert result.passed is passed


def test_a_choice_passes_if_16_of_20_are_right_and_none_takes_half_of_the_full_sweep() -> None:
    assert choosing.ahead() >= choosing.LEAST_LEAD
    for lead, wrong, longest_s, passed in (
        (0.11, 4, 36.0, [True, True, True]),
        (0.09, 4, 36.0, [False, True, True]),
        (0.11, 5, 36.0, [True, False, True]),
        (0.11, 0, 51.0, [True, True, False]),
    ):
        rows = [chosen(seed, "another" if seed <= wrong else choosing.BEST) for seed in range(1, 20)]
        rows += [chosen(20, seconds=longest_s)]
        found = choosing.judge(frame(choosing.Row, [swept(lead), *rows]))
        assert [one.passed for one in found] == passed


# -- sessions ------------------------------------------------------------------------------------------


class Recorder:
    """A Listener that records the stages."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def stage(self, text: str) -> None:
        self.stages.append(text)

    def ignore(self, *_: Any, **__: Any) -> None: ...

    trial_begins = progress = trial_ends = ignore


@pytest.mark.integration
def test_sessions_run_for_real_and_leave_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    listener = Recorder()
    twins = frame(Session, sessions.each_twin(2, listener, blocks=3))
    slowed = frame(Session, sessions.each_slowed(1, blocks=2))
    assert listener.stages == ["session 1/2", "session 2/2"]
    assert list(twins["session"]) == [1, 2]
    assert list(twins["blocks"]) == [3, 3]
    assert list(slowed["blocks"]) == [2]
    for found in (twins, slowed):
        assert (found["low"] < found["ratio"]).all()
        assert (found["ratio"] < found["high"]).all()
        assert (found["requests"] >= sessions.REQUESTS).all()
        assert (found[["spread", "window_s", "seconds"]] > 0).all(axis=None)
        assert set(found["verdict"]) <= set(Verdict)
    assert not list(tmp_path.iterdir())


def test_the_slowed_arm_differs_from_the_reference_only_in_the_delay() -> None:
    reference, slowed = sessions._plan(1, 24, {"name": "slowed", "inject": {"model_ms": 0.5}}).every_arm
    assert slowed.model_dump(exclude={"name", "inject"}) == reference.model_dump(exclude={"name", "inject"})
    assert slowed.inject.model_ms == 0.5
    assert not any(reference.inject.model_dump().values())


def test_the_spread_derived_from_an_interval_is_that_of_the_blocks() -> None:
    logs = np.random.default_rng(1).normal(0.05, 0.1, 24)
    effect = stats.effect(logs)
    assert sessions.spread(effect.low, effect.high, 24) == pytest.approx(effect.spread)
    assert sessions.half_width(effect.spread, 24) == pytest.approx(effect.high / effect.ratio - 1)


def test_the_default_window_gives_the_table_of_blocks() -> None:
    rows = [session(window_s=length, spread=0.1) for length in (2.0, 0.5)]
    text = sessions.window_table(frame(Session, rows))
    assert "| 24 | ±4.3 % |" in text  # t(23) x 0.1 / sqrt(24)
    assert "n blocks" not in sessions.window_table(frame(Session, rows[:1]))


# -- the queue -----------------------------------------------------------------------------------------


def simulated(load: float, requests: int = 40_000, seed: int = 1) -> Served:
    """An ideal queue with one worker, as the instrument would see it."""
    gaps = np.random.default_rng(seed).exponential(SERVICE_MS / load, requests)
    entered = np.cumsum(gaps)
    waits = queueing.lindley_waits_ms(entered, SERVICE_MS)
    measured = np.arange(requests) >= 100
    window_s = float(entered[-1] - entered[100]) / 1e3
    return Served(entered, waits, np.full(requests, SERVICE_MS), measured, window_s)


def judged(served: Served, load: float = 0.5) -> dict[str, bool]:
    row = queueing.figures(load, SERVICE_MS, served)
    return {result.name: result.passed for result in queueing.judge(frame(queueing.Row, [row]))}


def test_the_recursion_gives_the_waits_of_the_queue() -> None:
    entered = np.array([0.0, 5.0, 30.0, 31.0, 100.0])
    assert queueing.lindley_waits_ms(entered, 20.0).tolist() == [0.0, 15.0, 10.0, 29.0, 0.0]


def test_an_ideal_queue_passes_and_agrees_with_theory() -> None:
    assert judged(simulated(0.5)) == {"Lindley, load 0.5": True, "M/D/1, load 0.5": True}
    row = queueing.figures(0.5, SERVICE_MS, simulated(0.5))
    assert row.near_share == 1.0
    assert row.wait_ms == pytest.approx(row.lindley_ms)
    assert abs(row.wait_ms - row.md1_ms) < 4 * row.wait_chance_ms


def test_waits_that_are_5_ms_wrong_fail_both_checks() -> None:
    ideal = simulated(0.5)
    off = Served(ideal.entered_ms, ideal.queue_ms + 5.0, ideal.model_ms, ideal.measured, ideal.window_s)
    assert judged(off) == {"Lindley, load 0.5": False, "M/D/1, load 0.5": False}


def test_a_load_that_was_not_run_fails() -> None:
    assert judged(simulated(0.7), load=0.7) == {"Lindley, load 0.7": True, "M/D/1, load 0.5": False}
    assert not all(result.passed for result in queueing.judge(frame(queueing.Row, [])))


def test_the_service_time_of_a_busy_worker_includes_the_hand_over() -> None:
    busy = simulated(4.0, requests=1000)  # four times what it can do: it never idles
    assert queueing.busy_service_ms(busy) == pytest.approx(SERVICE_MS)


@pytest.mark.timed
def test_a_real_worker_follows_the_recursion() -> None:
    (row,) = queueing.each([0.5], seconds=2.0, settle_s=1.0)
    assert row.service_ms > SERVICE_MS
    assert row.requests > 10
    assert row.error_p50_ms < 5.0


# -- the command ---------------------------------------------------------------------------------------


def ask(*words: str) -> Any:
    app = typer.Typer()
    app.command()(command.study)
    return CliRunner().invoke(app, list(words))


def test_the_command_writes_a_page_and_raw_rows_that_say_how_they_were_made(tmp_path: Path) -> None:
    (tmp_path / "coverage.md").write_text("older")
    (tmp_path / "coverage-partial.md").write_text("older")
    answer = ask("coverage", "--sessions", "8", "--out", str(tmp_path))
    assert answer.exit_code == 0, answer.output
    text = (tmp_path / "coverage.md").read_text()
    assert "Made by `execbench study coverage --sessions 8` on 20" in text
    assert "cores, load" in text
    assert "Python 3" in text
    assert "| normal | 10 |" in text
    assert "the interval in use covers" in text
    assert "| normal | 10 |" in answer.stdout
    assert len(pd.read_csv(tmp_path / "coverage.csv")) > 20
    assert {path.name for path in tmp_path.iterdir()} == {"coverage.md", "coverage.csv"}


def test_json_is_one_document_and_nothing_else(tmp_path: Path) -> None:
    answer = ask("coverage", "--sessions", "8", "--out", str(tmp_path), "--json")
    document = json.loads(answer.stdout)
    assert document["study"] == "coverage"
    assert document["rows"][0]["generator"] == "normal"
    assert document["partial"] is False


def stopped_after(rows: list[Session]) -> Iterator[Session]:
    yield from rows
    raise KeyboardInterrupt


def test_ctrl_c_keeps_what_is_finished_and_marks_it(tmp_path: Path) -> None:
    (tmp_path / "twins.md").write_text("whole")
    twins = STUDIES["twins"]._replace(each=lambda **flags: stopped_after([session(), session()]))
    with pytest.raises(KeyboardInterrupt):
        command._make("twins", twins, twins.defaults, tmp_path, as_json=False)
    assert "**Partial: stopped after 2 rows" in (tmp_path / "twins-partial.md").read_text()
    assert len(pd.read_csv(tmp_path / "twins-partial.csv")) == 2
    assert (tmp_path / "twins.md").read_text() == "whole"


def test_ctrl_c_before_the_first_row_leaves_nothing(tmp_path: Path) -> None:
    twins = STUDIES["twins"]._replace(each=lambda **flags: stopped_after([]))
    with pytest.raises(KeyboardInterrupt):
        command._make("twins", twins, twins.defaults, tmp_path, as_json=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("twins", many(alike=3, faster=1, unsure=1)),
        ("power", many(found=3, missed=1)),
        ("windows", frame(Session, [session(window_s=length) for length in (2.0, 1.0, 0.5, 0.25)])),
        ("queue", frame(queueing.Row, [queueing.figures(0.5, SERVICE_MS, simulated(0.5, 2000))])),
        ("search", frame(searching.Row, searching.each(2))),
        ("capacity", frame(capacities.Row, [ONE_CAPACITY])),
        ("choosing", frame(choosing.Row, [swept(), *(chosen(seed) for seed in (1, 2, 3))])),
    ],
)
def test_every_study_has_a_table_and_a_description(name: str, found: pd.DataFrame) -> None:
    study = STUDIES[name]
    assert study.table(found).startswith("| ")
    text = study.describe(found)
    assert 2 <= text.count(". ") + 1 <= 5
    assert "nan" not in text.lower() + study.table(found).lower()


def test_a_flag_of_another_study_is_refused(tmp_path: Path) -> None:
    assert isinstance(ask("twins", "--seconds", "5", "--out", str(tmp_path)).exception, UsageError)
    assert isinstance(ask("queue", "--sessions", "5", "--out", str(tmp_path)).exception, UsageError)


def test_options_that_are_not_given_have_their_defaults() -> None:
    assert STUDIES["windows"].wanted(Wanted(seconds=8.0)) == Wanted(seconds=8.0, workload="synthetic")
    assert STUDIES["twins"].wanted(Wanted()) == Wanted(sessions=200)


# -- the committed pages ---------------------------------------------------------------------------------


def words(page: str) -> tuple[str, str]:
    """The title of a page, and its text after the lines on how it was made, without figures."""
    title, text = page.partition("\n")[0], page.partition("Raw rows: ")[2]
    return title, re.sub(r"[-+]?\d[\d.,]*", "#", text)


@pytest.mark.parametrize("name", STUDIES)
def test_a_committed_page_has_the_words_that_the_command_would_write_today(name: str) -> None:
    """The figures are not compared: the CSV has fewer digits than the study had."""
    found = pd.read_csv(COMMITTED / f"{name}.csv")
    today = render(name, STUDIES[name], Made("", "", "", ""), found, partial=False)
    assert words((COMMITTED / f"{name}.md").read_text()) == words(today)
