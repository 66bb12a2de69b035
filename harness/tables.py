"""A Report as the terminal shows it: rich tables that fit 80 columns and lose nothing when piped."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.report import Report

_COLOURS = {"confirmed": "green", "refuted": "red", "inconclusive": "yellow", "not tested": "dim"}


def render(report: Report) -> Iterator[RenderableType]:
    """The finding, then the tables, the claims, and where the rest lies."""
    yield Text(report.finding, style="bold")
    for warning in report.warnings:
        yield Text(f"Warning: {warning}", style="yellow")
    if len(report.summary):
        yield summary(report.summary)
    if report.published is not None:
        yield published(report.published)
    if len(report.staircase):
        yield Text(f"\n{_law(report.staircase)}")
    if report.evaluated is not None and report.verdicts is not None:
        yield claims(report.verdicts, report.evaluated)
    yield Text(f"\nRows, tables and charts: {report.folder}")


def summary(table: pd.DataFrame) -> Table:
    """One line per arm and load: medians of the whole and of its parts."""
    columns = {
        "c": "concurrency",
        "req/s": "throughput_per_s",
        "latency": "latency_p50_ms",
        "Model": "route_model_p50_ms",
        "queue": "queue_p50_ms",
        "worker": "model_p50_ms",
        "back": "resume_p50_ms",
        "I/O": "io_p50_ms",
        "outs.": "outside_p50_ms",
        "fail": "failed",
    }
    shown = _table("Medians in ms; c: users. Model: queue + worker + way back; outs.: outside")
    shown.add_column("arm", overflow="fold")
    for name in columns:
        shown.add_column(name, justify="right", no_wrap=True)
    last = None
    for row in table.to_dict("records"):
        arm = str(row["arm"])
        shown.add_row("" if arm == last else arm, *(_cell(row[key]) for key in columns.values()))
        last = arm
    return shown


def published(tables: pd.DataFrame) -> Table:
    """T1-T4: what was printed beside what is measured, and Model's parts."""
    shown = _table("The article's tables, in ms. Here: median (p5-p95)")
    shown.add_column("")
    shown.add_column("")
    shown.add_column("printed")
    shown.add_column("here")
    for row in tables.to_dict("records"):
        shown.add_row(Text(str(row["table"]), style="bold"), _where(row), str(row["load_text"]), "")
        shown.add_row("", "Model", str(row["published_model"]), _spread(row, "model"))
        split = " + ".join(_cell(row[f"{part}_p50_ms"]) for part in ("queue", "in_worker", "resume"))
        shown.add_row("", "", "queue + in the worker + way back", split)
        shown.add_row("", "io task", str(row["published_io"]), _spread(row, "io"))
        ratio = _cell(row["model_ratio"], digits=2)
        shown.add_row("", "Model / alone", _cell(row["published_model_ratio"], digits=2), ratio)
        if row["met_at"]:
            shown.add_row("", "", "that ratio is met here", str(row["met_at"]))
    return shown


def claims(verdicts: pd.DataFrame, evaluated: pd.DataFrame) -> Table:
    """Each claim with its verdict, and below it every check with what was measured."""
    standing = "; ".join(verdicts["standing"].unique())
    shown = _table(f"The article's claims ({standing})")
    shown.add_column("")
    shown.add_column("verdict")
    shown.add_column("claim, and what was measured: median (range over blocks)")
    for claim in verdicts.to_dict("records"):
        text = Text.assemble((str(claim["text"]), "bold"), f" Stated: {claim['stated']}.")
        shown.add_row(Text(str(claim["claim"]), style="bold"), _verdict(claim["verdict"]), text)
        for check in evaluated[evaluated["claim"] == claim["claim"]].to_dict("records"):
            shown.add_row("", _beside(check), Padding(Text(_check(check)), (0, 0, 0, 2)))
    return shown


def _table(title: str) -> Table:
    return Table(
        title=f"\n{title}",
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        collapse_padding=True,
    )


def _law(staircase: pd.DataFrame) -> str:
    said = "; ".join(
        f"{row.arm} c = {row.concurrency}: {row.median_error:+.1%}, "
        f"{row.share_within_20pct:.0%} of {row.rows} within 20 %"
        for row in staircase.itertuples()
    )
    return (
        "The law of T2, io = max(nominal, model time of the others meanwhile), per request (median error; "
        f"above 0, as the law leaves out the loop's own work for the others): {said}."
    )


def _where(row: dict[Any, Any]) -> str:
    return f"{row['arm']}, c = {row['concurrency']}"


def _spread(row: dict[Any, Any], key: str) -> str:
    low, middle, high = (_cell(row[f"{key}_p{percent}_ms"]) for percent in (5, 50, 95))
    return f"{middle} ({low}-{high})"


def _check(check: dict[Any, Any]) -> str:
    measured = _cell(check["measured"], digits=2)
    spread = f" ({_cell(check['low'], digits=2)}-{_cell(check['high'], digits=2)})" if check["blocks"] else ""
    printed = "" if math.isnan(check["published"]) else f", article {check['published']:g}"
    note = f" {check['note']}." if check["note"] else ""
    return (
        f"{check['check']}: {measured}{spread}, rule {check['bounds']}{printed}. "
        f"[{check['combination']}; {check['condition']}]{note}"
    )


def _beside(check: dict[Any, Any]) -> Text:
    verdict = _verdict(check["verdict"])
    return verdict if check["decides"] else Text.assemble("(", verdict, ")")


def _verdict(verdict: object) -> Text:
    return Text(str(verdict), style=_COLOURS.get(str(verdict), ""))


def _cell(value: Any, *, digits: int = 1) -> str:
    """A number for people: ints as they are, - for what was not measured."""
    if isinstance(value, int):
        return str(value)
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.{digits}f}"
