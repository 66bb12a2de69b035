"""Convert trials to the windows that the walk and the fit use, and to rows of windows.csv. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis import slo, summaries
from harness.analysis.arrays import Bools, Floats
from harness.analysis.percentiles import percentile
from harness.analysis.rows import Cells, measured
from harness.analysis.slo import Objective
from harness.capacity.crossing import Window
from harness.verdicts.admissible import Evidence
from harness.wire.records import INVALID, MEASURE, PILOT_BLOCK, Sample, Trial

CLOCK_MS = 0.01  # a window that is not given up has its planned length within this

MEANINGS = {  # column → what it means; docs/reference/csv.md shows it
    "trial": "Number of the trial.",
    "arm": "Name of the arm.",
    "block": "Number of the block.",
    "confirms": "Whether the window confirms a rate; the others search for it.",
    "rate_per_s": "Poisson rate of the window.",
    "requests": "Requests that were measured.",
    "failed": "Those without a good answer.",
    "mean_ms": "Mean latency of good answers.",
    "latency_ms": "The percentile or mean of the latency objective.",
    "good_per_s": "Good answers per second.",
    "goodput_per_s": "Good answers per second within the latency objective.",
    "gave_up": "Whether the window ended early because the arm could not keep an objective any more.",
    "kept": "Whether it kept every objective, including those that need more requests to be judged.",
}
COLUMNS = list(MEANINGS)
NUMBERED = {  # for objective 1, 2 …: sums over the window's requests
    "score": "Sum of the scores by which the window is judged on this objective.",
    "count": "Requests that have such a score.",
}


def window_of(
    trial: Trial,
    samples: Sequence[Sample],
    objectives: Sequence[Objective],
    *,
    confirms: bool,
    timeout_s: float,
    window_s: float,
) -> Window | None:
    """Return the window of a trial; None if the trial is invalid or measured nothing.

    window_s: the planned length of the window.
    """
    rows = [sample for sample in samples if sample.phase == MEASURE]
    if trial.state == INVALID or not rows or trial.rate_per_s is None:
        return None
    return window(
        block=trial.block,
        rate_per_s=trial.rate_per_s,
        confirms=confirms,
        latency_ms=np.array([row.done_ms - row.due_ms for row in rows]),
        io_ms=np.array([math.nan if row.io_ms is None else row.io_ms for row in rows]),
        good=np.array([not row.error for row in rows]),
        objectives=objectives,
        timeout_s=timeout_s,
        gave_up=gave_up(trial.window_start_ms, trial.window_end_ms, window_s),
    )


def window(
    *,
    block: int,
    rate_per_s: float,
    confirms: bool,
    latency_ms: Floats,
    io_ms: Floats,
    good: Bools,
    objectives: Sequence[Objective],
    timeout_s: float,
    gave_up: bool = False,
) -> Window:
    """Sum the scores of each objective; a request without a score does not count."""
    scores = [one.scores(latency_ms, io_ms, good, timeout_s * 1e3) for one in objectives]
    return Window(
        block=block,
        rate_per_s=rate_per_s,
        confirms=confirms,
        sums=tuple(float(np.nansum(score)) for score in scores),
        counts=tuple(float(np.count_nonzero(~np.isnan(score))) for score in scores),
        gave_up=gave_up,
    )


def gave_up(start_ms: float, end_ms: float, window_s: float) -> bool:
    """Whether a window ended before its planned length: see `slo.hopeless_in_flight`."""
    return abs(end_ms - start_ms - window_s * 1e3) > CLOCK_MS


def table(found: Evidence, objectives: Sequence[Objective]) -> pd.DataFrame:
    """One row for each usable trial of the walk; columns: `COLUMNS`, then the sums and counts of scores."""
    trials = found.run.trials
    trials = trials[(trials["block"] > PILOT_BLOCK) & (trials["state"] != INVALID) & (trials["measured"] > 0)]
    trials = trials[~trials["block"].isin(list(found.excluded))]
    cells = Cells(measured(found.derived), by=("trial",))
    rows = [
        _window_row(
            trial, cells.select((trial["trial"],), ["ok", summaries.LATENCY, "io_ms"]), found, objectives
        )
        for trial in trials.to_dict("records")
    ]
    numbered = [f"{what}_{number + 1}" for what in NUMBERED for number in range(len(objectives))]
    return pd.DataFrame(rows, columns=[*COLUMNS, *numbered])


def _window_row(
    trial: Mapping[Any, Any], rows: pd.DataFrame, found: Evidence, objectives: Sequence[Objective]
) -> dict[str, Any]:
    settings = found.run.record["capacity"]
    confirms = settings["searched"] is not None and trial["block"] > settings["searched"]
    good = np.asarray(rows["ok"], dtype=bool)
    scored = window(
        block=int(trial["block"]),
        rate_per_s=float(trial["rate_per_s"]),
        confirms=bool(confirms),
        latency_ms=np.asarray(rows["latency_ms"], dtype=np.float64),
        io_ms=np.asarray(rows["io_ms"], dtype=np.float64),
        good=good,
        objectives=objectives,
        timeout_s=found.run.record["plan"]["timeout_s"],
        gave_up=gave_up(
            trial["window_start_ms"],
            trial["window_end_ms"],
            settings["window_s"] if confirms else settings["search_s"],
        ),
    )
    within = good & (np.asarray(rows["latency_ms"]) < slo.latency_limit_ms(objectives))
    seconds = (trial["window_end_ms"] - trial["window_start_ms"]) / 1e3
    return {
        "trial": int(trial["trial"]),
        "arm": str(trial["arm"]),
        "block": scored.block,
        "confirms": scored.confirms,
        "rate_per_s": scored.rate_per_s,
        "requests": len(rows),
        "failed": int((~good).sum()),
        "mean_ms": summaries.statistic(rows, summaries.LATENCY, "mean"),
        "latency_ms": _shown_latency(rows, objectives),
        "good_per_s": good.sum() / seconds if seconds else math.nan,
        "goodput_per_s": within.sum() / seconds if seconds else math.nan,
        "gave_up": scored.gave_up,
        "kept": scored.keeps(objectives),
        **{f"score_{number}": total for number, total in enumerate(scored.sums, 1)},
        **{f"count_{number}": count for number, count in enumerate(scored.counts, 1)},
    }


def _shown_latency(rows: pd.DataFrame, objectives: Sequence[Objective]) -> float:
    """The latency figure of one window for the chart; crude, so shown for any number of requests."""
    one = slo.charted(objectives)
    if one.percent is None:
        return summaries.statistic(rows, summaries.LATENCY, "mean")
    ranked = rows["latency_ms"].where(rows["ok"], math.inf)
    return percentile(np.asarray(ranked, dtype=np.float64), one.percent)


def as_windows(rows: pd.DataFrame, numbers: Sequence[int]) -> list[Window]:
    """Convert rows to windows with the scores of the objectives with these numbers (from 1)."""
    return [
        Window(
            block=row["block"],
            rate_per_s=row["rate_per_s"],
            confirms=row["confirms"],
            sums=tuple(row[f"score_{number}"] for number in numbers),
            counts=tuple(row[f"count_{number}"] for number in numbers),
            gave_up=row["gave_up"],
        )
        for row in rows.to_dict("records")
    ]
