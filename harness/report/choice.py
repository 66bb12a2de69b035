"""The choice of an arm, which a report's first line, its ranking, its advice and `--json` all state.

Pure: the report's tables and the dict of `run.json` go in. The load and the metric are those of
`harness.verdicts.best_arm.decisive`; the arms are those that do the reference's work. An arm may be chosen if

* it lost no trial, has valid figures, and failed fewer than `MOST_FAILED` of its requests;
* it keeps every objective, if the run has some (`sweep --slo`);
* it leaves the event loop free, if any arm does: the rest of the service must not wait.

The best arm is the one with the best mean over blocks. An arm that the blocks do not separate from it
(`harness.verdicts.best_arm`), or that the load generator limits, may be as good. If the reference is one of
these, it stays, unless the comparisons call an arm faster; after halving it has no such right
(`Inputs.reference_stays`). Otherwise the choice is the arm that loses under the fewest other loads.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import types
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from harness.analysis import nominal, stats
from harness.analysis.stats import FASTER, SLOWER, Effect, Verdict
from harness.numbers import times
from harness.report import ranking
from harness.verdicts import best_arm
from harness.verdicts.best_arm import Best
from harness.verdicts.metrics import USUAL, Metric, Rules
from harness.verdicts.objectives import Judged
from harness.verdicts.sides import Side

MOST_FAILED = 0.01  # share of an arm's requests, for the arm to be chosen
# a route without a model waits for the loop if it takes longer than this, …
STALLED_PING_MS = 10.0
STALLED_PING_TIMES = 3.0  # … and this many times as long as in the arm where it is quickest
LUCK_WORTH_NAMING = 0.01  # as a share of the figure


class Inputs(NamedTuple):
    """What the choice is made from."""

    tables: ranking.Tables  # of the arms that do the reference's work, without the twin
    record: Mapping[str, Any]
    reference: str
    side: Side
    rules: Rules
    withheld: str  # why no verdict is given; "" when verdicts are given
    folder: Path = Path()  # of the run
    kept: Mapping[str, tuple[Judged, ...]] = types.MappingProxyType({})  # arm → objectives, at the only load

    @property
    def reference_stays(self) -> bool:
        """Whether the reference was there before. After halving, it may just be the leader of the rounds."""
        halving = self.record.get("halving")
        return halving is None or halving.get("always") is not None

    def best(self, arms: list[str], load: str, metric: Metric) -> Best | None:
        """The best of these arms under one load; None without figures."""
        return best_arm.find(best_arm.figures(self.side, arms, load, metric), self.rules.alpha)


class Why(enum.Enum):
    """Whether there is a choice, or why there is none."""

    CHOSEN = enum.auto()
    NO_ANSWERS = enum.auto()
    WITHHELD = enum.auto()
    ONE_ARM = enum.auto()
    TOO_FEW_BLOCKS = enum.auto()
    NONE_WHOLE = enum.auto()  # every arm failed, or lost a trial
    OWN_LOADS = enum.auto()  # each arm has a load of its own, so that their latencies cannot be compared


@dataclasses.dataclass(frozen=True)
class Choice:
    """The arm to take at the load that decides, and what it was chosen from; `take` is "" for no choice."""

    why: Why
    load: str = ""
    metric: Metric = best_arm.LATENCIES
    take: str = ""
    fastest: str = ""  # by the figures alone: it may block the event loop
    luck: float = 0.0  # of being chosen as the best of many, as a share of the figure
    unsettled: tuple[str, ...] = ()  # neither separated from `take` nor equivalent to it, the best first
    equivalent: tuple[str, ...] = ()  # to `take`, within δ
    judged: tuple[str, ...] = ()
    blocks: int = 0
    stalls: Mapping[str, str] = dataclasses.field(default_factory=dict)  # arm → how it blocks its event loop
    limited: Mapping[str, str] = dataclasses.field(default_factory=dict)  # arm → why the client limits it
    logs: pd.DataFrame = dataclasses.field(default_factory=pd.DataFrame)  # blocks x arms, higher is better
    rules: Rules = USUAL

    @property
    def open_to(self) -> list[str]:
        """The candidates: the arms that leave the event loop free, or all if none does."""
        return [arm for arm in self.judged if arm not in self.stalls or self.take in self.stalls]

    def times(self, arm: str, other: str) -> str:
        """Their ratio, such as "at least 1.59 times [1.56, 1.63]"."""
        effect = self.over(arm, other)
        assert effect is not None, "both have figures"
        sides = arm in self.limited, other in self.limited
        bound = ranking.bound(*(sides if not self.metric.lower_is_better else reversed(sides)))
        return f"{bound}{times(effect.ratio, effect.low, effect.high)}"

    def over(self, arm: str, other: str) -> Effect | None:
        """`arm` over `other` by the metric: the mean of the blocks' log ratios, as in the comparisons.

        None if one of them has no figures.
        """
        if not {arm, other} <= set(self.logs.columns):
            return None
        sign = -1.0 if self.metric.lower_is_better else 1.0
        return self.rules.effect(sign * (self.logs[arm] - self.logs[other]).dropna())


def choose(found: Inputs) -> Choice:
    answered = answered_of(found.tables.summary)
    if answered.empty:
        return Choice(Why.NO_ANSWERS)
    load, metric = best_arm.decisive(answered)
    none = Choice(Why.WITHHELD, load, metric)
    if found.withheld:
        return none
    if found.tables.summary["arm"].nunique() == 1:
        return dataclasses.replace(none, why=Why.ONE_ARM)
    if load.startswith("own("):
        return dataclasses.replace(none, why=Why.OWN_LOADS)
    return _of_many(found, none)


def answered_of(summary: pd.DataFrame) -> pd.DataFrame:
    """The rows that have at least one valid trial, and whose median request got a good answer."""
    sound = summary if summary.empty else summary[summary["blocks"] > 0]
    return sound if sound.empty else sound[sound["latency_p50_ms"] < math.inf]


def deciding_load(summary: pd.DataFrame) -> str:
    """The load that decides which of these arms is the best; "" if no request got a good answer."""
    answered = answered_of(summary)
    return "" if answered.empty else best_arm.decisive(answered)[0]


def why_none_answered(summary: pd.DataFrame) -> str:
    """Why `answered_of` is empty: no good answers, or none in a trial that counts."""
    any_good = not summary.empty and bool((summary["failed"] < summary["requests"]).any())
    return "no trial counts" if any_good else "no trial got good answers"


def _of_many(found: Inputs, none: Choice) -> Choice:
    load, metric = none.load, none.metric
    arms = [arm for arm in arms_at(found, load) if not why_left_out(found, arm, load)]
    logs = best_arm.figures(found.side, arms, load, metric) if arms else pd.DataFrame()
    whole = best_arm.find(logs, found.rules.alpha) if len(logs.columns) else None
    if whole is None:
        return dataclasses.replace(none, why=Why.NONE_WHOLE)
    if whole.blocks < stats.FEWEST_BLOCKS_FOR_VERDICT:
        return dataclasses.replace(none, why=Why.TOO_FEW_BLOCKS, blocks=whole.blocks)
    stalling = {arm: how for arm in whole.judged if (how := stalls(found, arm, load))}
    free = [arm for arm in whole.judged if arm not in stalling] or list(whole.judged)
    first = best_arm.find(logs[free], found.rules.alpha)
    assert first is not None, "an arm judged among all arms is judged among some"
    limited = {arm: why for arm in whole.judged if (why := found.side.limited.get((arm, load), ""))}
    chosen = dataclasses.replace(
        none,
        why=Why.CHOSEN,
        fastest=whole.arm,
        judged=whole.judged,
        blocks=whole.blocks,
        stalls=stalling,
        limited=limited,
        logs=logs,
        rules=found.rules,
    )
    may_be = _may_be(found, first, chosen)
    take = _take(found, first, may_be, load, metric)
    rivals = [arm for arm in may_be if arm != take]
    known = [arm for arm in rivals if not {arm, take} & limited.keys()]
    equivalent = tuple(arm for arm in known if _is_equivalent(found, chosen, arm, take))
    return dataclasses.replace(
        chosen,
        take=take,
        luck=math.expm1(best_arm.optimism(logs[free])) if take == first.arm else 0.0,
        equivalent=equivalent,
        unsettled=tuple(arm for arm in rivals if arm not in equivalent),
    )


# -- which arm to take ---------------------------------------------------------------------------------


def _may_be(found: Inputs, first: Best, chosen: Choice) -> list[str]:
    """The arms that may be the best, or are equivalent to it.

    An arm that the load generator limits is at least as good as it looks, so it may be the best.
    """
    unknown = [arm for arm in first.judged if arm in chosen.limited]
    alike = [arm for arm in first.judged if _is_equivalent(found, chosen, arm, first.arm)]
    return list(dict.fromkeys([first.arm, *first.rivals, *alike, *unknown]))


def _is_equivalent(found: Inputs, chosen: Choice, arm: str, other: str) -> bool:
    effect = chosen.over(arm, other)
    assert effect is not None, "both were judged"
    delta, lower_is_better = found.rules.delta(chosen.metric.name), chosen.metric.lower_is_better
    return stats.verdict(effect, delta, lower_is_better=lower_is_better) == Verdict.EQUIVALENT


def _take(found: Inputs, first: Best, may_be: list[str], load: str, metric: Metric) -> str:
    """The choice, as the module's docstring describes it."""
    verdicts, rows = {}, found.tables.comparisons
    if found.reference in first.judged and len(rows):
        by_metric = (rows["metric"] == metric.name) & (rows["stat"] == metric.stat)
        here = rows[(rows["load"].astype(str) == load) & by_metric].astype({"arm": str, "verdict": str})
        verdicts = here.set_index("arm")["verdict"].to_dict()
    called_faster = [arm for arm in first.judged if verdicts.get(arm) in FASTER]
    may_be = [arm for arm in may_be if verdicts.get(arm) not in SLOWER]
    if called_faster:
        bounds = [arm for arm in may_be if (arm, load) in found.side.limited and arm != found.reference]
        may_be = [arm for arm in may_be if arm in called_faster or arm in bounds]
    if found.reference in may_be and found.reference_stays:
        return found.reference
    may_be = may_be or called_faster or [first.arm]
    # number of other loads under which another of these arms is better
    bests = at_others(found, may_be, load) if len(may_be) > 1 else ()
    lost = Counter(arm for other, best in bests for arm in may_be if loses(found, arm, best, other))
    return min(may_be, key=lambda arm: (lost[arm], may_be.index(arm)))


def at_others(found: Inputs, arms: list[str], load: str) -> Iterator[tuple[str, Best]]:
    """The best of these arms under each other load that is the same for all, from few users to many."""
    summary = found.tables.summary.sort_values("concurrency", kind="stable")
    for other in dict.fromkeys(summary["load"].astype(str)):
        whole = [arm for arm in arms_at(found, other) if arm in arms and not why_left_out(found, arm, other)]
        if other == load or other.startswith("own(") or not whole:
            continue
        first = found.best(whole, other, best_arm.LATENCIES)
        if first is not None:
            yield other, first


def loses(found: Inputs, arm: str, first: Best, load: str) -> bool:
    """Whether the best arm is shown to be better; an arm that the load generator limits never loses."""
    separated = arm in first.judged and arm not in (first.arm, *first.rivals)
    return separated and (arm, load) not in found.side.limited


# -- which arms may be chosen ----------------------------------------------------------------------------


def arms_at(found: Inputs, load: str) -> list[str]:
    summary = found.tables.summary
    return list(summary.loc[summary["load"] == load, "arm"].astype(str))


def why_left_out(found: Inputs, arm: str, load: str) -> str:
    """Why the arm may not be chosen; "" if it may."""
    row = found.tables.figures(arm, load)
    if found.side.invalid.get((arm, load)):
        return f"the figures of {arm} are invalid"
    if row["failed_trials"]:
        return f"{arm} lost {row['failed_trials']} of its trials"
    if row["failed"] > MOST_FAILED * row["requests"]:
        return f"{100 * row['failed'] / row['requests']:.0f} % of the requests to {arm} failed"
    missed = missed_by(found, arm, load)
    return f"{arm} {' and '.join(map(str, missed))}" if missed else ""


def missed_by(found: Inputs, arm: str, load: str) -> list[Judged]:
    """The objectives that the arm misses, unless the load generator may be why."""
    if (arm, load) in found.side.limited:
        return []
    return [one for one in found.kept.get(arm, ()) if one.misses]


def stalls(found: Inputs, arm: str, load: str) -> str:
    """How the arm blocks its event loop; "" if it does not, or if nothing measured shows it.

    If the load generator is the limit, pings wait for the load generator.
    """
    if (arm, load) in found.side.limited:
        return ""
    at_load = found.tables.costs[found.tables.costs["load"] == load]
    pings = dict(zip(at_load["arm"].astype(str), at_load["ping_p50_ms"].astype(float), strict=True))
    mine, known = pings.get(arm, math.nan), [ping for ping in pings.values() if not math.isnan(ping)]
    if late_io := _io_that_waits(found, arm, load, mine):
        return late_io
    if known and mine >= max(STALLED_PING_MS, STALLED_PING_TIMES * min(known)):
        return f"a route without a model takes {mine:.0f} ms"
    return ""


def _io_that_waits(found: Inputs, arm: str, load: str, ping_ms: float) -> str:
    """How much longer the I/O takes because of the loop.

    "" if it does not take longer, if something else explains it, or if there is next to no I/O. The time that
    the I/O's other side took is not the loop's. Neither is a wait for a connection: pings do not have it,
    while a late loop is late for pings too.
    """
    row = found.tables.figures(arm, load)
    io_ms, alone_ms = row.get("io_p50_ms", math.nan), _alone_ms(found, arm, "io_p50_ms")
    own_ms = row.get("io_server_p50_ms", math.nan)
    if alone_ms < nominal.LEAST_NOMINAL_MS:
        return ""
    longer_ms, words = io_ms - alone_ms, f"its I/O takes {io_ms:.1f} ms instead of {alone_ms:.1f}"
    if not math.isnan(own_ms):
        longer_ms -= own_ms - _alone_ms(found, arm, "io_server_p50_ms")
        words += f", of which the database or service itself takes {own_ms:.1f}"
        if nominal.LOOP_TURNS * ping_ms < longer_ms / 2:  # a loop as late as a ping explains less than half
            return ""
    waits = longer_ms >= max(nominal.WITHIN_MS, (nominal.STALLED_RATIO - 1.0) * alone_ms)
    return words if waits else ""


def _alone_ms(found: Inputs, arm: str, name: str) -> float:
    asked_ms = found.side.trials.loc[found.side.trials["arm"] == arm, "io_nominal_ms"]
    return nominal.of_summary(found.tables.summary, arm, asked_ms, name).ms
