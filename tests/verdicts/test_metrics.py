"""What a plan declares of its comparisons."""

from __future__ import annotations

import dataclasses

import pytest

from harness.verdicts import metrics
from harness.verdicts.metrics import Rules


def test_facts_come_from_the_plan() -> None:
    plan = {
        "arms": [{"name": "inline"}, {"name": "thread"}],
        "reference": "thread",
        "twin": True,
        "delta_latency": 0.1,
        "delta_throughput": 0.2,
        "exclude": {"steal_share": 0.05},
    }
    declared = metrics.facts({"plan": plan})
    assert (declared.reference, declared.twin) == ("thread", "thread-twin")
    assert declared.rules == Rules(0.1, 0.2)
    assert declared.exclude == {"steal_share": 0.05}


def test_an_older_run_has_the_defaults_and_its_first_arm_as_reference() -> None:
    declared = metrics.facts({"plan": {"arms": [{"name": "inline"}, {"name": "thread"}]}})
    assert (declared.reference, declared.twin, declared.rules) == ("inline", None, Rules())
    assert metrics.facts({}).reference == ""


def test_rules_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Rules().delta_latency = 0.5  # type: ignore[misc]  # what is tested
