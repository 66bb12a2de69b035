"""What to do, from what was measured: the last words of a report.

Pure: the report's tables and the dict of `run.json` go in, sentences come out. Every line follows from
figures of the run; where they bear no advice, it says so and which command would. Never more than
`MOST_LINES`. Which arm to take is decided in `harness.report.choice`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.analysis import stats
from harness.analysis.summaries import THROUGHPUT
from harness.numbers import short, times, users
from harness.report import choice, next_command, ranking
from harness.report.choice import Choice, Inputs, Why
from harness.verdicts import best_arm
from harness.wire.records import has_logs

MOST_LINES = 8
FULL = 0.85  # of the usable cores, server and client together
LARGEST = 0.5  # a part that is as much of a request dominates it
WORTH_SAYING = 1.25  # times as much memory
BLOCKS_AT_LEAST = 24
MOST_BLOCKS = 400  # a run of more is not proposed
COMPARED = ("inline", "thread", "process")


@dataclasses.dataclass(frozen=True)
class Advice:
    """`lines` for people; the rest says the same to programs, empty or NaN where nothing is advised."""

    lines: tuple[str, ...]
    headline: str = ""  # the choice in a few words
    take: str = ""  # the arm
    reference: str = ""
    load: str = ""  # that decides
    metric: str = ""  # by which
    ratio: float = math.nan  # over the reference, as in the comparisons: the mean of the blocks' log ratios
    low: float = math.nan
    high: float = math.nan
    unsettled: tuple[str, ...] = ()  # neither told apart from the arm nor equivalent to it
    equivalent: tuple[str, ...] = ()
    fastest: str = ""  # by the figures alone; another arm than `take` where it holds the event loop
    command: str = ""  # what to run next


def as_json(advice: Advice) -> dict[str, Any]:
    """What programs need of it, the lines left out; NaN, no JSON, is null."""
    fields = {name: list(one) if isinstance(one, tuple) else one for name, one in vars(advice).items()}
    del fields["lines"], fields["headline"]
    return {
        name: None if isinstance(one, float) and not math.isfinite(one) else one
        for name, one in fields.items()
    }


def told(advice: Advice) -> list[str]:
    """The lines, and the command to run next as one of them."""
    return [*advice.lines, *([f"Next: {advice.command}"] if advice.command else [])]


def advise(found: Inputs, chosen: Choice) -> Advice:
    """What to do after this run, whose choice is `chosen`."""
    if chosen.why == Why.CHOSEN:
        return _of_choice(found, chosen)
    if chosen.why == Why.NO_ANSWERS:
        return Advice((f"No advice: no trial got good answers. {_where_to_look(found.record)}",))
    if chosen.why == Why.WITHHELD:
        return _withheld(found)
    if chosen.why == Why.ONE_ARM:
        arm = str(choice.answered_of(found.tables.summary)["arm"].iloc[0])
        return _of_one(found, arm, chosen.load)
    if chosen.why == Why.TOO_FEW_BLOCKS:
        return _too_few(found, chosen.blocks)
    return _none_whole(found, chosen.load)


def _where_to_look(record: Mapping[str, Any]) -> str:
    """Why nothing was answered: we have the log of a server only where we have started it."""
    if has_logs(record):
        return "The servers' logs are in the run's folder."
    return "The warnings say why; the server's own log may say more."


# -- nothing to choose from ------------------------------------------------------------------------------


def _withheld(found: Inputs) -> Advice:
    blocks = 2 * int((found.record.get("plan") or {}).get("blocks") or BLOCKS_AT_LEAST)
    command = next_command.run(found.record, found.folder, blocks=blocks)
    lines = [
        "No strategy is advised: this session cannot tell a faster one from a luckier one (see the warning).",
        "Run it again where nothing else is busy, with more blocks.",
    ]
    return _with_next(Advice(tuple(lines), reference=found.reference), command)


def _of_one(found: Inputs, arm: str, load: str) -> Advice:
    row = found.tables.figures(arm, load)
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
    if next_command.strategy(planned):
        return next_command.run(found.record, found.folder, arms=(arm, *COMPARED))
    if math.isnan(row["concurrency"]):
        return ""
    users = 2 * int(row["concurrency"])
    if planned:
        return next_command.run(found.record, found.folder, users=users)
    return next_command.load(found.record, users=users)


def _dominates(row: Mapping[str, Any], load: str) -> str:
    told = ranking.largest(row)
    return f"At {users(load)} a request {told}." if told else ""


def _with_next(advice: Advice, command: str) -> Advice:
    return dataclasses.replace(advice, lines=advice.lines[: MOST_LINES - bool(command)], command=command)


# -- the choice ------------------------------------------------------------------------------------------


def _of_choice(found: Inputs, chosen: Choice) -> Advice:
    lines = [
        _what(found, chosen),
        _fastest(chosen),
        _why(found, chosen),
        _rivals(found, chosen),
        _costs(found, chosen),
        _elsewhere(found, chosen),
        _left_out(found, chosen.load),
        _would_change(found, chosen.take, chosen.load),
    ]
    effect = chosen.over(chosen.take, found.reference)
    told = Advice(
        lines=tuple(filter(None, lines)),
        headline=_headline(found, chosen),
        take=chosen.take,
        reference=found.reference,
        load=chosen.load,
        metric=chosen.metric.name,
        unsettled=chosen.unsettled,
        equivalent=chosen.equivalent,
        fastest=chosen.fastest,
    )
    if effect is not None:
        told = dataclasses.replace(told, ratio=effect.ratio, low=effect.low, high=effect.high)
    return _with_next(told, _next(found, chosen))


# -- the sentences ---------------------------------------------------------------------------------------


def _headline(found: Inputs, chosen: Choice) -> str:
    """The choice as the report's first line."""
    take, reference = chosen.take, found.reference
    figure = _figure(found, chosen, take)
    if take == reference:
        return f"At {users(chosen.load)}, stay with {take}: {figure}; {_no_better(found, chosen)}"
    effect = chosen.over(take, reference)
    if effect is None:
        return f"At {users(chosen.load)}, take {take}: {figure}"
    said = f"At {users(chosen.load)}, take {take}: {figure}, {_times(chosen, take, reference)} {reference}"
    if reference in chosen.stalls and take not in chosen.stalls:
        return f"{said}, which holds the event loop ({chosen.stalls[reference]})"
    return said


def _what(found: Inputs, chosen: Choice) -> str:
    """The arm, its setting, and what it is expected to give."""
    take, reference = chosen.take, found.reference
    at = f"at {users(chosen.load)}"
    if take == reference:
        said = f"Stay with {take}: {at} it gives {_figure(found, chosen, take)}; {_no_better(found, chosen)}."
        return said + _luck(chosen)
    said = f"Take {take}{_setting(found.record, take)}: {at} expect {_figure(found, chosen, take)}"
    if chosen.over(take, reference) is None:
        return f"{said} ({reference}, the reference, has no whole figures to compare with)."
    free = reference in chosen.stalls and take not in chosen.stalls
    frees = ", with an event loop that stays free" if free else ""
    ratio = f"{_times(chosen, take, reference)} {reference} ({_figure(found, chosen, reference)})"
    return f"{said}, {ratio}{frees}.{_levels(found, chosen)}{_luck(chosen)}"


def _no_better(found: Inputs, chosen: Choice) -> str:
    """Why the reference stays."""
    others = [arm for arm in _open_to(chosen) if arm != chosen.take]
    if not others:
        free = " that leaves the event loop free" if chosen.stalls else ""
        return f"no other arm{free} has whole figures"
    if chosen.unsettled:
        return f"no arm is told apart from it as better in {chosen.blocks} blocks"
    if chosen.equivalent:
        delta = 100 * found.rules.delta(chosen.metric.name)
        return f"{_listed(chosen.equivalent)} {_are(chosen.equivalent)} equivalent within {delta:g} %"
    rest = str(chosen.logs[others].mean().idxmax())
    return f"no arm is better; the next, {rest}, has {_times(chosen, rest, chosen.take)} {chosen.take}"


def _open_to(chosen: Choice) -> list[str]:
    """The arms that were chosen from: those that leave the event loop free, or all where none does."""
    return [arm for arm in chosen.judged if arm not in chosen.stalls or chosen.take in chosen.stalls]


def _are(arms: tuple[str, ...]) -> str:
    return "is" if len(arms) == 1 else "are"


def _listed(arms: tuple[str, ...]) -> str:
    """The first three, and how many more."""
    return ", ".join(arms[:3]) + (f" and {len(arms) - 3} more" if len(arms) > 3 else "")


def _figure(found: Inputs, chosen: Choice, arm: str) -> str:
    row = found.tables.figures(arm, chosen.load)
    least, most = ("at least ", "at most ") if arm in chosen.limited else ("", "")
    rate = f"{least}{short(row[THROUGHPUT])} {'good answers/s' if row['failed'] else 'requests/s'}"
    return f"{rate} and a median of {most}{short(row['latency_p50_ms'])} ms"


def _times(chosen: Choice, arm: str, other: str) -> str:
    """Such as "1.59 times [1.56, 1.63] the requests/s of"."""
    effect = chosen.over(arm, other)
    assert effect is not None, "both have figures"
    what = "the median latency of" if chosen.metric.lower_is_better else "the requests/s of"
    ratio = times(effect.ratio, effect.low, effect.high)
    return f"{chosen.bound(arm, other)}{ratio} {what}"


def _levels(found: Inputs, chosen: Choice) -> str:
    """That the figures' quotient is not the ratio, where it is not."""
    effect = chosen.over(chosen.take, found.reference)
    name = "latency_p50_ms" if chosen.metric.lower_is_better else THROUGHPUT
    mine, theirs = (
        float(found.tables.figures(arm, chosen.load)[name]) for arm in (chosen.take, found.reference)
    )
    if effect is None or not theirs or f"{mine / theirs:.2f}" == f"{effect.ratio:.2f}":
        return ""
    return " (The figures are medians; the ratio is the mean over blocks.)"


def _luck(chosen: Choice) -> str:
    if chosen.luck < choice.WORTH_SAYING_LUCK:
        return ""
    return f" About {100 * chosen.luck:.0f} % of its figure is the luck of being the best of many."


def _setting(record: Mapping[str, Any], arm: str) -> str:
    """What to tell a server to be this arm, where its name does not say it."""
    planned = _planned(record, arm)
    own = [f"{name}={value}" for name, value in (planned.get("workload") or {}).items()]
    if (planned.get("server_processes") or 1) > 1:
        own.append(f"server_processes={planned['server_processes']}")
    text = next_command.strategy(planned)
    said = [f"--strategy {text}"] if text != arm and text else []
    return f" ({' with '.join(filter(None, [*said, ', '.join(own)]))})" if said or own else ""


def _planned(record: Mapping[str, Any], arm: str) -> Mapping[str, Any]:
    arms = (record.get("plan") or {}).get("arms") or []
    return next((one for one in arms if one["name"] == arm), {})


def _why(found: Inputs, chosen: Choice) -> str:
    """Which part of a request shrinks."""
    take, reference = chosen.take, found.reference
    mine, theirs = (found.tables.figures(arm, chosen.load) for arm in (take, reference))
    told = str(ranking.why(found.tables, take, mine, theirs or None, reference)["because"])
    if not told:
        return ""
    return f"There a request {told}." if take == reference else f"Against {reference}, a request {told}."


def _fastest(chosen: Choice) -> str:
    """Who holds the event loop, and at which price it is quicker."""
    take, fastest = chosen.take, chosen.fastest
    if take in chosen.stalls:
        return (
            f"{take} holds the event loop ({chosen.stalls[take]}): whatever else the service awaits, waits."
        )
    if fastest not in chosen.stalls:
        return ""
    return (
        f"{fastest} has {_times(chosen, fastest, take)} {take}, but holds the event loop "
        f"({chosen.stalls[fastest]}): take it only if this route is all that the service does."
    )


def _rivals(found: Inputs, chosen: Choice) -> str:
    """Who could be the best as well, and which of them is cheaper."""
    delta = f"{100 * found.rules.delta(chosen.metric.name):g} %"
    said = []
    if chosen.equivalent and chosen.take != found.reference:
        said.append(f"Equivalent within {delta}: {_listed(chosen.equivalent)}")
    if chosen.unsettled:
        said.append(f"Not told apart in {chosen.blocks} blocks: {_listed(chosen.unsettled)}")
    if cheaper := _cheaper_rival(found, chosen):
        said.append(cheaper)
    least, most = _blocks(found, chosen)
    if most:
        blocks = str(least) if least == most else f"{least} to {most}"
        said.append(f"an interval of ±{delta} against {_to_settle(chosen)} would take {blocks} blocks")
    return f"{'; '.join(said)}." if said else ""


def _cheaper_rival(found: Inputs, chosen: Choice) -> str:
    may_be = [*chosen.equivalent, *chosen.unsettled]
    memory = {arm: _memory_mb(found, arm, chosen.load) for arm in (chosen.take, *may_be)}
    known = {arm: size for arm, size in memory.items() if not math.isnan(size)}
    least = min(known, key=lambda arm: known[arm], default="")
    if not least or least == chosen.take or known.get(chosen.take, 0.0) < WORTH_SAYING * known[least]:
        return ""
    return f"{least} takes {short(known[least])} MB of memory instead of {short(known[chosen.take])}"


def _memory_mb(found: Inputs, arm: str, load: str) -> float:
    return float(found.tables.cost(arm, load).get("memory_uss_mb", math.nan))


def _costs(found: Inputs, chosen: Choice) -> str:
    """What it takes, beside what the reference takes."""
    if chosen.take == found.reference:
        return ""
    mine, theirs = (found.tables.cost(arm, chosen.load) for arm in (chosen.take, found.reference))
    figures = (("memory_uss_mb", "MB of memory"), ("cpu_ms_per_request", "ms of CPU a request"))
    told = [
        f"{short(mine[name])} {unit}{_beside(mine[name], theirs.get(name, math.nan), found.reference)}"
        for name, unit in figures
        if not math.isnan(mine.get(name, math.nan))
    ]
    failed = int(found.tables.figures(chosen.take, chosen.load)["failed"])
    told += [f"{failed} failed requests"] if failed else []
    return f"It costs {' and '.join(told)}." if told else ""


def _beside(value: float, other: float, reference: str) -> str:
    if math.isnan(other):
        return ""
    alike = abs(math.log(value / other)) < ranking.WORTH_A_WORD if value > 0 and other > 0 else value == other
    return f" (as {reference})" if alike else f" ({reference}: {short(other)})"


def _elsewhere(found: Inputs, chosen: Choice) -> str:
    """Under which other load that was measured another arm is better, and where the advised one is a loss."""
    free = _open_to(chosen)
    bests = choice.at_others(found, free, chosen.load)
    worse = [(load, first.arm) for load, first in bests if choice.loses(found, chosen.take, first, load)]
    told = [
        f"at {users(load)} {arm} is better {_medians(found, chosen, arm, load)}" for load, arm in worse[:2]
    ]
    slower = [users(load) for load in _slower_at(found, chosen.take) if load != chosen.load]
    if slower:
        told.append(f"at {', '.join(slower)} {chosen.take} is slower than {found.reference}")
    changes = f"Another load changes this: {'; '.join(told)}." if told else ""
    return " ".join(filter(None, [_by_median(found, chosen, free), changes]))


def _by_median(found: Inputs, chosen: Choice, arms: list[str]) -> str:
    """Who is better by the median latency, where the arm was chosen by throughput."""
    first = best_arm.find(best_arm.figures(found.side, arms, chosen.load, best_arm.LATENCIES))
    if chosen.metric.lower_is_better or first is None:
        return ""
    if not choice.loses(found, chosen.take, first, chosen.load):
        return ""
    medians = _medians(found, chosen, first.arm, chosen.load)
    return f"By the median alone {first.arm} is better at {users(chosen.load)} {medians}."


def _medians(found: Inputs, chosen: Choice, arm: str, load: str) -> str:
    values = [found.tables.figures(one, load)["latency_p50_ms"] for one in (arm, chosen.take)]
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


def _left_out(found: Inputs, load: str) -> str:
    told = [said for arm in choice.arms_at(found, load) if (said := choice.spoilt(found, arm, load))]
    more = [f"{len(told) - 2} more"] if len(told) > 2 else []
    return f"Not considered: {'; '.join([*told[:2], *more])}." if told else ""


# -- what would change it --------------------------------------------------------------------------------


def _would_change(found: Inputs, arm: str, load: str) -> str:
    """What would change the advice, by where the arm's requests and the machine's cores spend their time."""
    row = found.tables.figures(arm, load)
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
    stalls = part == "io" and choice.stalls(found, arm, load)
    return f"What would change this: {ways[part]}." if part in ways and not stalls else ""


def _busy_cores(found: Inputs, row: Mapping[str, Any], arm: str, load: str) -> tuple[float, float]:
    """Cores that server and client keep busy, and those there are (0: not known)."""
    costs = found.tables.cost(arm, load)
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


def _next(found: Inputs, chosen: Choice) -> str:
    """More blocks of the two that are not settled, where so many can be run."""
    _, most = _blocks(found, chosen)
    if not most:
        return ""
    arms = (chosen.take, _to_settle(chosen))
    return next_command.run(found.record, found.folder, arms=arms, blocks=most)


def _to_settle(chosen: Choice) -> str:
    """The arm that more blocks may tell from the one taken; "" where it is the client that hides it."""
    arms = (arm for arm in chosen.unsettled if arm not in chosen.limited)
    return next(arms, "") if chosen.take not in chosen.limited else ""


def _blocks(found: Inputs, chosen: Choice) -> tuple[int, int]:
    """How many blocks an interval as narrow as δ would take, at least and at most; (0, 0): no forecast."""
    rival = _to_settle(chosen)
    effect = chosen.over(rival, chosen.take) if rival else None
    if effect is None:
        return 0, 0
    delta = found.rules.delta(chosen.metric.name)
    least, most = stats.blocks_for_width(effect, delta, counted=found.side.counted)
    return (least, most) if most <= MOST_BLOCKS else (0, 0)


def _too_few(found: Inputs, blocks: int) -> Advice:
    lines = (
        f"No strategy is advised: of {blocks} blocks nothing can be told apart "
        f"(at least {stats.FEWEST_BLOCKS}, better {BLOCKS_AT_LEAST}).",
    )
    command = next_command.run(found.record, found.folder, blocks=BLOCKS_AT_LEAST)
    return _with_next(Advice(lines, reference=found.reference), command)


def _none_whole(found: Inputs, load: str) -> Advice:
    lines = (
        f"No strategy is advised: no arm answered well in every trial at {users(load)}.",
        _left_out(found, load),
    )
    told = Advice(tuple(filter(None, lines)), reference=found.reference, load=load)
    return _with_next(told, next_command.run(found.record, found.folder))
