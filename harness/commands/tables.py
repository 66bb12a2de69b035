"""A Report as the terminal shows it: rich tables that fit 80 columns and lose nothing when piped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Column
from rich.text import Text

from harness.analysis import nominal
from harness.analysis.stats import LEVEL
from harness.analysis.summaries import ANSWERED, THROUGHPUT
from harness.commands import ranking_tables
from harness.commands.screen import folding, plain_table, right, titled
from harness.numbers import cell, or_missing, ratio_interval, share, users
from harness.report.report import Report
from harness.system.printable import one_line


def render(report: Report) -> Iterator[RenderableType]:
    """The finding, how good the machine was, then the tables, the claims, and what to do."""
    yield from opening(report.finding, report.machine, report.notes, report.warnings)
    yield from summaries(report.summary)
    if len(report.comparisons):
        yield comparisons(report.comparisons)
    if report.costs[["cpu_ms_per_request", "server_lag_p99_ms", "ping_p50_ms"]].notna().any(axis=None):
        yield costs(report.costs)
    if len(report.limits):
        yield limits(report.limits)
    yield from told_apart(report.summary)
    if said := nominal.sentence(report.io):
        yield Text(f"\n{said}")
    yield from _claims(report)
    yield from ranking_tables.ranking(report)
    if report.swept is not None:
        yield from ranking_tables.swept(report.swept)
    yield from ranking_tables.advised(report.said)


def opening(
    finding: str, machine: str, notes: Iterable[str], warnings: Iterable[str]
) -> Iterator[RenderableType]:
    """What was found, and what a reader has to know before believing it."""
    yield Text(one_line(finding), style="bold")
    yield from (Text(one_line(said)) for said in (machine, *notes))
    yield from (Text(one_line(f"Warning: {warning}"), style="yellow") for warning in warnings)


# -- what was measured ---------------------------------------------------------------------------------


def summaries(table: pd.DataFrame) -> Iterator[RenderableType]:
    """The closed loops, then the open ones, where there are any."""
    if table.empty:
        return
    is_open = table["concurrency"].isna()
    if not is_open.all():
        yield from closed(table[~is_open])
    if is_open.any():
        yield from opened(table[is_open])


def closed(table: pd.DataFrame) -> Iterator[RenderableType]:
    """One line per arm and number of users: what users get, then where the time goes."""
    table = table.astype({"concurrency": int})
    yield _by_arm(
        "Closed loops; c: users; latency in ms; s: window" + _remarks(table),
        _marked(table),
        {"c": "concurrency", **_rates(table), **_LATENCIES, **_COUNTS},
    )
    unsplit = table["queue_p50_ms"].isna() & table["resume_p50_ms"].isna()  # only the whole, Model, is known
    parts = {
        "Model": "route_model_p50_ms",
        "queue": "queue_p50_ms",
        "worker": "model_p50_ms",
        "back": "resume_p50_ms",
        "I/O": "io_p50_ms",
        "outside": "outside_p50_ms",
    }
    if table[list(parts.values())].notna().any(axis=None):
        yield _by_arm(
            "Where the time goes, medians in ms. Model: queue + worker + way back",
            table.assign(model_p50_ms=table["model_p50_ms"].mask(unsplit)),
            {"c": "concurrency", "latency": "latency_p50_ms", **parts},
        )


def opened(table: pd.DataFrame) -> Iterator[RenderableType]:
    """One line per arm and open load: latency counts from when a request was due, service from when sent."""
    starred = table.assign(load=table["load"].astype(str) + table["saturated"].map({True: "*", False: ""}))
    title = "Open loads; latency in ms, due to done; s: window" + _remarks(table)
    if table["saturated"].any():
        title += "\n* saturated: the rate was not held, latencies grow with the window's length"
    yield _by_arm(title, _marked(starred), {"load": "load", **_rates(table), **_LATENCIES, **_COUNTS})
    columns = {
        "load": "load",
        "service": "service_p50_ms",
        "lag p99": "dispatch_lag_p99_ms",
        "queue": "queue_p50_ms",
        "I/O": "io_p50_ms",
    }
    yield _by_arm("service: sent to done; lag: due to sent; medians in ms", starred, columns)


_LATENCIES = {"p50": "latency_p50_ms", "p95": "latency_p95_ms", "p99": "latency_p99_ms"}
_COUNTS = {"requests": "requests", "s": "window_s", "fail": "failed"}


def _rates(table: pd.DataFrame) -> dict[str, str]:
    """Requests a second, and good answers beside them where some failed."""
    both = {"req/s": ANSWERED, "good/s": THROUGHPUT}
    return both if table["failed"].any() else {"req/s": THROUGHPUT}


def _remarks(table: pd.DataFrame) -> str:
    remarks = []
    if table["failed"].any():
        remarks.append("req/s: requests that ended; good/s: good answers")
    if table["client_limited"].any():
        remarks.append("≥ ≤: limited by the client")
    return "".join(f"\n{one}" for one in remarks)


def _marked(table: pd.DataFrame) -> pd.DataFrame:
    """Figures that the client limits become words with their mark."""
    if not table["client_limited"].any():
        return table
    marks = {THROUGHPUT: "≥", ANSWERED: "≥", **dict.fromkeys(_LATENCIES.values(), "≤")}
    return table.assign(
        **{
            name: [
                f"{mark}{cell(value)}" if limited else value
                for value, limited in zip(table[name], table["client_limited"], strict=True)
            ]
            for name, mark in marks.items()
        }
    )


def _by_arm(title: str, table: pd.DataFrame, columns: Mapping[str, str]) -> RenderableType:
    """A row per row, its arm told once."""
    figures = {name: Column(name, justify="right", no_wrap=True, overflow="fold") for name in columns}
    heads = figures | {"load": folding("load")} if "load" in columns else figures
    shown = plain_table(folding("arm"), *heads.values())
    last = None
    for row in table.to_dict("records"):
        arm = one_line(str(row["arm"]))
        shown.add_row("" if arm == last else arm, *(cell(row[key]) for key in columns.values()))
        last = arm
    return titled(title, shown)


def comparisons(table: pd.DataFrame) -> RenderableType:
    """Per load, every arm's median latency and throughput over the reference's."""
    table = table[table["primary"].astype(bool) | (table["metric"] == THROUGHPUT)]
    level = f"{100 * table['level'].iloc[0]:g} %"
    against = ", ".join(dict.fromkeys(table["reference"].astype(str)))
    title = f"Against {against}, block by block: ratio [{level} interval]; difference: ms, or per s"
    shown = plain_table(folding(""), "", Column("ratio", no_wrap=True), right("difference"), "verdict")
    for load in dict.fromkeys(table["load"].astype(str)):
        shown.add_row(Text(load, style="bold"))
        for row in table[table["load"] == load].to_dict("records"):
            latency = bool(row["primary"])
            shown.add_row(
                f"  {row['arm']}" if latency else "",
                "latency" if latency else "req/s",
                ratio_interval(row["ratio"], row["low"], row["high"]),
                or_missing(row["difference"], "{:+.1f}".format),
                f"{row['verdict']}: {row['why']}" if row["why"] else str(row["verdict"]),
            )
    return titled(title, shown)


def costs(table: pd.DataFrame) -> RenderableType:
    """What an arm takes of the machine, and what it does to its event loop and to other routes."""
    columns = {
        "CPU/req": "cpu_ms_per_request",
        "loop p99": "server_lag_p99_ms",
        "max": "server_lag_max_ms",
        "ping p50": "ping_p50_ms",
        "p90": "ping_p90_ms",
        "p99": "ping_p99_ms",
        "MB": "memory_uss_mb",
    }
    known = {name: key for name, key in columns.items() if table[key].notna().any()}
    title = (
        "What it takes, in ms. CPU: of the server, a request, probes included; loop:\n"
        "lateness of its event loop; ping: a route without model, beside the load; MB: memory"
    )
    named = table.assign(load=table["load"].map(users))
    return _by_arm(title, named, {"load": "load", **known})


def told_apart(table: pd.DataFrame) -> Iterator[RenderableType]:
    """The awaited I/O beside what its other side took itself; nothing where no side told."""
    if "io_server_p50_ms" not in table:
        return
    columns = {
        "load": "load",
        "awaited": "io_p50_ms",
        "p95": "io_p95_ms",
        "its own": "io_server_p50_ms",
        "p95 ": "io_server_p95_ms",
        "rest": "io_stall_p50_ms",
        "p95  ": "io_stall_p95_ms",
    }
    title = (
        "The awaited I/O told apart, medians in ms. its own: what the other side took by\n"
        "its clock; rest: wire, driver, wait for a connection, the loop's other work"
    )
    yield _by_arm(title, table.assign(load=table["load"].map(users)), columns)


def limits(table: pd.DataFrame) -> RenderableType:
    """How near each arm comes to the bare model, and to a service that adds only what it must."""
    columns = {
        "c": "concurrency",
        "req/s": "throughput_per_s",
        "limit": "limit_per_s",
        "batch": "limit_batch",
        "of limit": "efficiency",
    }
    title = "Beside what is possible, in requests/s. limit: the bare model, in such batches"
    null_ms = table["null_ms"].iloc[0]
    if not math.isnan(null_ms):
        columns |= {"ideal": "ideal_per_s", "of ideal": "of_ideal"}
        title += f"\nideal: one batch of all c, then I/O, then c x {null_ms:.2f} ms as with nothing to do"
    shares = {name: table[name].map(share) for name in ("efficiency", "of_ideal")}
    return _by_arm(title, table.assign(**shares), columns)


# -- the article's claims ------------------------------------------------------------------------------

_COLOURS = {
    "confirmed": "green",
    "refuted": "red",
    "inconclusive": "yellow",
    "not tested": "dim",
    "withheld": "yellow",
}


def _claims(report: Report) -> Iterator[RenderableType]:
    """Nothing where the plan judges no claims; the law of T2 is the article's as well."""
    if report.claims.empty:
        return
    yield _published(report.published)
    if len(report.staircase):
        yield Text(f"\n{_law(report.staircase)}")
    yield _checks(report.claims, report.checks)


def _published(tables: pd.DataFrame) -> RenderableType:
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


def _checks(verdicts: pd.DataFrame, checks: pd.DataFrame) -> RenderableType:
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
