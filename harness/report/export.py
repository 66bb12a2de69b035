"""A report as files in the run's folder, and as JSON."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.analysis.summaries import LATENCY
from harness.numbers import plain_rows
from harness.report import advice, claim_rows
from harness.report.charts import forest, io_distribution, published, split, sweep_chart, timeline
from harness.results import written
from harness.verdicts import comparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from harness.report.report import Report
    from harness.report.sweep import Swept

CHARTED_CELL = ["arm", "load", "concurrency", "phase", "ok"]
CHARTED_IO = ["io_ms", "io_nominal_ms"]
CHARTED_PARTS = ["entered_ms", "queue_ms", "model_ms", "resume_ms", "outside_ms", "service_ms"]
CHARTED_TIMES = ["trial", "due_ms", "sent_ms", "done_ms", LATENCY]


def write(report: Report) -> None:
    """Write the tables and charts/ into the run's folder, replacing older ones: all, or HarnessError."""
    with written.replacing(report.folder) as new:
        write_into(new, report)


def write_into(folder: Path, report: Report) -> None:
    """Write the tables and charts/ into `folder`.

    summary.csv, comparisons.csv, costs.csv; limits.csv, io.csv, claims.csv, ranking.csv, sweep.csv and
    sweep_effects.csv where there are any; advice.txt.
    """
    write_advice(folder, report.said)
    written.write_table(folder, "summary.csv", report.summary)
    written.write_table(folder, "comparisons.csv", report.comparisons[comparison.COLUMNS])
    written.write_table(folder, "costs.csv", report.costs)
    if len(report.limits):
        written.write_table(folder, "limits.csv", report.limits)
    if len(report.io):
        written.write_table(folder, "io.csv", report.io)
    if len(report.claims):
        written.write_table(folder, "claims.csv", claim_rows.table(report))
    if report.plan.get("ranking"):
        written.write_table(folder, "ranking.csv", report.ranking)
    if report.swept is not None:
        written.write_table(folder, "sweep.csv", report.swept.table)
        written.write_table(folder, "sweep_effects.csv", report.swept.effects)
    write_charts(folder, report)


def write_advice(folder: Path, said: advice.Advice) -> None:
    """Write advice.txt."""
    written.write_text(folder, "advice.txt", "".join(f"{line}\n" for line in advice.told(said)))


def write_charts(folder: Path, report: Report) -> None:
    """Write charts/, each chart drawn when it is its turn."""
    for name, draw in report.charts.items():
        written.write_chart(folder, name, draw())


def charts_of(report: Report) -> dict[str, Callable[[], Figure]]:
    """What draws each chart of the run, by the name of its file in charts/."""
    drawn: dict[str, Callable[[], Figure]] = {}
    if report.swept is not None:
        drawn["sweep"] = partial(sweep_chart.draw, report.swept)
    if report.requests.empty:
        return drawn
    rows, io = report.requests, [*CHARTED_CELL, *CHARTED_IO]  # each chart copies its good rows
    drawn |= {
        "timeline": lambda: timeline.draw(rows[[*io, *CHARTED_PARTS, *CHARTED_TIMES]]),
        "split": lambda: split.draw(rows[[*io, *CHARTED_PARTS]]),
        "io": lambda: io_distribution.draw(rows[io]),
    }
    if len(report.claims):
        drawn["published"] = partial(published.draw, report.published)
        drawn["claims"] = partial(forest.draw, report.checks)
    return drawn


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain data for `--json`: rows are objects; NaN and infinity, no JSON, are null."""
    return {
        "run": str(report.folder),
        "finding": report.finding,
        "machine": report.machine,
        "notes": list(report.notes),
        "warnings": report.warnings,
        "excluded_blocks": {str(block): why for block, why in report.excluded.items()},
        "summary": plain_rows(report.summary),
        "comparisons": plain_rows(report.comparisons[comparison.COLUMNS]),
        "costs": plain_rows(report.costs),
        "limits": plain_rows(report.limits),
        "io": plain_rows(report.io),
        "claims": plain_rows(claim_rows.table(report)),
        "ranking": plain_rows(report.ranking),
        "conclusion": report.conclusion,
        "advice": list(report.said.lines),
        "advised": advice.as_json(report.said),
        "sweep": None if report.swept is None else _swept_as_json(report.swept),
    }


def _swept_as_json(swept: Swept) -> dict[str, Any]:
    return {
        "best": list(swept.sentences),
        "load": swept.load,
        "metric": swept.metric.name,
        "settings": plain_rows(swept.table),
        "effects": plain_rows(swept.effects),
    }
