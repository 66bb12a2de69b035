"""The page of all columns of a run's CSVs, from the declarations of their tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from harness.commands import reference_commands

# end of a column's name → its unit; the first that fits
UNITS = {"_per_s": "1/s", "_ms": "ms", "_s": "s", "_ms_per_request": "ms", "_mb": "MB", "_share": "share"}
UNITS |= {"foreign_cpu": "cores"}


class Table(NamedTuple):
    """A CSV of a run's folder."""

    name: str
    about: str
    meanings: Mapping[str, str]


def lines() -> Iterator[str]:
    """The page as lines of Markdown."""
    yield "# CSV files"
    yield ""
    yield from reference_commands.wrapped(
        "A run is a folder with these files ([what else is in it](../../results/README.md)). `requests.csv` "
        "and `trials.csv` are what was measured. The others are derived: `execbench report RUN` makes them "
        "again."
    )
    yield ""
    yield from reference_commands.wrapped(
        "Moments count from the start of their trial, on the monotonic clock that all processes of a host "
        "share. An empty cell means that the value is not known. A share is from 0 to 1."
    )
    yield ""
    yield "`execbench reference csv` writes this page."
    for table in tables():
        yield from ("", f"## {table.name}", "", *reference_commands.wrapped(table.about), "")
        yield "| column | unit | meaning |"
        yield "|---|---|---|"
        for column, meaning in table.meanings.items():
            yield f"| `{column}` | {unit(column)} | {reference_commands.literal(meaning)} |"


def unit(column: str) -> str:
    """The unit of a column, by its name; empty for names, counts and ratios."""
    whole = column.removesuffix("_low").removesuffix("_high")
    return next((name for end, name in UNITS.items() if whole.endswith(end)), "")


def tables() -> list[Table]:
    """Every CSV that a run may have."""
    from harness.analysis import efficiency, machine, nominal, rows, summaries
    from harness.capacity import arms, windows
    from harness.report import export, halving, ranking, sweep
    from harness.verdicts import comparison
    from harness.wire.records import Generator, Sample, Trial, meanings

    return [
        Table("requests.csv", "One row for each request, with warm-ups and failures.", meanings(Sample)),
        Table(
            "Derived from requests.csv",
            "`open_run(RUN).requests` ([Python](python.md)) has these columns too, and the trial's "
            "`concurrency`, `io_nominal_ms`, `window_start_ms`, `window_end_ms` and `trial_state`. They are "
            "not stored.",
            rows.MEANINGS,
        ),
        Table(
            "trials.csv", "One row for each trial: one arm under one load for one window.", meanings(Trial)
        ),
        Table(
            "generators.csv",
            "One row for each load generator and trial, if a run has several.",
            meanings(Generator),
        ),
        Table(
            "summary.csv",
            "One row for each arm and load, over all requests of its blocks. p5, p90 and p95 need 64 "
            "requests, and p99 needs 662; they are empty for fewer. In a percentile of latency, failures "
            "count as slower than any success.",
            summaries.MEANINGS | _figures(rows.MEANINGS | meanings(Sample)),
        ),
        Table(
            "comparisons.csv",
            "One row for each arm other than the reference, load and metric.",
            comparison.MEANINGS,
        ),
        Table("costs.csv", "What each arm takes under each load.", machine.COST_MEANINGS),
        Table("limits.csv", "Each arm beside the bare model; if the plan measures it.", efficiency.MEANINGS),
        Table("io.csv", "The I/O under each open load, if a single user was measured too.", nominal.MEANINGS),
        Table(
            "claims.csv",
            "The article's claims with their checks, if the plan judges them.",
            export.CLAIM_MEANINGS,
        ),
        Table("ranking.csv", "The arms in order, if the plan ranks them.", ranking.MEANINGS),
        Table("sweep.csv", "One row for each setting of a sweep and load.", sweep.MEANINGS),
        Table("sweep_effects.csv", "The effect of each axis of a sweep.", sweep.EFFECT_MEANINGS),
        Table(
            "rounds.csv",
            "One row for each setting in each round of `sweep --slo`. The final is in sweep.csv.",
            halving.ROUND_MEANINGS,
        ),
        Table(
            "objectives.csv",
            "One row for each finalist of `sweep --slo` and objective.",
            halving.OBJECTIVE_MEANINGS,
        ),
        Table("capacity.csv", "One row for each arm of a capacity run.", arms.MEANINGS),
        Table(
            "windows.csv",
            "One row for each window of a capacity run.",
            windows.MEANINGS | {f"{name}_1": meaning for name, meaning in windows.NUMBERED.items()},
        ),
    ]


def _figures(meanings: Mapping[str, str]) -> dict[str, str]:
    """The columns of summary.csv that are statistics of a figure of the requests."""
    from harness.analysis import summaries

    found = {}
    for metric in summaries.EVERY_METRIC:
        percents = summaries.percents_of(metric)
        stats = ",".join(["mean", *(f"p{percent}" for percent in percents)])
        found[f"{metric.removesuffix('_ms')}_{{{stats}}}_ms"] = meanings[metric]
    return found
