"""The strategies that are tested with faults, each with one worker if it has that option."""

from __future__ import annotations

from collections.abc import Sequence

import strategies
from harness.plans import from_flags
from harness.plans.arm import Arm
from harness.wire.options import Inject

_POOL = "executor:harness.evidence.faults.pools:spawned"
_SHOWN_AS = {
    "executor": (_POOL,),
    "supervised": ("supervised", "supervised:spares=1"),
    "batch": ("batch:over=thread", "batch:over=process", "batch:over=supervised"),
}


def chosen(texts: Sequence[str]) -> tuple[list[Arm], dict[str, str]]:
    """The arms of the given strategies, by default of all; and strategy → why it is not available here.

    Raises UsageError for a strategy that does not exist, cannot work here, or does not take a given option.
    """
    if texts:
        return _arms([_POOL if text == "executor" else text for text in texts]), {}
    here = strategies.available()
    all_texts = [text for name in here for text in _SHOWN_AS.get(name, (name,))]
    absent = [name for name in strategies.NAMES if name not in here]
    return _arms(all_texts), {name: strategies.get(name).why_not() or "" for name in absent}


def workers(arm: Arm) -> int:
    """How many calls the arm runs at once."""
    return strategies.get(arm.strategy).worker_count(arm.chosen)


def takes(arm: Arm, option: str) -> bool:
    """Whether the arm's strategy takes this option."""
    return option in strategies.get(arm.strategy).TAKES


def with_options(arm: Arm, **options: object) -> Arm:
    """The arm with those of these options that its strategy takes and that are not set already."""
    new = {name: value for name, value in options.items() if takes(arm, name)}
    return arm.model_copy(update={"options": new | arm.options})


def _arms(texts: Sequence[str]) -> list[Arm]:
    return [
        _with_one_worker(arm) for arm in from_flags.from_flags(from_flags.Flags(strategies=tuple(texts))).arms
    ]


def alone(arm: Arm) -> Arm:
    """An arm of a plan as it is tested here: with the workload of the faults."""
    without: dict[str, object] = {"workload": {}, "io_per_model": None, "inject": Inject()}
    return _with_one_worker(arm.model_copy(update=without))


def _with_one_worker(arm: Arm) -> Arm:
    changes: dict[str, object] = {"name": "executor"} if arm.chosen.factory == _POOL.partition(":")[2] else {}
    if "workers" not in arm.options and takes(arm, "workers"):
        changes["options"] = {"workers": 1, **arm.options}
    return arm.model_copy(update=changes)
