"""The choice as a report's first line, and the phrases that the advice shares with it. Pure.

The line is about the difference that matters most: an event loop that the arm keeps free and another one
blocks; else the ratio over the reference; else that no arm is faster.
"""

from __future__ import annotations

import pandas as pd

from harness.analysis.summaries import THROUGHPUT
from harness.numbers import short, users
from harness.report import choice
from harness.report.choice import Choice, Inputs
from harness.verdicts import best_arm


def of_choice(found: Inputs, chosen: Choice) -> str:
    """The choice in one sentence, without the full stop."""
    take, reference = chosen.take, found.reference
    at = f"at {users(chosen.load)}"
    if take == reference:
        return _stay(found, chosen, at)
    words = f"A{at[1:]}, take {take}: "
    if chosen.over(take, reference) is None:
        return words + figure(found, chosen, take)
    if free := _keeps_free(found, chosen):
        return f"{words}{free}, with {_ratio(found, chosen, reference)}"
    medians = "" if chosen.metric.lower_is_better else f" and a median latency of {_medians(found, chosen)}"
    return words + _ratio(found, chosen, reference) + medians


def _stay(found: Inputs, chosen: Choice, at: str) -> str:
    take = chosen.take
    if free := _keeps_free(found, chosen):
        ratio = _ratio(found, chosen, chosen.fastest)
        return f"A{at[1:]}, {verb(found, chosen)} {take}: {free}, with {ratio}"
    stay = f"{verb(found, chosen)} {take}: {figure(found, chosen, take)}"
    if chosen.unsettled:
        return f"No arm is shown to be faster {at}, so {stay}"
    if chosen.equivalent:
        return f"No arm is faster {at}, so {stay}; {no_better(found, chosen)}"
    return f"A{at[1:]}, {stay}; {no_better(found, chosen)}"


def _keeps_free(found: Inputs, chosen: Choice) -> str:
    """That the arm keeps the event loop free, and which better known arm blocks it; "" if none does."""
    fastest = chosen.fastest
    if frees(found, chosen):
        which = arm = found.reference
    elif fastest in chosen.stalls and chosen.take not in chosen.stalls:
        which, arm = f"the faster {fastest}", fastest
    else:
        return ""
    return f"it keeps the event loop free, which {which} blocks ({chosen.stalls[arm]})"


def _ratio(found: Inputs, chosen: Choice, other: str) -> str:
    """Such as "0.98 times [0.94, 1.01] the requests/s of inline (91 against 94)"."""
    name, unit = ("latency_p50_ms", " ms") if chosen.metric.lower_is_better else (THROUGHPUT, "")
    mine, theirs = (short(found.tables.figures(arm, chosen.load)[name]) for arm in (chosen.take, other))
    return f"{times(chosen, chosen.take, other)} {other} ({mine} against {theirs}{unit})"


def _medians(found: Inputs, chosen: Choice) -> str:
    """The median of the chosen arm, and that of the reference."""
    arms = (chosen.take, found.reference)
    mine, theirs = (short(found.tables.figures(arm, chosen.load)["latency_p50_ms"]) for arm in arms)
    most = "at most " if chosen.take in chosen.limited else ""
    return f"{most}{mine} ms instead of {theirs}"


def best_figures(summary: pd.DataFrame) -> str:
    """The best figures at the load that decides, if there is no choice."""
    answered = choice.answered_of(summary)
    if answered.empty:
        return f"{choice.why_none_answered(summary).capitalize()}, so there are no figures"
    load, metric = best_arm.decisive(answered)
    name = "latency_p50_ms" if metric.lower_is_better else THROUGHPUT
    here = answered[answered["load"] == load]
    whole = here[here["failed_trials"] == 0]  # an arm that died early may have only its best trials
    rows = whole if len(whole) else here
    row = rows.sort_values(name, ascending=metric.lower_is_better, kind="stable").iloc[0]
    least, most = ("at least ", "at most ") if row["client_limited"] else ("", "")
    latency = f"At {users(load)}, {row['arm']} answers in {most}{row['latency_p50_ms']:.1f} ms (median)"
    if not row[THROUGHPUT] > 0:
        return latency
    what = "good answers/s" if row["failed"] else "requests/s"
    return f"{latency}, {least}{row[THROUGHPUT]:.0f} {what}"


# -- phrases ---------------------------------------------------------------------------------------------


def verb(found: Inputs, chosen: Choice) -> str:
    """Stay with the reference, or take the arm."""
    return "stay with" if chosen.take == found.reference and found.reference_stays else "take"


def frees(found: Inputs, chosen: Choice) -> bool:
    """Whether the arm leaves the event loop free, and the reference blocks it."""
    return found.reference in chosen.stalls and chosen.take not in chosen.stalls


def no_better(found: Inputs, chosen: Choice) -> str:
    """Why to stay with the reference."""
    others = [arm for arm in chosen.open_to if arm != chosen.take]
    if not others:
        free = " that leaves the event loop free" if chosen.stalls else ""
        return f"no other arm{free} has complete figures"
    if chosen.unsettled:
        return f"{chosen.blocks} blocks show no arm to be better"
    if chosen.equivalent:
        delta = 100 * found.rules.delta(chosen.metric.name)
        are = "is" if len(chosen.equivalent) == 1 else "are"
        return f"{listed(chosen.equivalent)} {are} equivalent within {delta:g} %"
    rest = str(chosen.logs[others].mean().idxmax())
    return f"no arm is better; the next best, {rest}, has {times(chosen, rest, chosen.take)} {chosen.take}"


def listed(arms: tuple[str, ...]) -> str:
    """The first three names, and the number of others."""
    return ", ".join(arms[:3]) + (f" and {len(arms) - 3} more" if len(arms) > 3 else "")


def figure(found: Inputs, chosen: Choice, arm: str) -> str:
    row = found.tables.figures(arm, chosen.load)
    least, most = ("at least ", "at most ") if arm in chosen.limited else ("", "")
    rate = f"{least}{short(row[THROUGHPUT])} {'good answers/s' if row['failed'] else 'requests/s'}"
    return f"{rate} and a median latency of {most}{short(row['latency_p50_ms'])} ms"


def times(chosen: Choice, arm: str, other: str) -> str:
    """Such as "1.59 times [1.56, 1.63] the requests/s of"."""
    what = "the median latency of" if chosen.metric.lower_is_better else "the requests/s of"
    return f"{chosen.times(arm, other)} {what}"
