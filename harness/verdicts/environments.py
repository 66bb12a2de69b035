"""How the environments of two arms differ: their Pythons and packages, as their servers saw them. Pure.

Different versions do not forbid a comparison, as people compare versions. They stand beside the verdict, so
that no reader takes a difference of versions for one of strategies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.environment import Difference, between_servers

Record = Mapping[str, Any]  # run.json

MARK = "‡"  # after the verdict of an arm whose environment is not the reference's
MOST_NAMED = 5  # of the facts that differ


def between(before: tuple[Record, str], after: tuple[Record, str]) -> list[Difference]:
    """Return how the environments of two arms differ, each given as (run.json, arm); older runs have none."""
    one, other = _arm(*before), _arm(*after)
    same = "options" in one and _strategy(one) == _strategy(other)  # a command has no options
    return between_servers(one.get("environment") or {}, other.get("environment") or {}, same_strategy=same)


def apart(record: Record, reference: str, arms: Iterable[str]) -> dict[str, list[Difference]]:
    """The arms of a run whose environment is not the reference's, with the differences."""
    found = {arm: between((record, reference), (record, arm)) for arm in arms if arm != reference}
    return {arm: differences for arm, differences in found.items() if differences}


def sentences(record: Record, reference: str, arms: Iterable[str], most_named: int = MOST_NAMED) -> list[str]:
    """A sentence for each environment that is not the reference's: "a and b have torch 2.13.0; c has …"."""
    alike: dict[tuple[Difference, ...], list[str]] = {}
    for arm, differences in apart(record, reference, arms).items():
        alike.setdefault(tuple(differences), []).append(arm)
    return [in_words(differences, reference, names, most_named) for differences, names in alike.items()]


def in_words(
    differences: Sequence[Difference], reference: str, arms: Sequence[str], most_named: int = MOST_NAMED
) -> str:
    """What these arms have, and what the reference has in its place; of many facts, the first ones."""
    shown, more = differences[:most_named], len(differences) - most_named
    theirs = ", ".join(_fact(one.name, one.other) for one in shown)
    its = ", ".join(_fact(one.name, one.one) for one in shown)
    rest = (
        f" {more} more packages differ (run.json)." if more > 1 else " One more package differs (run.json)."
    )
    have = "have" if len(arms) > 1 else "has"
    return f"{' and '.join(arms)} {have} {theirs}; {reference} has {its}." + (rest if more > 0 else "")


def _fact(name: str, value: str) -> str:
    return f"no {name}" if value == "none" else f"{name} {value}"


def _arm(record: Record, arm: str) -> Mapping[str, Any]:
    return (record.get("arms") or {}).get(arm) or {}


def _strategy(arm: Mapping[str, Any]) -> Any:
    options = arm.get("options") or {}
    return options.get("strategy"), options.get("options")
