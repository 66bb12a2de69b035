"""A Report in the terminal: rich tables that fit 80 columns and keep their full width when piped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd
from rich.console import RenderableType
from rich.table import Column
from rich.text import Text

from harness.analysis import nominal
from harness.analysis.summaries import ANSWERED, THROUGHPUT
from harness.commands import claim_tables, halving_tables, ranking_tables
from harness.commands.screen import by_arm, folding, plain_table, right, titled
from harness.numbers import cell, or_missing, ratio_interval, share, users
from harness.report.report import Report
from harness.system.printable import one_line
from harness.verdicts import sentences
from harness.verdicts.admissible import Evidence
from harness.verdicts.environments import MARK


def render(report: Report) -> Iterator[RenderableType]:
    """The finding and the state of the machine, then the tables, the claims and the advice."""
    yield from opening(report.finding, report.machine, report.notes, report.warnings)
    yield from summaries(report.summary)
    if len(report.comparisons):
        yield from comparisons(report.comparisons, report.evidence)
    if report.costs[["cpu_ms_per_request", "server_lag_p99_ms", "ping_p50_ms"]].notna().any(axis=None):
        yield costs(report.costs)
    if len(report.generators):
        yield generators(report.generators)
    if len(report.limits):
        yield limits(report.limits)
    yield from streamed(report.summary)
    yield from io_parts(report.summary)
    if sentence := nominal.sentence(report.io):
        yield Text(f"\n{sentence}")
    yield from claim_tables.claims(report)
    yield from ranking_tables.ranking(report)
    if report.swept is not None:
        yield from ranking_tables.swept(report.swept)
    if report.halved is not None:
        yield from halving_tables.halved(report.halved, report.choice.take)
    yield from ranking_tables.advised(report.advised)


def opening(
    finding: str, machine: str, notes: Iterable[str], warnings: Iterable[str]
) -> Iterator[RenderableType]:
    """The finding, and what to know before trusting it."""
    yield Text(one_line(finding), style="bold")
    explained = (f"{word}: {meaning}" for word, meaning in _MACHINE_WORDS.items() if word in machine)
    words = "; ".join(explained)
    yield from (Text(one_line(note)) for note in (machine, *([f"({words})"] if words else []), *notes))
    yield from (Text(one_line(f"Warning: {warning}"), style="yellow") for warning in warnings)


_MACHINE_WORDS = {
    "foreign CPU": "used by programs outside this run",
    "steal": "CPU time that the hypervisor gave to others",
    "pressure": "share of time in which a process waited for a CPU",
    "throttled": "CPU time that a quota withheld",
    "client loop": "loop lag of the load generator",
    "twin": "the reference arm, run a second time",
}


# -- what was measured ---------------------------------------------------------------------------------


def summaries(table: pd.DataFrame) -> Iterator[RenderableType]:
    """The closed loops, then the open loops; leaves out the kind that was not run."""
    if table.empty:
        return
    is_open = table["concurrency"].isna()
    if not is_open.all():
        yield from closed(table[~is_open])
    if is_open.any():
        yield from opened(table[is_open])


def closed(table: pd.DataFrame) -> Iterator[RenderableType]:
    """Per arm and number of users: what users get, then where the time goes."""
    table = table.astype({"concurrency": int})
    yield by_arm(
        "Closed loops: c users, each sends its next request after the last answer\n"
        f"p50 to p99: latency in ms; {_COUNTS_EXPLAINED}{_remarks(table)}",
        _marked(table),
        {"c": "concurrency", **_rates(table), **_LATENCIES, **_COUNTS},
    )
    split = table["queue_p50_ms"].notna() | table["resume_p50_ms"].notna()
    unsplit = ~split & table["route_model_p50_ms"].notna()  # only the total is known
    parts = {
        "model": "route_model_p50_ms",
        "queue": "queue_p50_ms",
        "worker": "model_p50_ms",
        "way back": "resume_p50_ms",
        "I/O": "io_p50_ms",
        "outside": "outside_p50_ms",
    }
    if table[list(parts.values())].notna().any(axis=None):
        yield by_arm(
            "Where the time goes: medians in ms (they need not add up); model = queue + worker + way back\n"
            "outside: network, HTTP parsing and the load generator",
            table.assign(model_p50_ms=table["model_p50_ms"].mask(unsplit)),
            {"c": "concurrency", "latency": "latency_p50_ms", **parts},
        )


def opened(table: pd.DataFrame) -> Iterator[RenderableType]:
    """Per arm and open loop: latency counts from the due time, service time from sending."""
    starred = table.assign(load=table["load"].astype(str) + table["saturated"].map({True: "*", False: ""}))
    title = (
        "Open loops: requests are sent at given times, whether or not others are answered\n"
        f"p50 to p99: latency in ms from the due time\n{_COUNTS_EXPLAINED}"
    )
    if shares := ranking_tables.own_loads(table["load"]):
        title += f"\n{shares}"
    title += _remarks(table)
    if table["saturated"].any():
        title += "\n* saturated: fewer answers than arrivals, so latency grows with the window"
    yield by_arm(title, _marked(starred), {"load": "load", **_rates(table), **_LATENCIES, **_COUNTS})
    columns = {
        "load": "load",
        "service": "service_p50_ms",
        "dispatch lag p99": "dispatch_lag_p99_ms",
        "queue": "queue_p50_ms",
        "I/O": "io_p50_ms",
    }
    title = (
        "Open loops, where the time goes: medians in ms\n"
        "service: from sending a request to its answer; dispatch lag: from due to sent"
    )
    yield by_arm(title, starred, columns)


_LATENCIES = {"p50": "latency_p50_ms", "p95": "latency_p95_ms", "p99": "latency_p99_ms"}
_COUNTS = {"requests": "requests", "s": "window_s", "fail": "failed"}
_STREAMED_MS, _STREAMED_SHARE = 2.0, 0.05  # an answer whose rest takes as long arrives in parts
_COUNTS_EXPLAINED = "s: seconds of each window; fail: failed requests; -: too few requests"


def _rates(table: pd.DataFrame) -> dict[str, str]:
    """Requests per second, and good answers per second where some requests failed."""
    both = {"req/s": ANSWERED, "good/s": THROUGHPUT}
    return both if table["failed"].any() else {"req/s": THROUGHPUT}


def _remarks(table: pd.DataFrame) -> str:
    remarks = []
    if table["failed"].any():
        remarks.append("req/s: requests that ended, well or not; good/s: good answers")
    if table["client_limited"].any():
        remarks.append(ranking_tables.BOUNDS)
    return "".join(f"\n{one}" for one in remarks)


def _marked(table: pd.DataFrame) -> pd.DataFrame:
    """The table with ≥ or ≤ before the figures that the load generator limits."""
    if not table["client_limited"].any():
        return table
    marks = {THROUGHPUT: "≥", ANSWERED: "≥", **dict.fromkeys(_LATENCIES.values(), "≤")}
    return table.assign(
        **{
            name: [
                f"{mark}{cell(value)}" if limited and not math.isnan(value) else value
                for value, limited in zip(table[name], table["client_limited"], strict=True)
            ]
            for name, mark in marks.items()
        }
    )


def comparisons(table: pd.DataFrame, evidence: Evidence) -> Iterator[RenderableType]:
    """Per load, every arm's median latency and throughput over the reference's, then the words explained."""
    table = table[table["primary"].astype(bool) | (table["metric"] == THROUGHPUT)]
    level = f"{100 * table['level'].iloc[0]:g} %"
    against = ", ".join(dict.fromkeys(table["reference"].astype(str)))
    title = (
        f"Each arm against {against}, compared block by block\n"
        f"ratio: arm / {against} [{level} interval]; difference: in ms or requests/s"
    )
    shown = plain_table(folding(""), "", Column("ratio", no_wrap=True), right("difference"), "verdict")
    rows = table.to_dict("records")
    for load in dict.fromkeys(table["load"].astype(str)):
        shown.add_row(Text(users(load), style="bold"))
        for row in (row for row in rows if str(row["load"]) == load):
            latency = bool(row["primary"])
            shown.add_row(
                f"  {row['arm']}" if latency else "",
                "latency" if latency else "req/s",
                ratio_interval(row["ratio"], row["low"], row["high"]),
                or_missing(row["difference"], "{:+.1f}".format),
                _with_reason(row) + (MARK if evidence.apart(str(row["arm"])) else ""),
            )
    yield titled(title, shown)
    if legend := sentences.legend(rows, evidence.facts.rules):
        yield Text("\n".join(legend))
    yield from (Text(one_line(f"{MARK} {sentence}")) for sentence in evidence.environments())


def _with_reason(row: Mapping[Any, Any]) -> str:
    """The verdict, and its reason where the legend does not explain it."""
    why = "" if sentences.is_in_legend(row) else row["why"]
    return f"{row['verdict']}: {why}" if why else str(row["verdict"])


def costs(table: pd.DataFrame) -> RenderableType:
    """What an arm takes of the machine, and how long its event loop and other routes wait."""
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
        "What each arm takes, and how long everything else waits for it (in ms)\n"
        "CPU/req: server CPU per request, pings included; loop p99, max: loop lag;\n"
        "ping: latency of a route without a model; MB: the server's own memory"
    )
    named = table.assign(load=table["load"].map(users))
    return by_arm(title, named, {"load": "load", **known})


def generators(table: pd.DataFrame) -> RenderableType:
    """What each load generator sent, how late it sent, and how exactly its clock is known."""
    title = (
        "Load generators: medians over trials, in ms\n"
        "late: from due to sent, p50; CPU/req: its CPU per request;\n"
        "offset: its clock minus that of this host; drift: its largest change in a trial;\n"
        "±: the largest possible error of an offset"
    )
    columns = {
        "host": "host",
        "requests": "requests",
        "late": "dispatch_lag_p50_ms",
        "CPU/req": "cpu_ms_per_request",
        "offset": "offset_ms",
        "drift": "drift_ms",
        "±": "bound_ms",
    }
    shown = plain_table("generator", *map(right, columns))
    for row in table.to_dict("records"):
        shown.add_row(str(row["generator"]), *(_figure(row[key]) for key in columns.values()))
    return titled(title, shown)


def _figure(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def io_parts(table: pd.DataFrame) -> Iterator[RenderableType]:
    """The awaited I/O, split into the time of its other side and the rest; nothing if no side reports it."""
    if "io_server_p50_ms" not in table:
        return
    columns = {
        "load": "load",
        "awaited": "io_p50_ms",
        "p95": "io_p95_ms",
        "other side": "io_server_p50_ms",
        "p95 ": "io_server_p95_ms",
        "rest": "io_stall_p50_ms",
        "p95  ": "io_stall_p95_ms",
    }
    title = (
        "What the awaited I/O consists of: median and p95 in ms\n"
        "other side: time that the called database or service itself measures;\n"
        "rest: network, driver, wait for a connection, and the loop's other work"
    )
    yield by_arm(title, table.assign(load=table["load"].map(users)), columns)


def streamed(table: pd.DataFrame) -> Iterator[RenderableType]:
    """The time to the first byte where answers arrive in parts; nothing where they arrive at once."""
    if "time_to_first_byte_p50_ms" not in table:
        return
    rest_ms = table["latency_p50_ms"] - table["time_to_first_byte_p50_ms"]
    least_ms = (_STREAMED_SHARE * table["latency_p50_ms"]).clip(lower=_STREAMED_MS)
    in_parts = table[(rest_ms >= least_ms) & (rest_ms < math.inf)]  # infinite: most requests failed
    if in_parts.empty:
        return
    columns = {
        "load": "load",
        "first byte": "time_to_first_byte_p50_ms",
        "p95": "time_to_first_byte_p95_ms",
        "complete": "latency_p50_ms",
        "p95 ": "latency_p95_ms",
    }
    title = (
        "Streamed answers: median and p95 in ms, from the time a request was due\n"
        "first byte: until the body of the answer began to arrive; complete: latency"
    )
    yield by_arm(title, in_parts.assign(load=in_parts["load"].map(users)), columns)


def limits(table: pd.DataFrame) -> RenderableType:
    """How close each arm comes to the bare model, and to a service that adds only what it must."""
    columns = {
        "c": "concurrency",
        "req/s": "throughput_per_s",
        "limit": "limit_per_s",
        "batch": "limit_batch",
        "of limit": "efficiency",
    }
    title = (
        "How close each arm comes to what is possible, in requests/s\n"
        "limit: the model limit, in batches of this size"
    )
    null_ms = table["null_ms"].iloc[0]
    if not math.isnan(null_ms):
        columns |= {"ideal": "ideal_per_s", "of ideal": "of_ideal"}
        title += (
            "\nideal: one batch of all c requests, all I/O at once, and each request costs"
            f"\n{null_ms:.2f} ms as in an empty service; an estimate, so more than 100 % is possible"
        )
    shares = {name: _with_intervals(table, name) for name in ("efficiency", "of_ideal")}
    if table["efficiency_low"].notna().any():
        title += "\nin brackets: 95 % interval over blocks"
    return by_arm(title, table.assign(**shares), columns)


def _with_intervals(table: pd.DataFrame, name: str) -> list[str]:
    """Each share with its interval: "84 % [82, 86]"; without brackets if it has none."""
    ends = (table[f"{name}{end}"] * 100.0 for end in ("_low", "_high"))
    return [
        share(middle) if math.isnan(low) else f"{share(middle)} [{low:.0f}, {high:.0f}]"
        for middle, low, high in zip(table[name], *ends, strict=True)
    ]


# -- the article's claims ------------------------------------------------------------------------------
