"""A report as files in the run's folder, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.numbers import plain_rows
from harness.report import advice
from harness.results import derived_files
from harness.verdicts import comparison

if TYPE_CHECKING:
    from harness.report.report import Report

CLAIM_MEANINGS = {  # column → what it means; docs/reference/csv.md shows it
    "kind": "claim, check (of a claim), table (a printed figure and ours) or law (of the staircase).",
    "id": "Claim or table, such as C2 or T3.",
    "what": "What it says, or which figure it is.",
    "arm": "Name of the arm.",
    "published": "What the article says.",
    "measured": "Checks: ratio. Tables and law: median.",
    "low": "Checks: lower end of the interval over blocks. Tables: 5th percentile of the requests.",
    "high": "Checks: upper end of the interval. Tables: 95th percentile of the requests.",
    "level": "Confidence level of the interval.",
    "blocks": "Blocks that count.",
    "verdict": "confirmed, refuted, inconclusive, not tested or withheld.",
    "decides": "Checks: whether the verdict of the claim rests on it.",
    "condition": "The load and the arms of the figure.",
    "note": "What else to know about the row.",
}
CLAIM_COLUMNS = list(CLAIM_MEANINGS)


def write(report: Report) -> None:
    """Replace the tables and charts/ in the run's folder: all of them, or raise HarnessError."""
    with derived_files.replacing(report.folder) as new:
        write_into(new, report)


def write_into(folder: Path, report: Report) -> None:
    """Write the tables and charts/ into `folder`.

    Always writes summary.csv, comparisons.csv, costs.csv and advice.txt; limits.csv, io.csv, claims.csv,
    ranking.csv, sweep.csv, sweep_effects.csv, rounds.csv and objectives.csv if the run has them.
    """
    tables = {
        "summary": report.summary,
        "comparisons": report.comparisons[comparison.COLUMNS],
        "costs": report.costs,
    }
    optional = {"limits": report.limits, "io": report.io, "claims": claim_rows(report)}
    tables |= {name: table for name, table in optional.items() if len(table)}
    if report.plan.get("ranking"):
        tables["ranking"] = report.ranking
    if report.swept is not None:
        tables |= {"sweep": report.swept.table, "sweep_effects": report.swept.effects}
    if report.halved is not None:
        tables |= {"rounds": report.halved.rounds, "objectives": report.halved.judged}
    for name, table in tables.items():
        derived_files.write_table(folder, f"{name}.csv", table)
    write_advice(folder, report.advised)
    write_charts(folder, report)


def write_advice(folder: Path, advised: advice.Advice) -> None:
    derived_files.write_text(
        folder, "advice.txt", "".join(f"{line}\n" for line in advice.printed_lines(advised))
    )


def write_charts(folder: Path, report: Report) -> None:
    """Write charts/, drawing each chart just before it is saved."""
    for name, draw in report.charts.items():
        derived_files.write_chart(folder, name, draw())


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain data for `--json`: rows are objects; NaN and infinity become null."""
    sweep = None
    if (swept := report.swept) is not None:
        sweep = {
            "best": list(swept.sentences),
            "load": swept.load,
            "metric": swept.metric.name,
            "settings": plain_rows(swept.table),
            "effects": plain_rows(swept.effects),
        }
    return {
        "run": str(report.folder),
        "finding": report.finding,
        "machine": report.machine,
        "notes": list(report.notes),
        "warnings": report.warnings,
        "excluded_blocks": {str(block): why for block, why in report.excluded.items()},
        "summary": plain_rows(report.summary),
        "comparisons": plain_rows(report.comparisons[comparison.COLUMNS]),
        "costs": plain_rows(report.costs),
        "generators": plain_rows(report.generators),
        "limits": plain_rows(report.limits),
        "io": plain_rows(report.io),
        "claims": plain_rows(claim_rows(report)),
        "ranking": plain_rows(report.ranking),
        "conclusion": report.conclusion,
        "advice": list(report.advised.lines),
        "advised": advice.as_json(report.advised),
        "sweep": sweep,
        "halving": _halving(report),
    }


def _halving(report: Report) -> dict[str, Any] | None:
    """The rounds and the objectives of a choice by halving; None for any other run."""
    if report.halved is None:
        return None
    return {
        "objectives": [str(one) for one in report.halved.objectives],
        "rounds": plain_rows(report.halved.rounds),
        "finalists": plain_rows(report.halved.judged),
    }


# -- claims.csv ----------------------------------------------------------------------------------------


def claim_rows(report: Report) -> pd.DataFrame:
    """claims.csv: verdicts, checks, the printed tables and the law of T2 as rows of one table.

    `CLAIM_COLUMNS`; has no rows if the plan judges no claims.
    """
    claims, checks = report.claims, report.checks
    if claims.empty:
        return pd.DataFrame(columns=CLAIM_COLUMNS)
    claims = claims.rename(columns={"claim": "id", "text": "what", "stated": "published"})
    checks = checks.rename(columns={"claim": "id", "combination": "arm"})
    checks["what"] = checks["check"] + " [" + checks["bounds"] + "]"
    rows = [
        *claims.assign(kind="claim").to_dict("records"),
        *checks.assign(kind="check").to_dict("records"),
        *(line for row in report.published.to_dict("records") for line in _printed_rows(row)),
        *map(law_row, report.staircase.to_dict("records")),
    ]
    return pd.DataFrame(rows, columns=CLAIM_COLUMNS)


def _printed_rows(row: Mapping[Any, Any]) -> list[dict[str, Any]]:
    """Model and I/O as printed and as measured, then the parts of Model, which the article does not give."""
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
        for what, key in (("queue", "queue"), ("worker", "in_worker"), ("way back", "resume"))
    ]
    ratio = {
        **base,
        "what": "Model / the model alone",
        "published": row["published_model_ratio"],
        "measured": row["model_ratio"],
        "note": f"this ratio is reached here: {row['met_at']}" if row["met_at"] else "",
    }
    return [*both, *split, ratio]


def law_row(row: Mapping[Any, Any]) -> dict[str, Any]:
    """How well the law of T2 holds for an arm under one load."""
    return {
        "kind": "law",
        "id": "T2",
        "what": "I/O / max(nominal I/O, worker time of the other requests during it) - 1: median error",
        "arm": row["arm"],
        "measured": row["median_error"],
        "condition": f"c = {row['concurrency']:g}, {row['rows']} requests",
        "note": f"{row['share_within_20pct']:.1%} of the requests are within 20 % of the law",
    }
