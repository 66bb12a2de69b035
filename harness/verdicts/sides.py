"""One side of a comparison: the arms of a run, their loads and their figures. Pure."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from functools import cached_property

import pandas as pd

from harness.analysis import saturation, summaries
from harness.analysis.percentiles import Pool
from harness.analysis.rows import Cells, Requests, in_parts, measured, of_trials, ordered_arms, sound
from harness.analysis.summaries import LATENCY, THROUGHPUT
from harness.verdicts.metrics import NEEDED, Metric
from harness.wire.records import PILOT_BLOCK, SOUND

Invalid = Mapping[tuple[str, str], str]  # (arm, load) → why the load generator was not fit there


@dataclasses.dataclass(frozen=True)
class Side:
    """A run, or the parts of it that count. `label` is its name in the sentences of `comparison.runs`."""

    derived: Requests
    trials: pd.DataFrame
    label: str = ""
    excluded: Collection[int] = ()  # blocks excluded by criteria that were set before the run
    invalid: Invalid = dataclasses.field(default_factory=dict)
    limited: Invalid = dataclasses.field(
        default_factory=dict
    )  # (arm, load) → why the client could do no more

    def arms(self) -> list[str]:
        """The arms that have a trial, in the order of ordered categories, else as they appear."""
        tried = dict.fromkeys(self._counted()["arm"].astype(str))
        return [arm for arm in dict.fromkeys([*ordered_arms(self.derived), *tried]) if arm in tried]

    def loads(self, arm: str) -> list[str]:
        """The loads that the arm was run at, the lightest of each arrival law first."""
        its = self._counted()
        return sorted(set(its.loc[its["arm"] == arm, "load"].astype(str)), key=_natural)

    def cell(self, arm: str, load: str) -> Cell:
        excluded, its = list(self.excluded), self._counted()
        rows = of_trials(sound(self._cells.rows((arm, load), NEEDED)), "block", excluded, but=True)
        trials = its[(its["arm"] == arm) & (its["load"] == load) & ~its["block"].isin(excluded)]
        name = f"{self.label}:{arm}" if self.label else arm
        invalid, limited = (known.get((arm, load), "") for known in (self.invalid, self.limited))
        return Cell(name, rows, trials, invalid, limited)

    @property
    def counted(self) -> float:
        """The share of the blocks that are not excluded; 1 if there are no blocks."""
        blocks = set(self._counted()["block"])
        return len(blocks - set(self.excluded)) / len(blocks) if blocks else 1.0

    @cached_property
    def _cells(self) -> Cells:
        return Cells(self.derived)

    def _counted(self) -> pd.DataFrame:
        return self.trials[self.trials["block"] > PILOT_BLOCK]


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
    """One arm under one load, without the excluded blocks; keeps its figures for the next comparison."""

    name: str
    rows: Requests  # of the sound trials, every phase
    trials: pd.DataFrame  # in every state
    invalid: str
    limited: str  # why its throughput is a lower bound, and its latency an upper one
    _figures: dict[Metric, pd.Series[float]] = dataclasses.field(default_factory=dict)
    _pools: dict[frozenset[int], Pool] = dataclasses.field(default_factory=dict)

    @cached_property
    def blocks(self) -> frozenset[int]:
        return frozenset(int(block) for block in self.trials.loc[self.trials["state"].isin(SOUND), "block"])

    @cached_property
    def answered(self) -> frozenset[int]:
        """The blocks that have a request."""
        return frozenset(
            int(block) for part in in_parts(self.rows, ["block"]) for block in part["block"].unique()
        )

    @cached_property
    def lost_trials(self) -> pd.DataFrame:
        """The trials that do not count, because they failed or are invalid."""
        return self.trials[~self.trials["state"].isin(SOUND)]

    @property
    def lost(self) -> str:
        """How many of the arm's trials do not count, and why; "" if all count."""
        bad, tried = self.lost_trials, len(self.trials)
        if bad.empty:
            return ""
        return f"{len(bad)} of {tried} of {self.name}'s trials do not count: {bad['error'].iloc[0]}"

    @cached_property
    def saturated(self) -> bool:
        """Whether this is an open loop that the arm, not the client, could not keep up with."""
        return not self.limited and bool(saturation.per_cell(self.rows, self.trials)["saturated"].any())

    def by_block(self, metric: Metric) -> pd.Series[float]:
        """The metric's figure of each block, in block order; blocks without a figure are absent."""
        if metric not in self._figures:
            self._figures[metric] = (
                summaries.block_throughput(self.rows).dropna()
                if metric.name == THROUGHPUT
                else summaries.block_statistic(self._window, metric.name, metric.stat)
            )
        return self._figures[metric]

    def latencies(self, blocks: frozenset[int]) -> Pool:
        """The latencies of these blocks' measured requests; a failure counts as the slowest answer."""
        if blocks not in self._pools:
            self._pools[blocks] = summaries.pool(self._window, LATENCY, blocks)
        return self._pools[blocks]

    @cached_property
    def _window(self) -> Requests:
        return measured(self.rows)


def _natural(load: str) -> tuple[str, list[float]]:
    """A key that sorts closed(8) before closed(16)."""
    return load.partition("(")[0], [float(number) for number in re.findall(r"\d+(?:\.\d+)?", load)]
