"""The figures that claims are judged by: of one arm at one concurrency, or the ratio of two. Pure."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from harness.analysis import stats, summaries
from harness.analysis.percentiles import FEWEST_REQUESTS, Pool
from harness.analysis.rows import Cells, Requests, measured, sound
from harness.verdicts.claims_file import TAILS, Check
from harness.verdicts.metrics import USUAL, Rules

_POOLED = ["block", "trial_state", "phase", "ok"]  # the columns for a pool
_PER_BLOCK = summaries.THROUGHPUT_COLUMNS  # for one figure per block


class Evidence:
    """The figures of a run under the claims' arrival law; keeps what it has computed.

    `requests` has the blocks that count, `trials` has all blocks, `invalid` says why an (arm, load) is
    unusable.
    """

    def __init__(
        self, law: str, requests: Requests, trials: pd.DataFrame, invalid: Mapping[tuple[str, str], str]
    ) -> None:
        self._law, self._invalid, self.rules = law, invalid, USUAL
        self._order: pd.Index | None = None
        self._cells = Cells(summaries.under(law, requests), ("arm", "concurrency"))
        self._trials = summaries.under(law, trials)
        self._per_block: dict[Statistic, pd.Series[float]] = {}
        self._pools: dict[tuple[str, int, str, tuple[int, ...]], Pool] = {}

    def judged_by(self, rules: Rules, blocks: Sequence[int] | None) -> Evidence:
        """The same evidence under these rules, of these blocks only, in this order."""
        other = copy.copy(self)
        other.rules = rules
        if blocks is not None:
            other._order, other._pools = pd.Index(blocks), {}
        return other

    def per_block(self, figure: Statistic) -> pd.Series[float]:
        """The figure of each block, in order."""
        if figure not in self._per_block:
            self._per_block[figure] = summaries.per_block(
                self._of(figure, _PER_BLOCK), figure.metric, figure.stat
            )
        found = self._per_block[figure]
        return found if self._order is None else found.reindex(self._order).dropna()

    def pool(self, figure: Statistic, blocks: Iterable[int]) -> Pool:
        """The pooled requests of these blocks, for percentiles; a failure counts as an infinite latency."""
        key = (figure.arm, figure.concurrency, figure.metric, tuple(blocks))
        if key not in self._pools:
            rows = sound(measured(self._of(figure, _POOLED)))
            self._pools[key] = summaries.pool(rows, figure.metric, key[-1])
        return self._pools[key]

    def _of(self, figure: Statistic, needed: Sequence[str]) -> Requests:
        names = dict.fromkeys([*needed, figure.metric])
        names.pop(summaries.THROUGHPUT, None)
        return self._cells.rows((figure.arm, figure.concurrency), list(names))

    def why_unusable(self, combination: Combination) -> str:
        """Why this cannot be judged; "" if it can."""
        for figure in combination.figures():
            broken = self._invalid.get((figure.arm, f"{self._law}({figure.concurrency})"))
            if broken:
                return f"{figure} is invalid: {broken}"
        if combination.per_block(self).empty:
            return self._why_missing(combination)
        return combination.lacks_requests(self)

    def _why_missing(self, combination: Combination) -> str:
        for figure in combination.figures():
            if summaries.cell(self._trials, figure.arm, figure.concurrency).empty:
                return f"{figure} was not run"
            if self.per_block(figure).empty:
                return f"{figure} gave no {figure.metric}"
        return f"{combination}: no block has both figures"


@dataclasses.dataclass(frozen=True, slots=True)
class Statistic:
    """One statistic of one arm at one concurrency."""

    arm: str
    concurrency: int
    metric: str
    stat: str

    @property
    def percent(self) -> float:
        """The percentile of a figure of pooled blocks."""
        return summaries.STATS[self.stat] or 50

    def __str__(self) -> str:
        return f"{self.arm} c = {self.concurrency}"


@dataclasses.dataclass(frozen=True, slots=True)
class Combination:
    """A figure, or its ratio to another figure in the same blocks."""

    figure: Statistic
    over: Statistic | None

    def figures(self) -> list[Statistic]:
        return [self.figure] if self.over is None else [self.figure, self.over]

    def per_block(self, evidence: Evidence) -> pd.Series[float]:
        values = evidence.per_block(self.figure)
        return values if self.over is None else (values / evidence.per_block(self.over)).dropna()

    def effect(self, evidence: Evidence, level: float) -> stats.Effect:
        """The ratio over blocks: of the blocks' own figures, or of pooled ones if a tail is involved.

        Its interval has `level` over all looks of the run together.
        """
        values, rules = self.per_block(evidence), evidence.rules
        if not self.has_tail:
            return rules.widened(stats.effect(stats.log_ratio(values), level=rules.at(level)))
        sides = [(evidence.pool(figure, values.index), figure.percent) for figure in self.figures()]
        return rules.widened(stats.percentiles_ratio(*sides, level=rules.at(level)))

    @property
    def has_tail(self) -> bool:
        return not TAILS.isdisjoint(figure.stat for figure in self.figures())

    def lacks_requests(self, evidence: Evidence) -> str:
        """Why there are too few requests for a percentile; "" if there are enough."""
        if not self.has_tail:
            return ""
        blocks = self.per_block(evidence).index
        for figure in self.figures():
            needed = FEWEST_REQUESTS[int(figure.percent)]
            there = sum(map(len, evidence.pool(figure, blocks).blocks))
            if there < needed:
                return f"{figure}: {figure.stat} needs {needed} requests, the run has {there}"
        return ""

    def __str__(self) -> str:
        if self.over is None:
            return str(self.figure)
        other = "" if self.over.metric == self.figure.metric else f" ({self.over.metric})"
        return f"{self.figure} / {self.over}{other}"


def combinations_of(check: Check) -> list[Combination]:
    """Each combination of arms and concurrencies for which a check must hold."""
    figures = [Statistic(arm, c, check.metric, check.stat) for arm in check.arms for c in check.concurrencies]
    versus = check.versus
    if versus is None:
        return [Combination(figure, None) for figure in figures]
    return [
        Combination(figure, Statistic(arm, c, versus.metric or check.metric, versus.stat or check.stat))
        for figure in figures
        for arm in versus.arms or (figure.arm,)
        for c in versus.concurrencies or (figure.concurrency,)
    ]
