"""A Report as the terminal shows it: rich tables that fit 80 columns and lose nothing when piped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.analysis import nominal
from harness.analysis.stats import LEVEL
from harness.analysis.summaries import ANSWERED, LATENCY, THROUGHPUT
from harness.report import sweep
from harness.report.advice import Advice
from harness.report.ranking import REFERENCE, ratio_number, users
from harness.report.report import Report, load_words
from harness.system.printable import one_line
from harness.wire.records import INVALID

_COLOURS = {
    "confirmed": "green",
    "refuted": "red",
    "inconclusive": "yellow",
    "not tested": "dim",
    "withheld": "yellow",
}


def render(report: Report) -> Iterator[RenderableType]:
    """The finding, how good the machine was, then the tables, the claims, and what to do."""
    yield from _opening(report)
    yield from summaries(report.summary)
    if len(report.comparisons):
        yield comparisons(report.comparisons)
    if report.costs[["cpu_ms_per_request", "server_lag_p99_ms", "ping_p50_ms"]].notna().any(axis=None):
        yield costs(report.costs, report.summary)
    if len(report.limits):
        yield limits(report.limits)
    yield from told_apart(report.summary)
    if said := nominal.sentence(report.io):
        yield Text(f"\n{said}")
    yield from _claimed(report)
    yield from ranking(report)
    if report.swept is not None:
        yield from swept(report.swept)
    yield from advised(report.said)


def _opening(report: Report) -> Iterator[RenderableType]:
    yield Text(one_line(report.finding), style="bold")
    yield Text(one_line(report.machine))
    yield from (Text(one_line(note)) for note in report.notes)
    for warning in report.warnings:
        yield Text(one_line(f"Warning: {warning}"), style="yellow")


def _claimed(report: Report) -> Iterator[RenderableType]:
    if report.published is None:  # the law of T2 is the article's as well
        return
    yield published(report.published)
    if len(report.staircase):
        yield Text(f"\n{_law(report.staircase)}")
    if report.evaluated is not None and report.verdicts is not None:
        yield claims(report.verdicts, report.evaluated)


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
    if _limited(table).any():
        remarks.append("≥ ≤: limited by the client")
    return "".join(f"\n{one}" for one in remarks)


def _limited(table: pd.DataFrame) -> pd.Series[bool]:
    return table["client_limited"].astype(bool)


def _marked(table: pd.DataFrame) -> pd.DataFrame:
    """Figures that the client limits become words with their mark."""
    if not _limited(table).any():
        return table
    marks = {THROUGHPUT: "≥", ANSWERED: "≥", **dict.fromkeys(_LATENCIES.values(), "≤")}
    return table.assign(
        **{
            name: [
                f"{mark}{_cell(value)}" if limited else value
                for value, limited in zip(table[name], _limited(table), strict=True)
            ]
            for name, mark in marks.items()
        }
    )


def _by_arm(title: str, table: pd.DataFrame, columns: Mapping[str, str]) -> RenderableType:
    """A row per row, its arm told once."""
    shown = _table()
    shown.add_column("arm", overflow="fold")
    for name in columns:
        is_load = name == "load"
        shown.add_column(name, justify="left" if is_load else "right", no_wrap=not is_load, overflow="fold")
    last = None
    for row in table.to_dict("records"):
        arm = one_line(str(row["arm"]))
        shown.add_row("" if arm == last else arm, *(_cell(row[key]) for key in columns.values()))
        last = arm
    return Group(Text(f"\n{title}", style="bold"), shown)


def comparisons(table: pd.DataFrame) -> RenderableType:
    """Per load, every arm's median latency and throughput over the reference's."""
    table = table[table["primary"].astype(bool) | (table["metric"] == THROUGHPUT)]
    level = f"{100 * table['level'].iloc[0]:g} %"
    against = ", ".join(dict.fromkeys(table["reference"].astype(str)))
    title = f"Against {against}, block by block: ratio [{level} interval]; difference: ms, or per s"
    shown = _table()
    shown.add_column("", overflow="fold")
    shown.add_column("")
    for name in ("ratio", "difference"):
        shown.add_column(name, justify="right" if name == "difference" else "left", no_wrap=True)
    shown.add_column("verdict")
    for load in dict.fromkeys(table["load"].astype(str)):
        shown.add_row(Text(load, style="bold"))
        for row in table[table["load"] == load].to_dict("records"):
            shown.add_row(*_compared(row))
    return Group(Text(f"\n{title}", style="bold"), shown)


def _compared(row: dict[Any, Any]) -> list[str]:
    latency = bool(row["primary"])
    return [
        f"  {row['arm']}" if latency else "",
        "latency" if latency else "req/s",
        _interval(row["ratio"], row["low"], row["high"]),
        "-" if math.isnan(row["difference"]) else f"{row['difference']:+.1f}",
        f"{row['verdict']}: {row['why']}" if row["why"] else str(row["verdict"]),
    ]


def costs(table: pd.DataFrame, summary: pd.DataFrame) -> RenderableType:
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
    loads = {str(row["load"]): load_words(row) for row in summary.to_dict("records")}
    title = (
        "What it takes, in ms. CPU: of the server, a request, probes included; loop:\n"
        "lateness of its event loop; ping: a route without model, beside the load; MB: memory"
    )
    named = table.assign(load=table["load"].astype(str).map(loads))
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
    loads = {str(row["load"]): load_words(row) for row in table.to_dict("records")}
    yield _by_arm(title, table.assign(load=table["load"].astype(str).map(loads)), columns)


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
    shares = {name: table[name].map(_share) for name in ("efficiency", "of_ideal")}
    return _by_arm(title, table.assign(**shares), columns)


# -- what was claimed ----------------------------------------------------------------------------------


def published(tables: pd.DataFrame) -> RenderableType:
    """T1-T4: what was printed beside what is measured, and Model's parts."""
    title = "The article's tables, in ms. Here: median (p5-p95)"
    shown = _table()
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
    return Group(Text(f"\n{title}", style="bold"), shown)


def claims(verdicts: pd.DataFrame, evaluated: pd.DataFrame) -> RenderableType:
    """Each claim with its verdict, and below it every check with what was measured."""
    blocks = evaluated["blocks"].max()
    title = f"The article's claims; ratio [interval over {blocks} blocks]; (beside the verdict)"
    shown = _table()
    shown.add_column("")
    shown.add_column("verdict")
    shown.add_column("claim, and what was measured")
    for claim in verdicts.to_dict("records"):
        text = Text.assemble((str(claim["text"]), "bold"), f" Stated: {claim['stated']}.")
        shown.add_row(Text(str(claim["claim"]), style="bold"), _verdict(claim["verdict"]), text)
        for check in evaluated[evaluated["claim"] == claim["claim"]].to_dict("records"):
            shown.add_row("", _beside(check), Padding(Text(_check(check)), (0, 0, 0, 2)))
    return Group(Text(f"\n{title}", style="bold"), shown)


# -- the ranking ---------------------------------------------------------------------------------------


def ranking(report: Report) -> Iterator[RenderableType]:
    """Who and how much; why, and what it costs; and the one that is taken in a sentence."""
    if report.ranking is None or report.ranking.empty:
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
    shown = _table()
    shown.add_column("", justify="right")
    shown.add_column("arm", overflow="fold")
    for name in ("req/s", "x", "verdict", users(first["lone_load"])):
        words = name in ("x", "verdict")
        shown.add_column(name, justify="left" if words else "right", no_wrap=name != "verdict")
    own = _own_column(table)
    if own:
        title += f"; {first['own_load']}: {'p99' if 'p99' in own else 'median'}"
        shown.add_column(str(first["own_load"]), justify="right", no_wrap=True)
    for row in table.to_dict("records"):
        shown.add_row(*_ranked(row), *([_valid(row, "own_load", _cell(row[own]))] if own else []))
    return Group(Text(f"\n{title}", style="bold"), shown)


def _ranked(row: dict[Any, Any]) -> list[str]:
    return [
        str(row["rank"]),
        str(row["arm"]),
        _valid(row, "load", f"{'≥' if row['client_limited'] else ''}{_cell(row['throughput_per_s'])}"),
        _interval(row["ratio"], row["low"], row["high"]),
        str(row["verdict"]),
        _valid(row, "lone_load", f"{_cell(row['lone_latency_ms'])} ({_cell(row['lone_ratio'], digits=2)})"),
    ]


def _valid(row: dict[Any, Any], load: str, figure: str) -> str:
    """The figure under that load; where it is invalid, that word, and a warning above says why."""
    return INVALID if row[load] in row["invalid"].split(", ") else figure


def _own_column(table: pd.DataFrame) -> str:
    """p99 where every arm has requests enough for it, else the median; "" without such a load."""
    if not table["own_load"].iloc[0]:
        return ""
    return "own_latency_p99_ms" if table["own_latency_p99_ms"].notna().all() else "own_latency_p50_ms"


def explained(table: pd.DataFrame) -> RenderableType:
    """Why, and what it costs: the figures once an arm, beside two texts."""
    shares = table.assign(efficiency=table["efficiency"].map(_share))
    columns = {"of limit": "efficiency", "MB": "memory_uss_mb", "CPU/req": "cpu_ms_per_request"}
    known = {name: key for name, key in columns.items() if table[key].notna().any()}
    title = (
        f"Why, by the mean ms of a request's parts at {users(table['load'].iloc[0])}, and what it costs\n"
        "(†: when a worker dies)"
    )
    shown = _table()
    shown.add_column("arm", overflow="fold")
    for name in known:
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("a request")
    for row in shares.to_dict("records"):
        shown.add_row(str(row["arm"]), *(_cell(row[key]) for key in known.values()), str(row["because"]))
        if row["when_worker_dies"]:
            shown.add_row("", *("" for _ in known), f"† {row['when_worker_dies']}")
    return Group(Text(f"\n{title}", style="bold"), shown)


# -- what to do ----------------------------------------------------------------------------------------


def advised(said: Advice) -> Iterator[RenderableType]:
    """The advice as a list, and the next command on a line of its own, to be copied."""
    if not said.lines:
        return
    shown = _table()
    shown.add_column("")
    shown.add_column("", overflow="fold")
    for line in said.lines:
        shown.add_row("-", one_line(line))
    yield Group(Text("\nWhat to do", style="bold"), shown)
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
    if _limited(here).any():
        title += "\n≥ ≤: limited by the client"
    costs = {"MB": "memory_uss_mb", "CPU/req": "cpu_ms_per_request"}
    known = {name: key for name, key in costs.items() if here[key].notna().any()}
    shown = _table()
    shown.add_column("")
    for name in found.axes:
        shown.add_column(name, overflow="fold")
    for name in ("req/s", "latency", "p99", *known):
        shown.add_column(name, justify="left" if name in ("req/s", "latency") else "right", no_wrap=True)
    for row in here.to_dict("records"):
        least, most = ("≥", "≤") if row["client_limited"] else ("", "")
        figures = [
            least + _within(row, "throughput_per_s"),
            most + _within(row, "latency_p50_ms"),
            _cell(row["latency_p99_ms"]),
        ]
        axes = [str(row[axis]) for axis in found.axes]
        shown.add_row(
            _PLACES.get(row["place"], ""), *axes, *figures, *(_cell(row[key]) for key in known.values())
        )
    return Group(Text(f"\n{title}", style="bold"), shown)


def _within(row: dict[Any, Any], name: str) -> str:
    low, high = (_cell(row[f"{name}_{end}"]) for end in ("low", "high"))
    return _cell(row[name]) + ("" if "-" in (low, high) else f" [{low}, {high}]")


def effects(found: sweep.Swept) -> RenderableType:
    """What a value of an axis does against the first one, everything else alike."""
    title = (
        "What each axis does, on average over the others: ratio [95 % interval]\n"
        "each: from the least to the most that one setting shows, in req/s"
    )
    shown = _table()
    for name in ("axis", "", "req/s", "each", "verdict", "latency"):
        shown.add_column(name, no_wrap=name in ("req/s", "latency"), overflow="fold")
    rows = {
        metric: found.effects[found.effects["metric"] == metric].to_dict("records")
        for metric in (THROUGHPUT, LATENCY)
    }
    latencies = {(row["axis"], row["value"]): row for row in rows[LATENCY]}
    for rate in rows[THROUGHPUT]:
        latency = latencies.get((rate["axis"], rate["value"]), _UNKNOWN)
        what = f"{rate['value']} / {rate['against']}"
        each = f"{ratio_number(rate['least'])}-{ratio_number(rate['most'])}" if rate["settings"] > 1 else ""
        ratios = [_interval(row["ratio"], row["low"], row["high"]) for row in (rate, latency)]
        shown.add_row(str(rate["axis"]), what, ratios[0], each, str(rate["verdict"]), ratios[1])
    return Group(Text(f"\n{title}", style="bold"), shown)


def _table() -> Table:
    """Its title is printed before it: rich would break it at the table's width, not at the terminal's."""
    return Table(box=None, pad_edge=False, collapse_padding=True)


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


def _where(row: dict[Any, Any]) -> str:
    return f"{row['arm']}, c = {row['concurrency']}"


def _spread(row: dict[Any, Any], key: str) -> str:
    low, middle, high = (_cell(row[f"{key}_p{percent}_ms"]) for percent in (5, 50, 95))
    return f"{middle} ({low}-{high})"


def _check(check: dict[Any, Any]) -> str:
    measured = _interval(check["measured"], check["low"], check["high"])
    corrected = f" at {100 * check['level']:.1f} %" if check["level"] > LEVEL else ""
    printed = "" if math.isnan(check["published"]) else f", article {check['published']:g}"
    note = f" {check['note']}." if check["note"] else ""
    return (
        f"{check['check']}: {measured}{corrected}, rule {check['bounds']}{printed}. "
        f"[{check['combination']}; {check['condition']}]{note}"
    )


def _beside(check: dict[Any, Any]) -> Text:
    verdict = _verdict(check["verdict"])
    return verdict if check["decides"] else Text.assemble("(", verdict, ")")


def _verdict(verdict: object) -> Text:
    return Text(str(verdict), style=_COLOURS.get(str(verdict), ""))


def _interval(ratio: float, low: float, high: float) -> str:
    if math.isnan(ratio):
        return "-"
    return ratio_number(ratio) + (
        f" [{ratio_number(low)}, {ratio_number(high)}]" if math.isfinite(low + high) else ""
    )


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.0f} %"


def _cell(value: Any, *, digits: int = 1) -> str:
    """A number for people: words and ints as they are, - for what was not measured."""
    if isinstance(value, int | str):
        return str(value)
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.{digits}f}"
