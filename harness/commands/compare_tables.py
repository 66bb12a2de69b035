"""Rows of `comparison` for the terminal and as JSON. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Column, Table
from rich.text import Text

from harness.commands.screen import folding, plain_table
from harness.numbers import or_missing, plain_rows, rounded, users
from harness.system.printable import one_line
from harness.verdicts import comparison, metrics, session_noise


def data(table: pd.DataFrame, notes: Sequence[str]) -> dict[str, Any]:
    """Plain data for JSON; NaN and infinity become null."""
    return {
        "notes": list(notes),
        "noisy": session_noise.noisy(table),
        "rows": plain_rows(table[comparison.COLUMNS]),
    }


def render(table: pd.DataFrame, notes: Sequence[str]) -> Iterator[Text | Table]:
    """The notes; then for each pair of arms the sentences of its primary rows and a table of all its rows."""
    for note in notes:
        yield Text(one_line(note))
    if noisy := session_noise.noisy(table):
        yield Text(noisy, style="bold yellow")
    for _, rows in table.groupby(["arm", "reference"], sort=False):
        yield Text()
        for sentence in leading(rows):
            yield Text(one_line(sentence), style="bold")
        for reason in _reasons(rows):
            yield Text(one_line(reason), style="yellow")
        yield _as_table(rows)


def leading(table: pd.DataFrame) -> list[str]:
    """The sentences of the primary rows, or of all rows if a filter removed the primary ones."""
    primary = table[table["primary"].astype(bool)]
    return list((table if primary.empty else primary)["sentence"])


def _reasons(rows: pd.DataFrame) -> list[str]:
    """The reasons that neither the sentences nor the table give, once per load."""
    known = " ".join([*leading(rows), session_noise.noisy(rows)])
    weighty = rows[rows["primary"].astype(bool) | ~np.isfinite(rows["ratio"])]
    new = [row for row in weighty.to_dict("records") if row["reason"] not in known]
    return list(dict.fromkeys(f"At {users(row['load'])}: {row['reason']}." for row in new))


def _as_table(rows: pd.DataFrame) -> Table:
    level = f"{100 * rows['level'].iloc[0]:g} %"
    figures = (
        Column(name, justify="right", overflow="fold") for name in ("arm", "reference", "ratio", level)
    )
    shown = plain_table(folding("load"), folding("metric"), *figures, folding("verdict"))
    for row in rows.to_dict("records"):
        values = (figure(row[key]) for key in ("arm_value", "reference_value", "ratio"))
        metric = label(row).removeprefix("median ")
        shown.add_row(users(row["load"]), metric, *values, bounds(row), f"{row['verdict']}{in_words(row)}")
    return shown


def in_words(row: dict[Any, Any]) -> str:
    """The reason for an inconclusive verdict or an uncertain size, after a colon."""
    return f": {row['why']}" if row["why"] else ""


def label(row: dict[Any, Any]) -> str:
    return metrics.label(row["metric"], row["stat"])


def bounds(row: dict[Any, Any]) -> str:
    return "-" if math.isnan(row["low"]) else f"{figure(row['low'])}-{figure(row['high'])}"


def figure(value: float) -> str:
    return or_missing(value, lambda figure: rounded(figure, 1000, 10, 1.1))
