"""Which strategies meet the faults, each with one worker where that can be said."""

from __future__ import annotations

from collections.abc import Sequence

import strategies
from harness.plans import from_flags
from harness.plans.arm import Arm

_POOL = "executor:harness.evidence.faults.pools:spawned"
_SHOWN_AS = {
    "executor": (_POOL,),
    "supervised": ("supervised", "supervised:spares=1"),
    "batch": ("batch:over=thread", "batch:over=process", "batch:over=supervised"),
}


def chosen(asked: Sequence[str]) -> tuple[list[Arm], dict[str, str]]:
    """The arms asked for; by default those of every strategy, and why the other strategies have none.

    UsageError for one that does not exist, cannot work here, or is told what it does not obey.
    """
    if asked:
        return _arms([_POOL if text == "executor" else text for text in asked]), {}
    here = strategies.available()
    texts = [text for name in here for text in _SHOWN_AS.get(name, (name,))]
    absent = [name for name in strategies.NAMES if name not in here]
    return _arms(texts), {name: strategies.get(name).why_not() or "" for name in absent}


def workers(arm: Arm) -> int:
    """How many calls it runs at once."""
    return strategies.get(arm.strategy).worker_count(arm.chosen)


def obeys(arm: Arm, option: str) -> bool:
    """Whether its strategy takes this option."""
    return option in strategies.get(arm.strategy).TAKES


def telling(arm: Arm, **options: object) -> Arm:
    """The arm with these options where it obeys them and was not told otherwise."""
    new = {name: value for name, value in options.items() if obeys(arm, name)}
    return arm.model_copy(update={"options": new | arm.options})


def _arms(texts: Sequence[str]) -> list[Arm]:
    return [
        _with_one_worker(arm) for arm in from_flags.from_flags(from_flags.Flags(strategies=tuple(texts))).arms
    ]


def _with_one_worker(arm: Arm) -> Arm:
    said: dict[str, object] = {"name": "executor"} if arm.chosen.factory == _POOL.partition(":")[2] else {}
    if "workers" not in arm.options and obeys(arm, "workers"):
        said["options"] = {"workers": 1, **arm.options}
    return arm.model_copy(update=said)
