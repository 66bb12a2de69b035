"""A run → everything that is shown of it. All tables, files and charts come from one `Report`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis import efficiency, machine, nominal, saturation, staircase, summaries
from harness.report import advice, choice, ranking, sweep
from harness.report.charts import charts, forest, sweep_chart
from harness.results import store, written
from harness.verdicts import admissible, best_arm, claims, claims_file, comparison, same_work, session_noise
from harness.verdicts.admissible import Evidence
from harness.verdicts.claims import CONFIRMED, INCONCLUSIVE, NOT_TESTED, REFUTED, WITHHELD
from harness.verdicts.published import published_tables
from harness.wire.records import FAILED, MEASURE, OK, PILOT_BLOCK, in_words

NO_ADVICE = advice.Advice(())

CHARTED_CELL = ["arm", "load", "concurrency", "phase", "ok"]
CHARTED_IO = ["io_ms", "io_nominal_ms"]
CHARTED = [
    *CHARTED_CELL,
    *CHARTED_IO,
    "trial",
    "due_ms",
    "sent_ms",
    "done_ms",
    "entered_ms",
    "queue_ms",
    "model_ms",
    "resume_ms",
    "outside_ms",
    "service_ms",
    summaries.LATENCY,
]

CLAIM_ROWS = [
    "kind",  # claim, check (of a claim), table (as printed, beside ours) or law (of the staircase)
    "id",
    "what",
    "arm",
    "published",
    "measured",  # checks: ratio; tables and law: median
    "low",  # checks: interval over blocks at `level`; tables: p5 and p95 of the requests; law: see `what`
    "high",
    "level",
    "blocks",
    "verdict",
    "decides",
    "condition",
    "note",
]


@dataclasses.dataclass(frozen=True)
class Report:
    """What a run says. `published`, `evaluated` and `verdicts` are None for a plan without claims,
    and so is `ranking` for a plan that asks for none.

    `trials` are all of the run; every figure is of the blocks that are not `excluded`, and without pings.
    """

    folder: Path
    finding: str
    machine: str  # how good it was, in one line
    warnings: list[str]
    record: dict[str, Any]
    trials: pd.DataFrame
    excluded: dict[int, str]  # block → why it does not count
    derived: pd.DataFrame
    summary: pd.DataFrame
    comparisons: pd.DataFrame  # comparison.COLUMNS, and LOST
    costs: pd.DataFrame  # machine.COST_COLUMNS
    limits: pd.DataFrame  # efficiency.COLUMNS; without rows where no limit was measured
    io: pd.DataFrame  # nominal.COLUMNS; without rows where there was no open load
    staircase: pd.DataFrame
    notes: tuple[str, ...] = ()  # how the run came to its end, and what a column is not
    published: pd.DataFrame | None = None
    evaluated: pd.DataFrame | None = None
    verdicts: pd.DataFrame | None = None
    ranking: pd.DataFrame | None = None  # ranking.COLUMNS
    conclusion: str = ""  # the arm that is taken, as the ranking has it
    swept: sweep.Swept | None = None  # of a plan that is a sweep
    said: advice.Advice = NO_ADVICE  # what to do

    def claim_rows(self) -> pd.DataFrame:
        """Claims, their checks, the printed tables and the staircase law in one tidy table (`CLAIM_ROWS`)."""
        if self.published is None or self.evaluated is None or self.verdicts is None:
            return pd.DataFrame(columns=CLAIM_ROWS)
        rows = [
            *_verdict_rows(self.verdicts),
            *_check_rows(self.evaluated),
            *_printed_rows(self.published),
            *_law_rows(self.staircase),
        ]
        return pd.DataFrame(rows, columns=CLAIM_ROWS)


def open_folder(folder: Path | str) -> Report:
    """Read a run's folder and compute everything that is shown of it: the one call for a notebook.

    Raises HarnessError when the folder is no run, or a damaged one.
    """
    return build(store.read(Path(folder)))


def build(run: store.Run, reference: str | None = None) -> Report:
    """Compute everything that is shown of `run`, against its plan's reference or another arm.

    Writes nothing. Raises UsageError when the run has no such arm.
    """
    found = admissible.admit(run) if reference is None else admissible.against(run, reference)
    run = found.run
    kept = run.trials[~run.trials["block"].isin(list(found.excluded))]
    comparisons = _compare(found)
    overrun = saturation.per_cell(found.derived, kept)
    summary = _with_marks(_summarise(found, kept), found, overrun)
    report = Report(
        folder=run.folder,
        finding="",
        machine=_machine(found, comparisons),
        warnings=[*_warnings(found, comparisons, overrun)],
        record=run.record,
        trials=run.trials,
        excluded=found.excluded,
        derived=found.derived,
        summary=summary,
        comparisons=comparisons,
        costs=_as_in(summary, machine.costs(kept, run.requests, run.record)),
        limits=efficiency.table(summary, run.record),
        io=nominal.table(found.derived),
        staircase=_staircase(found.derived),
        notes=(
            *_notes(run.record),
            *nominal.absence(run.record),
            *machine.whose_cpu(run.record),
            *_unsplit(found.derived),
        ),
    )
    name = (run.record.get("plan") or {}).get("claims")
    if name is not None:
        report = _judge(report, claims_file.load(name), found)
    inputs = _inputs(report, found)
    chosen = choice.choose(inputs)
    said = advice.advise(inputs, chosen)
    return dataclasses.replace(
        report,
        **_ranked(inputs, chosen),
        finding=find(_contestants(report.summary, found), said, report.verdicts),
        swept=_sweep(report, inputs, chosen),
        said=said,
    )


def _of_the_same_work(report: Report, found: Evidence) -> ranking.Tables:
    """What was found of the arms that do the reference's work, without the twin."""
    reference = found.facts.reference
    summary = _contestants(report.summary, found)
    if not summary.empty:
        apart = same_work.other_work(found.run.record, reference, set(summary["arm"]) - {reference})
        summary = summary[~summary["arm"].isin(list(apart))]
    return ranking.Tables(report.derived, summary, report.comparisons, report.costs, report.limits)


def _ranked(found: choice.Inputs, chosen: choice.Choice) -> dict[str, Any]:
    """The arms in order and the one that is taken in words, if the plan asks for it."""
    if not (found.record.get("plan") or {}).get("ranking"):
        return {}
    ranked = ranking.rank(found.tables, found.record, found.reference, chosen.load)
    ranked = ranking.marked(ranked, found.side.invalid, found.side.limited)
    return {"ranking": ranked, "conclusion": ranking.sentence(ranked, found.reference, chosen.take)}


def _inputs(report: Report, found: Evidence) -> choice.Inputs:
    return choice.Inputs(
        tables=_of_the_same_work(report, found),
        record=report.record,
        reference=found.facts.reference,
        side=found.side,
        rules=found.facts.rules,
        withheld=found.withheld or session_noise.noisy(report.comparisons),
    )


def _sweep(report: Report, found: choice.Inputs, chosen: choice.Choice) -> sweep.Swept | None:
    """What the sweep found, if the plan is one."""
    return sweep.find(
        sweep.Inputs(
            side=found.side,
            tables=found.tables,
            summary=report.summary,
            record=found.record,
            reference=found.reference,
            rules=found.rules,
            withheld=found.withheld,
        ),
        chosen,
    )


def _compare(found: Evidence) -> pd.DataFrame:
    """Every arm that does the reference's work against it, and the twin."""
    reference, twin = found.facts.reference, found.facts.twin
    arms = set(admissible.arms_of(found.run))
    apart = same_work.other_work(found.run.record, reference, arms - {reference})
    return comparison.arms(
        found.side,
        reference=reference,
        twin=twin,
        rules=found.facts.rules,
        only=arms - apart.keys(),
        withheld=found.withheld,
    )


def _machine(found: Evidence, comparisons: pd.DataFrame) -> str:
    """How quiet it was by its own readings, and by what the same code differed from itself."""
    twin = session_noise.twin_sentence(comparisons)
    said = machine.sentence(found.run.trials, found.run.record, found.spoilt)
    return f"{said} {twin}." if twin else said


def _notes(record: Mapping[str, Any]) -> tuple[str, ...]:
    """What its plan notes, and that the run stopped early, as --precision lets it."""
    plan, block = record.get("plan") or {}, record.get("stopped_at_block")
    said = tuple(plan.get("notes", ()))
    if block is None:
        return said
    goal = plan.get("precision")
    within = "narrow enough" if goal is None else f"within ±{100 * goal:g} %"
    return (*said, f"Stopped after block {block}: every interval was {within}.")


def _unsplit(derived: pd.DataFrame) -> Iterator[str]:
    """That a time is not what its column says."""
    arms = summaries.unsplit_arms(derived)
    if arms:
        yield f"Of {', '.join(arms)} only Model as a whole is told: the wait for a worker is in it."


def write(report: Report) -> None:
    """Write the tables and charts/ into the run's folder, replacing older ones: all, or HarnessError."""
    with written.replacing(report.folder) as new:
        write_into(new, report)


def write_into(folder: Path, report: Report) -> None:
    """Write the tables and charts/ into `folder`.

    summary.csv, comparisons.csv, costs.csv; limits.csv, io.csv, claims.csv, ranking.csv, sweep.csv and
    sweep_effects.csv where there are any; advice.txt.
    """
    written.write_text(folder, "advice.txt", "".join(f"{line}\n" for line in advice.told(report.said)))
    written.write_table(folder, "summary.csv", report.summary)
    written.write_table(folder, "comparisons.csv", report.comparisons[comparison.COLUMNS])
    written.write_table(folder, "costs.csv", report.costs)
    if len(report.limits):
        written.write_table(folder, "limits.csv", report.limits)
    if len(report.io):
        written.write_table(folder, "io.csv", report.io)
    if report.published is not None:
        written.write_table(folder, "claims.csv", report.claim_rows())
    if report.ranking is not None:
        written.write_table(folder, "ranking.csv", report.ranking)
    if report.swept is not None:
        written.write_table(folder, "sweep.csv", report.swept.table)
        written.write_table(folder, "sweep_effects.csv", report.swept.effects)
        written.write_chart(folder, "sweep", sweep_chart.chart(report.swept))
    if report.derived.empty:
        return
    drawn = report.derived[CHARTED]  # each chart copies its good rows
    written.write_chart(folder, "timeline", charts.timeline(drawn))
    parts = drawn.drop(columns=["trial", "due_ms", "sent_ms", "done_ms", summaries.LATENCY])
    written.write_chart(folder, "split", charts.split(parts))
    written.write_chart(folder, "io", charts.io_distribution(drawn[[*CHARTED_CELL, *CHARTED_IO]]))
    if report.published is not None and report.evaluated is not None:
        written.write_chart(folder, "published", charts.published(report.published))
        written.write_chart(folder, "claims", forest.forest(report.evaluated))


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain data for `--json`: rows are objects; NaN and infinity, no JSON, are null."""
    return {
        "run": str(report.folder),
        "finding": report.finding,
        "machine": report.machine,
        "notes": list(report.notes),
        "warnings": report.warnings,
        "excluded_blocks": {str(block): why for block, why in report.excluded.items()},
        "summary": _plain(report.summary),
        "comparisons": _plain(report.comparisons[comparison.COLUMNS]),
        "costs": _plain(report.costs),
        "limits": _plain(report.limits),
        "io": _plain(report.io),
        "claims": _plain(report.claim_rows()),
        "ranking": _plain(pd.DataFrame() if report.ranking is None else report.ranking),
        "conclusion": report.conclusion,
        "advice": list(report.said.lines),
        "advised": advice.as_json(report.said),
        "sweep": None if report.swept is None else _swept_as_json(report.swept),
    }


def _swept_as_json(swept: sweep.Swept) -> dict[str, Any]:
    return {
        "best": list(swept.sentences),
        "load": swept.load,
        "metric": swept.metric.name,
        "settings": _plain(swept.table),
        "effects": _plain(swept.effects),
    }


def _plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {str(name): _plain_value(value) for name, value in row.items()} for row in table.to_dict("records")
    ]


def _plain_value(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, str) else value  # an enum's member is its word


# -- the finding ---------------------------------------------------------------------------------------


def find(summary: pd.DataFrame, said: advice.Advice, verdicts: pd.DataFrame | None = None) -> str:
    """The finding in one sentence: which arm to take, or else what was seen; then the claims."""
    parts = [said.headline or _seen(summary)]
    if verdicts is not None:
        parts.append(f"of the article's {len(verdicts)} claims, {_tally(verdicts)}")
    return f"{'; '.join(parts)}."


def _seen(summary: pd.DataFrame) -> str:
    """The best figures at the load that decides, where no arm is taken."""
    answered = choice.answered_of(summary)
    if answered.empty:
        return "No trial got good answers, so there is nothing to compare"
    load, metric = best_arm.decisive(answered)
    name = "latency_p50_ms" if metric.lower_is_better else summaries.THROUGHPUT
    here = answered[answered["load"] == load]
    whole = here[here["failed_trials"] == 0]  # an arm that died early has only its best rows to show
    rows = whole if len(whole) else here
    row = rows.sort_values(name, ascending=metric.lower_is_better, kind="stable").iloc[0]
    least, most = ("at least ", "at most ") if row["client_limited"] else ("", "")
    said = f"At {load_words(row)}, {row['arm']} answers in {most}{row['latency_p50_ms']:.1f} ms (median)"
    if not row[summaries.THROUGHPUT] > 0:
        return said
    what = "good answers/s" if row["failed"] else "requests/s"
    return f"{said}, {least}{row[summaries.THROUGHPUT]:.0f} {what}"


def load_words(row: Mapping[Any, Any] | pd.Series[Any]) -> str:
    """A row's load for people: the users of a closed loop, or else the law."""
    return str(row["load"]) if math.isnan(row["concurrency"]) else f"c = {row['concurrency']:.0f}"


def _tally(verdicts: pd.DataFrame) -> str:
    found = verdicts["verdict"].value_counts()
    kinds = (CONFIRMED, REFUTED, INCONCLUSIVE, NOT_TESTED, WITHHELD)
    return ", ".join(f"{found[kind]} {kind}" for kind in kinds if kind in found)


def _judge(report: Report, published: claims_file.Claims, found: Evidence) -> Report:
    evaluated = claims.evaluate(
        published,
        report.derived,
        report.trials,
        excluded=found.excluded,
        invalid=found.invalid | found.limited,
        noisy=found.withheld or session_noise.noisy(report.comparisons),
    )
    return dataclasses.replace(
        report,
        published=published_tables(published, report.derived),
        evaluated=evaluated,
        verdicts=claims.verdicts(evaluated),
    )


# -- the rows ------------------------------------------------------------------------------------------


def _contestants(summary: pd.DataFrame, found: Evidence) -> pd.DataFrame:
    """Without the twin, which is the reference again, and arms whose I/O is scaled: they do other work."""
    if summary.empty:
        return summary
    planned = (found.run.record.get("plan") or {}).get("arms", [])
    apart = [found.facts.twin, *(arm["name"] for arm in planned if arm.get("io_per_model"))]
    return summary[~summary["arm"].isin(apart)]


def _summarise(found: Evidence, kept: pd.DataFrame) -> pd.DataFrame:
    return _in_plan_order(summaries.summarise(found.derived, kept), found.run)


def _with_marks(summary: pd.DataFrame, found: Evidence, overrun: pd.DataFrame) -> pd.DataFrame:
    """Adds what a figure has to be read with: rate_per_s, dispatch_lag_p99_ms, saturated, client_limited."""
    if summary.empty:
        return summary
    cells = summaries.Cells(found.derived)
    lags = []
    for row in summary.itertuples():
        rows = summaries.measured(cells.select((row.arm, row.load), ["phase", "ok", "dispatch_lag_ms"]))
        lags.append(summaries.pooled_percentile(rows, "dispatch_lag_ms", 99))
    table = summary.merge(overrun[["arm", "load", "rate_per_s", "saturated"]], on=["arm", "load"], how="left")
    limited = [(str(row.arm), str(row.load)) in found.limited for row in table.itertuples()]
    return table.assign(
        dispatch_lag_p99_ms=lags,
        saturated=table["saturated"].fillna(False).astype(bool),
        client_limited=limited,
    )


def _in_plan_order(summary: pd.DataFrame, run: store.Run) -> pd.DataFrame:
    place = {arm: number for number, arm in enumerate(admissible.arms_of(run))}
    if summary.empty:
        return summary
    return summary.sort_values("arm", key=lambda arms: arms.map(place), kind="stable", ignore_index=True)


def _as_in(summary: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """Costs in the summary's order."""
    return costs if summary.empty else summary[["arm", "load"]].merge(costs, on=["arm", "load"], how="left")


def _staircase(derived: pd.DataFrame) -> pd.DataFrame:
    """The law of T2 for the arms that run the model on the loop; alone there are no others to wait for."""
    inline = set(derived.loc[derived["strategy"] == "inline", "arm"].unique())
    arms = [arm for arm in derived["arm"].cat.categories if arm in inline]
    laws = [staircase.summarise(staircase.table(derived, arm)) for arm in arms]
    laws = [law[law["concurrency"] > 1] for law in laws if len(law)]
    return pd.concat(laws, ignore_index=True) if laws else pd.DataFrame()


# -- the warnings --------------------------------------------------------------------------------------


def _warnings(found: Evidence, comparisons: pd.DataFrame, overrun: pd.DataFrame) -> Iterator[str]:
    """What a reader has to know before believing the figures; the gravest first."""
    run = found.run
    noisy = found.withheld or session_noise.noisy(comparisons)
    if noisy:
        yield noisy
    yield from run.warnings
    yield from _failures(run)
    if found.invalid:
        told = [f"{arm} at {load}, as {why}" for (arm, load), why in found.invalid.items()]
        yield f"Invalid: {admissible.abridged(told)}."
    if found.limited:
        told = [f"{arm} at {load}, as {why}" for (arm, load), why in found.limited.items()]
        limited = admissible.abridged(told)
        yield f"Limited by the client: {limited}. Such figures are bounds: more is possible."
    yield from _exclusions(found)
    saturated = list(saturation.warnings(overrun))
    yield from saturated[: admissible.TOLD]
    if saturated[admissible.TOLD :]:
        more = len(saturated) - admissible.TOLD
        yield f"{more} more arms and open loads are saturated, marked * in the table."
    if doubt := session_noise.twin_doubt(comparisons, found.facts.twin):
        yield doubt
    yield from machine.late_generator(run.record)
    yield from machine.idle_offenders(run.record)
    yield from _drifts(comparisons)


def _exclusions(found: Evidence) -> Iterator[str]:
    if found.excluded:
        of = f"{len(found.excluded)} of {len(admissible.blocks_of(found.run))} blocks"
        why = "as interrupted or by the plan's criteria" if found.interrupted else "by the plan's criteria"
        yield f"{of} are left out {why} ({admissible.each_block(found.excluded)})."


def _drifts(comparisons: pd.DataFrame) -> Iterator[str]:
    primary = comparisons[comparisons["primary"].astype(bool)]
    drifting = primary[primary["drifts"].astype(bool)]
    if len(drifting):
        where = admissible.abridged([f"{row['arm']} at {row['load']}" for row in drifting.to_dict("records")])
        yield (
            f"In {len(drifting)} of {len(primary)} comparisons of latency, neighbouring blocks resemble each "
            f"other, so the interval is too narrow: {where}."
        )


def _failures(run: store.Run) -> Iterator[str]:
    trials = run.trials[run.trials["block"] > PILOT_BLOCK]
    bad = trials[trials["state"] != OK]
    for (arm, state), rows in bad.groupby(["arm", "state"], sort=False, observed=True):
        what = "failed" if state == FAILED else f"are {state}"
        yield f"{len(rows)} of {(trials['arm'] == arm).sum()} trials of {arm} {what}: {rows['error'].iloc[0]}"
    failed = int(trials["failed"].sum())
    if failed:
        commonest = str(run.requests.loc[_bad(run.requests), "error"].mode().iloc[0])
        yield (
            f"{failed} of {int(trials['measured'].sum())} measured requests got no good answer, "
            f"most often: {in_words(commonest, run.record.get('bad_answers') or {})}"
        )
    yield from (run.record.get("downstream") or {}).get("died", ())
    if run.record.get("state") not in ("finished", None):
        yield f"The run did not finish (it is marked {run.record['state']})."


def _bad(requests: pd.DataFrame) -> pd.Series[bool]:
    return (requests["phase"] == MEASURE) & (requests["block"] > PILOT_BLOCK) & (requests["error"] != "")


# -- the claims as rows ---------------------------------------------------------------------------------


def _verdict_rows(verdicts: pd.DataFrame) -> list[dict[str, object]]:
    return [
        {
            "kind": "claim",
            "id": row["claim"],
            "what": row["text"],
            "published": row["stated"],
            "verdict": row["verdict"],
            "condition": row["condition"],
            "note": row["note"],
        }
        for row in verdicts.to_dict("records")
    ]


def _check_rows(evaluated: pd.DataFrame) -> list[dict[str, object]]:
    return [
        {
            **{name: row[name] for name in CLAIM_ROWS if name in row},
            "kind": "check",
            "id": row["claim"],
            "what": f"{row['check']} [{row['bounds']}]",
            "arm": row["combination"],
        }
        for row in evaluated.to_dict("records")
    ]


def _printed_rows(published: pd.DataFrame) -> list[dict[str, object]]:
    return [line for row in published.to_dict("records") for line in _printed_lines(row)]


def _printed_lines(row: dict[object, object]) -> list[dict[str, object]]:
    """Model and I/O as printed and as here, then the split of Model that the article could not show."""
    base = {"kind": "table", "id": row["table"], "arm": row["arm"], "condition": f"c = {row['concurrency']}"}
    both = [
        {
            **base,
            "what": what,
            "published": row[f"published_{key}"],
            "measured": row[f"{key}_p50_ms"],
            "low": row[f"{key}_p5_ms"],
            "high": row[f"{key}_p95_ms"],
        }
        for what, key in (("Model as the route sees it, ms", "model"), ("I/O, ms", "io"))
    ]
    split = [
        {**base, "what": f"… of Model: {what}, ms", "measured": row[f"{key}_p50_ms"]}
        for what, key in (("queue", "queue"), ("in the worker", "in_worker"), ("way back", "resume"))
    ]
    ratio = {
        **base,
        "what": "Model / the model alone",
        "published": row["published_model_ratio"],
        "measured": row["model_ratio"],
        "note": f"the printed ratio is met here: {row['met_at']}" if row["met_at"] else "",
    }
    return [*both, *split, ratio]


def _law_rows(staircase: pd.DataFrame) -> list[dict[str, object]]:
    return [
        {
            "kind": "law",
            "id": "T2",
            "what": "io / max(nominal, model time of the others meanwhile) - 1: median error",
            "arm": row["arm"],
            "measured": row["median_error"],
            "condition": f"c = {row['concurrency']:g}, {row['rows']} requests",
            "note": f"{row['share_within_20pct']:.1%} of the requests within 20 % of the law",
        }
        for row in staircase.to_dict("records")
    ]
