"""How many requests a call of the model carries, for arms that batch."""

from __future__ import annotations

import numpy as np
import pandas as pd

from harness.analysis.rows import Cells, in_parts, measured
from harness.numbers import percent, short, users
from harness.report.charts.page import tidy
from harness.report.page.context import Context
from harness.report.page.drawing import figure, markup, name_axes
from harness.report.page.parts import Panel, Picture, Table

_HEIGHT_IN = 2.2
_LEAST_MEAN = 1.05  # requests per call: below it, an arm does not batch


def picture(found: Context) -> Picture | None:
    """The share of the model's calls that carry 1, 2, … requests, a panel for each arm that batches."""
    cells = Cells(found.rows)
    calls = {arm: _calls(cells, arm, found.load) for arm in found.arms}
    calls = {arm: its for arm, its in calls.items() if len(its) and _mean(its) >= _LEAST_MEAN}
    if not calls:
        return None
    most = max(int(its.index.max()) for its in calls.values())
    top = max(float(its.max()) for its in calls.values())
    means = {arm: _mean(its) for arm, its in calls.items()}
    first = max(means, key=lambda arm: means[arm])
    return Picture(
        title=f"{found.at}, a call of the model carries {short(means[first])} requests with {first}",
        alt=f"Batch sizes at {users(found.load)}: "
        + "; ".join(f"{arm} {short(mean)} requests a call in the mean" for arm, mean in means.items())
        + ".",
        panels=[
            Panel(arm, _panel(found, arm, its, (most, top), f"batches-{number}"))
            for number, (arm, its) in enumerate(calls.items())
        ],
        table=Table(
            ["arm", "requests in the call", "share of calls"],
            [[arm, str(size), percent(share)] for arm, its in calls.items() for size, share in its.items()],
        ),
        note="Of the calls that carried a measured request.",
    )


def _calls(cells: Cells, arm: str, load: str) -> pd.Series[float]:
    """Batch size → share of calls; a request in a batch of n counts as 1/n of a call."""
    rows = measured(cells.rows((arm, load), ["phase", "ok", "batch_size"]))
    parts = in_parts(rows, ["ok", "batch_size"])
    sizes = pd.concat([part.loc[part["ok"], "batch_size"].dropna() for part in parts]).astype(int)
    sizes = sizes[sizes > 0]
    calls = sizes.value_counts().sort_index() / np.array(sorted(sizes.unique()))
    shares: pd.Series[float] = calls / calls.sum()
    return shares


def _mean(calls: pd.Series[float]) -> float:
    return float((calls * calls.index.to_numpy()).sum())


def _panel(found: Context, arm: str, calls: pd.Series[float], most: tuple[int, float], name: str) -> str:
    fig, ax = figure(_HEIGHT_IN)
    ax.bar(
        calls.index.to_numpy(), 100 * calls.to_numpy(), color=found.looks[arm].colour, linewidth=0, width=0.8
    )
    ax.set(xlim=(0.4, most[0] + 0.6), ylim=(0, 105 * most[1]))
    tidy(ax, grid="y")
    name_axes(ax, x="requests in one call", y="% of calls")
    return markup(fig, name)
