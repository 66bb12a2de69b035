"""From a run to its report: all tables, files and charts come from one `Report`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.analysis import (
    efficiency,
    generators,
    machine,
    nominal,
    quietness,
    saturation,
    staircase,
    stats,
    summaries,
)
from harness.analysis.rows import Cells, Requests, Rows, measured
from harness.analysis.summaries import ANSWERED
from harness.errors import UsageError
from harness.numbers import percent
from harness.report import (
    advice,
    cautions,
    choice,
    for_plots,
    halving,
    headline,
    levels,
    load_notes,
    ranking,
    stopping,
    sweep,
)
from harness.report.charts import forest, io_distribution, published, split, sweep_chart, timeline
from harness.report.choice import Choice, Inputs
from harness.report.ranking import Tables
from harness.results import parquet, store
from harness.verdicts import admissible, claims, claims_file, session_noise, settled
from harness.verdicts.admissible import Evidence
from harness.verdicts.best_arm import RATES
from harness.verdicts.published import published_tables

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure


@dataclasses.dataclass(eq=False)
class Report:
    """A run as tables, sentences and charts, each computed at its first use.

    A table is empty if the run has nothing for it: `claims`, `checks` and `published` without claims in the
    plan, `ranking` unless the plan asks for it, `windows` and `capacity` unless it is a capacity run.
    `trials` has all trials of the run; figures leave out pings and the blocks in `excluded`.
    """

    evidence: Evidence

    # -- what was measured

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.evidence.run.folder

    @property
    def record(self) -> dict[str, Any]:
        """run.json."""
        return self.evidence.run.record

    @property
    def plan(self) -> Mapping[str, Any]:
        """The plan of the run; empty for a run without a plan."""
        return self.record.get("plan") or {}

    @property
    def trials(self) -> pd.DataFrame:
        """trials.csv, a row per trial."""
        return self.evidence.run.trials

    @property
    def excluded(self) -> dict[int, str]:
        """Block → why it does not count."""
        return self.evidence.excluded

    @cached_property
    def requests(self) -> pd.DataFrame:
        """requests.csv with the derived columns, a row per request, warm-ups and failures included.

        A long run makes it large; the report itself never has all of it.
        """
        return self._rows.frame()

    @cached_property
    def measured(self) -> pd.DataFrame:
        """The rows of `requests` in the measured windows, with two more columns: elapsed_s and decides.

        elapsed_s: from the start of the run until the request was due. decides: whether its load is
        `deciding_load`, or in a capacity run, whether its window confirms a capacity.
        """
        frame = for_plots.measured(self._rows, self.trials)
        return frame.assign(decides=self._decides(frame))

    def _decides(self, rows: pd.DataFrame) -> pd.Series[bool]:
        return rows["load"] == self.deciding_load

    # -- tables of figures

    @cached_property
    def summary(self) -> pd.DataFrame:
        """A row per arm and load, in the plan's order, with marks for saturated and limited figures."""
        summary = summaries.summarise(self._rows, self._kept)
        if summary.empty:
            return summary
        order = {arm: number for number, arm in enumerate(admissible.arms_of(self.evidence.run))}
        summary = summary.sort_values("arm", key=lambda arms: arms.map(order), kind="stable")
        overrun = self._overrun[["arm", "load", "rate_per_s", "saturated"]]
        table = summary.merge(overrun, on=["arm", "load"], how="left")
        places = [(str(row.arm), str(row.load)) for row in table.itertuples()]
        cells = Cells(self._rows)
        lags = (measured(cells.rows(one, ["phase", "ok", "dispatch_lag_ms"])) for one in places)
        return table.assign(
            dispatch_lag_p99_ms=[summaries.pooled_percentile(one, "dispatch_lag_ms", 99) for one in lags],
            client_limited=[one in self.evidence.limited for one in places],
            # the backlog may be that of the client
            saturated=lambda shown: shown["saturated"].fillna(False).astype(bool) & ~shown["client_limited"],
        )

    @cached_property
    def contestants(self) -> pd.DataFrame:
        """The summary without the twin, and without arms whose I/O is scaled to the model."""
        scaled = [arm["name"] for arm in self.plan.get("arms", []) if arm.get("io_per_model")]
        apart = [self.evidence.facts.twin, *scaled]
        return self.summary if self.summary.empty else self.summary[~self.summary["arm"].isin(apart)]

    @cached_property
    def levels(self) -> pd.DataFrame:
        """`levels.table` of the contestants: their figures under each load, with intervals over blocks."""
        return levels.table(self._inputs, self.contestants)

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """`comparison.COLUMNS`: the reference against the twin and the arms that do the same work."""
        return self.evidence.comparisons()

    @cached_property
    def ratios(self) -> pd.DataFrame:
        """`for_plots.RATIO_COLUMNS`: each arm over the reference under each load, by the primary metric."""
        return for_plots.ratios(self.comparisons[self.comparisons["primary"].astype(bool)])

    @cached_property
    def costs(self) -> pd.DataFrame:
        """`machine.COST_COLUMNS`: CPU, memory, pings and loop lag, in the summary's order."""
        costs, cells = machine.costs(self._kept, self.evidence.sent, self.record), self.summary
        return costs if cells.empty else cells[["arm", "load"]].merge(costs, on=["arm", "load"], how="left")

    @cached_property
    def generators(self) -> pd.DataFrame:
        """`generators.COLUMNS`: a row per load generator; empty if the run has one, which needs no name."""
        return generators.table(store.read_generators(self.folder))

    @cached_property
    def limits(self) -> pd.DataFrame:
        """`efficiency.COLUMNS`; empty if no model limit was measured."""
        if not self.record.get("limits"):
            return pd.DataFrame(columns=efficiency.COLUMNS)
        cell, level = self.evidence.side.cell, self.evidence.facts.rules.at(stats.LEVEL)
        places = [(str(row.arm), str(row.load)) for row in self.summary.itertuples()]
        rates = {place: cell(*place).by_block(RATES) for place in places}
        return efficiency.table(self.summary, self.record, rates, level)

    @cached_property
    def io(self) -> pd.DataFrame:
        """`nominal.COLUMNS`; empty without an open loop."""
        return nominal.table(self._rows)

    @cached_property
    def staircase(self) -> pd.DataFrame:
        """How well the law of T2 holds for inline arms, at c > 1: a lone request waits for no other."""
        return staircase.laws(self._rows)

    # -- the plan's claims

    @cached_property
    def published(self) -> pd.DataFrame:
        """The printed tables with the measured figures next to them."""
        name = self.plan.get("claims")
        return pd.DataFrame() if name is None else published_tables(claims_file.load(name), self._rows)

    @cached_property
    def checks(self) -> pd.DataFrame:
        """`claims.CHECK_COLUMNS`: a row per check of a claim, with its measured ratio."""
        name = self.plan.get("claims")
        if name is None:
            return pd.DataFrame(columns=claims.CHECK_COLUMNS)
        return settled.judged_claims(self.evidence, name, self.withheld)

    @cached_property
    def claims(self) -> pd.DataFrame:
        """`claims.VERDICT_COLUMNS`: a row per claim, with its verdict."""
        if self.checks.empty:
            return pd.DataFrame(columns=claims.VERDICT_COLUMNS)
        return claims.verdicts(self.checks)

    @cached_property
    def nearest_checks(self) -> pd.DataFrame:
        """`claims.CHECK_COLUMNS`: per claim, the check that is nearest to its bound."""
        return self.checks if self.checks.empty else claims.nearest(self.checks)

    # -- capacity

    @cached_property
    def windows(self) -> pd.DataFrame:
        """A row per window of a capacity run."""
        return pd.DataFrame()

    @cached_property
    def capacity(self) -> pd.DataFrame:
        """A row per arm of a capacity run."""
        return pd.DataFrame()

    # -- which arm to take

    @cached_property
    def ranking(self) -> pd.DataFrame:
        """`ranking.COLUMNS`: the arms in order."""
        if not self.plan.get("ranking"):
            return pd.DataFrame(columns=ranking.COLUMNS)
        inputs, found = self._inputs, self.evidence
        reference, load = inputs.reference, self.choice.load
        return ranking.rank(inputs.tables, self.record, reference, load, found.invalid, found.limited)

    @cached_property
    def conclusion(self) -> str:
        """The chosen arm as a sentence below the ranking; "" without a ranking."""
        return ranking.sentence(self.ranking, self.evidence.facts.reference, self.choice.take)

    @cached_property
    def choice(self) -> Choice:
        """The one choice that the finding, the ranking, the sweep and the advice state."""
        return choice.choose(self._inputs)

    @cached_property
    def deciding_load(self) -> str:
        """The load that decides between arms; "" if no request got a good answer."""
        return self.choice.load or choice.deciding_load(self.contestants)

    @cached_property
    def swept(self) -> sweep.Swept | None:
        """The results of a sweep; None if the plan is no sweep."""
        return sweep.find(self._inputs, self.summary, self.choice)

    @cached_property
    def halved(self) -> halving.Halved | None:
        """The rounds and objectives of a choice by halving; None for any other run."""
        return halving.find(self.evidence)

    @cached_property
    def advised(self) -> advice.Advice:
        """The advice: which arm to take, why, and what to run next."""
        return advice.advise(self._inputs, self.choice)

    # -- sentences

    @cached_property
    def answer(self) -> str:
        """One sentence: the arm to take, or else the best figures."""
        return f"{self.advised.headline or headline.best_figures(self.contestants)}."

    @property
    def finding(self) -> str:
        """The answer, then how many claims have which verdict."""
        counts = claims.tally(self.claims)
        return f"{self.answer} {counts}." if counts else self.answer

    @cached_property
    def machine(self) -> str:
        """How quiet the machine was, by its own readings and by how far the twin differs."""
        twin = session_noise.twin_sentence(self.comparisons)
        readings = quietness.sentence(self.trials, self.record, self.evidence.spoilt)
        return f"{readings} {twin}." if twin else readings

    @cached_property
    def trust(self) -> str:
        """`machine` in short, and how near the load generator came to its own limit."""
        short = quietness.in_short(self.trials, self.record, self.evidence.spoilt)
        twin = session_noise.twin_sentence(self.comparisons)
        share = math.nan if self.summary.empty else float(self.summary[ANSWERED].max())
        share /= machine.client_limit_per_s(self.record)
        client = f"The load generator reached {percent(share, 0)} of its limit" if share >= 0 else ""
        return " ".join([short, *(f"{sentence}." for sentence in (twin, client) if sentence)])

    @cached_property
    def warnings(self) -> list[str]:
        """What to know before trusting the figures, the most serious first."""
        return [*cautions.find(self.evidence, self.comparisons, self._overrun)]

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """How the run ended, and which columns are missing or different."""
        return (
            *self.plan.get("notes", ()),
            *self.stopping,
            *load_notes.find(self.record),
            *nominal.absence(self.record),
            *machine.counted_processes(self.record),
            *machine.uncounted_clusters(self.record),
            *_unsplit(self._rows),
            *_elsewhere(self._rows),
            *parquet.notes(self.folder, len(self.evidence.run.rows)),
        )

    @property
    def stopping(self) -> tuple[str, ...]:
        """When the run stopped, or why it went on, and what that means; empty without looks."""
        return tuple(stopping.find(self.record, self.plan))

    @property
    def withheld(self) -> str:
        """Why no verdict is given; "" when verdicts are given."""
        return self.evidence.withheld or session_noise.noisy(self.comparisons)

    # -- charts

    @property
    def charts(self) -> Mapping[str, Callable[[], Figure]]:
        """The function that draws each chart, by the name of its file in the run's charts/."""
        drawn: dict[str, Callable[[], Figure]] = {}
        if self.swept is not None:
            drawn["sweep"] = partial(sweep_chart.draw, self.swept)
        if not len(self._rows):
            return drawn
        drawn |= {
            "timeline": partial(timeline.draw, self._rows),
            "split": partial(split.draw, self._rows),
            "io": partial(io_distribution.draw, self._rows),
        }
        if len(self.claims):
            drawn["published"] = partial(published.draw, self.published)
            drawn["claims"] = partial(forest.draw, self.checks)
        return drawn

    def chart(self, name: str) -> Figure:
        """The chart of that name. Raises UsageError that lists the run's charts if there is none."""
        if name not in self.charts:
            hint = f"Charts of this run: {', '.join(self.charts) or 'none'}."
            error = UsageError(f"This run has no chart {name!r}.", stage="report", hint=hint)
            error.add_note(hint)  # which Python shows, unlike the hint
            raise error
        return self.charts[name]()

    # -- shared by several of these

    @property
    def _rows(self) -> Rows:
        return self.evidence.derived

    @cached_property
    def _kept(self) -> pd.DataFrame:
        return self.trials[~self.trials["block"].isin(list(self.excluded))]

    @cached_property
    def _overrun(self) -> pd.DataFrame:
        return saturation.per_cell(self._rows, self._kept)

    @cached_property
    def _inputs(self) -> Inputs:
        summary, facts = self.contestants, self.evidence.facts
        if not summary.empty:
            summary = summary[~summary["arm"].isin(list(self.evidence.other_work()))]
        return Inputs(
            tables=Tables(self._rows, summary, self.comparisons, self.costs, self.limits),
            record=self.record,
            reference=facts.reference,
            side=self.evidence.side,
            rules=facts.rules,
            withheld=self.withheld,
            folder=self.folder,
            kept={} if self.halved is None else self.halved.kept,
        )


def build(run: store.Run, reference: str | None = None) -> Report:
    """The report of `run`, against its plan's reference or another arm.

    Raises UsageError when the run has no such arm.
    """
    return Report(admissible.admit(run) if reference is None else admissible.against(run, reference))


def _unsplit(requests: Requests) -> Iterator[str]:
    """A note on arms whose server reports no queue and no way back."""
    if arms := summaries.unsplit_arms(requests):
        yield f"{', '.join(arms)}: model is known only as a whole, with the wait for a worker in it."


def _elsewhere(requests: Requests) -> Iterator[str]:
    """A note on arms whose workers have the clock of another host."""
    if arms := summaries.arms_elsewhere(requests):
        yield (
            f"{', '.join(arms)}: the workers run on another host, whose clock cannot be compared with the "
            "server's. So queue and way back are not known; worker is."
        )
