"""The tables printed in the article, with this run's figures next to them. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from harness.analysis import summaries
from harness.analysis.rows import Cells, Requests, measured
from harness.verdicts.claims_file import Claims, Lone, Table


def published_tables(claims: Claims, requests: Requests) -> pd.DataFrame:
    """One row per printed table and arm that reproduces it: printed figures, ours (pooled), the split.

    `published_model` and `published_io` are the printed figures as text, `…_ms` the same figures as lists.
    Model is what the route waits for the model; queue, in_worker and resume are the medians of its parts. A
    *_ratio divides by the model or the I/O alone: in the article those of table T1, here the lone arm's model
    and the arm's own I/O at c = 1. met_at, for tables with `find_load`, is the concurrency at which this
    machine reaches the printed model ratio.
    """
    judged = Cells(summaries.under(claims.law, requests), ("arm", "concurrency"))
    rows = [_table_row(claims, table, arm, judged) for table in claims.tables for arm in table.arms]
    return pd.DataFrame(rows)


def _measured(cells: Cells, arm: str, concurrency: int) -> Requests:
    """The measured requests, with the columns that the article prints."""
    names = ["phase", "ok", "route_model_ms", "queue_ms", "model_ms", "resume_ms", "io_ms"]
    return measured(cells.rows((arm, concurrency), names))


def _table_row(claims: Claims, table: Table, arm: str, cells: Cells) -> dict[str, object]:
    printed_ratio = float(np.median(table.model_ms) / np.median(claims.lone_table.model_ms))
    ratios = _model_ratios(cells, arm, claims.lone)
    return {
        **_printed(table),
        "published_model_ratio": printed_ratio,
        "published_io_ratio": float(np.median(table.io_ms) / np.median(claims.lone_table.io_ms)),
        **_ours(table, arm, claims.lone, cells),
        "model_ratio": ratios.get(table.concurrency, math.nan),
        "met_at": met_at(ratios, printed_ratio) if table.find_load else "",
    }


def _printed(table: Table) -> dict[str, object]:
    return {
        "table": table.id,
        "strategy": table.strategy,
        "load_text": table.load,
        "published_model": _as_printed(table.model_ms, table.gap_before_last),
        "published_model_ms": list(table.model_ms),
        "published_model_p50_ms": float(np.median(table.model_ms)),
        "published_io": _as_printed(table.io_ms, table.gap_before_last),
        "published_io_ms": list(table.io_ms),
        "published_io_p50_ms": float(np.median(table.io_ms)),
    }


def _as_printed(figures: tuple[float, ...], gap_before_last: bool) -> str:
    texts = [f"{figure:g}" for figure in figures]
    return " ".join([*texts[:-1], "…", texts[-1]] if gap_before_last else texts)


def _ours(table: Table, arm: str, lone: Lone, cells: Cells) -> dict[str, object]:
    rows = _measured(cells, arm, table.concurrency)
    io_alone = _median(_measured(cells, arm, lone.concurrency), "io_ms")
    return {
        "arm": arm,
        "concurrency": table.concurrency,
        "requests": len(rows),
        **_middle(rows, "route_model_ms", "model"),
        "queue_p50_ms": _median(rows, "queue_ms"),
        "in_worker_p50_ms": _median(rows, "model_ms"),
        "resume_p50_ms": _median(rows, "resume_ms"),
        **_middle(rows, "io_ms", "io"),
        "io_ratio": _ratio(_median(rows, "io_ms"), io_alone),
        "note": table.note if len(rows) else f"{arm} was not run at c = {table.concurrency}",
    }


def _model_ratios(cells: Cells, arm: str, lone: Lone) -> dict[int, float]:
    """Concurrency → the route's Model over the lone model, for each load of this arm."""
    alone = _median(_measured(cells, lone.arm, lone.concurrency), "model_ms")
    return {
        int(c): _ratio(_median(_measured(cells, arm, c), "route_model_ms"), alone)
        for other, c in cells
        if other == arm
    }


def _middle(rows: Requests, metric: str, name: str) -> dict[str, float]:
    percents = (50, 5, 95)
    return {f"{name}_p{p}_ms": summaries.pooled_percentile(rows, metric, p) for p in percents}


def _median(rows: Requests, metric: str) -> float:
    return summaries.pooled_percentile(rows, metric, 50)


def _ratio(figure: float, alone: float) -> float:
    return figure / alone if alone else math.nan  # a synthetic workload may have no I/O


def met_at(levels: Mapping[int, float], target: float) -> str:
    """In words, the first concurrency at which `levels` (concurrency → figure) reaches `target`.

    Interpolates between two measured levels. The number of users is whole: "between 1 and 2" means that no
    number of users gives the target, only a load whose requests overlap less than at the upper level.
    """
    known = [(c, level) for c, level in sorted(levels.items()) if not math.isnan(level)]
    if not known or math.isnan(target):
        return "not measured"
    reached = next((place for place, (_, level) in enumerate(known) if level >= target), None)
    if reached is None:
        return f"not reached by c = {known[-1][0]}"
    above, over = known[reached]
    if over == target:
        return f"c = {above}"
    if reached == 0:
        return f"already exceeded at c = {above}"
    below, under = known[reached - 1]
    met = below + (above - below) * (target - under) / (over - under)
    return f"between {below} and {above} (c ≈ {met:.1f})"
