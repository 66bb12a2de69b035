"""Replay the stopping rule on recorded runs: their blocks in many random orders, as if new runs had them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from harness.analysis import looks
from harness.analysis.arrays import Floats
from harness.analysis.looks import Looks
from harness.errors import UsageError
from harness.results import store
from harness.verdicts import admissible, claims, claims_file
from harness.verdicts.claims import CONFIRMED, REFUTED
from harness.verdicts.metrics import Rules

_OPPOSITE = {CONFIRMED: REFUTED, REFUTED: CONFIRMED}


@dataclasses.dataclass(frozen=True, slots=True)
class Replayed:
    """One claim that all blocks of a run decide, over the replays."""

    claim: str
    verdict: str  # of all blocks, with the usual intervals
    same: float  # share of the replays
    opposite: float
    blocks: float  # mean at the stop
    stopped_early: float  # share of the replays


class _Stopped(NamedTuple):
    blocks: int
    verdicts: dict[str, str]  # claim → verdict


def recorded_twins(csv: Path) -> Floats:
    """Return the log ratios of recorded sessions, a row each, a column for each block, in order.

    Raises UsageError for a file that is not from `execbench study twin-blocks`.
    """
    try:
        return (
            pd.read_csv(csv).pivot(index="session", columns="block", values="log_ratio").to_numpy(np.float64)
        )
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"{csv} is not a file of `execbench study twin-blocks`: {error}.", stage="study"
        ) from error


def claims_of(folder: Path, orders: int, seed: int) -> Iterator[Replayed]:
    """Yield the claims that all counted blocks of the run decide, replayed in this many orders of its blocks.

    Raises UsageError for a run without claims.
    """
    found = admissible.admit(store.read(folder))
    name = (found.run.record.get("plan") or {}).get("claims")
    if not name:
        raise UsageError(f"{folder} has no claims to replay.", stage="study")
    blocks = sorted(set(admissible.blocks_of(found.run)) - found.excluded.keys())
    judge = claims.Judge(
        claims_file.load(name),
        found.derived,
        found.run.trials,
        excluded=found.excluded,
        invalid=found.invalid | found.limited,
    )
    rules = dataclasses.replace(found.facts.rules, looks=None)
    whole = _verdicts(judge.checks(rules))
    plan = looks.planned(len(blocks), claims.levels(claims_file.load(name)))
    last = dataclasses.replace(rules, looks=plan)
    at_end = _Stopped(len(blocks), _verdicts(judge.checks(last, blocks)))
    rng = np.random.default_rng(seed)
    replays = [_replay(judge, plan, list(rng.permutation(blocks)), rules, at_end) for _ in range(orders)]
    for claim, verdict in whole.items():
        if verdict in _OPPOSITE:
            given = [replay.verdicts[claim] for replay in replays]
            yield Replayed(
                claim=claim,
                verdict=verdict,
                same=given.count(verdict) / orders,
                opposite=given.count(_OPPOSITE[verdict]) / orders,
                blocks=sum(replay.blocks for replay in replays) / orders,
                stopped_early=sum(replay.blocks < len(blocks) for replay in replays) / orders,
            )


def _replay(judge: claims.Judge, plan: Looks, order: list[int], usual: Rules, at_end: _Stopped) -> _Stopped:
    """Stop as `settled.look` does; judge as the report of that run would. `at_end`: if no look stops it."""
    for place, blocks in enumerate(plan.blocks[:-1]):
        rules = dataclasses.replace(usual, looks=plan._replace(now=place))
        if judge.is_settled(dataclasses.replace(rules, cautious=True), order[:blocks]):
            return _Stopped(blocks, _verdicts(judge.checks(rules, order[:blocks])))
    return at_end


def _verdicts(checks: pd.DataFrame) -> dict[str, str]:
    return dict(claims.verdicts(checks).set_index("claim")["verdict"])
