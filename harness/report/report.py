"""From a run to its report: all tables, files and charts come from one `Report`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.analysis import efficiency, machine, nominal, saturation, staircase, summaries
from harness.analysis.summaries import THROUGHPUT
from harness.errors import UsageError
from harness.numbers import users
from harness.report import advice, cautions, choice, ranking, sweep
from harness.report.charts import forest, io_distribution, published, split, sweep_chart, timeline
from harness.report.choice import Choice, Inputs
from harness.report.ranking import Tables
from harness.results import store
from harness.verdicts import admissible, best_arm, claims, claims_file, same_work, session_noise
from harness.verdicts.admissible import Evidence
from harness.verdicts.claims import CONFIRMED, INCONCLUSIVE, NOT_TESTED, REFUTED, WITHHELD
from harness.verdicts.published import published_tables

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

# the columns that charts need
_CELL = ["arm", "load", "concurrency", "phase", "ok"]
_IO = ["io_ms", "io_nominal_ms"]
_PARTS = ["entered_ms", "queue_ms", "model_ms", "resume_ms", "outside_ms", "service_ms"]
_TIMES = ["trial", "due_ms", "sent_ms", "done_ms", summaries.LATENCY]


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

    @property
    def requests(self) -> pd.DataFrame:
        """requests.csv with the derived columns, a row per request, warm-ups and failures included."""
        return self.evidence.derived

    # -- tables of figures

    @cached_property
    def summary(self) -> pd.DataFrame:
        """A row per arm and load, in the plan's order, with marks for saturated and limited figures."""
        summary = summaries.summarise(self.requests, self._kept)
        if summary.empty:
            return summary
        order = {arm: number for number, arm in enumerate(admissible.arms_of(self.evidence.run))}
        summary = summary.sort_values("arm", key=lambda arms: arms.map(order), kind="stable")
        overrun = self._overrun[["arm", "load", "rate_per_s", "saturated"]]
        table = summary.merge(overrun, on=["arm", "load"], how="left")
        places = [(str(row.arm), str(row.load)) for row in table.itertuples()]
        cells = summaries.Cells(self.requests)
        lags = (summaries.measured(cells.select(one, ["phase", "ok", "dispatch_lag_ms"])) for one in places)
        return table.assign(
            dispatch_lag_p99_ms=[summaries.pooled_percentile(one, "dispatch_lag_ms", 99) for one in lags],
            saturated=table["saturated"].fillna(False).astype(bool),
            client_limited=[one in self.evidence.limited for one in places],
        )

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """`comparison.COLUMNS`: the reference against the twin and the arms that do the same work."""
        arms = set(admissible.arms_of(self.evidence.run))
        return self.evidence.compared(arms - self._of_other_work(arms))

    @cached_property
    def costs(self) -> pd.DataFrame:
        """`machine.COST_COLUMNS`: CPU, memory, pings and loop lag, in the summary's order."""
        costs, cells = machine.costs(self._kept, self.evidence.run.requests, self.record), self.summary
        return costs if cells.empty else cells[["arm", "load"]].merge(costs, on=["arm", "load"], how="left")

    @cached_property
    def limits(self) -> pd.DataFrame:
        """`efficiency.COLUMNS`; empty if no model limit was measured."""
        return efficiency.table(self.summary, self.record)

    @cached_property
    def io(self) -> pd.DataFrame:
        """`nominal.COLUMNS`; empty without an open loop."""
        return nominal.table(self.requests)

    @cached_property
    def staircase(self) -> pd.DataFrame:
        """How well the law of T2 holds for inline arms, at c > 1: a lone request waits for no other."""
        rows = self.requests
        inline = set(rows.loc[rows["strategy"] == "inline", "arm"].unique())
        arms = [arm for arm in rows["arm"].cat.categories if arm in inline]
        laws = [staircase.summarise(staircase.table(rows, arm)) for arm in arms]
        laws = [law[law["concurrency"] > 1] for law in laws if len(law)]
        return pd.concat(laws, ignore_index=True) if laws else pd.DataFrame()

    # -- the plan's claims

    @cached_property
    def published(self) -> pd.DataFrame:
        """The printed tables with the measured figures next to them."""
        name = self.plan.get("claims")
        return pd.DataFrame() if name is None else published_tables(claims_file.load(name), self.requests)

    @cached_property
    def checks(self) -> pd.DataFrame:
        """`claims.CHECK_COLUMNS`: a row per check of a claim, with its measured ratio."""
        name = self.plan.get("claims")
        if name is None:
            return pd.DataFrame(columns=claims.CHECK_COLUMNS)
        return claims.evaluate(
            claims_file.load(name),
            self.requests,
            self.trials,
            excluded=self.excluded,
            invalid=self.evidence.invalid | self.evidence.limited,
            noisy=self.withheld,
        )

    @cached_property
    def claims(self) -> pd.DataFrame:
        """`claims.VERDICT_COLUMNS`: a row per claim, with its verdict."""
        if self.checks.empty:
            return pd.DataFrame(columns=claims.VERDICT_COLUMNS)
        return claims.verdicts(self.checks)

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
    def swept(self) -> sweep.Swept | None:
        """The results of a sweep; None if the plan is no sweep."""
        return sweep.find(self._inputs, self.summary, self.choice)

    @cached_property
    def advised(self) -> advice.Advice:
        """The advice: which arm to take, why, and what to run next."""
        return advice.advise(self._inputs, self.choice)

    # -- sentences

    @cached_property
    def finding(self) -> str:
        """One sentence: the arm to take, or else the best figures; then the verdicts on the claims."""
        return _finding(self._contestants, self.advised.headline, self.claims)

    @cached_property
    def machine(self) -> str:
        """How quiet the machine was, by its own readings and by how far the twin differs."""
        twin = session_noise.twin_sentence(self.comparisons)
        readings = machine.sentence(self.trials, self.record, self.evidence.spoilt)
        return f"{readings} {twin}." if twin else readings

    @cached_property
    def warnings(self) -> list[str]:
        """What to know before trusting the figures, the most serious first."""
        return [*cautions.find(self.evidence, self.comparisons, self._overrun)]

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """How the run ended, and which columns are missing or different."""
        return (
            *self.plan.get("notes", ()),
            *_stopped_early(self.record, self.plan),
            *nominal.absence(self.record),
            *machine.counted_processes(self.record),
            *_unsplit(self.requests),
        )

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
        if self.requests.empty:
            return drawn
        rows, io = self.requests, [*_CELL, *_IO]  # a chart copies its good rows
        drawn |= {
            "timeline": lambda: timeline.draw(rows[[*io, *_PARTS, *_TIMES]]),
            "split": lambda: split.draw(rows[[*io, *_PARTS]]),
            "io": lambda: io_distribution.draw(rows[io]),
        }
        if len(self.claims):
            drawn["published"] = partial(published.draw, self.published)
            drawn["claims"] = partial(forest.draw, self.checks)
        return drawn

    def chart(self, name: str) -> Figure:
        """The chart of that name. Raises UsageError that lists the run's charts if there is none."""
        if name not in self.charts:
            hint = f"Charts of this run: {', '.join(self.charts) or 'none'}."
            raise UsageError(f"This run has no chart {name!r}.", stage="report", hint=hint)
        return self.charts[name]()

    # -- shared by several of these

    @cached_property
    def _kept(self) -> pd.DataFrame:
        return self.trials[~self.trials["block"].isin(list(self.excluded))]

    @cached_property
    def _overrun(self) -> pd.DataFrame:
        return saturation.per_cell(self.requests, self._kept)

    @cached_property
    def _inputs(self) -> Inputs:
        summary, facts = self._contestants, self.evidence.facts
        if not summary.empty:
            summary = summary[~summary["arm"].isin(list(self._of_other_work(set(summary["arm"]))))]
        return Inputs(
            tables=Tables(self.requests, summary, self.comparisons, self.costs, self.limits),
            record=self.record,
            reference=facts.reference,
            side=self.evidence.side,
            rules=facts.rules,
            withheld=self.withheld,
            folder=self.folder,
        )

    @cached_property
    def _contestants(self) -> pd.DataFrame:
        """The summary without the twin, and without arms whose I/O is scaled to the model."""
        scaled = [arm["name"] for arm in self.plan.get("arms", []) if arm.get("io_per_model")]
        apart = [self.evidence.facts.twin, *scaled]
        return self.summary if self.summary.empty else self.summary[~self.summary["arm"].isin(apart)]

    def _of_other_work(self, arms: set[str]) -> set[str]:
        """Those of `arms` that do other work than the reference."""
        reference = self.evidence.facts.reference
        return set(same_work.other_work(self.record, reference, arms - {reference}))


def build(run: store.Run, reference: str | None = None) -> Report:
    """The report of `run`, against its plan's reference or another arm.

    Raises UsageError when the run has no such arm.
    """
    return Report(admissible.admit(run) if reference is None else admissible.against(run, reference))


def _finding(summary: pd.DataFrame, headline: str, claims: pd.DataFrame) -> str:
    """The advice's headline, or else the best figures; then the verdicts on the claims."""
    parts = [headline or _best_figures(summary)]
    if len(claims):
        found = claims["verdict"].value_counts()
        kinds = (CONFIRMED, REFUTED, INCONCLUSIVE, NOT_TESTED, WITHHELD)
        tally = ", ".join(f"{found[kind]} {kind}" for kind in kinds if kind in found)
        parts.append(f"Of the article's {len(claims)} claims: {tally}")
    return f"{'. '.join(parts)}."


def _best_figures(summary: pd.DataFrame) -> str:
    """The best figures at the load that decides, if there is no choice."""
    answered = choice.answered_of(summary)
    if answered.empty:
        return "No trial got good answers, so there are no figures"
    load, metric = best_arm.decisive(answered)
    name = "latency_p50_ms" if metric.lower_is_better else THROUGHPUT
    here = answered[answered["load"] == load]
    whole = here[here["failed_trials"] == 0]  # an arm that died early may have only its best trials
    rows = whole if len(whole) else here
    row = rows.sort_values(name, ascending=metric.lower_is_better, kind="stable").iloc[0]
    least, most = ("at least ", "at most ") if row["client_limited"] else ("", "")
    latency = f"At {users(load)}, {row['arm']} answers in {most}{row['latency_p50_ms']:.1f} ms (median)"
    if not row[THROUGHPUT] > 0:
        return latency
    what = "good answers/s" if row["failed"] else "requests/s"
    return f"{latency}, {least}{row[THROUGHPUT]:.0f} {what}"


def _stopped_early(record: Mapping[str, Any], plan: Mapping[str, Any]) -> Iterator[str]:
    """A note if --precision ended the run early."""
    if (block := record.get("stopped_at_block")) is not None:
        goal = plan.get("precision")
        within = "narrow enough" if goal is None else f"within ±{100 * goal:g} %"
        yield f"Stopped after block {block}: every interval was {within}."


def _unsplit(derived: pd.DataFrame) -> Iterator[str]:
    """A note on arms whose server reports no queue and no way back."""
    if arms := summaries.unsplit_arms(derived):
        yield f"{', '.join(arms)}: model is known only as a whole, with the wait for a worker in it."
