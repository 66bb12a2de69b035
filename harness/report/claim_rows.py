"""claims.csv: verdicts, checks, the printed tables and the law of T2 as rows of one tidy table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from harness.report.report import Report

COLUMNS = [
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


def table(report: Report) -> pd.DataFrame:
    """`COLUMNS`; without rows where the plan judges no claims."""
    rows = [
        *_verdict_rows(report.claims),
        *_check_rows(report.checks),
        *_printed_rows(report.published),
        *(law_rows(report.staircase) if len(report.claims) else []),
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _verdict_rows(claims: pd.DataFrame) -> list[dict[str, object]]:
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
        for row in claims.to_dict("records")
    ]


def _check_rows(checks: pd.DataFrame) -> list[dict[str, object]]:
    return [
        {
            **{name: row[name] for name in COLUMNS if name in row},
            "kind": "check",
            "id": row["claim"],
            "what": f"{row['check']} [{row['bounds']}]",
            "arm": row["combination"],
        }
        for row in checks.to_dict("records")
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


def law_rows(staircase: pd.DataFrame) -> list[dict[str, object]]:
    """Of the law of T2."""
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
