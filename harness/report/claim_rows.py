"""claims.csv: verdicts, checks, the printed tables and the law of T2 as rows of one tidy table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

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
    claims, checks = report.claims, report.checks
    if claims.empty:
        return pd.DataFrame(columns=COLUMNS)
    claims = claims.rename(columns={"claim": "id", "text": "what", "stated": "published"})
    checks = checks.rename(columns={"claim": "id", "combination": "arm"})
    checks["what"] = checks["check"] + " [" + checks["bounds"] + "]"
    rows = [
        *claims.assign(kind="claim").to_dict("records"),
        *checks.assign(kind="check").to_dict("records"),
        *(line for row in report.published.to_dict("records") for line in _printed_rows(row)),
        *map(law_row, report.staircase.to_dict("records")),
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _printed_rows(row: Mapping[Any, Any]) -> list[dict[str, Any]]:
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


def law_row(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Of an arm under one load: how well the law of T2 holds."""
    return {
        "kind": "law",
        "id": "T2",
        "what": "io / max(nominal, model time of the others meanwhile) - 1: median error",
        "arm": row["arm"],
        "measured": row["median_error"],
        "condition": f"c = {row['concurrency']:g}, {row['rows']} requests",
        "note": f"{row['share_within_20pct']:.1%} of the requests within 20 % of the law",
    }
