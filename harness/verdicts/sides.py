"""One run, or what counts of it, as a comparison takes it: its arms, their loads and their figures. Pure."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from functools import cached_property

import pandas as pd

from harness.analysis import saturation, summaries
from harness.analysis.percentiles import Pool
from harness.analysis.summaries import LATENCY, THROUGHPUT
from harness.verdicts.metrics import NEEDED, Metric
from harness.wire.records import OK, PILOT_BLOCK

Invalid = Mapping[tuple[str, str], str]  # (arm, load) → why the instrument was not fit there


@dataclasses.dataclass(frozen=True)
class Side:
    """One run, or what counts of it. `label` is its name in the sentences of `runs`."""

    derived: pd.DataFrame  # summaries.derive
    trials: pd.DataFrame
    label: str = ""
    excluded: Collection[int] = ()  # blocks left out by criteria fixed before the run
    invalid: Invalid = dataclasses.field(default_factory=dict)
    limited: Invalid = dataclasses.field(default_factory=dict)  # … why the client could do no more

    def arms(self) -> list[str]:
        """Those that have a trial, in the order of ordered categories, else as they appear."""
        known = self.derived["arm"]
        kind = known.dtype
        ordered = list(kind.categories) if isinstance(kind, pd.CategoricalDtype) and kind.ordered else []
        tried = dict.fromkeys(self._counted()["arm"].astype(str))
        return [arm for arm in dict.fromkeys([*ordered, *tried]) if arm in tried]

    def loads(self, arm: str) -> list[str]:
        """Those that the arm was run at, the lightest of each law first."""
        its = self._counted()
        return sorted(set(its.loc[its["arm"] == arm, "load"].astype(str)), key=_natural)

    def cell(self, arm: str, load: str) -> Cell:
        excluded, its = list(self.excluded), self._counted()
        rows = self._cells.select((arm, load), NEEDED)
        rows = rows[(rows["trial_state"] == OK) & ~rows["block"].isin(excluded)]
        trials = its[(its["arm"] == arm) & (its["load"] == load) & ~its["block"].isin(excluded)]
        name = f"{self.label}:{arm}" if self.label else arm
        invalid, limited = (known.get((arm, load), "") for known in (self.invalid, self.limited))
        return Cell(name, rows, trials, invalid, limited)

    @property
    def counted(self) -> float:
        """The share of the blocks that are not excluded; 1 where there is none."""
        blocks = set(self._counted()["block"])
        return len(blocks - set(self.excluded)) / len(blocks) if blocks else 1.0

    @cached_property
    def _cells(self) -> summaries.Cells:
        return summaries.Cells(self.derived)

    def _counted(self) -> pd.DataFrame:
        return self.trials[self.trials["block"] > PILOT_BLOCK]


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
    """One arm under one load, without the blocks left out. What is found of it is kept for the next pair."""

    name: str
    rows: pd.DataFrame  # requests of the ok trials, every phase
    trials: pd.DataFrame  # all of them
    invalid: str
    limited: str  # why its throughput is a lower bound, and its latency an upper one
    _figures: dict[Metric, pd.Series[float]] = dataclasses.field(default_factory=dict)
    _pools: dict[frozenset[int], Pool] = dataclasses.field(default_factory=dict)

    @cached_property
    def blocks(self) -> frozenset[int]:
        return frozenset(int(block) for block in self.trials.loc[self.trials["state"] == OK, "block"])

    @cached_property
    def answered(self) -> frozenset[int]:
        """Blocks that have a request."""
        return frozenset(map(int, self.rows["block"].unique()))

    @cached_property
    def lost_trials(self) -> pd.DataFrame:
        """Those that do not count, as they failed or were invalid."""
        return self.trials[self.trials["state"] != OK]

    @property
    def lost(self) -> str:
        """How many trials do not count on account of this arm, and why; "" when all do."""
        bad, tried = self.lost_trials, len(self.trials)
        if bad.empty:
            return ""
        return f"{len(bad)} of {tried} of {self.name}'s trials do not count: {bad['error'].iloc[0]}"

    @cached_property
    def saturated(self) -> bool:
        """Under an open load that it could not take."""
        return bool(saturation.per_cell(self.rows, self.trials)["saturated"].any())

    def by_block(self, metric: Metric) -> pd.Series[float]:
        """The metric's figure of each block, in block order; blocks without one are absent."""
        if metric not in self._figures:
            self._figures[metric] = (
                summaries.block_throughput(self.rows).dropna()
                if metric.name == THROUGHPUT
                else summaries.block_statistic(self._window, metric.name, metric.stat)
            )
        return self._figures[metric]

    def latencies(self, blocks: frozenset[int]) -> Pool:
        """Of the measured requests of these blocks; a failure counts as the slowest answer of all."""
        if blocks not in self._pools:
            self._pools[blocks] = summaries.pool(self._window, LATENCY, blocks)
        return self._pools[blocks]

    @cached_property
    def _window(self) -> pd.DataFrame:
        return summaries.measured(self.rows)


def _natural(load: str) -> tuple[str, list[float]]:
    """Sorts closed(8) before closed(16)."""
    return load.partition("(")[0], [float(number) for number in re.findall(r"\d+(?:\.\d+)?", load)]
