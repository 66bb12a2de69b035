"""Comparisons of the arms of made-up runs."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import made_up
import pandas as pd
from made_up import Point

from harness.analysis import summaries
from harness.verdicts import comparison
from harness.verdicts.sides import Side

BLOCKS = 12


def about(model_ms: float, *, spread: float = 0.02, seed: int = 1, **fixed: Any) -> Callable[[int], Point]:
    """Return a server whose model time varies from block to block; requests of one block share one value."""
    luck = random.Random(seed)
    factors = [luck.gauss(1.0, spread) for _ in range(100)]
    return lambda block: Point(model_ms=model_ms * factors[block], **fixed)


def compared(world: made_up.World, *, blocks: int = BLOCKS, **options: Any) -> pd.DataFrame:
    requests, trials = made_up.run(world, blocks=blocks)
    known = {name: options.pop(name) for name in ("excluded", "invalid", "limited") if name in options}
    both = Side(summaries.derive(requests, trials), trials, **known)
    return comparison.arms(both, **({"reference": "inline"} | options))


def side(world: made_up.World, *, blocks: int = BLOCKS, label: str = "") -> Side:
    requests, trials = made_up.run(world, blocks=blocks)
    return Side(summaries.derive(requests, trials), trials, label)


def row(table: pd.DataFrame, metric: str = "latency_ms", stat: str = "median", **where: str) -> Any:
    found = table[(table["metric"] == metric) & (table["stat"] == stat)]
    for column, value in where.items():
        found = found[found[column] == value]
    assert len(found) == 1
    return found.iloc[0]


def noisy_world(twin_ms: float) -> dict[made_up.Place, Point | Callable[[int], Point]]:
    return {
        ("inline", 1): about(20),
        ("inline-twin", 1): about(twin_ms, seed=2),
        ("inline", 4): about(20, seed=3),
        ("inline-twin", 4): about(20, seed=4),
        ("thread", 1): about(40, seed=5),
        ("thread", 4): about(40, seed=6),
    }
