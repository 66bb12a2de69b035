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

from harness.analysis import stats
from harness.analysis.summaries import THROUGHPUT
from harness.numbers import plain, short, users
from harness.report import choice, next_command, otherwise, ranking
from harness.report.choice import Choice, Inputs, Why
from harness.wire.records import has_logs

MOST_LINES = 8
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
    return {name: value for name, value in plain(vars(advice)).items() if name not in ("lines", "headline")}


def told(advice: Advice) -> list[str]:
    """The lines, and the command to run next as one of them."""
    return [*advice.lines, *([f"Next: {advice.command}"] if advice.command else [])]


def advise(found: Inputs, chosen: Choice) -> Advice:
    """What to do after this run, whose choice is `chosen`."""
    if chosen.why == Why.CHOSEN:
        return _of_choice(found, chosen)
    if chosen.why == Why.NO_ANSWERS:
        # we have the log of a server only where we have started it
        look = "The warnings say why; the server's own log may say more."
        look = "The servers' logs are in the run's folder." if has_logs(found.record) else look
        return Advice((f"No advice: no trial got good answers. {look}",))
    if chosen.why == Why.ONE_ARM:
        return _of_one(found, chosen.load)
    return _of_none(found, chosen)


# -- nothing to choose from ------------------------------------------------------------------------------


def _of_none(found: Inputs, chosen: Choice) -> Advice:
    """Run it again, with more blocks where those were too few to tell."""
    load, blocks = "", BLOCKS_AT_LEAST
    if chosen.why == Why.WITHHELD:
        why = "this session cannot tell a faster one from a luckier one (see the warning)"
        more = "Run it again where nothing else is busy, with more blocks."
        blocks = 2 * int((found.record.get("plan") or {}).get("blocks") or BLOCKS_AT_LEAST)
    elif chosen.why == Why.TOO_FEW_BLOCKS:
        enough = f"(at least {stats.FEWEST_BLOCKS_FOR_VERDICT}, better {BLOCKS_AT_LEAST})"
        why, more = f"of {chosen.blocks} blocks nothing can be told apart {enough}", ""
    else:
        load, blocks = chosen.load, 0
        why = f"no arm answered well in every trial at {users(load)}"
        more = _left_out(found, load)
    return Advice(
        _those_said(f"No strategy is advised: {why}.", more),
        reference=found.reference,
        load=load,
        command=next_command.run(found.record, found.folder, blocks=blocks),
    )


def _of_one(found: Inputs, load: str) -> Advice:
    arm = str(choice.answered_of(found.tables.summary)["arm"].iloc[0])
    row = found.tables.figures(arm, load)
    dominates = ranking.largest(row)
    return Advice(
        _those_said(
            f"Only {arm} was run, so nothing here says which strategy is best.",
            f"At {users(load)} a request {dominates}." if dominates else "",
            otherwise.would_change(found, arm, load),
        ),
        reference=found.reference,
        load=load,
        command=_next_of_one(found, arm, row),
    )


def _next_of_one(found: Inputs, arm: str, row: Mapping[str, Any]) -> str:
    """Another strategy beside it; for an external server, twice the users."""
    planned = _planned(found.record, arm)
    if next_command.strategy(planned):
        return next_command.run(found.record, found.folder, arms=(arm, *COMPARED))
    if math.isnan(row["concurrency"]):
        return ""
    users = 2 * int(row["concurrency"])
    if planned:
        return next_command.run(found.record, found.folder, users=users)
    return next_command.load(found.record, users=users)


def _those_said(*sentences: str) -> tuple[str, ...]:
    return tuple(filter(None, sentences))


# -- the choice ------------------------------------------------------------------------------------------


def _of_choice(found: Inputs, chosen: Choice) -> Advice:
    _, blocks = _blocks(found, chosen)
    arms = (chosen.take, _to_settle(chosen))  # not settled, and so many blocks can be run
    command = next_command.run(found.record, found.folder, arms=arms, blocks=blocks) if blocks else ""
    lines = _those_said(
        _what(found, chosen),
        _fastest(chosen),
        _why(found, chosen),
        _rivals(found, chosen),
        _costs(found, chosen),
        otherwise.elsewhere(found, chosen),
        _left_out(found, chosen.load),
        otherwise.would_change(found, chosen.take, chosen.load),
    )
    effect = chosen.over(chosen.take, found.reference)
    ratio, low, high = (math.nan,) * 3 if effect is None else (effect.ratio, effect.low, effect.high)
    return Advice(
        lines=lines[: MOST_LINES - bool(command)],
        headline=_headline(found, chosen),
        take=chosen.take,
        reference=found.reference,
        load=chosen.load,
        metric=chosen.metric.name,
        ratio=ratio,
        low=low,
        high=high,
        unsettled=chosen.unsettled,
        equivalent=chosen.equivalent,
        fastest=chosen.fastest,
        command=command,
    )


def _headline(found: Inputs, chosen: Choice) -> str:
    """The choice as the report's first line."""
    take, reference = chosen.take, found.reference
    at, figure = f"At {users(chosen.load)}", _figure(found, chosen, take)
    if take == reference:
        return f"{at}, stay with {take}: {figure}; {_no_better(found, chosen)}"
    said = f"{at}, take {take}: {figure}"
    if chosen.over(take, reference) is None:
        return said
    said += f", {_times(chosen, take, reference)} {reference}"
    holds = f", which holds the event loop ({chosen.stalls[reference]})" if _frees(found, chosen) else ""
    return said + holds


def _what(found: Inputs, chosen: Choice) -> str:
    """The arm, its setting, and what it is expected to give."""
    take, reference = chosen.take, found.reference
    at, figure = f"at {users(chosen.load)}", _figure(found, chosen, take)
    luck = ""
    if chosen.luck >= choice.WORTH_SAYING_LUCK:
        luck = f" About {100 * chosen.luck:.0f} % of its figure is the luck of being the best of many."
    if take == reference:
        return f"Stay with {take}: {at} it gives {figure}; {_no_better(found, chosen)}.{luck}"
    said = f"Take {take}{_setting(found.record, take)}: {at} expect {figure}"
    if chosen.over(take, reference) is None:
        return f"{said} ({reference}, the reference, has no whole figures to compare with)."
    frees = ", with an event loop that stays free" if _frees(found, chosen) else ""
    ratio = f"{_times(chosen, take, reference)} {reference} ({_figure(found, chosen, reference)})"
    return f"{said}, {ratio}{frees}.{_levels(found, chosen)}{luck}"


def _frees(found: Inputs, chosen: Choice) -> bool:
    """Whether the event loop that the reference holds stays free."""
    return found.reference in chosen.stalls and chosen.take not in chosen.stalls


def _no_better(found: Inputs, chosen: Choice) -> str:
    """Why the reference stays."""
    others = [arm for arm in chosen.open_to if arm != chosen.take]
    if not others:
        free = " that leaves the event loop free" if chosen.stalls else ""
        return f"no other arm{free} has whole figures"
    if chosen.unsettled:
        return f"no arm is told apart from it as better in {chosen.blocks} blocks"
    if chosen.equivalent:
        delta = 100 * found.rules.delta(chosen.metric.name)
        are = "is" if len(chosen.equivalent) == 1 else "are"
        return f"{_listed(chosen.equivalent)} {are} equivalent within {delta:g} %"
    rest = str(chosen.logs[others].mean().idxmax())
    return f"no arm is better; the next, {rest}, has {_times(chosen, rest, chosen.take)} {chosen.take}"


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
    what = "the median latency of" if chosen.metric.lower_is_better else "the requests/s of"
    return f"{chosen.times(arm, other)} {what}"


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
    arms = (chosen.take, *chosen.equivalent, *chosen.unsettled)
    memory = {arm: found.tables.cost(arm, chosen.load).get("memory_uss_mb", math.nan) for arm in arms}
    known = {arm: size for arm, size in memory.items() if not math.isnan(size)}
    least = min(known, key=lambda arm: known[arm], default="")
    if not least or least == chosen.take or known.get(chosen.take, 0.0) < WORTH_SAYING * known[least]:
        return ""
    return f"{least} takes {short(known[least])} MB of memory instead of {short(known[chosen.take])}"


def _costs(found: Inputs, chosen: Choice) -> str:
    """What it takes, beside what the reference takes."""
    if chosen.take == found.reference:
        return ""
    mine, theirs = (found.tables.cost(arm, chosen.load) for arm in (chosen.take, found.reference))
    told = [
        f"{short(mine[name])} {unit}{_beside(mine[name], theirs.get(name, math.nan), found.reference)}"
        for name, unit in ranking.COSTS.items()
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


def _left_out(found: Inputs, load: str) -> str:
    told = [said for arm in choice.arms_at(found, load) if (said := choice.spoilt(found, arm, load))]
    more = [f"{len(told) - 2} more"] if len(told) > 2 else []
    return f"Not considered: {'; '.join([*told[:2], *more])}." if told else ""


# -- what to run next ------------------------------------------------------------------------------------


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
