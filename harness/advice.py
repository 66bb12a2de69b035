"""What to do, from what was measured: the last words of a report.

Pure: the report's tables and the dict of `run.json` go in, sentences come out. Every line follows from
figures of the run; where they bear no advice, it says so and which command would. Never more than
`MOST_LINES`.

The arm is chosen by `harness.best` under the load that decides: of those that lost no trial, kept their
errors below `MOST_FAILED`, and do the reference's work. Of arms that cannot be told apart the reference
stays, or else the one that loses at fewest other loads is taken. The quickest is not advised where it holds
the event loop and an arm that leaves it free is nearly as quick.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from harness import again, best, nominal, ranking, stats
from harness.analysis import THROUGHPUT
from harness.best import Best
from harness.comparison import Metric, Rules, Side
from harness.ranking import row_of, short, users
from harness.records import has_logs

MOST_LINES = 8
MOST_FAILED = 0.01  # of an arm's requests, to be advised
WORTH_A_FREE_LOOP = 0.10  # throughput (or latency) given up for an event loop that answers everything else
STALLED_PING_MS = 10.0  # a route without a model that takes longer, and …
STALLED_PING_TIMES = 3.0  # … so many times what it takes in the arm where it is quickest, waits for the loop
FULL = 0.85  # of the usable cores, server and client together
LARGEST = 0.5  # a part that is as much of a request dominates it
WORTH_SAYING = 1.25  # times as much memory
BLOCKS_AT_LEAST = 24
MOST_BLOCKS = 400  # arms that take more to be told apart are as good as equal
COMPARED = ("inline", "thread", "process")


class Inputs(NamedTuple):
    """What a report has found of the run."""

    tables: ranking.Tables  # of the arms that do the reference's work, without the twin
    record: Mapping[str, Any]
    reference: str
    side: Side
    rules: Rules
    withheld: str  # why no verdict is given; "" when they are


@dataclasses.dataclass(frozen=True)
class Advice:
    """`lines` for people; the rest says the same to programs, empty or NaN where nothing is advised."""

    lines: tuple[str, ...]
    take: str = ""  # the arm
    reference: str = ""
    load: str = ""  # that decides
    metric: str = ""  # by which
    gain: float = math.nan  # over the reference, above 1 is better; what the choice flatters it with is off
    low: float = math.nan
    high: float = math.nan
    rivals: tuple[str, ...] = ()  # not told apart from the best
    command: str = ""  # what to run next


def as_json(advice: Advice) -> dict[str, Any]:
    """What programs need of it, the lines left out; NaN, no JSON, is null."""
    fields = {name: list(one) if isinstance(one, tuple) else one for name, one in vars(advice).items()}
    del fields["lines"]
    return {
        name: None if isinstance(one, float) and not math.isfinite(one) else one
        for name, one in fields.items()
    }


def told(advice: Advice) -> list[str]:
    """The lines, and the command to run next as one of them."""
    return [*advice.lines, *([f"Next: {advice.command}"] if advice.command else [])]


def of(found: Inputs) -> Advice:
    """What to do after this run."""
    answered = _answered(found.tables.summary)
    if answered.empty:
        return Advice((f"No advice: no trial got good answers. {_where_to_look(found.record)}",))
    if found.withheld:
        return _withheld(found)
    load, metric = best.decisive(answered)
    if answered["arm"].nunique() == 1:
        return _of_one(found, str(answered["arm"].iloc[0]), load)
    return _of_many(found, load, metric)


def _where_to_look(record: Mapping[str, Any]) -> str:
    """Why nothing was answered: we have the log of a server only where we have started it."""
    if has_logs(record):
        return "The servers' logs are in the run's folder."
    return "The warnings say what the server answered; its own log may say why."


def _answered(summary: pd.DataFrame) -> pd.DataFrame:
    return summary if summary.empty else summary[summary["latency_p50_ms"] < math.inf]


# -- nothing to choose from ------------------------------------------------------------------------------


def _withheld(found: Inputs) -> Advice:
    blocks = 2 * int((found.record.get("plan") or {}).get("blocks") or BLOCKS_AT_LEAST)
    command = again.command(found.record, blocks=blocks)
    lines = [
        "No strategy is advised: this session cannot tell a faster one from a luckier one (see the warning).",
        "Run it again where nothing else is busy, with more blocks.",
    ]
    return _with_next(Advice(tuple(lines), reference=found.reference), command)


def _of_one(found: Inputs, arm: str, load: str) -> Advice:
    row = row_of(found.tables.summary, arm, load)
    lines = [
        f"Only {arm} was run, so nothing here says which strategy is best.",
        _dominates(row, load),
        _would_change(found, arm, load),
    ]
    told = Advice(tuple(filter(None, lines)), reference=found.reference, load=load)
    return _with_next(told, _next_of_one(found, arm, row))


def _next_of_one(found: Inputs, arm: str, row: Mapping[str, Any]) -> str:
    """Another strategy beside it; of a server of somebody else, twice the users."""
    planned = _planned(found.record, arm)
    if again.strategy(planned):
        return again.beside(found.record, arm, COMPARED)
    url = planned.get("url") or (found.record.get("load") or {}).get("url")
    if not url or math.isnan(row["concurrency"]):
        return ""
    return again.load(found.record, url, users=2 * int(row["concurrency"]))


def _dominates(row: Mapping[str, Any], load: str) -> str:
    told = ranking.largest(row)
    return f"At {users(load)} a request {told}." if told else ""


def _with_next(advice: Advice, command: str) -> Advice:
    return dataclasses.replace(advice, lines=advice.lines[: MOST_LINES - bool(command)], command=command)


# -- the choice ------------------------------------------------------------------------------------------


class _Chosen(NamedTuple):
    """What is advised at the load that decides, and what it was chosen from."""

    take: str
    best: Best  # by the figures alone
    logs: pd.DataFrame  # blocks x arms, the higher the better
    stalls: dict[str, str]  # arm → how its event loop waits
    load: str
    metric: Metric


def _of_many(found: Inputs, load: str, metric: Metric) -> Advice:
    arms = [arm for arm in _arms(found, load) if not _spoilt(found, arm, load)]
    logs = best.figures(found.side, arms, load, metric) if arms else pd.DataFrame()
    if len(logs) and np.isfinite(logs).all().all() and len(logs) < stats.FEWEST_BLOCKS:
        return _too_few(found, len(logs))
    first = best.of(logs, found.reference) if len(logs.columns) else None
    if first is None:
        return _none_whole(found, load)
    stalls = {arm: said for arm in first.judged if (said := _stalls(found, arm, load))}
    chosen = _Chosen(_take(found, first, logs, stalls, load), first, logs, stalls, load, metric)
    gain = _gain(found, chosen)
    lines = [
        _what(found, chosen, gain),
        _why(found, chosen),
        _loop(chosen),
        _rivals(found, chosen),
        _costs(found, chosen),
        _elsewhere(found, chosen),
        _left_out(found, load),
        _would_change(found, chosen.take, load),
    ]
    told = Advice(
        lines=tuple(filter(None, lines)),
        take=chosen.take,
        reference=found.reference,
        load=load,
        metric=metric.name,
        gain=gain.ratio,
        low=gain.low,
        high=gain.high,
        rivals=first.rivals,
    )
    return _with_next(told, _next(found, chosen))


def _take(found: Inputs, first: Best, logs: pd.DataFrame, stalls: Mapping[str, str], load: str) -> str:
    """Whom to advise: see the head of this module."""
    may_be = [first.arm, *first.rivals]
    if found.reference in may_be and found.reference not in stalls:
        return found.reference
    if free := [arm for arm in may_be if arm not in stalls]:
        lost = _lost_elsewhere(found, free, load) if len(free) > 1 else Counter()
        return min(free, key=lambda arm: (lost[arm], free.index(arm)))
    near = _nearest(first, logs, stalls)
    given_up = 1.0 - math.exp(float((logs[near] - logs[first.arm]).mean())) if near else math.inf
    return near if given_up <= WORTH_A_FREE_LOOP else first.arm


def _nearest(first: Best, logs: pd.DataFrame, stalls: Mapping[str, str]) -> str:
    """The quickest of those that leave the loop free; "" where none does."""
    means = {str(arm): float(mean) for arm, mean in logs.mean().items()}
    free = [arm for arm in first.judged if arm in means and arm not in stalls]
    return max(free, key=lambda arm: means[arm], default="")


def _lost_elsewhere(found: Inputs, arms: list[str], load: str) -> Counter[str]:
    """Arm → under how many other loads another of these arms is better."""
    bests = _at_others(found, arms, load)
    return Counter(arm for _, first in bests for arm in arms if _loses(arm, first))


def _gain(found: Inputs, chosen: _Chosen) -> best.Gain:
    """Over the reference; of an arm that was not chosen as the best, the plain figure."""
    if chosen.take == chosen.best.arm:
        return chosen.best.gain
    return _over(chosen.logs, chosen.take, found.reference)


def _over(logs: pd.DataFrame, arm: str, other: str) -> best.Gain:
    if other not in logs.columns:
        return best.UNKNOWN
    effect = stats.effect((logs[arm] - logs[other]).dropna())
    return best.Gain(effect.ratio, effect.low, effect.high)


def _arms(found: Inputs, load: str) -> list[str]:
    summary = found.tables.summary
    return list(summary.loc[summary["load"] == load, "arm"].astype(str))


def _spoilt(found: Inputs, arm: str, load: str) -> str:
    """Why the arm may not be advised; "" when it may."""
    row = row_of(found.tables.summary, arm, load)
    if found.side.invalid.get((arm, load)):
        return f"the figures of {arm} are invalid"
    if row["failed_trials"]:
        return f"{arm} lost {row['failed_trials']} of its trials"
    if row["failed"] > MOST_FAILED * row["requests"]:
        return f"{100 * row['failed'] / row['requests']:.0f} % of the requests to {arm} failed"
    return ""


def _stalls(found: Inputs, arm: str, load: str) -> str:
    """How the arm keeps its event loop from everything else; "" where it does not, or nothing tells."""
    at_load = found.tables.costs[found.tables.costs["load"] == load]
    pings = dict(zip(at_load["arm"].astype(str), at_load["ping_p50_ms"].astype(float), strict=True))
    mine, known = pings.get(arm, math.nan), [ping for ping in pings.values() if not math.isnan(ping)]
    if said := _io_that_waits(found, arm, load, mine):
        return said
    if known and mine >= max(STALLED_PING_MS, STALLED_PING_TIMES * min(known)):
        return f"a route without a model takes {mine:.0f} ms"
    return ""


def _io_that_waits(found: Inputs, arm: str, load: str, ping_ms: float) -> str:
    """How much longer the arm's I/O takes by the loop; "" where it does not, or something else explains it.

    What the other side took itself is not the loop's. Of the rest neither is a wait for a connection, which a
    route without I/O knows nothing of: a loop that is late is late for pings too.
    """
    row = row_of(found.tables.summary, arm, load)
    io_ms, alone_ms = row.get("io_p50_ms", math.nan), _alone_ms(found, arm, "io_p50_ms")
    own_ms = row.get("io_server_p50_ms", math.nan)
    longer_ms, said = io_ms - alone_ms, f"its I/O takes {io_ms:.1f} ms instead of {alone_ms:.1f}"
    if not math.isnan(own_ms):
        longer_ms -= own_ms - _alone_ms(found, arm, "io_server_p50_ms")
        said += f", of which the other side takes {own_ms:.1f}"
        if nominal.TURNS * ping_ms < longer_ms / 2:  # a loop as late as a ping explains less than half
            return ""
    stalls = longer_ms >= max(nominal.WITHIN_MS, (nominal.STALLED - 1.0) * alone_ms)
    return said if stalls else ""


def _alone_ms(found: Inputs, arm: str, name: str) -> float:
    """The arm's figure of the I/O for a lone user; else what was asked for."""
    summary = found.tables.summary
    known = summary[(summary["arm"] == arm) & (summary["concurrency"] == 1)].get(name, pd.Series(dtype=float))
    if len(alone := known.dropna()):
        return float(alone.iloc[0])
    asked = found.side.trials.loc[found.side.trials["arm"] == arm, "io_nominal_ms"].dropna()
    return float(asked.iloc[0]) if len(asked) else math.nan


# -- the sentences ---------------------------------------------------------------------------------------


def _what(found: Inputs, chosen: _Chosen, gain: best.Gain) -> str:
    """The arm, its setting, and what it is expected to give."""
    take, reference = chosen.take, found.reference
    if take == reference:
        return _stay(found, chosen)
    setting, at = _setting(found.record, take), users(chosen.load)
    said = f"Take {take}{setting}: at {at} expect {_figure(found, chosen, take)}"
    if math.isnan(gain.ratio):
        return f"{said} ({reference}, the reference, has no whole figures to compare with)."
    frees = reference in chosen.stalls and take not in chosen.stalls
    free = ", with an event loop that stays free" if frees else ""
    return f"{said}, {_times(gain, chosen.metric)} {reference} ({_figure(found, chosen, reference)}){free}."


def _stay(found: Inputs, chosen: _Chosen) -> str:
    take, at = chosen.take, f"at {users(chosen.load)}"
    own = _figure(found, chosen, take)
    if chosen.best.arm == take:
        others = [arm for arm in chosen.best.judged if arm != take]
        said = f"Stay with {take}: {at} it gives {own}"
        if not others:
            return f"{said}; no other arm has whole figures."
        near = _nearest(chosen.best, chosen.logs[others], {})
        much = _times(_over(chosen.logs, near, take), chosen.metric)
        return f"{said}, and no arm gives more; the next, {near}, gives {much} it."
    if chosen.best.arm in chosen.stalls:
        return f"Stay with {take}: {at} it gives {own}, and leaves the event loop free."
    apart = "no arm is told apart from it"
    return f"Stay with {take}: {at} it gives {own}, and {apart} as better in {chosen.best.blocks} blocks."


def _figure(found: Inputs, chosen: _Chosen, arm: str) -> str:
    row = row_of(found.tables.summary, arm, chosen.load)
    return f"{short(row[THROUGHPUT])} requests/s and a median of {short(row['latency_p50_ms'])} ms"


def _times(gain: best.Gain, metric: Metric) -> str:
    known = math.isfinite(gain.low + gain.high)
    interval = f" [{gain.low:.2f}, {gain.high:.2f}]" if known else ""
    how = "as quick as" if metric.lower_is_better else "the requests/s of"
    return f"{gain.ratio:.2f} times{interval} {how}"


def _setting(record: Mapping[str, Any], arm: str) -> str:
    """What to tell a server to be this arm, where its name does not say it."""
    planned = _planned(record, arm)
    own = [f"{name}={value}" for name, value in (planned.get("workload") or {}).items()]
    if (planned.get("server_processes") or 1) > 1:
        own.append(f"server_processes={planned['server_processes']}")
    text = again.strategy(planned)
    said = [f"--strategy {text}"] if text != arm and text else []
    return f" ({' with '.join(filter(None, [*said, ', '.join(own)]))})" if said or own else ""


def _planned(record: Mapping[str, Any], arm: str) -> Mapping[str, Any]:
    arms = (record.get("plan") or {}).get("arms") or []
    return next((one for one in arms if one["name"] == arm), {})


def _why(found: Inputs, chosen: _Chosen) -> str:
    """Which part of a request shrinks."""
    take, reference = chosen.take, found.reference
    mine, theirs = (row_of(found.tables.summary, arm, chosen.load) for arm in (take, reference))
    told = str(ranking.why(found.tables, take, mine, theirs or None, reference)["because"])
    if not told:
        return ""
    return f"There a request {told}." if take == reference else f"Against {reference}, a request {told}."


def _loop(chosen: _Chosen) -> str:
    """Who holds the event loop, where it matters for the choice."""
    first, take = chosen.best.arm, chosen.take
    if take in chosen.stalls:
        near = _nearest(chosen.best, chosen.logs, chosen.stalls)
        said = (
            f"{take} holds the event loop: {chosen.stalls[take]}, and all else that the service awaits waits"
        )
        if not near:
            return f"{said}."
        price = _times(_over(chosen.logs, near, take), chosen.metric)
        return f"{said}; where that matters take {near}, {price} it."
    if first == take or first not in chosen.stalls:
        return ""
    gain = _times(_over(chosen.logs, first, take), chosen.metric)
    return (
        f"{first} gives {gain} {take}, but holds the event loop ({chosen.stalls[first]}): "
        "only for a service that does nothing beside."
    )


def _rivals(found: Inputs, chosen: _Chosen) -> str:
    """Who could be the best as well, and which of them is cheaper."""
    may_be = [arm for arm in (chosen.best.arm, *chosen.best.rivals) if arm != chosen.take]
    if not may_be or chosen.take not in (chosen.best.arm, *chosen.best.rivals):
        return ""
    named = ", ".join(may_be[:3]) + (f" and {len(may_be) - 3} more" if len(may_be) > 3 else "")
    said = f"Not told apart in {chosen.best.blocks} blocks: {named}"
    memory = {arm: _memory_mb(found, arm, chosen.load) for arm in (chosen.take, *may_be)}
    known = {arm: size for arm, size in memory.items() if not math.isnan(size)}
    least = min(known, key=lambda arm: known[arm], default="")
    if least and least != chosen.take and known.get(chosen.take, 0.0) >= WORTH_SAYING * known[least]:
        said += f"; {least} takes {short(known[least])} MB of memory instead of {short(known[chosen.take])}"
    blocks = _blocks_to_tell(found, chosen)
    return f"{said}; about {blocks} blocks would tell it from {_rival(chosen)}." if blocks else f"{said}."


def _memory_mb(found: Inputs, arm: str, load: str) -> float:
    return float(row_of(found.tables.costs, arm, load).get("memory_uss_mb", math.nan))


def _costs(found: Inputs, chosen: _Chosen) -> str:
    """What it takes, beside what the reference takes."""
    if chosen.take == found.reference:
        return ""
    mine, theirs = (row_of(found.tables.costs, arm, chosen.load) for arm in (chosen.take, found.reference))
    figures = (("memory_uss_mb", "MB of memory"), ("cpu_ms_per_request", "ms of CPU a request"))
    told = [
        f"{short(mine[name])} {unit}{_beside(mine[name], theirs.get(name, math.nan), found.reference)}"
        for name, unit in figures
        if not math.isnan(mine.get(name, math.nan))
    ]
    failed = int(row_of(found.tables.summary, chosen.take, chosen.load)["failed"])
    told += [f"{failed} failed requests"] if failed else []
    return f"It costs {' and '.join(told)}." if told else ""


def _beside(value: float, other: float, reference: str) -> str:
    if math.isnan(other):
        return ""
    alike = abs(math.log(value / other)) < ranking.WORTH_A_WORD if value > 0 and other > 0 else value == other
    return f" (as {reference})" if alike else f" ({reference}: {short(other)})"


def _elsewhere(found: Inputs, chosen: _Chosen) -> str:
    """Under which other load that was measured another arm is better, and where the advised one is a loss."""
    bests = _at_others(found, list(chosen.best.judged), chosen.load)
    worse = [(load, first.arm) for load, first in bests if _loses(chosen.take, first)]
    told = [
        f"at {users(load)} {arm} is better {_medians(found, chosen, arm, load)}" for load, arm in worse[:2]
    ]
    slower = [users(load) for load in _slower_at(found, chosen.take) if load != chosen.load]
    if slower:
        told.append(f"at {', '.join(slower)} {chosen.take} is slower than {found.reference}")
    changes = f"Another load changes this: {'; '.join(told)}." if told else ""
    return " ".join(filter(None, [_by_median(found, chosen), changes]))


def _by_median(found: Inputs, chosen: _Chosen) -> str:
    """Who is better by the median latency, where the arm was chosen by throughput."""
    arms = [arm for arm in chosen.best.judged if arm not in chosen.stalls or chosen.take in chosen.stalls]
    first = best.of(best.figures(found.side, arms, chosen.load, best.LATENCIES))
    if chosen.metric.lower_is_better or first is None or not _loses(chosen.take, first):
        return ""
    medians = _medians(found, chosen, first.arm, chosen.load)
    return f"By the median alone {first.arm} is better at {users(chosen.load)} {medians}."


def _medians(found: Inputs, chosen: _Chosen, arm: str, load: str) -> str:
    values = [row_of(found.tables.summary, one, load)["latency_p50_ms"] for one in (arm, chosen.take)]
    mine, theirs = map(short, values)
    if mine == theirs:
        mine, theirs = (f"{value:.1f}" for value in values)
    return f"(median {mine} against {theirs} ms)"


def _slower_at(found: Inputs, arm: str) -> list[str]:
    """Loads under which the arm's median latency is worse than the reference's."""
    rows = found.tables.comparisons
    mine = rows[(rows["arm"].astype(str) == arm) & rows["primary"].astype(bool)]
    slower = mine["verdict"].astype(str).str.startswith(str(stats.Verdict.SLOWER))
    return [load for load in mine.loc[slower, "load"].astype(str) if not load.startswith("own(")]


def _at_others(found: Inputs, arms: list[str], load: str) -> Iterator[tuple[str, Best]]:
    """The best of these arms under every other load that is the same for all, the fewest users first."""
    summary = found.tables.summary.sort_values("concurrency", kind="stable")
    for other in dict.fromkeys(summary["load"].astype(str)):
        whole = [arm for arm in _arms(found, other) if arm in arms and not _spoilt(found, arm, other)]
        if other == load or other.startswith("own(") or not whole:
            continue
        first = best.of(best.figures(found.side, whole, other, best.LATENCIES))
        if first is not None:
            yield other, first


def _loses(arm: str, first: Best) -> bool:
    return arm in first.judged and arm not in (first.arm, *first.rivals)


def _left_out(found: Inputs, load: str) -> str:
    told = [said for arm in _arms(found, load) if (said := _spoilt(found, arm, load))]
    more = [f"{len(told) - 2} more"] if len(told) > 2 else []
    return f"Not considered: {'; '.join([*told[:2], *more])}." if told else ""


# -- what would change it --------------------------------------------------------------------------------


def _would_change(found: Inputs, arm: str, load: str) -> str:
    """What would change the advice, by where the arm's requests and the machine's cores spend their time."""
    row = row_of(found.tables.summary, arm, load)
    busy, cores = _busy_cores(found, row, arm, load)
    if cores and busy >= FULL * cores:
        return (
            f"What would change this: more cores{_cheaper(found)}; server and client keep "
            f"{min(busy, cores):.1f} of {cores:g} busy, so more workers alone will not."
        )
    parts, whole_ms = ranking.parts_of(row), float(row["latency_mean_ms"])
    part = max(parts, key=lambda name: parts[name], default="")
    if not part or not parts[part] >= LARGEST * whole_ms > 0:
        return ""
    share = f"{100 * parts[part] / whole_ms:.0f} % of a request"
    ways = {
        "io": f"a shorter I/O, which is {share} now; where the model runs matters little beside it",
        "model": f"a faster model call, which is {share} now{_longer_io(row)}",
        "queue": f"more calls at once or {_quicker(found)}, as {share} is waiting for a worker",
    }
    stalls = part == "io" and _stalls(found, arm, load)
    return f"What would change this: {ways[part]}." if part in ways and not stalls else ""


def _busy_cores(found: Inputs, row: Mapping[str, Any], arm: str, load: str) -> tuple[float, float]:
    """Cores that server and client keep busy, and those there are (0: not known)."""
    costs = row_of(found.tables.costs, arm, load)
    spent = [costs.get(name, math.nan) for name in ("cpu_ms_per_request", "client_cpu_ms_per_request")]
    cores = float((found.record.get("environment") or {}).get("usable_cores") or 0)
    return float(np.nansum(spent)) * float(row[THROUGHPUT]) / 1000.0, cores


def _backends(found: Inputs) -> set[str]:
    told = (found.record.get("arms") or {}).values()
    return {str(about["backend"]) for one in told if "backend" in (about := one.get("about") or {})}


def _cheaper(found: Inputs) -> str:
    """A backend that was run already is no news."""
    return "" if len(_backends(found)) > 1 else " or a model call that costs less CPU (a faster backend)"


def _quicker(found: Inputs) -> str:
    return "a shorter call" if len(_backends(found)) > 1 else "a faster backend"


def _longer_io(row: Mapping[str, Any]) -> str:
    """Where the I/O is the lesser part, a longer one makes the strategies more alike."""
    io_ms = row.get("io_mean_ms", math.nan)
    if math.isnan(io_ms) or io_ms == 0:
        return ""
    return f"; an I/O much longer than {short(io_ms)} ms makes the arms more alike"


# -- what to run next ------------------------------------------------------------------------------------


def _next(found: Inputs, chosen: _Chosen) -> str:
    """More blocks of the two that cannot be told apart, where those would tell."""
    blocks = _blocks_to_tell(found, chosen)
    return again.command(found.record, arms=(chosen.take, _rival(chosen)), blocks=blocks) if blocks else ""


def _rival(chosen: _Chosen) -> str:
    """The first of those that could be taken instead; "" where there is none."""
    may_be = [arm for arm in (chosen.best.arm, *chosen.best.rivals) if arm != chosen.take]
    free = [arm for arm in may_be if arm not in chosen.stalls or chosen.take in chosen.stalls]
    return free[0] if free else ""


def _blocks_to_tell(found: Inputs, chosen: _Chosen) -> int:
    """How many blocks would tell the advised arm from its rival; 0 where none, or too many, would."""
    rival = _rival(chosen)
    if not rival:
        return 0
    effect = stats.effect((chosen.logs[rival] - chosen.logs[chosen.take]).dropna())
    needed = stats.blocks_to_decide(effect, found.rules.delta(chosen.metric.name))
    return needed if chosen.best.blocks < needed <= MOST_BLOCKS else 0


def _too_few(found: Inputs, blocks: int) -> Advice:
    lines = (
        f"No strategy is advised: of {blocks} blocks nothing can be told apart "
        f"(at least {stats.FEWEST_BLOCKS}, better {BLOCKS_AT_LEAST}).",
    )
    command = again.command(found.record, blocks=BLOCKS_AT_LEAST)
    return _with_next(Advice(lines, reference=found.reference), command)


def _none_whole(found: Inputs, load: str) -> Advice:
    lines = (
        f"No strategy is advised: no arm answered well in every trial at {users(load)}.",
        _left_out(found, load),
    )
    told = Advice(tuple(filter(None, lines)), reference=found.reference, load=load)
    return _with_next(told, again.command(found.record))
