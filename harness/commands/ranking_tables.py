"""Which arm to take, in the terminal: the ranking, the settings of a sweep, and the advice."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
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

BOUNDS = "≥ ≤: limited by the client (load generator): the true figure may be better"


def own_loads(loads: Iterable[object]) -> str:
    """What own(…) means in these loads: "own(0.8): 80 % of the arm's own throughput"; "" without one."""
    shares = sorted(
        {found[1] for load in loads if (found := re.match(r"own\(([\d.]+)\)", str(load)))}, key=float
    )
    names = ", ".join(f"own({share})" for share in shares)
    percents = ", ".join(f"{100 * float(share):g} %" for share in shares)
    return f"{names}: {percents} of the arm's own throughput" if shares else ""


# -- the ranking ---------------------------------------------------------------------------------------


def ranking(report: Report) -> Iterator[RenderableType]:
    """The arms in order; the reasons and the costs; and the chosen arm in a few sentences."""
    if report.ranking.empty:
        return
    yield ranked(report.ranking)
    yield explained(report.ranking)
    if report.conclusion:
        yield Text(f"\n{one_line(report.conclusion)}", style="bold")


def ranked(table: pd.DataFrame) -> RenderableType:
    """Requests per second with the most users, then the latency of a lone user and of an open loop."""
    first = table.iloc[0]
    reference = _reference(table)
    lone_load, own_load = users(first["lone_load"]), str(first["own_load"])
    title = (
        f"Ranked by req/s at {users(first['load'])} (a point estimate: neighbours may differ by chance)\n"
        f"ratio: req/s over {reference} [95 % interval]; verdict: whether the two differ\n"
        f"{lone_load}: median latency in ms (over {reference})"
    )
    ratios, lone = Column("ratio", no_wrap=True), right(lone_load)
    shown = plain_table(Column("", justify="right"), folding("arm"), right("req/s"), ratios, "verdict", lone)
    own = ""
    if own_load:  # p99 where every arm has requests enough for it
        own = "own_latency_p99_ms" if table["own_latency_p99_ms"].notna().all() else "own_latency_p50_ms"
        shown.add_column(own_load, justify="right", no_wrap=True)
        which = "p99" if "p99" in own else "median"
        title += f"\n{own_load}: {which} latency in ms at{own_loads([own_load]).partition(':')[2]}"
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


def _reference(table: pd.DataFrame) -> str:
    return ", ".join(table.loc[table["verdict"] == REFERENCE, "arm"]) or "the reference"


def _valid(row: dict[Any, Any], load: str, figure: str) -> str:
    """The figure under that load, or "invalid"; a warning above gives the reason."""
    return INVALID if row[load] in row["invalid"].split(", ") else figure


_COSTS_EXPLAINED = {
    "of limit": "of limit: share of the model limit",
    "MB": "MB: memory",
    "CPU/req": "CPU/req: ms of CPU per request",
}


def explained(table: pd.DataFrame) -> RenderableType:
    """Per arm, its costs, why it differs from the reference, and what happens when a worker dies."""
    reference = _reference(table)
    shares = table.assign(efficiency=table["efficiency"].map(share))
    columns = {"of limit": "efficiency", "MB": "memory_uss_mb", "CPU/req": "cpu_ms_per_request"}
    known = {name: key for name, key in columns.items() if table[key].notna().any()}
    title = f"Why: how a request's mean time at {users(table['load'].iloc[0])} differs from {reference}'s"
    if known:
        title += f"\n{'; '.join(_COSTS_EXPLAINED[name] for name in known)}"
    if table["when_worker_dies"].astype(bool).any():
        title += "\n†: what happens when a worker dies"
    shown = plain_table(folding("arm"), *map(right, known), "a request")
    for row in shares.to_dict("records"):
        shown.add_row(str(row["arm"]), *(cell(row[key]) for key in known.values()), str(row["because"]))
        if row["when_worker_dies"]:
            shown.add_row("", *("" for _ in known), f"† {row['when_worker_dies']}")
    return titled(title, shown)


# -- what to do ----------------------------------------------------------------------------------------


def advised(advice: Advice) -> Iterator[RenderableType]:
    """The advice as a list, then the next command on its own line, ready to copy."""
    if not advice.lines:
        return
    shown = plain_table("", folding(""))
    for line in advice.lines:
        shown.add_row("-", one_line(line))
    yield titled("What to do", shown)
    if advice.command:
        yield Text(f"Next: {advice.command}")


# -- the sweep -----------------------------------------------------------------------------------------

_UNKNOWN = dict.fromkeys(("ratio", "low", "high"), math.nan)
_PLACES = {sweep.BEST: "*", sweep.RIVAL: "=", sweep.LEFT_OUT: "x", sweep.MISSES: "-", sweep.STALLS: "!"}


def swept(found: sweep.Swept) -> Iterator[RenderableType]:
    """The settings, the effect of each axis, and the best setting in a sentence."""
    yield settings(found)
    if len(found.effects):
        yield effects(found)
    for sentence in found.sentences:
        yield Text(f"\n{one_line(sentence)}", style="bold")


def settings(found: sweep.Swept) -> RenderableType:
    """Every setting at the load that decides, the best first."""
    here = found.table[found.table["load"] == found.load]
    title = (
        f"Settings at {users(found.load)}: mean over blocks [95 % interval]\n"
        "latency: median in ms; p99: in ms; MB: memory; CPU/req: ms of CPU per request\n"
        "*: the best; =: the blocks do not separate it from the best;\n"
        "x: left out, because trials were lost, requests failed, or figures are invalid"
    )
    if here["place"].eq(sweep.MISSES).any():
        title += "\n-: misses an objective"
    if here["place"].eq(sweep.STALLS).any():
        title += "\n!: blocks the event loop"
    if here["client_limited"].astype(bool).any():
        title += f"\n{BOUNDS}"
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
    """The effect of each value of an axis compared with its first value, all else equal."""
    title = (
        "The effect of each axis, averaged over the other axes: ratio [95 % interval]\n"
        "range: smallest and largest ratio of req/s in a single setting"
    )
    heads = ("axis", "", "req/s", "range", "verdict", "latency")
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
