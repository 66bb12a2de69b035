"""How latency, and the memory of the servers, change over the run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from harness.analysis import servers, summaries
from harness.analysis.rows import measured
from harness.analysis.stats import FEWEST_BLOCKS_FOR_VERDICT, LEVEL, Effect, effect
from harness.analysis.summaries import LATENCY
from harness.numbers import cell, milliseconds, users
from harness.report.charts.page import tidy
from harness.report.page.context import Context
from harness.report.page.drawing import (
    arm_keys,
    figure,
    finite,
    mark_key,
    markup,
    name_axes,
    size_axis,
)
from harness.report.page.parts import Panel, Picture, Table
from harness.wire.records import PILOT_BLOCK, SOUND

_HEIGHT_IN = 2.7
_MOST_DOTS = 200  # of an arm; more hide the line
_MEMORY = "server_rss_mb"
_AXES = {"median_ms": "median latency (ms)", _MEMORY: "resident memory (MB)"}
_SHADE: dict[str, Any] = {"color": "#e4e4e4", "linewidth": 0}


def picture(found: Context) -> Picture | None:
    """The median latency of each trial at the load that decides, and each server's memory, over minutes."""
    trials = _trials(found)
    if trials.empty:
        return None
    panels = [Panel(f"Median latency of each trial, {users(found.load)}", _over(found, trials, "median_ms"))]
    memory = servers.memory_over_time(found.report.trials)
    memory = _with_minutes(memory[memory["arm"].isin(found.arms)], found.report.trials)
    if len(memory):
        panels.append(Panel("Memory of each server's processes", _over(found, memory, _MEMORY)))
    keys = arm_keys(found.shown())
    if found.report.excluded:
        keys.append(mark_key("block left out", _SHADE["color"], line=9))
    return Picture(
        title=_title(found, trials),
        alt=f"Median latency of each trial over the run at {users(found.load)}, in {len(trials)} trials. "
        + " ".join(f"{arm}: {_range(its)}." for arm, its in trials.groupby("arm", sort=False)),
        panels=panels,
        table=_table(trials),
        keys=keys,
        note="Blocks are compared with each other, so a slow drift of the whole machine cancels out; one "
        "that hits a single arm does not."
        + (" Memory: resident, with shared pages counted in each process." if len(memory) else ""),
    )


def _trials(found: Context) -> pd.DataFrame:
    """The sound trials at the load that decides, with the minute of each and its median latency."""
    trials = found.report.trials
    trials = trials[(trials["block"] > PILOT_BLOCK) & trials["state"].isin(SOUND)]
    here = trials[(trials["load"] == found.load) & trials["arm"].isin(found.arms)]
    here = _with_minutes(here, found.report.trials)
    medians = _medians(found)
    return here.assign(median_ms=here["trial"].map(medians)).dropna(subset=["median_ms", "minute"])


def _with_minutes(rows: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """The rows with the minute of the run at which their trial began."""
    begun, first = (
        pd.to_datetime(of["started_at"], errors="coerce", utc=True, format="ISO8601") for of in (rows, trials)
    )
    return rows.assign(minute=(begun - first.min()).dt.total_seconds() / 60.0)


def _medians(found: Context) -> dict[int, float]:
    """Trial → the median latency of its measured requests, also in blocks that are left out."""
    rows = measured(found.report.evidence.sent)
    facts = rows.trials
    wanted = facts[
        (facts["load"] == found.load) & facts["arm"].isin(found.arms) & (facts["block"] > PILOT_BLOCK)
    ]
    return {
        int(trial): summaries.statistic(rows.only(facts["trial"] == trial), LATENCY, "median")
        for trial in wanted["trial"]
    }


def _over(found: Context, rows: pd.DataFrame, column: str) -> str:
    """A column over the minutes of the run, a line for each arm."""
    fig, ax = figure(_HEIGHT_IN)
    rows = rows[np.isfinite(rows[column])]
    size_axis(ax, "y", finite(rows[column]))
    _shade(found, rows, ax)
    for arm in found.arms:
        its = rows[rows["arm"] == arm]
        dot = {**found.looks[arm].dot, "markersize": 5.0 if len(its) <= _MOST_DOTS else 0.0}
        ax.plot(its["minute"], its[column], linewidth=1.0, zorder=3, **dot)
    tidy(ax, grid="y")
    name_axes(ax, x="minutes since the run began", y=_AXES[column])
    return markup(fig, f"over-time-{column.partition('_')[0]}")


def _shade(found: Context, trials: pd.DataFrame, ax: Axes) -> None:
    """Shade the blocks that are left out."""
    for block in found.report.excluded:
        minutes = trials.loc[trials["block"] == block, "minute"]
        if len(minutes):
            ax.axvspan(minutes.min(), minutes.max() + 0.02, zorder=0, **_SHADE)


def _title(found: Context, trials: pd.DataFrame) -> str:
    """Which arm differs most between the halves of the run, if one does by more than chance."""
    counted = trials[~trials["block"].isin(list(found.report.excluded))]
    effects = {str(arm): _second_half(its) for arm, its in counted.groupby("arm", sort=False)}
    level = found.report.evidence.facts.rules.at(LEVEL)
    if all(effect.blocks < FEWEST_BLOCKS_FOR_VERDICT for effect in effects.values()):
        return f"The latency of each trial over the run, {users(found.load)}"
    differs = {
        arm: effect
        for arm, effect in effects.items()
        if effect.p < (1.0 - level) / len(effects)  # Bonferroni
    }
    if not differs:
        return f"{found.at}, no arm is shown to be slower or faster in the second half of the run"
    arm = max(differs, key=lambda one: abs(math.log(differs[one].ratio)))
    change = differs[arm].ratio - 1.0
    way = "slower" if change > 0 else "faster"
    return f"{users(found.load)}: {arm} is {100 * abs(change):.0f} % {way} in the second half of the run"


def _second_half(trials: pd.DataFrame) -> Effect:
    """The second half of an arm's trials over the first, paired in their order."""
    its = trials[np.isfinite(trials["median_ms"])].sort_values("trial")["median_ms"].to_numpy()
    half = len(its) // 2
    return effect(np.log(its[len(its) - half :] / its[:half]))


def _range(trials: pd.DataFrame) -> str:
    known = trials["median_ms"][np.isfinite(trials["median_ms"])]
    return (
        f"{milliseconds(known.min())} to {milliseconds(known.max())} ms" if len(known) else "no good answers"
    )


def _table(trials: pd.DataFrame) -> Table:
    more = [_MEMORY] if _MEMORY in trials and trials[_MEMORY].notna().any() else []
    heads = {"minute": "minute", "median_ms": "median latency, ms", _MEMORY: "memory, MB"}
    return Table(
        ["arm", "block", "trial", *(heads[name] for name in ("minute", "median_ms", *more))],
        [
            [
                str(row["arm"]),
                str(row["block"]),
                str(row["trial"]),
                f"{row['minute']:.2f}",
                *(cell(float(row[name])) for name in ("median_ms", *more)),
            ]
            for row in trials.sort_values(["arm", "trial"], kind="stable").to_dict("records")
        ],
    )
