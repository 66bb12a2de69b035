"""A gate fails if interval, floors and Holm agree, and reports when it cannot decide."""

from __future__ import annotations

from typing import Any

import pytest
from compared import about, compared, noisy_world, row
from made_up import Point

from harness.analysis.stats import Verdict
from harness.verdicts import gate
from harness.verdicts.gate import Floors
from harness.verdicts.metrics import Rules


def judged(*, floors: Floors | None = None, rules: Rules | None = None, **changes: Any) -> list[str]:
    """Metrics on which the gate fails, of an arm 20 % slower for sure, after `changes` of its latency row."""
    table = compared({("inline", 1): about(20, spread=0.01), ("thread", 1): about(24, spread=0.01, seed=2)})
    latency = (table["metric"] == "latency_ms") & (table["stat"] == "median")
    table.loc[latency, list(changes)] = list(changes.values())
    return list(gate.slower(table, floors or Floors(), rules or Rules())["metric"])


def test_a_gate_fails_when_interval_and_both_floors_agree() -> None:
    assert judged() == ["latency_ms", "throughput_per_s"]


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("the interval holds 1", {"low": 0.99}),
        ("the relative floor", {"ratio": 1.04, "low": 1.03, "difference": 1.5}),
        ("the absolute floor", {"difference": 0.9}),
        ("it is faster", {"ratio": 0.5, "low": 0.4, "high": 0.6, "difference": -10.0}),
        ("it is invalid", {"verdict": Verdict.INVALID}),
        ("the session was noisy", {"verdict": Verdict.NOISY}),
    ],
)
def test_a_gate_holds_when_one_of_them_does_not(what: str, changes: dict[str, Any]) -> None:
    assert "latency_ms" not in judged(**changes)


def test_floors_can_be_set() -> None:
    assert judged(floors=Floors(ms=100.0)) == ["throughput_per_s"]
    assert judged(floors=Floors(per_s=100.0)) == ["latency_ms"]
    assert judged(floors=Floors(share=0.5)) == []
    assert judged(rules=Rules(delta_latency=0.5)) == ["throughput_per_s"]


def test_a_throughput_gate_fails_on_less_and_never_on_more() -> None:
    quicker = compared({("inline", 1): Point(model_ms=24.0), ("thread", 1): Point(model_ms=14.0)})
    assert gate.slower(quicker, Floors(), Rules()).empty


def test_a_figure_that_the_client_limits_neither_passes_nor_fails_a_gate() -> None:
    world = {("inline", 1): about(14), ("thread", 1): about(24, seed=2)}
    table = compared(world, limited={("thread", "closed(1)"): "the load generator was busy"})
    assert set(table.loc[table["metric"] == "latency_ms", "verdict"]) == {Verdict.CLIENT_LIMITED}
    assert gate.slower(table, Floors(), Rules()).empty
    assert "the load generator was busy" in gate.doubts(table)[0]


def test_a_gate_looks_neither_at_tails_nor_at_the_twin() -> None:
    table = compared(noisy_world(20), twin="inline-twin")
    rows = gate.gated(table)
    assert set(rows["arm"]) == {"thread"}
    assert set(zip(rows["metric"], rows["stat"], strict=True)) == {
        ("latency_ms", "median"),
        ("throughput_per_s", "rate"),
    }


def test_a_gate_does_not_fail_on_five_blocks() -> None:
    world = {("inline", 1): Point(model_ms=14.0), ("thread", 1): Point(model_ms=24.0)}
    assert gate.slower(compared(world, blocks=5), Floors(), Rules()).empty
    six = gate.slower(compared(world, blocks=6), Floors(), Rules())
    assert list(six["metric"]) == ["latency_ms", "throughput_per_s"]


def test_a_gate_fails_on_throughput_only_when_holm_leaves_it_sure() -> None:
    table = compared({("inline", 1): Point(model_ms=14.0), ("thread", 1): Point(model_ms=24.0)})
    throughput = table["metric"] == "throughput_per_s"
    assert "throughput_per_s" in list(gate.slower(table, Floors(), Rules())["metric"])
    table.loc[throughput, "p_holm"] = 0.06
    assert list(gate.slower(table, Floors(), Rules())["metric"]) == ["latency_ms"]


def test_too_few_blocks_are_a_doubt_and_six_are_enough() -> None:
    world = {("inline", 1): Point(), ("thread", 1): Point()}
    assert "only 5 blocks" in gate.doubts(compared(world, blocks=5))[0]
    assert gate.doubts(compared(world, blocks=6)) == []


def test_lost_trials_withheld_verdicts_and_missing_ratios_are_doubts() -> None:
    def dying(block: int) -> Point:
        return Point(state="failed" if block == 1 else "ok")

    def failing(block: int) -> Point:
        return Point(failed=3 if block == 4 else 0)

    for world in (dying, failing):
        assert gate.doubts(compared({("inline", 1): Point(), ("thread", 1): world}))
    assert gate.doubts(compared(noisy_world(26), twin="inline-twin"))


def test_an_inconclusive_row_with_enough_blocks_is_not_in_doubt() -> None:
    table = compared({("inline", 1): about(20, spread=0.2), ("thread", 1): about(20, spread=0.2, seed=2)})
    assert row(table)["verdict"] == Verdict.INCONCLUSIVE
    assert gate.doubts(table) == []
