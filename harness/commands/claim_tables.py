"""The article's tables, its law and its claims in the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd
from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from harness.analysis.stats import LEVEL
from harness.commands.screen import by_arm, plain_table, titled
from harness.numbers import cell, ratio_interval
from harness.report.report import Report

_COLOURS = {
    "confirmed": "green",
    "refuted": "red",
    "inconclusive": "yellow",
    "not tested": "dim",
    "withheld": "yellow",
}


def claims(report: Report) -> Iterator[RenderableType]:
    """The article's tables, its law and its claims; nothing if the plan judges no claims."""
    if report.claims.empty:
        return
    yield _published(report.published)
    if len(report.staircase):
        yield _law(report.staircase)
    yield _checks(report.claims, report.checks)


def _published(tables: pd.DataFrame) -> RenderableType:
    """T1-T4: the printed figures next to the measured ones, and the parts of Model."""
    shown = plain_table("", "", "in the article", "here")
    for row in tables.to_dict("records"):
        where = f"{row['arm']}, c = {row['concurrency']}"
        shown.add_row(Text(str(row["table"]), style="bold"), where, str(row["load_text"]), "")
        shown.add_row("", "Model", str(row["published_model"]), _spread(row, "model"))
        split = " + ".join(cell(row[f"{part}_p50_ms"]) for part in ("queue", "in_worker", "resume"))
        shown.add_row("", "", "queue + worker + way back", split)
        shown.add_row("", "io task", str(row["published_io"]), _spread(row, "io"))
        ratio = cell(row["model_ratio"], 2)
        shown.add_row("", "Model / alone", cell(row["published_model_ratio"], 2), ratio)
        if row["met_at"]:
            shown.add_row("", "", "this ratio appears here at:", str(row["met_at"]))
    title = (
        "The article's tables with its own names, in ms; here: median (p5-p95)\n"
        "Model / alone: Model divided by the model time of a lone request"
    )
    return titled(title, shown)


def _checks(verdicts: pd.DataFrame, checks: pd.DataFrame) -> RenderableType:
    """Each claim with its verdict, and below it every check with its measured ratio."""
    blocks = checks["blocks"].max()
    title = (
        f"The article's claims: measured ratio [interval over {blocks} blocks] and the bound\n"
        "A check in brackets is shown for context: it does not decide the claim's verdict"
    )
    shown = plain_table("", "verdict", "claim, and what was measured")
    for claim in verdicts.to_dict("records"):
        text = Text.assemble((str(claim["text"]), "bold"), f" Stated: {claim['stated']}.")
        shown.add_row(Text(str(claim["claim"]), style="bold"), coloured(claim["verdict"]), text)
        for check in checks[checks["claim"] == claim["claim"]].to_dict("records"):
            verdict = coloured(check["verdict"])
            verdict = verdict if check["decides"] else Text.assemble("(", verdict, ")")
            shown.add_row("", verdict, Padding(Text(_check(check)), (0, 0, 0, 2)))
    return titled(title, shown)


def _law(staircase: pd.DataFrame) -> RenderableType:
    title = (
        "The law of T2: I/O = max(nominal I/O, worker time of other requests during it)\n"
        "error: of the median request; above 0 because the law leaves out what else the\n"
        "loop does for the other requests; within 20 %: share of requests this close"
    )
    table = staircase.assign(
        concurrency=staircase["concurrency"].map("{:g}".format),
        median_error=staircase["median_error"].map("{:+.1%}".format),
        share_within_20pct=staircase["share_within_20pct"].map("{:.0%}".format),
    )
    columns = {
        "c": "concurrency",
        "error": "median_error",
        "within 20 %": "share_within_20pct",
        "requests": "rows",
    }
    return by_arm(title, table, columns)


def _spread(row: dict[Any, Any], key: str) -> str:
    low, middle, high = (cell(row[f"{key}_p{percent}_ms"]) for percent in (5, 50, 95))
    return f"{middle} ({low}-{high})"


def _check(check: dict[Any, Any]) -> str:
    measured = ratio_interval(check["measured"], check["low"], check["high"])
    corrected = f" ({100 * check['level']:.1f} % interval)" if check["level"] > LEVEL else ""
    printed = "" if math.isnan(check["published"]) else f"; article: {check['published']:g}"
    note = f" Note: {check['note']}." if check["note"] else ""
    return (
        f"{check['check']}: {measured}{corrected}; bound: {check['bounds']}{printed} "
        f"({check['combination']}; {check['condition']}).{note}"
    )


def coloured(verdict: object) -> Text:
    """The verdict on a claim in its colour."""
    return Text(str(verdict), style=_COLOURS.get(str(verdict), ""))
