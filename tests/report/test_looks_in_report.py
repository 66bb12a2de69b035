"""The report of a run that may stop early: why it stopped, and intervals that allow for its looks."""

from __future__ import annotations

import made_up
import pytest
from compared import about
from made_reports import WORLD, closed

from harness.analysis import looks
from harness.report import report

pytestmark = pytest.mark.quick

VARYING: made_up.World = {("inline", 8): about(10.0, seed=1), ("thread", 8): about(20.0, seed=2)}


def test_a_run_with_looks_says_why_it_stopped_and_what_its_intervals_allow_for() -> None:
    run = closed(WORLD, until="settled")
    run.record["looks"] = {**looks.planned(24).declared(), "looked": [{"blocks": 8, "open": []}]}
    stopped, levels = report.build(run).notes
    assert stopped.startswith("Stopped after 8 of at most 24 blocks, as every verdict was settled.")
    assert "5 looks (after 8, 12, 16, 20, 24 blocks)" in levels
    run.record["looks"]["looked"] = [{"blocks": 8, "open": ["C5", "C6"]}]
    assert report.build(run).notes[0] == "The run went on after the look at 8 blocks, for C5; C6."


def test_a_run_with_looks_has_wider_intervals() -> None:
    run = closed(VARYING, until="settled")
    plain = report.build(run).comparisons
    run.record["looks"] = {**looks.planned(24).declared(), "looked": [{"blocks": 8, "open": []}]}
    wider = report.build(run).comparisons
    assert (wider["ratio"] == plain["ratio"]).all()
    medians = plain["metric"] == "latency_ms"
    assert (wider["high"][medians] > plain["high"][medians]).all()
    assert (wider["level"] == 0.95).all()
