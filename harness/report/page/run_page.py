"""The page of a run, a load or a sweep."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from harness.analysis.summaries import THROUGHPUT
from harness.numbers import MISSING, cell, counted, ratio_interval, users
from harness.report import advice, next_command
from harness.report.page import (
    again,
    batches,
    burst,
    claims,
    costs,
    load_curves,
    one_trial,
    over_time,
    ratios,
    service,
    settings,
    terms,
    time_split,
    trust,
    waits,
)
from harness.report.page.context import Context, cell_of
from harness.report.page.parts import Page, Picture, Reason, Section, Table
from harness.report.ranking import compared
from harness.report.report import Report
from harness.results import store
from harness.verdicts import environments
from harness.wire.records import PILOT_BLOCK


def page(report: Report, files: list[str]) -> Page:
    """The page of a report. `files`: the names of the files in the run's folder."""
    found = Context(report)
    sections = [*_sections(found)]
    return Page(
        title=f"{report.plan.get('name', 'load')}: executor-bench report",
        about=" · ".join(filter(None, _about(found))),
        answer=report.answer,
        take=report.choice.take,
        how=_how(report),
        reasons=[*_reasons(found, sections)],
        tiles=trust.tiles(report, found.load),
        warnings=report.warnings,
        notes=list(report.notes),
        sections=[*sections, again.section(report.record, report.folder, files)],
    )


def _about(found: Context) -> Iterator[str]:
    """What was run, when, and what the load that decides is."""
    report, table = found.report, found.report.summary
    yield str(report.plan.get("summary") or "")
    yield again.workload(report.plan)
    if len(table):
        yield f"{counted(table['arm'].nunique(), 'arm')}, {counted(table['load'].nunique(), 'load')}"
    if started := str(report.record.get("started_at") or "")[:16].replace("T", " "):
        yield f"{started} UTC"
    if found.load.startswith("closed("):
        yield f"{users(found.load)}: number of users; each sends its next request after the last answer"


def _how(report: Report) -> str:
    """The flag that makes a server the advised arm; "" if the arm's name says it."""
    arms = report.plan.get("arms") or []
    planned: Mapping[str, Any] = next((arm for arm in arms if arm["name"] == report.choice.take), {})
    text = next_command.strategy(planned)
    return f"--strategy {text}" if text not in ("", report.choice.take) else ""


_REASONS = ("service", "waits", "costs")  # the sections whose findings begin the page


def _reasons(found: Context, sections: list[Section]) -> Iterator[Reason]:
    """Why to take the arm, at which price, what may be as good, and how many claims hold."""
    pictures = {one.anchor: one.pictures[0] for one in sections if one.pictures}
    for anchor in _REASONS:
        if anchor in pictures:
            yield Reason(f"{pictures[anchor].title}.", anchor)
    for sentence in found.report.advised.rest[1:]:  # the first is the arm itself
        yield Reason(sentence, "advice")
    if "claims" in pictures:
        yield Reason(f"{pictures['claims'].title}.", "claims")


def _sections(found: Context) -> Iterator[Section]:
    report = found.report
    if not found.load:
        yield Section("advice", "What to do", lines=advice.printed_lines(report.advised))
        return
    yield Section(
        "arms",
        f"The arms at {users(found.load)}",
        _drawn(ratios.picture(found)),
        tables=[_arms(found)],
        lines=_about_arms(found),
        terms=terms.of("arm", "ratio", "interval", "block", "twin", *terms.VERDICTS),
    )
    if report.swept is not None:
        yield settings.section(found)
    yield from _with_pictures(
        Section(
            "load",
            "Against the load",
            load_curves.pictures(found),
            terms=terms.of("c", "latency", "p50, p95, p99"),
        ),
        Section(
            "time",
            "Where a request's time goes",
            _drawn(time_split.picture(found)),
            terms=terms.of("queue", "worker", "way back", "I/O", "outside"),
        ),
        Section(
            "waits",
            "What a user waits",
            _drawn(waits.picture(found)),
            terms=terms.of("latency", "p50, p95, p99"),
        ),
        Section(
            "service",
            "What the rest of the service feels",
            _drawn(service.picture(found)),
            terms=terms.of("event loop", "ping"),
        ),
        Section("burst", "One burst, request by request", _drawn(burst.picture(found)), lines=_trace(found)),
    )
    if len(report.claims):
        yield Section(
            "claims",
            "The article's claims",
            _drawn(claims.picture(found)),
            tables=[claims.table(found)],
            lines=[claims.source(found)],
        )
    yield from _with_pictures(
        Section("costs", "What it costs", _drawn(costs.picture(found))),
        Section("batches", "How many requests a model call carries", _drawn(batches.picture(found))),
        Section("over-time", "Over the run", _drawn(_course(found)), terms=terms.of("block")),
    )
    yield Section("advice", "What to do", lines=list(report.advised.lines), command=report.advised.command)


def _drawn(picture: Picture | None) -> list[Picture]:
    return [] if picture is None else [picture]


def _with_pictures(*sections: Section) -> Iterator[Section]:
    return (section for section in sections if section.pictures)


def _arms(found: Context) -> Table:
    """The arms at the load that decides, without the columns that are empty."""
    report = found.report
    here = report.contestants[report.contestants["load"].astype(str) == found.load]
    shown = here[~here["arm"].isin(list(report.evidence.other_work()))]
    if report.swept is not None:
        shown = shown[shown["arm"].astype(str).isin(found.arms)]
    rows = [_arm(found, row) for row in (shown if len(shown) else here).to_dict("records")]
    heads = [head for head in rows[0] if any(row[head] != MISSING for row in rows)]
    words = sum(head == "arm" or head.endswith("verdict") for head in heads)
    return Table(heads, [[row[head] for head in heads] for row in rows], words)


def _arm(found: Context, row: Mapping[Any, Any]) -> dict[str, str]:
    """Head → cell of an arm's row."""
    report, arm = found.report, str(row["arm"])
    metric = report.choice.metric.name
    against: dict[str, Any] = compared(report.comparisons, arm, found.load, metric, found.reference)
    is_reference, is_compared = arm == found.reference, len(report.comparisons) > 0
    least, most = ("≥ ", "≤ ") if row["client_limited"] else ("", "")
    costs = cell_of(report.costs, arm, found.load)
    ratio = "1" if is_reference else ratio_interval(against["ratio"], against["low"], against["high"])
    mark = environments.MARK if report.evidence.apart(arm) else ""
    what = "requests/s" if metric == THROUGHPUT else "latency"
    return {
        "arm": arm + (" (take this)" if arm == report.choice.take else ""),
        f"{what}: verdict": str(against["verdict"]) + mark if is_compared else MISSING,
        "ratio [interval]": ratio if is_compared else MISSING,
        "requests/s": least + cell(row[THROUGHPUT]),
        **{f"p{percent}, ms": most + cell(row[f"latency_p{percent}_ms"]) for percent in (50, 95, 99)},
        "I/O, ms": cell(row["io_p50_ms"]),
        "other routes, ms": cell(float(costs.get("ping_p50_ms", math.nan))),
        "loop lag p99, ms": cell(float(costs.get("server_lag_p99_ms", math.nan))),
    }


def _about_arms(found: Context) -> list[str]:
    """What to know of the table."""
    report, lines = found.report, []
    here = report.contestants[report.contestants["load"].astype(str) == found.load]
    fewest, most = int(here["requests"].min()), int(here["requests"].max())
    requests = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
    lines.append(f"Percentiles are of {requests} requests an arm; I/O and other routes: medians.")
    if len(report.comparisons):
        lines.append(
            "Requests/s are medians over blocks. A ratio is the mean over blocks, so it can differ from the "
            "quotient of two figures."
        )
    lines += [f"{environments.MARK} {sentence}" for sentence in report.evidence.environments()]
    if others := sorted(report.evidence.other_work()):
        lines.append(f"Not compared, as their I/O or model differs: {', '.join(others)} (summary.csv).")
    return lines


def _course(found: Context) -> Picture | None:
    """Over the blocks of the run, or within its only trial."""
    trials = found.report.trials
    is_one = len(trials[trials["block"] > PILOT_BLOCK]) == 1
    return one_trial.picture(found) if is_one else over_time.picture(found)


def _trace(found: Context) -> list[str]:
    folder = store.RESULTS / found.report.folder.resolve().name
    command = next_command.shell_line(["execbench", "report", folder, "--trace"])
    return (
        [f"{command} writes every request to trace.json.gz; open it at ui.perfetto.dev."] if command else []
    )
