"""What came of the looks of a run that may stop early, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.analysis import looks, stats
from harness.analysis.looks import Looks
from harness.verdicts.admissible import abridged


def find(record: Mapping[str, Any], plan: Mapping[str, Any]) -> Iterator[str]:
    """What came of the looks, and what they mean for the figures."""
    found = looks.recorded(record)
    if found is not None and len(found.blocks) > 1:
        yield from _of_looks(found, record["looks"]["looked"])
    if (block := record.get("stopped_at_block")) is not None:
        goal = plan.get("precision")
        within = "narrow enough" if goal is None else f"within ±{100 * goal:g} %"
        yield f"Stopped after block {block}: every interval was {within}."


def _of_looks(found: Looks, looked: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    last = looked[-1] if looked else None
    if last and not last["open"]:
        yield (
            f"Stopped after {last['blocks']} of at most {found.blocks[-1]} blocks, as every verdict was "
            "settled. Differences look larger in runs that stop early: --until blocks runs all blocks."
        )
    elif last:
        yield f"The run went on after the look at {last['blocks']} blocks, for {abridged(last['open'])}."
    at = 100 * found.level(stats.LEVEL)
    yield (
        f"The run had {len(found.blocks)} looks (after {', '.join(map(str, found.blocks))} blocks). "
        f"Intervals are wider for that: {at:.1f} % at this look, so that all looks together have 95 %."
    )
