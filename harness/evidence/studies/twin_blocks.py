"""Record the log ratios of sessions that compare one arm with itself, block by block.

The study `stopping` replays its rule on them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import pandas as pd

from harness.evidence.check.bench import Result
from harness.evidence.studies import sessions as sessions_
from harness.evidence.studies.sessions import ARM
from harness.report import markdown
from harness.run.listener import Listener
from harness.verdicts.metrics import METRICS
from harness.wire.arrivals import closed
from harness.wire.records import TWIN_SUFFIX

BLOCKS = 24


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One block of one session."""

    session: int
    block: int
    log_ratio: float  # of the median latencies, twin over arm


def each(sessions: int, listener: Listener | None = None) -> Iterator[Row]:
    """Yield the blocks of each session as it ends; a session takes about 10 s."""
    load = str(closed(sessions_.USERS))
    for number, plan in sessions_.counted_out(sessions_.twin_plans(sessions, BLOCKS), listener):
        side = sessions_.side_of(sessions_.record_session(plan))
        arm, twin = (side.cell(name, load).by_block(METRICS[0]) for name in (ARM, f"{ARM}{TWIN_SUFFIX}"))
        for block in arm.index.intersection(twin.index):
            yield Row(number, int(block), math.log(twin[block] / arm[block]))


def table(found: pd.DataFrame) -> str:
    """One line: how much blocks and sessions vary."""
    logs = found.groupby("session")["log_ratio"]
    return markdown.table(
        ["sessions", "blocks", "spread of a block (median session)", "spread between sessions"],
        [[logs.ngroups, len(found), f"{logs.std().median():.3f}", f"{logs.mean().std():.3f}"]],
    )


def describe(found: pd.DataFrame) -> str:
    """Say what is recorded."""
    return f"The CSV has the log ratios of {found['session'].nunique()} sessions, one row per block."


def judge(found: pd.DataFrame) -> list[Result]:  # noqa: ARG001 - nothing is judged
    """Judge nothing: `stopping` judges the rows."""
    return []
