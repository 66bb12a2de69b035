"""The advice at the end of a report: which arm to take, why, what it costs, what would change that.

Pure: the report's tables and the dict of `run.json` go in, sentences come out. Every line follows from
figures of the run. Where these allow no advice, the lines say so and name the command that would help. There
are at most `MOST_LINES`. `harness.report.choice` decides which arm to take.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from harness.analysis import stats
from harness.analysis.summaries import THROUGHPUT
from harness.numbers import counted, plain, short, users
from harness.report import alternatives, choice, headline, neighbour_advice, next_command, ranking
from harness.report.choice import Choice, Inputs, Why
from harness.report.headline import figure, frees, listed, no_better, times
from harness.wire.records import has_logs

MOST_LINES = 8
MEMORY_WORTH_NAMING = 1.25  # of the cheaper arm's memory
BLOCKS_AT_LEAST = 24
MOST_BLOCKS = 400  # longer runs are not proposed
COMPARED = ("inline", "thread", "process")


@dataclasses.dataclass(frozen=True)
class Advice:
    """`lines` for people; the other fields for programs, empty or NaN where nothing is advised."""

    lines: tuple[str, ...]
    headline: str = ""  # the choice in one sentence
    rest: tuple[str, ...] = ()  # what `lines` add to the headline; () if there is no headline
    take: str = ""  # the arm
    reference: str = ""
    load: str = ""  # the load that decides
    metric: str = ""  # the metric that decides
    ratio: float = math.nan  # over the reference, as in the comparisons: the mean of the blocks' log ratios
    low: float = math.nan
    high: float = math.nan
    unsettled: tuple[str, ...] = ()  # neither shown to differ from the arm nor equivalent to it
    equivalent: tuple[str, ...] = ()
    fastest: str = ""  # by the figures alone; differs from `take` where it blocks the event loop
    command: str = ""  # what to run next


_FOR_PEOPLE = ("lines", "headline", "rest")


def as_json(advice: Advice) -> dict[str, Any]:
    """The fields for programs, without the lines; NaN becomes null."""
    return {name: value for name, value in plain(vars(advice)).items() if name not in _FOR_PEOPLE}


def printed_lines(advice: Advice) -> list[str]:
    """The lines, then the command to run next."""
    return [*advice.lines, *([f"Next: {advice.command}"] if advice.command else [])]


def advise(found: Inputs, chosen: Choice) -> Advice:
    """The advice after this run, whose choice is `chosen`."""
    if chosen.why == Why.CHOSEN:
        return _of_choice(found, chosen)
    if chosen.why == Why.NO_ANSWERS:
        why = choice.why_none_answered(found.tables.summary)
        # the run has the logs only of servers that it started
        where = "The warnings give the reasons; the server's own log may say more."
        where = "The servers' logs are in the run's folder." if has_logs(found.record) else where
        return Advice((f"No advice: {why}. {where}",))
    if chosen.why == Why.ONE_ARM:
        return _of_one(found, chosen)
    return _of_none(found, chosen)


# -- nothing to choose from ------------------------------------------------------------------------------


def _of_none(found: Inputs, chosen: Choice) -> Advice:
    """Advice to run the plan again, with more blocks if these were too few."""
    load, users_of_all, blocks = "", 0, BLOCKS_AT_LEAST
    if chosen.why == Why.WITHHELD:
        why = "the session is too noisy to tell a faster arm from a lucky one (see the warning)"
        more = "Run it again on an idle machine, with more blocks."
        blocks = 2 * int((found.record.get("plan") or {}).get("blocks") or BLOCKS_AT_LEAST)
    elif chosen.why == Why.TOO_FEW_BLOCKS:
        enough = f"run at least {stats.FEWEST_BLOCKS_FOR_VERDICT}, better {BLOCKS_AT_LEAST}"
        why, more = f"{counted(chosen.blocks, 'block')} cannot show a difference ({enough})", ""
    elif chosen.why == Why.OWN_LOADS:
        why = f"{users(chosen.load)} is another load for each arm"
        more = "Give all arms the same load, such as users (-c 32) or a rate (--rate 50)."
        users_of_all, blocks = int((found.record.get("plan") or {}).get("own_users") or 0), 0
    else:
        load, blocks = chosen.load, 0
        misses = any(choice.missed_by(found, arm, load) for arm in choice.arms_at(found, load))
        what = "keeps every objective" if misses else "gave good answers in every trial"
        why = f"at {users(load)} no arm {what}"
        more = _left_out(found, load)
    return Advice(
        _without_empty(
            f"No strategy is advised: {why}.",
            neighbour_advice.line(found, chosen),  # not last: short reports leave out what does not fit
            more,
        ),
        reference=found.reference,
        load=load,
        command=next_command.run(found.record, found.folder, users=users_of_all, blocks=blocks),
    )


def _of_one(found: Inputs, chosen: Choice) -> Advice:
    load = chosen.load
    arm = str(choice.answered_of(found.tables.summary)["arm"].iloc[0])
    row = found.tables.figures(arm, load)
    dominates = ranking.largest(row)
    return Advice(
        _without_empty(
            f"Only {arm} was run, so this run cannot say which strategy is best.",
            neighbour_advice.line(found, chosen),
            f"At {users(load)} a request {dominates}." if dominates else "",
            alternatives.would_change(found, arm, load),
        ),
        reference=found.reference,
        load=load,
        command=_next_of_one(found, arm, row),
    )


def _next_of_one(found: Inputs, arm: str, row: Mapping[str, Any]) -> str:
    """The command that adds other strategies; for an external server, one with twice the users."""
    planned = _planned(found.record, arm)
    if next_command.strategy(planned):
        return next_command.run(found.record, found.folder, arms=(arm, *COMPARED))
    if math.isnan(row["concurrency"]):
        return ""
    users = 2 * int(row["concurrency"])
    if planned:
        return next_command.run(found.record, found.folder, users=users)
    return next_command.load(found.record, users=users)


def _without_empty(*sentences: str) -> tuple[str, ...]:
    return tuple(filter(None, sentences))


# -- the choice ------------------------------------------------------------------------------------------


def _of_choice(found: Inputs, chosen: Choice) -> Advice:
    _, blocks = _blocks(found, chosen)
    arms = (chosen.take, _to_settle(chosen))
    command = next_command.run(found.record, found.folder, arms=arms, blocks=blocks) if blocks else ""
    if found.kept:
        command = next_command.serve(found.record, _planned(found.record, chosen.take))
    kept = _kept(found, chosen)
    rivals, elsewhere = _rivals(found, chosen), alternatives.elsewhere(found, chosen)
    left_out = _left_out(found, chosen.load)
    beside = neighbour_advice.line(found, chosen)
    lines = _without_empty(
        _what(found, chosen),
        kept,
        _fastest(chosen),
        _why(found, chosen),
        beside,
        rivals,
        _costs(found, chosen),
        elsewhere,
        left_out,
        alternatives.would_change(found, chosen.take, chosen.load),
    )
    verb = headline.verb(found, chosen).capitalize()
    take = f"{verb} {chosen.take}{_setting(found.record, chosen.take)}."
    effect = chosen.over(chosen.take, found.reference)
    ratio, low, high = (math.nan,) * 3 if effect is None else (effect.ratio, effect.low, effect.high)
    return Advice(
        lines=lines[: MOST_LINES - bool(command)],
        headline=headline.of_choice(found, chosen),
        rest=_without_empty(take, kept, beside, rivals, elsewhere, left_out),
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


def _what(found: Inputs, chosen: Choice) -> str:
    """The arm, its setting, and the figures to expect."""
    take, reference = chosen.take, found.reference
    at, expected = f"at {users(chosen.load)}", figure(found, chosen, take)
    luck = ""
    if chosen.luck >= choice.LUCK_WORTH_NAMING:
        luck = f" About {100 * chosen.luck:.0f} % of its figure is the luck of the best of many."
    if take == reference:
        verb = headline.verb(found, chosen).capitalize()
        return f"{verb} {take}: {at} it gives {expected}; {no_better(found, chosen)}.{luck}"
    words = f"Take {take}{_setting(found.record, take)}: {at} expect {expected}"
    if chosen.over(take, reference) is None:
        misses = choice.missed_by(found, reference, chosen.load)
        lacks = "misses an objective" if misses else "has no complete figures to compare with"
        return f"{words} ({reference}, the reference, {lacks})."
    free = ", and the event loop stays free" if frees(found, chosen) else ""
    ratio = f"{times(chosen, take, reference)} {reference} ({figure(found, chosen, reference)})"
    return f"{words}, {ratio}{free}.{_levels(found, chosen)}{luck}"


def _kept(found: Inputs, chosen: Choice) -> str:
    """How the arm keeps the objectives; "" in a run without them."""
    judged = found.kept.get(chosen.take, ())
    return f"It {' and '.join(map(str, judged))}." if judged else ""


def _levels(found: Inputs, chosen: Choice) -> str:
    """A remark where the quotient of the two figures differs from the stated ratio; else ""."""
    effect = chosen.over(chosen.take, found.reference)
    name = "latency_p50_ms" if chosen.metric.lower_is_better else THROUGHPUT
    mine, theirs = (
        float(found.tables.figures(arm, chosen.load)[name]) for arm in (chosen.take, found.reference)
    )
    if effect is None or not theirs or f"{mine / theirs:.2f}" == f"{effect.ratio:.2f}":
        return ""
    return " (The figures are medians; the ratio is a mean over blocks.)"


def _setting(record: Mapping[str, Any], arm: str) -> str:
    """The options that make a server this arm, where its name does not give them."""
    text = next_command.strategy(_planned(record, arm))
    return f" (--strategy {text})" if text not in ("", arm) else ""


def _planned(record: Mapping[str, Any], arm: str) -> Mapping[str, Any]:
    arms = (record.get("plan") or {}).get("arms") or []
    return next((one for one in arms if one["name"] == arm), {})


def _why(found: Inputs, chosen: Choice) -> str:
    """Which parts of a request shrink and grow."""
    take, reference = chosen.take, found.reference
    mine, theirs = (found.tables.figures(arm, chosen.load) for arm in (take, reference))
    because = str(ranking.why(found.tables, take, mine, theirs or None, reference)["because"])
    if not because:
        return ""
    if take == reference:
        return f"At {users(chosen.load)} a request {because}."
    return f"Compared with {reference}, a request {because}."


def _fastest(chosen: Choice) -> str:
    """Which faster arm blocks the event loop, or that the chosen one does."""
    take, fastest = chosen.take, chosen.fastest
    if take in chosen.stalls:
        return f"{take} blocks the event loop ({chosen.stalls[take]}): the rest of the service waits for it."
    if fastest not in chosen.stalls:
        return ""
    return (
        f"{fastest} has {times(chosen, fastest, take)} {take}, but blocks the event loop "
        f"({chosen.stalls[fastest]}): take it only if the service does nothing but this route."
    )


def _rivals(found: Inputs, chosen: Choice) -> str:
    """Which arms may be as good, and which of them is cheaper."""
    delta = f"{100 * found.rules.delta(chosen.metric.name):g} %"
    parts = []
    if chosen.equivalent and chosen.take != found.reference:
        parts.append(f"Equivalent to {chosen.take} within {delta}: {listed(chosen.equivalent)}")
    if chosen.unsettled:
        parts.append(f"{chosen.blocks} blocks do not separate {chosen.take} from {listed(chosen.unsettled)}")
    if cheaper := _cheaper_rival(found, chosen):
        parts.append(cheaper)
    least, most = _blocks(found, chosen)
    if most:
        blocks = str(least) if least == most else f"{least} to {most}"
        parts.append(f"an interval of ±{delta} against {_to_settle(chosen)} would need {blocks} blocks")
    return f"{'; '.join(parts)}." if parts else ""


def _cheaper_rival(found: Inputs, chosen: Choice) -> str:
    arms = (chosen.take, *chosen.equivalent, *chosen.unsettled)
    memory = {arm: found.tables.cost(arm, chosen.load).get("memory_uss_mb", math.nan) for arm in arms}
    known = {arm: size for arm, size in memory.items() if not math.isnan(size)}
    least = min(known, key=lambda arm: known[arm], default="")
    if not least or least == chosen.take or known.get(chosen.take, 0.0) < MEMORY_WORTH_NAMING * known[least]:
        return ""
    return f"{least} takes {short(known[least])} MB of memory instead of {short(known[chosen.take])}"


def _costs(found: Inputs, chosen: Choice) -> str:
    """The costs of the arm, each with that of the reference."""
    if chosen.take == found.reference:
        return ""
    mine, theirs = (found.tables.cost(arm, chosen.load) for arm in (chosen.take, found.reference))
    costs = [
        f"{short(mine[name])} {unit}{_compared(mine[name], theirs.get(name, math.nan), found.reference)}"
        for name, unit in ranking.COSTS.items()
        if not math.isnan(mine.get(name, math.nan))
    ]
    failed = int(found.tables.figures(chosen.take, chosen.load)["failed"])
    costs += [f"{failed} failed requests"] if failed else []
    return f"It costs {' and '.join(costs)}." if costs else ""


def _compared(value: float, other: float, reference: str) -> str:
    if math.isnan(other):
        return ""
    alike = (
        abs(math.log(value / other)) < ranking.SMALLEST_NAMED_CHANGE
        if value > 0 and other > 0
        else value == other
    )
    return f" (like {reference})" if alike else f" ({reference}: {short(other)})"


def _left_out(found: Inputs, load: str) -> str:
    reasons = [why for arm in choice.arms_at(found, load) if (why := choice.why_left_out(found, arm, load))]
    more = [f"{len(reasons) - 2} more"] if len(reasons) > 2 else []
    return f"Not considered: {'; '.join([*reasons[:2], *more])}." if reasons else ""


# -- what to run next ------------------------------------------------------------------------------------


def _to_settle(chosen: Choice) -> str:
    """The arm that more blocks may separate from the chosen one; "" if the load generator limits either."""
    arms = (arm for arm in chosen.unsettled if arm not in chosen.limited)
    return next(arms, "") if chosen.take not in chosen.limited else ""


def _blocks(found: Inputs, chosen: Choice) -> tuple[int, int]:
    """The fewest and the most blocks that an interval as narrow as δ would need; (0, 0): no forecast."""
    rival = _to_settle(chosen)
    effect = chosen.over(rival, chosen.take) if rival else None
    if effect is None:
        return 0, 0
    delta = found.rules.delta(chosen.metric.name)
    least, most = stats.blocks_for_width(effect, delta, counted=found.side.counted)
    return (least, most) if most <= MOST_BLOCKS else (0, 0)
