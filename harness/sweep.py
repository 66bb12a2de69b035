"""What a sweep found: its settings, the best first, and what each axis does on average over the others.

Pure: frames in, frames and sentences out, no disk. The unit is the block; every setting is in every block.
What the best of many settings is worth, and which cannot be told from it: `harness.best`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from harness import best, comparable, stats
from harness.best import LATENCIES, RATES
from harness.comparison import Metric, Rules, Side
from harness.ranking import ratio_words, users
from harness.stats import ALPHA, Effect, Verdict

BEST, RIVAL, BEATEN, LEFT_OUT, WITHHELD = "best", "not told apart", "beaten", "left out", "withheld"
STRATEGY = "strategy"
WORTH_SAYING_LUCK = 0.01  # of a figure

FIGURES = [
    f"{name}{end}"
    for name in ("throughput_per_s", "latency_p50_ms", "latency_p99_ms")
    for end in ("", "_low", "_high")
]
EFFECTS = [
    "axis",
    "value",
    "against",  # the axis's first value
    "load",
    "metric",
    "ratio",  # geometric mean over the settings of the other axes that have both values
    "low",
    "high",
    "least",  # … and of one such setting, at least and at most: far apart, the axes depend on each other
    "most",
    "settings",  # pairs of settings that differ in this axis only
    "blocks",
    "p_holm",  # over the rows of one metric
    "verdict",
]


class Inputs(NamedTuple):
    """What a report has found of the run."""

    side: Side
    summary: pd.DataFrame
    costs: pd.DataFrame
    record: Mapping[str, Any]
    rules: Rules
    withheld: str  # why nothing may be judged; "" when it may


@dataclasses.dataclass(frozen=True)
class Swept:
    """What came of it. `table`: a row per setting and load; `effects`: a row per axis, value and metric."""

    axes: tuple[str, ...]  # the columns of `table` that say a setting
    load: str  # under which the best is chosen
    metric: Metric  # by which
    table: (
        pd.DataFrame
    )  # place, arm, the axes, load, `FIGURES`, cpu_ms_per_request, memory_uss_mb, failed_trials
    effects: pd.DataFrame  # EFFECTS
    sentences: tuple[str, ...]  # the best, of each kind of work


def of(found: Inputs) -> Swept | None:
    """What the sweep in `record` found; None when there was none, or nothing of it was measured."""
    swept = (found.record.get("plan") or {}).get("sweep")
    if not swept or found.summary.empty:
        return None
    settings = _settings(found.record, swept["settings"])
    summary = found.summary[found.summary["arm"].isin(list(settings))]
    if summary.empty:
        return None
    axes = tuple(name for name in (STRATEGY, *swept["axes"]) if name != STRATEGY or _several(settings))
    load, metric = best.decisive(summary)
    choices = _choices(found, list(settings), load, metric)
    table = _table(found, summary, settings, axes, _places(found, settings, choices))
    order = {arm: place for place, arm in enumerate(_by_figure(table, load, metric))}
    table = table.sort_values(
        ["load", "arm"],
        key=lambda cells: cells.map(order) if cells.name == "arm" else cells.ne(load),
        kind="stable",
    )
    return Swept(
        axes=axes,
        load=load,
        metric=metric,
        table=table.reset_index(drop=True),
        effects=_effects(found, settings, axes, load),
        sentences=tuple(
            _sentence(found, choice, settings, axes, load, metric)
            for choice in (choices[:1] if found.withheld else choices)
        ),
    )


def words(setting: Mapping[str, Any], axes: tuple[str, ...]) -> str:
    """A setting for people: workers=2, torch_threads=1."""
    said = [f"{name}={setting[name]}" for name in axes if name in setting and name != STRATEGY]
    return ", ".join([*([str(setting[STRATEGY])] if STRATEGY in axes else []), *said])


def _settings(record: Mapping[str, Any], told: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Arm → axis → value, its strategy included."""
    planned = {arm["name"]: arm.get("strategy", "") for arm in record["plan"].get("arms", [])}
    return {arm: {STRATEGY: planned[arm], **said} for arm, said in told.items() if arm in planned}


def _several(settings: Mapping[str, Mapping[str, Any]]) -> bool:
    return len({said[STRATEGY] for said in settings.values()}) > 1


# -- the best ------------------------------------------------------------------------------------------


class _Choice(NamedTuple):
    """Settings that do the same work, and the best of them."""

    arms: list[str]
    best: best.Best | None
    reference: str  # the first of them
    logs: pd.DataFrame  # blocks x arms, higher is better
    limited: frozenset[str]  # by the client: their figures are bounds, so they may be as good as the best

    @property
    def rivals(self) -> tuple[str, ...]:
        """What may be the best as well."""
        assert self.best is not None
        unknown = [arm for arm in self.best.judged if arm in self.limited and arm != self.best.arm]
        return tuple(dict.fromkeys([*self.best.rivals, *unknown]))


def _choices(found: Inputs, arms: list[str], load: str, metric: Metric) -> list[_Choice]:
    """The best of each kind of work: that a model of half the size is faster is no merit of a setting."""
    groups: list[list[str]] = []
    for arm in arms:
        same = (group for group in groups if not comparable.other_work(found.record, group[0], [arm]))
        group = next(same, None)
        if group is None:
            groups.append([arm])
        else:
            group.append(arm)
    return [_choice(found, group, load, metric) for group in groups]


def _choice(found: Inputs, arms: list[str], load: str, metric: Metric) -> _Choice:
    planned = (found.record.get("plan") or {}).get("reference")
    reference = planned if planned in arms else arms[0]
    logs = best.figures(found.side, arms, load, metric)
    limited = frozenset(arm for arm in arms if found.side.limited.get((arm, load)))
    return _Choice(arms, best.of(logs), reference, logs, limited)


def _places(found: Inputs, settings: Mapping[str, Any], choices: list[_Choice]) -> dict[str, str]:
    if found.withheld:
        return dict.fromkeys(settings, WITHHELD)
    places = dict.fromkeys(settings, LEFT_OUT)
    for choice in choices:
        if choice.best is not None:
            places |= dict.fromkeys(choice.best.judged, BEATEN)
            places |= dict.fromkeys(choice.rivals, RIVAL) | {choice.best.arm: BEST}
    return places


def _sentence(
    found: Inputs,
    choice: _Choice,
    settings: Mapping[str, Mapping[str, Any]],
    axes: tuple[str, ...],
    load: str,
    metric: Metric,
) -> str:
    chosen = choice.best
    if chosen is None:
        return f"No setting gave good answers in every block at {users(load)}, so none is the best."
    name = words(settings[chosen.arm], axes)
    if found.withheld:
        return (
            f"No setting is called the best, as the session is noisy; the highest figure is that of {name}."
        )
    value = _value(choice, metric)
    unit = "requests/s" if metric is RATES else "ms (median)"
    bound = ("at least " if metric is RATES else "at most ") if chosen.arm in choice.limited else ""
    said = f"Best: {name}: {bound}{_number(value.ratio)} {unit}{_interval(value, _number)} at {users(load)}"
    parts = [said, _gain(choice, words(settings[choice.reference], axes), metric)]
    parts += [_not_told_apart(choice, settings, axes), _luck(chosen), _limit(choice)]
    return f"{'; '.join(filter(None, parts))}."


def _value(choice: _Choice, metric: Metric) -> Effect:
    """The best's own figure over blocks, as the table has it."""
    assert choice.best is not None
    sign = -1.0 if metric.lower_is_better else 1.0
    return stats.effect(sign * choice.logs[choice.best.arm].dropna())


def _gain(choice: _Choice, reference: str, metric: Metric) -> str:
    """Over the first setting: the mean of the blocks' log ratios, as in the comparisons."""
    assert choice.best is not None
    if choice.best.arm == choice.reference:
        return "that is the setting the others are compared with" if len(choice.arms) > 1 else ""
    if choice.reference not in choice.logs:
        return ""
    sign = -1.0 if metric.lower_is_better else 1.0
    effect = stats.effect(sign * (choice.logs[choice.best.arm] - choice.logs[choice.reference]).dropna())
    times = ratio_words(effect.ratio, effect.low, effect.high)
    return f"{times} that of {reference}"


def _luck(chosen: best.Best) -> str:
    luck = math.expm1(chosen.optimism)
    if luck < WORTH_SAYING_LUCK:
        return ""
    return f"about {100 * luck:.0f} % of its figure is the luck of being the best of {len(chosen.judged)}"


def _limit(choice: _Choice) -> str:
    if not choice.limited:
        return ""
    return f"limited by the client, so their figures are bounds: {len(choice.limited)} settings"


def _not_told_apart(choice: _Choice, settings: Mapping[str, Mapping[str, Any]], axes: tuple[str, ...]) -> str:
    assert choice.best is not None
    rivals = choice.rivals
    if not rivals:
        return "told apart from all others" if len(choice.best.judged) > 1 else ""
    named = [words(settings[arm], axes) for arm in rivals[:3]]
    more = len(rivals) - len(named)
    tail = f" and {more} more" if more else ""
    return f"not told apart in {choice.best.blocks} blocks from: {' / '.join(named)}{tail}"


# -- the settings --------------------------------------------------------------------------------------


def _table(
    found: Inputs,
    summary: pd.DataFrame,
    settings: Mapping[str, Mapping[str, Any]],
    axes: tuple[str, ...],
    places: Mapping[str, str],
) -> pd.DataFrame:
    told = summary.merge(found.costs, on=["arm", "load"], how="left").to_dict("records")
    kept = ["cpu_ms_per_request", "memory_uss_mb", "failed_trials"]
    rows = [
        {
            "place": places[str(row["arm"])],
            "arm": row["arm"],
            **{axis: settings[str(row["arm"])].get(axis, "") for axis in axes},
            "load": row["load"],
            **_figures(found, str(row["arm"]), str(row["load"])),
            **{name: row[name] for name in kept},
        }
        for row in told
    ]
    return pd.DataFrame(rows, columns=["place", "arm", *axes, "load", *FIGURES, *kept])


def _figures(found: Inputs, arm: str, load: str) -> dict[str, float]:
    cell = found.side.cell(arm, load)
    rate, latency = (_middle(cell.by_block(metric)) for metric in (RATES, LATENCIES))
    return dict(zip(FIGURES, (*rate, *latency, *_p99(cell.latencies(cell.blocks))), strict=True))


def _middle(by_block: pd.Series[float]) -> tuple[float, float, float]:
    """The geometric mean over blocks, with its interval."""
    with np.errstate(divide="ignore"):
        effect = stats.effect(np.log(by_block.to_numpy(dtype=np.float64)))
    return effect.ratio, effect.low, effect.high


def _p99(pool: stats.Pool) -> tuple[float, float, float]:
    """Of the pooled requests; NaN where they are too few."""
    blocks = len(pool.blocks)
    if sum(map(len, pool.blocks)) < stats.FEWEST_REQUESTS[99]:
        return math.nan, math.nan, math.nan
    low, high = stats.tail_interval(np.log(pool.resampled(99, 1)), blocks)
    return pool.whole(99), math.exp(low), math.exp(high)


def _by_figure(table: pd.DataFrame, load: str, metric: Metric) -> list[str]:
    """The arms, the best first; those left out last."""
    here = table[table["load"] == load]
    name = "throughput_per_s" if metric is RATES else "latency_p50_ms"
    here = here.assign(_last=here["place"].eq(LEFT_OUT))
    return list(
        here.sort_values(["_last", name], ascending=[True, metric.lower_is_better], kind="stable")["arm"]
    )


# -- the axes ------------------------------------------------------------------------------------------


def _effects(
    found: Inputs, settings: Mapping[str, Mapping[str, Any]], axes: tuple[str, ...], load: str
) -> pd.DataFrame:
    rows = [row for metric in (RATES, LATENCIES) for row in _of_metric(found, settings, axes, load, metric)]
    return pd.DataFrame(rows, columns=EFFECTS)


def _of_metric(
    found: Inputs, settings: Mapping[str, Mapping[str, Any]], axes: tuple[str, ...], load: str, metric: Metric
) -> list[dict[str, Any]]:
    figures = best.figures(found.side, list(settings), load, metric)
    logs = figures.replace([math.inf, -math.inf], math.nan).dropna() * (
        -1.0 if metric.lower_is_better else 1.0
    )
    known = {arm: said for arm, said in settings.items() if arm in logs.columns and len(logs)}
    rows = [
        _effect(found, logs, axis, value, first, pairs, metric) | {"load": load, "metric": metric.name}
        for axis in axes
        for first, value in _steps(known, axis)
        if (pairs := _pairs(known, axis, first, value))
    ]
    for row, p in zip(rows, stats.holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = float(p)
        if str(row["verdict"]).startswith((Verdict.FASTER, Verdict.SLOWER)) and not p < ALPHA:
            row["verdict"] = Verdict.INCONCLUSIVE
    return rows


def _steps(settings: Mapping[str, Mapping[str, Any]], axis: str) -> list[tuple[Any, Any]]:
    """Each value but the first beside the first."""
    values = list(dict.fromkeys(said[axis] for said in settings.values() if axis in said))
    return [(values[0], value) for value in values[1:]]


def _pairs(
    settings: Mapping[str, Mapping[str, Any]], axis: str, first: Any, value: Any
) -> list[tuple[str, str]]:
    """Settings that are alike but for this axis: (with the first value, with the other)."""
    rests = {arm: _without(said, axis) for arm, said in settings.items()}
    bases = {rests[arm]: arm for arm, said in settings.items() if said.get(axis) == first}
    others = [arm for arm, said in settings.items() if said.get(axis) == value]
    return [(bases[rests[arm]], arm) for arm in others if rests[arm] in bases]


def _without(setting: Mapping[str, Any], axis: str) -> frozenset[tuple[str, Any]]:
    return frozenset((name, value) for name, value in setting.items() if name != axis)


def _effect(
    found: Inputs,
    logs: pd.DataFrame,
    axis: str,
    value: Any,
    first: Any,
    pairs: list[tuple[str, str]],
    metric: Metric,
) -> dict[str, Any]:
    gaps = np.stack([(logs[arm] - logs[base]).to_numpy(dtype=np.float64) for base, arm in pairs])
    effect = stats.effect(gaps.mean(axis=0))
    verdict = stats.verdict(
        effect,
        found.rules.delta(metric.name),
        lower_is_better=metric.lower_is_better,
        noisy=bool(found.withheld),
    )
    each = np.exp(gaps.mean(axis=1))
    return {
        "axis": axis,
        "value": value,
        "against": first,
        "ratio": effect.ratio,
        "low": effect.low,
        "high": effect.high,
        "least": float(each.min()),
        "most": float(each.max()),
        "settings": len(pairs),
        "blocks": effect.blocks,
        "p": effect.p,
        "verdict": verdict,
    }


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _interval(of: Effect, show: Any) -> str:
    return f" [{show(of.low)}, {show(of.high)}]" if math.isfinite(of.low + of.high) else ""
