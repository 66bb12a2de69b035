"""A run → everything that is shown of it. All tables, files and charts come from one `Report`."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pandas as pd

from harness import analysis, charts, claims, store
from harness.claims import CONFIRMED, INCONCLUSIVE, NOT_TESTED, REFUTED
from harness.records import MEASURE, PILOT_BLOCK

PROVISIONAL = "provisional, no interval"
STALLED = 1.5  # I/O so many times as long as alone is worth a word in the finding

CLAIM_ROWS = [
    "kind",  # claim, check (of a claim), table (as printed, beside ours) or law (of the staircase)
    "id",
    "what",
    "arm",
    "published",
    "measured",  # median
    "low",  # checks: range over blocks; tables: p5 and p95 of the requests; law: see `what`
    "high",
    "blocks",
    "share_of_blocks",
    "verdict",
    "decides",
    "condition",
    "note",
]


@dataclasses.dataclass(frozen=True)
class Report:
    """What a run says. `published`, `evaluated` and `verdicts` are None for a plan without claims."""

    folder: Path
    finding: str
    warnings: list[str]
    derived: pd.DataFrame
    summary: pd.DataFrame
    staircase: pd.DataFrame
    published: pd.DataFrame | None = None
    evaluated: pd.DataFrame | None = None
    verdicts: pd.DataFrame | None = None

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


def of(folder: Path | str) -> Report:
    """Read a run's folder and compute everything that is shown of it: the one call for a notebook.

    Raises HarnessError when the folder is no run, or a damaged one.
    """
    return build(store.read(Path(folder)))


def build(run: store.Run) -> Report:
    """Compute everything that is shown of `run`; writes nothing."""
    derived = analysis.derive(run.requests, run.trials)
    derived["arm"] = pd.Categorical(derived["arm"], categories=_arms(run), ordered=True)
    summary = _in_plan_order(analysis.summarise(derived, run.trials), run)
    report = Report(
        folder=run.folder,
        finding="",
        warnings=[*run.warnings, *_failures(run)],
        derived=derived,
        summary=summary,
        staircase=_staircase(derived),
    )
    name = (run.record.get("plan") or {}).get("claims")
    if name is not None:
        report = _judge(report, claims.load(name), run.trials)
    return dataclasses.replace(report, finding=find(_comparable(summary, run), report.verdicts))


def write(report: Report) -> None:
    """Write summary.csv, claims.csv and charts/ into the run's folder, replacing older ones."""
    store.write_table(report.folder, "summary.csv", report.summary)
    if report.published is not None:
        store.write_table(report.folder, "claims.csv", report.claim_rows())
    if report.derived.empty:
        return
    store.write_chart(report.folder, "timeline", charts.timeline(report.derived))
    store.write_chart(report.folder, "split", charts.split(report.derived))
    store.write_chart(report.folder, "io", charts.io_distribution(report.derived))
    if report.published is not None:
        store.write_chart(report.folder, "published", charts.published(report.published))


def find(summary: pd.DataFrame, verdicts: pd.DataFrame | None = None) -> str:
    """The finding in one sentence: who answers soonest under the highest load, by how much; the verdicts."""
    if summary.empty or not (summary["latency_p50_ms"] < math.inf).any():
        return "No trial got good answers, so there is nothing to compare."
    whole = summary[summary["failed_trials"] == 0]  # an arm that died early has only its best rows to show
    answered = whole if (whole["latency_p50_ms"] < math.inf).any() else summary
    answered = answered[answered["latency_p50_ms"] < math.inf]
    top = answered[answered["concurrency"] == answered["concurrency"].max()].sort_values("latency_p50_ms")
    best, worst = top.iloc[0], top.iloc[-1]
    sentence = (
        f"At c = {best['concurrency']}, {best['arm']} answers in {best['latency_p50_ms']:.1f} ms (median), "
        f"{best['throughput_per_s']:.0f} requests/s"
    )
    sentence += _stall(answered, best)
    if len(top) > 1:
        times = worst["latency_p50_ms"] / best["latency_p50_ms"]
        sentence += f"; the slowest, {worst['arm']}, takes {times:.2f} times as long"
    if verdicts is not None:
        sentence += f"; of the article's {len(verdicts)} claims, {_tally(verdicts)}"
    return f"{sentence} ({PROVISIONAL})."


def _stall(summary: pd.DataFrame, best: pd.Series[Any]) -> str:
    """The price of being first, where there is one: an event loop that keeps everything else waiting."""
    lone = summary[(summary["arm"] == best["arm"]) & (summary["concurrency"] == 1)]["io_p50_ms"]
    if lone.empty or not best["io_p50_ms"] >= STALLED * lone.iloc[0]:
        return ""
    return f", but its I/O takes {best['io_p50_ms']:.1f} ms instead of {lone.iloc[0]:.1f}"


def _tally(verdicts: pd.DataFrame) -> str:
    found = verdicts["verdict"].value_counts()
    kinds = (CONFIRMED, REFUTED, INCONCLUSIVE, NOT_TESTED)
    return ", ".join(f"{found[kind]} {kind}" for kind in kinds if kind in found)


def _judge(report: Report, published: claims.Claims, trials: pd.DataFrame) -> Report:
    evaluated = claims.evaluate(published, report.derived, trials)
    return dataclasses.replace(
        report,
        published=claims.published_tables(published, report.derived),
        evaluated=evaluated,
        verdicts=claims.verdicts(evaluated),
    )


def _arms(run: store.Run) -> list[str]:
    """In the plan's order; a run of `execbench load` has no plan."""
    planned = [arm["name"] for arm in (run.record.get("plan") or {}).get("arms", [])]
    return list(dict.fromkeys([*planned, *run.trials["arm"]]))


def _comparable(summary: pd.DataFrame, run: store.Run) -> pd.DataFrame:
    """Without the arms whose I/O is scaled to the model: they do other work."""
    scaled = [arm["name"] for arm in (run.record.get("plan") or {}).get("arms", []) if arm["io_per_model"]]
    return summary if summary.empty else summary[~summary["arm"].isin(scaled)]


def _in_plan_order(summary: pd.DataFrame, run: store.Run) -> pd.DataFrame:
    place = {arm: number for number, arm in enumerate(_arms(run))}
    if summary.empty:
        return summary
    return summary.sort_values("arm", key=lambda arms: arms.map(place), kind="stable", ignore_index=True)


def _staircase(derived: pd.DataFrame) -> pd.DataFrame:
    """The law of T2 for the arms that run the model on the loop; alone there are no others to wait for."""
    inline = derived.loc[derived["strategy"] == "inline", "arm"]
    arms = [arm for arm in derived["arm"].cat.categories if arm in set(inline)]
    laws = [analysis.staircase_summary(analysis.staircase(derived, arm)) for arm in arms]
    laws = [law[law["concurrency"] > 1] for law in laws if len(law)]
    return pd.concat(laws, ignore_index=True) if laws else pd.DataFrame()


def _failures(run: store.Run) -> list[str]:
    trials = run.trials[run.trials["block"] > PILOT_BLOCK]
    warnings = [
        f"{len(failed)} of {(trials['arm'] == arm).sum()} trials of {arm} failed: {failed['error'].iloc[0]}"
        for arm, failed in trials[trials["state"] != "ok"].groupby("arm", sort=False)
    ]
    failed = int(trials["failed"].sum())
    if failed:
        commonest = run.requests.loc[_bad(run.requests), "error"].mode().iloc[0]
        warnings.append(
            f"{failed} of {int(trials['measured'].sum())} measured requests got no good answer, "
            f"most often: {commonest}"
        )
    if run.record.get("state") not in ("finished", None):
        warnings.append(f"The run did not finish (it is marked {run.record['state']}).")
    return warnings


def _bad(requests: pd.DataFrame) -> pd.Series[bool]:
    return (requests["phase"] == MEASURE) & (requests["block"] > PILOT_BLOCK) & (requests["error"] != "")


def _verdict_rows(verdicts: pd.DataFrame) -> list[dict[str, object]]:
    return [
        {
            "kind": "claim",
            "id": row["claim"],
            "what": row["text"],
            "published": row["stated"],
            "verdict": row["verdict"],
            "condition": row["condition"],
            "note": "; ".join(filter(None, [row["note"], row["standing"]])),
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
            "condition": f"c = {row['concurrency']}, {row['rows']} requests",
            "note": f"{row['share_within_20pct']:.1%} of the requests within 20 % of the law",
        }
        for row in staircase.to_dict("records")
    ]
