"""A made-up machine on which every claim of the article is true, and a change that makes each claim false."""

from __future__ import annotations

import dataclasses
from typing import Any

import made_up
import pandas as pd
from made_up import Place, Point

from harness.analysis import summaries
from harness.verdicts import claims, claims_file

ARTICLE = claims_file.load("article")

# a machine on which every claim of the article is true
TRUE_WORLD: dict[Place, Point] = {
    ("inline", 1): Point(),
    ("inline", 2): Point(io_ms=11.0),
    ("inline", 4): Point(io_ms=23.0),
    ("inline", 8): Point(io_ms=47.0, outside_ms=10.0),
    ("inline-scaled-io", 1): Point(),
    ("inline-scaled-io", 8): Point(io_ms=47.0),
    ("thread", 1): Point(),
    ("thread", 2): Point(queue_ms=26.0, model_ms=26.0),
    ("thread", 4): Point(queue_ms=78.0, model_ms=26.0),
    ("thread", 8): Point(queue_ms=182.0, model_ms=26.0),
    ("process", 1): Point(queue_ms=0.4, model_ms=6.2, resume_ms=0.2),
    ("process", 2): Point(queue_ms=1.0, model_ms=6.4),
    ("process", 4): Point(queue_ms=12.0, model_ms=6.4),
    ("process", 8): Point(queue_ms=40.0, model_ms=6.4),
    ("default_pool", 1): Point(),
    ("default_pool", 2): Point(model_ms=80.0),
    ("default_pool", 4): Point(model_ms=150.0),
    ("default_pool", 8): Point(model_ms=300.0),
}

# claim → the arm and load to change, and the change that makes the claim false
FALSE: dict[str, tuple[Place, dict[str, Any]]] = {
    "C1": (("inline", 1), {"io_ms": 20.0}),
    "C2": (("inline", 8), {"io_ms": 6.0}),
    "C3a": (("thread", 8), {"io_ms": 10.0}),
    "C3b": (("thread", 8), {"model_ms": 7.0}),
    "C4a": (("process", 8), {"io_ms": 10.0}),
    "C4b": (("process", 8), {"model_ms": 12.0}),
    "C5": (("default_pool", 8), {"model_ms": 200.0}),
    "C6": (("process", 4), {"queue_ms": 40.0}),
}

EVERY_BLOCK = set(range(1, 11))


def checks(world: made_up.World, *, blocks: int = 10, only: str = "") -> pd.DataFrame:
    """Return the checks of all claims, or of the claim `only`."""
    requests, trials = made_up.run(world, blocks=blocks)
    chosen = [claim for claim in ARTICLE.claims if only in ("", claim.id)]
    return claims.evaluate(
        ARTICLE.model_copy(update={"claims": chosen}), summaries.derive(requests, trials), trials
    )


def false_in(claim: str, blocks: set[int]) -> made_up.World:
    """Return the true world, changed so that this claim is false in these blocks."""
    place, changes = FALSE[claim]
    true, false = TRUE_WORLD[place], dataclasses.replace(TRUE_WORLD[place], **changes)
    return {**TRUE_WORLD, place: lambda block: false if block in blocks else true}
