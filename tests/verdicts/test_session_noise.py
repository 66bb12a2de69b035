"""A twin shows whether the session was noisy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from compared import about, compared, noisy_world, row
from made_up import Point

from harness.analysis import stats
from harness.analysis.stats import Verdict
from harness.verdicts import session_noise
from harness.verdicts.metrics import Rules


def test_the_twins_primary_rows_are_one_family_over_loads() -> None:
    table = compared(noisy_world(20), twin="inline-twin")
    twins = table[table["twin"] & table["primary"]]
    assert len(twins) == 2
    assert np.allclose(twins["p_holm"], stats.holm(twins["p"]))


def test_a_twin_that_differs_withholds_every_verdict_but_invalid() -> None:
    late = {("thread", "closed(4)"): "late"}
    table = compared(noisy_world(26), twin="inline-twin", invalid=late)
    spoilt = (table["arm"] == "thread") & (table["load"] == "closed(4)")
    assert set(table.loc[spoilt, "verdict"]) == {Verdict.INVALID}
    assert set(table.loc[~spoilt, "verdict"]) == {Verdict.NOISY}
    assert row(table, arm="thread", load="closed(1)")["sentence"].endswith("noisy session, no verdict.")
    said = session_noise.noisy(table)
    assert "the twin of inline" in said
    assert "slower at c = 1" in said
    assert "Holm over 2 loads" in said
    assert "--blocks" in said


def test_a_quiet_twin_withholds_nothing_and_reports_its_difference() -> None:
    table = compared(noisy_world(20), twin="inline-twin")
    assert row(table, arm="thread", load="closed(1)")["verdict"] == Verdict.SLOWER
    assert session_noise.noisy(table) == ""
    said = session_noise.twin_sentence(table)
    assert said.startswith("The twin of inline differs by up to ")
    assert said.endswith((" % (c = 1)", " % (c = 4)"))


def test_a_twin_that_differs_surely_but_within_delta_is_quiet() -> None:
    world = noisy_world(20) | {("inline", 1): Point(model_ms=20.0), ("inline-twin", 1): Point(model_ms=20.5)}
    table = compared(world, twin="inline-twin")
    twin = row(table, arm="inline-twin", load="closed(1)")
    assert twin["p_holm"] < 0.05
    assert session_noise.noisy(table) == ""
    assert session_noise.noisy(compared(world, twin="inline-twin", rules=Rules(delta_latency=0.01)))


def test_a_twin_that_differs_by_chance_is_quiet() -> None:
    world = noisy_world(20) | {("inline-twin", 1): about(22, spread=0.6, seed=8)}
    table = compared(world, twin="inline-twin")
    twin = row(table, arm="inline-twin", load="closed(1)")
    assert abs(math.log(twin["ratio"])) > math.log(1.05)
    assert twin["p_holm"] > 0.05
    assert session_noise.noisy(table) == ""


@pytest.mark.parametrize(("blocks", "loads", "tells"), [(6, 1, True), (5, 1, False), (6, 2, True)])
def test_a_twin_with_too_few_blocks_gets_a_warning_and_withholds_nothing(
    blocks: int, loads: int, tells: bool
) -> None:
    arms = ("inline", "inline-twin", "thread")
    world = {(arm, users): about(20, seed=users) for arm in arms for users in range(1, loads + 1)}
    table = compared(world, blocks=blocks, twin="inline-twin")
    said = session_noise.twin_doubt(table, "inline-twin")
    assert (said == "") == tells
    assert tells or said.startswith(
        f"The twin cannot show whether the session was noisy: it has {blocks} blocks"
    )
    assert Verdict.NOISY not in set(table["verdict"])


def test_a_twin_without_a_finite_ratio_could_not_tell() -> None:
    world = {("inline", 1): Point(), ("inline-twin", 1): Point(state="failed")}
    table = compared(world, twin="inline-twin")
    said = "The twin cannot show whether the session was noisy: inline-twin has no finite ratio."
    assert session_noise.twin_doubt(table, "inline-twin") == said
    assert session_noise.twin_doubt(table.iloc[:0], "inline-twin") == said
    assert session_noise.twin_doubt(table, None) == ""


def test_without_a_twin_there_is_no_sentence_about_one() -> None:
    table = compared({("inline", 1): Point(), ("thread", 1): Point()})
    assert session_noise.twin_sentence(table) == ""
    assert session_noise.noisy(table) == ""
