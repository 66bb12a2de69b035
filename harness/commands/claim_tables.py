"""The article's claims as the terminal shows them: its tables beside what is measured, and each check."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd
from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from harness.analysis.stats import LEVEL
from harness.commands.screen import plain_table, titled
from harness.numbers import cell, ratio_interval
from harness.report.report import Report

_COLOURS = {
    "confirmed": "green",
    "refuted": "red",
    "inconclusive": "yellow",
    "not tested": "dim",
    "withheld": "yellow",
}


def render(report: Report) -> Iterator[RenderableType]:
    """Nothing where the plan judges no claims; the law of T2 is the article's as well."""
    if report.claims.empty:
        return
    yield published(report.published)
    if len(report.staircase):
        yield Text(f"\n{_law(report.staircase)}")
    yield claims(report.claims, report.checks)


def published(tables: pd.DataFrame) -> RenderableType:
    """T1-T4: what was printed beside what is measured, and Model's parts."""
    shown = plain_table("", "", "printed", "here")
    for row in tables.to_dict("records"):
        where = f"{row['arm']}, c = {row['concurrency']}"
        shown.add_row(Text(str(row["table"]), style="bold"), where, str(row["load_text"]), "")
        shown.add_row("", "Model", str(row["published_model"]), _spread(row, "model"))
        split = " + ".join(cell(row[f"{part}_p50_ms"]) for part in ("queue", "in_worker", "resume"))
        shown.add_row("", "", "queue + in the worker + way back", split)
        shown.add_row("", "io task", str(row["published_io"]), _spread(row, "io"))
        ratio = cell(row["model_ratio"], 2)
        shown.add_row("", "Model / alone", cell(row["published_model_ratio"], 2), ratio)
        if row["met_at"]:
            shown.add_row("", "", "that ratio is met here", str(row["met_at"]))
    return titled("The article's tables, in ms. Here: median (p5-p95)", shown)


def claims(verdicts: pd.DataFrame, checks: pd.DataFrame) -> RenderableType:
    """Each claim with its verdict, and below it every check with what was measured."""
    blocks = checks["blocks"].max()
    title = f"The article's claims; ratio [interval over {blocks} blocks]; (beside the verdict)"
    shown = plain_table("", "verdict", "claim, and what was measured")
    for claim in verdicts.to_dict("records"):
        text = Text.assemble((str(claim["text"]), "bold"), f" Stated: {claim['stated']}.")
        shown.add_row(Text(str(claim["claim"]), style="bold"), _verdict(claim["verdict"]), text)
        for check in checks[checks["claim"] == claim["claim"]].to_dict("records"):
            verdict = _verdict(check["verdict"])
            verdict = verdict if check["decides"] else Text.assemble("(", verdict, ")")
            shown.add_row("", verdict, Padding(Text(_check(check)), (0, 0, 0, 2)))
    return titled(title, shown)


def _law(staircase: pd.DataFrame) -> str:
    said = "; ".join(
        f"{row.arm} c = {row.concurrency:g}: {row.median_error:+.1%}, "
        f"{row.share_within_20pct:.0%} of {row.rows} within 20 %"
        for row in staircase.itertuples()
    )
    return (
        "The law of T2, io = max(nominal, model time of the others meanwhile), per request (median error; "
        f"above 0, as the law leaves out the loop's own work for the others): {said}."
    )


def _spread(row: dict[Any, Any], key: str) -> str:
    low, middle, high = (cell(row[f"{key}_p{percent}_ms"]) for percent in (5, 50, 95))
    return f"{middle} ({low}-{high})"


def _check(check: dict[Any, Any]) -> str:
    measured = ratio_interval(check["measured"], check["low"], check["high"])
    corrected = f" at {100 * check['level']:.1f} %" if check["level"] > LEVEL else ""
    printed = "" if math.isnan(check["published"]) else f", article {check['published']:g}"
    note = f" {check['note']}." if check["note"] else ""
    return (
        f"{check['check']}: {measured}{corrected}, rule {check['bounds']}{printed}. "
        f"[{check['combination']}; {check['condition']}]{note}"
    )


def _verdict(verdict: object) -> Text:
    return Text(str(verdict), style=_COLOURS.get(str(verdict), ""))
