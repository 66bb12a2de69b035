"""Which arm to take, as the terminal shows it: the ranking, the settings of a sweep, and the advice."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd
from rich.console import RenderableType
from rich.table import Column
from rich.text import Text

from harness.analysis.summaries import LATENCY, THROUGHPUT
from harness.commands.screen import folding, plain_table, right, titled
from harness.numbers import cell, ratio, ratio_interval, share, users
from harness.report import sweep
from harness.report.advice import Advice
from harness.report.ranking import REFERENCE
from harness.report.report import Report
from harness.system.printable import one_line
from harness.wire.records import INVALID

# -- the ranking ---------------------------------------------------------------------------------------


def ranking(report: Report) -> Iterator[RenderableType]:
    """Who and how much; why, and what it costs; and the one that is taken in a sentence."""
    if report.ranking.empty:
        return
    yield ranked(report.ranking)
    yield explained(report.ranking)
    if report.conclusion:
        yield Text(f"\n{one_line(report.conclusion)}", style="bold")


def ranked(table: pd.DataFrame) -> RenderableType:
    """Who and how much: requests a second at the most users, then what a lone user and a steady load see."""
    first = table.iloc[0]
    reference = ", ".join(table.loc[table["verdict"] == REFERENCE, "arm"]) or "the reference"
    title = (
        f"Ranked by req/s at {users(first['load'])}, a point estimate; the verdict says if an arm differs\n"
        f"x: times {reference} [interval]; {users(first['lone_load'])}: median latency in ms (x)"
    )
    ratios, lone = Column("x", no_wrap=True), right(users(first["lone_load"]))
    shown = plain_table(Column("", justify="right"), folding("arm"), right("req/s"), ratios, "verdict", lone)
    own = ""
    if first["own_load"]:  # p99 where every arm has requests enough for it
        own = "own_latency_p99_ms" if table["own_latency_p99_ms"].notna().all() else "own_latency_p50_ms"
        title += f"; {first['own_load']}: {'p99' if 'p99' in own else 'median'}"
        shown.add_column(str(first["own_load"]), justify="right", no_wrap=True)
    for row in table.to_dict("records"):
        least = "≥" if row["client_limited"] else ""
        shown.add_row(
            str(row["rank"]),
            str(row["arm"]),
            _valid(row, "load", f"{least}{cell(row['throughput_per_s'])}"),
            ratio_interval(row["ratio"], row["low"], row["high"]),
            str(row["verdict"]),
            _valid(row, "lone_load", f"{cell(row['lone_latency_ms'])} ({cell(row['lone_ratio'], 2)})"),
            *([_valid(row, "own_load", cell(row[own]))] if own else []),
        )
    return titled(title, shown)


def _valid(row: dict[Any, Any], load: str, figure: str) -> str:
    """The figure under that load; where it is invalid, that word, and a warning above says why."""
    return INVALID if row[load] in row["invalid"].split(", ") else figure


def explained(table: pd.DataFrame) -> RenderableType:
    """Why, and what it costs: the figures once an arm, beside two texts."""
    shares = table.assign(efficiency=table["efficiency"].map(share))
    columns = {"of limit": "efficiency", "MB": "memory_uss_mb", "CPU/req": "cpu_ms_per_request"}
    known = {name: key for name, key in columns.items() if table[key].notna().any()}
    title = (
        f"Why, by the mean ms of a request's parts at {users(table['load'].iloc[0])}, and what it costs\n"
        "(†: when a worker dies)"
    )
    shown = plain_table(folding("arm"), *map(right, known), "a request")
    for row in shares.to_dict("records"):
        shown.add_row(str(row["arm"]), *(cell(row[key]) for key in known.values()), str(row["because"]))
        if row["when_worker_dies"]:
            shown.add_row("", *("" for _ in known), f"† {row['when_worker_dies']}")
    return titled(title, shown)


# -- what to do ----------------------------------------------------------------------------------------


def advised(said: Advice) -> Iterator[RenderableType]:
    """The advice as a list, and the next command on a line of its own, to be copied."""
    if not said.lines:
        return
    shown = plain_table("", folding(""))
    for line in said.lines:
        shown.add_row("-", one_line(line))
    yield titled("What to do", shown)
    if said.command:
        yield Text(f"Next: {said.command}")


# -- the sweep -----------------------------------------------------------------------------------------

_UNKNOWN = dict.fromkeys(("ratio", "low", "high"), math.nan)
_PLACES = {sweep.BEST: "*", sweep.RIVAL: "=", sweep.LEFT_OUT: "x", sweep.STALLS: "!"}


def swept(found: sweep.Swept) -> Iterator[RenderableType]:
    """The settings, what each axis does, and the best of them in a sentence."""
    yield settings(found)
    if len(found.effects):
        yield effects(found)
    for sentence in found.sentences:
        yield Text(f"\n{one_line(sentence)}", style="bold")


def settings(found: sweep.Swept) -> RenderableType:
    """Every setting at the load by which the best was chosen, the best first."""
    here = found.table[found.table["load"] == found.load]
    title = (
        f"Settings at {users(found.load)}: [95 % interval over blocks]; latency: median in ms\n"
        "*: the best; =: not told apart from it; x: left out: trials lost, requests failed, or invalid"
    )
    if here["place"].eq(sweep.STALLS).any():
        title += "; !: holds the event loop"
    if here["client_limited"].astype(bool).any():
        title += "\n≥ ≤: limited by the client"
    costs = {"MB": "memory_uss_mb", "CPU/req": "cpu_ms_per_request"}
    known = {name: key for name, key in costs.items() if here[key].notna().any()}
    intervals = (Column(name, no_wrap=True) for name in ("req/s", "latency"))
    shown = plain_table("", *map(folding, found.axes), *intervals, *map(right, ("p99", *known)))
    for row in here.to_dict("records"):
        least, most = ("≥", "≤") if row["client_limited"] else ("", "")
        shown.add_row(
            _PLACES.get(row["place"], ""),
            *(str(row[axis]) for axis in found.axes),
            least + _within(row, "throughput_per_s"),
            most + _within(row, "latency_p50_ms"),
            *(cell(row[key]) for key in ("latency_p99_ms", *known.values())),
        )
    return titled(title, shown)


def _within(row: dict[Any, Any], name: str) -> str:
    low, high = (cell(row[f"{name}_{end}"]) for end in ("low", "high"))
    return cell(row[name]) + ("" if "-" in (low, high) else f" [{low}, {high}]")


def effects(found: sweep.Swept) -> RenderableType:
    """What a value of an axis does against the first one, everything else alike."""
    title = (
        "What each axis does, on average over the others: ratio [95 % interval]\n"
        "each: from the least to the most that one setting shows, in req/s"
    )
    heads = ("axis", "", "req/s", "each", "verdict", "latency")
    columns = (Column(name, no_wrap=name in ("req/s", "latency"), overflow="fold") for name in heads)
    shown = plain_table(*columns)
    of_metric = {metric: rows.to_dict("records") for metric, rows in found.effects.groupby("metric")}
    latencies = {(row["axis"], row["value"]): row for row in of_metric.get(LATENCY, ())}
    for rate in of_metric.get(THROUGHPUT, ()):
        latency = latencies.get((rate["axis"], rate["value"]), _UNKNOWN)
        what = f"{rate['value']} / {rate['against']}"
        each = f"{ratio(rate['least'])}-{ratio(rate['most'])}" if rate["settings"] > 1 else ""
        ratios = [ratio_interval(row["ratio"], row["low"], row["high"]) for row in (rate, latency)]
        shown.add_row(str(rate["axis"]), what, ratios[0], each, str(rate["verdict"]), ratios[1])
    return titled(title, shown)
