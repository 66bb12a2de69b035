"""Which arm to take: the one choice that a report's first line, its ranking, its advice and `--json` state.

Pure: the report's tables and the dict of `run.json` go in. The load and the metric are those of
`harness.verdicts.best_arm.decisive`; the arms are those that do the reference's work. Of these may be taken:

* those that lost no trial, have valid figures, and failed fewer than `MOST_FAILED` of their requests;
* of them those that leave the event loop free, where there is one: what else the service does must not wait.

The best of these is the one with the best mean over blocks; an arm that cannot be told apart from it
(`harness.verdicts.best_arm`), or that the client limits, may be as good. Of all that may be the best the
reference stays, unless the comparisons call an arm faster; else the arm is taken that loses under fewest
other loads.
"""

from __future__ import annotations

import dataclasses
import enum
import math
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
from harness.verdicts.metrics import Metric, Rules
from harness.verdicts.sides import Side

MOST_FAILED = 0.01  # of an arm's requests, to be taken
STALLED_PING_MS = 10.0  # a route without a model that takes longer, and …
STALLED_PING_TIMES = 3.0  # … so many times what it takes in the arm where it is quickest, waits for the loop
WORTH_SAYING_LUCK = 0.01  # of a figure


class Inputs(NamedTuple):
    """What a report has found of the run."""

    tables: ranking.Tables  # of the arms that do the reference's work, without the twin
    record: Mapping[str, Any]
    reference: str
    side: Side
    rules: Rules
    withheld: str  # why no verdict is given; "" when they are
    folder: Path = Path()  # of the run


class Why(enum.Enum):
    """How a choice came about, or why there is none."""

    CHOSEN = enum.auto()
    NO_ANSWERS = enum.auto()
    WITHHELD = enum.auto()
    ONE_ARM = enum.auto()
    TOO_FEW_BLOCKS = enum.auto()
    NONE_WHOLE = enum.auto()  # every arm failed, or lost a trial


@dataclasses.dataclass(frozen=True)
class Choice:
    """What is taken at the load that decides, and what it was chosen from; `take` is "" where nothing is."""

    why: Why
    load: str = ""
    metric: Metric = best_arm.LATENCIES
    take: str = ""
    fastest: str = ""  # by the figures alone: it may hold the event loop
    luck: float = 0.0  # of being chosen as the best of many, as a share of the figure
    unsettled: tuple[str, ...] = ()  # neither told apart from `take` nor equivalent to it, the best first
    equivalent: tuple[str, ...] = ()  # to `take`, within δ
    judged: tuple[str, ...] = ()
    blocks: int = 0
    stalls: Mapping[str, str] = dataclasses.field(default_factory=dict)  # arm → how its event loop waits
    limited: Mapping[str, str] = dataclasses.field(default_factory=dict)  # arm → why the client did no more
    logs: pd.DataFrame = dataclasses.field(default_factory=pd.DataFrame)  # blocks x arms, higher is better

    @property
    def open_to(self) -> list[str]:
        """The arms that were chosen from: those that leave the event loop free, or all where none does."""
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

        None where one of them has no figures.
        """
        if not {arm, other} <= set(self.logs.columns):
            return None
        sign = -1.0 if self.metric.lower_is_better else 1.0
        return stats.effect(sign * (self.logs[arm] - self.logs[other]).dropna())


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
    return _of_many(found, none)


def answered_of(summary: pd.DataFrame) -> pd.DataFrame:
    """The rows of arms and loads that have a sound trial, and whose median request got a good answer."""
    sound = summary if summary.empty else summary[summary["blocks"] > 0]
    return sound if sound.empty else sound[sound["latency_p50_ms"] < math.inf]


def _of_many(found: Inputs, none: Choice) -> Choice:
    load, metric = none.load, none.metric
    arms = [arm for arm in arms_at(found, load) if not spoilt(found, arm, load)]
    logs = best_arm.figures(found.side, arms, load, metric) if arms else pd.DataFrame()
    whole = best_arm.find(logs) if len(logs.columns) else None
    if whole is None:
        return dataclasses.replace(none, why=Why.NONE_WHOLE)
    if whole.blocks < stats.FEWEST_BLOCKS_FOR_VERDICT:
        return dataclasses.replace(none, why=Why.TOO_FEW_BLOCKS, blocks=whole.blocks)
    stalling = {arm: said for arm in whole.judged if (said := stalls(found, arm, load))}
    free = [arm for arm in whole.judged if arm not in stalling] or list(whole.judged)
    first = best_arm.find(logs[free])
    assert first is not None, "what is judged among all is judged among some"
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


# -- whom to take ----------------------------------------------------------------------------------------


def _may_be(found: Inputs, first: Best, chosen: Choice) -> list[str]:
    """Those that may be the best, or are equivalent to it: an arm that the client limits is at least as good
    as it looks."""
    unknown = [arm for arm in first.judged if arm in chosen.limited]
    alike = [arm for arm in first.judged if _is_equivalent(found, chosen, arm, first.arm)]
    return list(dict.fromkeys([first.arm, *first.rivals, *alike, *unknown]))


def _is_equivalent(found: Inputs, chosen: Choice, arm: str, other: str) -> bool:
    effect = chosen.over(arm, other)
    assert effect is not None, "both were judged"
    delta, lower_is_better = found.rules.delta(chosen.metric.name), chosen.metric.lower_is_better
    return stats.verdict(effect, delta, lower_is_better=lower_is_better) == Verdict.EQUIVALENT


def _take(found: Inputs, first: Best, may_be: list[str], load: str, metric: Metric) -> str:
    """Whom to take: see the head of this module."""
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
    if found.reference in may_be:
        return found.reference
    may_be = may_be or called_faster or [first.arm]
    # under how many other loads another of these arms is better
    bests = at_others(found, may_be, load) if len(may_be) > 1 else ()
    lost = Counter(arm for other, best in bests for arm in may_be if loses(found, arm, best, other))
    return min(may_be, key=lambda arm: (lost[arm], may_be.index(arm)))


def at_others(found: Inputs, arms: list[str], load: str) -> Iterator[tuple[str, Best]]:
    """The best of these arms under every other load that is the same for all, the fewest users first."""
    summary = found.tables.summary.sort_values("concurrency", kind="stable")
    for other in dict.fromkeys(summary["load"].astype(str)):
        whole = [arm for arm in arms_at(found, other) if arm in arms and not spoilt(found, arm, other)]
        if other == load or other.startswith("own(") or not whole:
            continue
        first = best_arm.find(best_arm.figures(found.side, whole, other, best_arm.LATENCIES))
        if first is not None:
            yield other, first


def loses(found: Inputs, arm: str, first: Best, load: str) -> bool:
    """Whether the arm was judged and told apart from the best; what the client limits never loses."""
    told_apart = arm in first.judged and arm not in (first.arm, *first.rivals)
    return told_apart and (arm, load) not in found.side.limited


# -- who may be taken ------------------------------------------------------------------------------------


def arms_at(found: Inputs, load: str) -> list[str]:
    summary = found.tables.summary
    return list(summary.loc[summary["load"] == load, "arm"].astype(str))


def spoilt(found: Inputs, arm: str, load: str) -> str:
    """Why the arm may not be taken; "" when it may."""
    row = found.tables.figures(arm, load)
    if found.side.invalid.get((arm, load)):
        return f"the figures of {arm} are invalid"
    if row["failed_trials"]:
        return f"{arm} lost {row['failed_trials']} of its trials"
    if row["failed"] > MOST_FAILED * row["requests"]:
        return f"{100 * row['failed'] / row['requests']:.0f} % of the requests to {arm} failed"
    return ""


def stalls(found: Inputs, arm: str, load: str) -> str:
    """How the arm keeps its event loop from everything else; "" where it does not, or nothing tells.

    Where the client is the limit, pings wait for the client.
    """
    if (arm, load) in found.side.limited:
        return ""
    at_load = found.tables.costs[found.tables.costs["load"] == load]
    pings = dict(zip(at_load["arm"].astype(str), at_load["ping_p50_ms"].astype(float), strict=True))
    mine, known = pings.get(arm, math.nan), [ping for ping in pings.values() if not math.isnan(ping)]
    if said := _io_that_waits(found, arm, load, mine):
        return said
    if known and mine >= max(STALLED_PING_MS, STALLED_PING_TIMES * min(known)):
        return f"a route without a model takes {mine:.0f} ms"
    return ""


def _io_that_waits(found: Inputs, arm: str, load: str, ping_ms: float) -> str:
    """How much longer the arm's I/O takes by the loop; "" where it does not, or something else explains it,
    or where there is next to no I/O.

    What the other side took itself is not the loop's. Of the rest neither is a wait for a connection, which a
    route without I/O knows nothing of: a loop that is late is late for pings too.
    """
    row = found.tables.figures(arm, load)
    io_ms, alone_ms = row.get("io_p50_ms", math.nan), _alone_ms(found, arm, "io_p50_ms")
    own_ms = row.get("io_server_p50_ms", math.nan)
    if alone_ms < nominal.LEAST_NOMINAL_MS:
        return ""
    longer_ms, said = io_ms - alone_ms, f"its I/O takes {io_ms:.1f} ms instead of {alone_ms:.1f}"
    if not math.isnan(own_ms):
        longer_ms -= own_ms - _alone_ms(found, arm, "io_server_p50_ms")
        said += f", of which the other side takes {own_ms:.1f}"
        if nominal.LOOP_TURNS * ping_ms < longer_ms / 2:  # a loop as late as a ping explains less than half
            return ""
    waits = longer_ms >= max(nominal.WITHIN_MS, (nominal.STALLED_RATIO - 1.0) * alone_ms)
    return said if waits else ""


def _alone_ms(found: Inputs, arm: str, name: str) -> float:
    asked_ms = found.side.trials.loc[found.side.trials["arm"] == arm, "io_nominal_ms"]
    return nominal.of_summary(found.tables.summary, arm, asked_ms, name).ms
