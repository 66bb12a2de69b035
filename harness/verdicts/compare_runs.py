"""Runs on disk → what of them is compared, and whether it may be: what `execbench compare` reads."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from harness import environment
from harness.errors import HarnessError, UsageError
from harness.results import store
from harness.verdicts import admissible, comparison, same_work, session_noise
from harness.verdicts.admissible import Evidence
from harness.verdicts.metrics import Rules
from harness.verdicts.sides import Side

STAGE = "compare"


class NotComparable(HarnessError):
    """The comparison cannot be made honestly: exit code 4."""

    exit_code = 4


_wrong = functools.partial(UsageError, stage=STAGE)
_not_comparable = functools.partial(NotComparable, stage=STAGE)


class Comparison(NamedTuple):
    """What was asked for, compared."""

    table: pd.DataFrame  # comparison.COLUMNS
    rules: Rules
    notes: list[str]  # what a reader has to know beside the rows
    missing: list[str]  # arms and loads that nobody left out by asking for others, and that have no row


# -- what is compared ----------------------------------------------------------------------------------


def compare(first: str, second: str | None, *, force: bool, all_pairs: bool = False) -> Comparison:
    """RUN alone: its arms with its reference, or `all_pairs`. RUN:A and RUN:B, or two runs: the second with
    the first.

    Raises UsageError for arms that are not there, NotComparable when machine, model or load differ (unless
    `force`) or nothing is left, and HarnessError when a folder is no run.
    """
    old_folder, old_arm = _split(first)
    old = _read(old_folder)
    if all_pairs and (second is not None or old_arm is not None):
        raise _wrong("--all-pairs compares the arms of one run.", hint="Give the run's folder alone.")
    if second is None and not old.facts.reference:
        raise _wrong(
            f"{old_folder} is a run of `execbench load`: it knows one server and has no arms to compare.",
            hint=f"Compare it with another such run: execbench compare {old_folder} OTHER",
        )
    if all_pairs:
        return _all_pairs(old, force=force)
    if second is None:
        return _against_reference(old, old_arm, force=force)
    new_folder, new_arm = _split(second)
    if new_folder.resolve() == old_folder.resolve():
        return _two_arms(old, old_arm, new_arm, force=force)
    return _two_runs(old, old_arm, _read(new_folder), new_arm, force=force)


def _split(text: str) -> tuple[Path, str | None]:
    """RUN or RUN:ARM; a folder may have a colon in its name."""
    folder, colon, arm = text.rpartition(":")
    if not colon or store.is_folder(Path(text)):
        return Path(text), None
    return Path(folder), arm


def _read(folder: Path) -> Evidence:
    return admissible.admit(store.read(folder))


def _against_reference(found: Evidence, arm: str | None, *, force: bool) -> Comparison:
    reference = found.facts.reference
    if arm is not None:
        return _two_arms(found, reference, arm, force=force)
    _refuse_unknown(found, reference)
    others = [name for name in found.side.arms() if name != reference]
    if not others:
        raise _wrong(f"{found.run.folder} has one arm, so there is nothing to compare.")
    apart = {} if force else same_work.other_work(found.run.record, reference, others)
    left_out = [
        f"{name} is left out: it does other work than {reference} ({w})." for name, w in apart.items()
    ]
    table = found.compared(set(others) - set(apart))
    if table.empty:
        raise _not_comparable(
            f"No arm of {found.run.folder} can be compared with {reference}.",
            hint="\n".join(left_out) or "They were run at other loads.",
        )
    missing = [*left_out, *_not_run(found, reference, [name for name in others if name not in apart])]
    return Comparison(table, found.facts.rules, [*_known(found, table), *left_out], missing)


def _all_pairs(found: Evidence, *, force: bool) -> Comparison:
    """Every arm with every one before it in the plan, if they do the same work; the twin is no arm."""
    arms = [arm for arm in found.facts.arms if arm in found.side.arms()]
    twins = found.twins()
    noisy = session_noise.noisy(twins)
    tables, missing = [], [f"{arm} has no trial." for arm in found.facts.arms if arm not in arms]
    for number, reference in enumerate(arms[:-1], start=1):
        others = arms[number:]
        apart = {} if force else same_work.other_work(found.run.record, reference, others)
        only = set(others) - set(apart)
        missing += [
            f"{name} is not compared with {reference}: it does other work ({w})." for name, w in apart.items()
        ]
        tables.append(found.compared(only, reference=reference, withheld=noisy))
    tables = [table for table in tables if len(table)]
    if not tables:
        raise _not_comparable(f"{found.run.folder} has no two arms that do the same work.")
    table = pd.concat(tables, ignore_index=True)
    pairs = len(table[["arm", "reference"]].drop_duplicates())
    note = f"{pairs} pairs, each judged by itself: of many that are alike some differ by chance."
    return Comparison(table, found.facts.rules, [note, *_known(found, twins), *missing], missing)


def _two_arms(found: Evidence, reference: str | None, arm: str | None, *, force: bool) -> Comparison:
    if reference is None or arm is None or reference == arm:
        folder = found.run.folder
        raise _wrong(
            "Both are the same run: say which two of its arms.",
            hint=f"For example: execbench compare {folder}:{found.facts.reference} {folder}:ARM",
        )
    _refuse_unknown(found, reference, arm)
    if not force:
        _refuse_other_work(found, reference, found, arm)
    twins = found.twins()
    table = found.compared({arm}, reference=reference, withheld=session_noise.noisy(twins))
    return Comparison(table, found.facts.rules, _known(found, twins), [])


def _two_runs(
    old: Evidence, old_arm: str | None, new: Evidence, new_arm: str | None, *, force: bool
) -> Comparison:
    asked = _pairs(old, old_arm, new, new_arm)
    obstacles = {
        (before, after): same_work.obstacles((old.run.record, before), (new.run.record, after))
        for before, after in asked
    }
    apart = {} if force else {pair: said for pair, said in obstacles.items() if said}
    if len(apart) == len(asked):
        _refuse_other_work(old, asked[0][0], new, asked[0][1])
    pairs = [pair for pair in asked if pair not in apart]
    twins = (old.twins(), new.twins())
    withheld = [old.withheld, new.withheld, *map(session_noise.noisy, twins)]
    table = comparison.runs(
        _labelled(old, "before", new),
        _labelled(new, "after", old),
        pairs=pairs,
        rules=old.facts.rules,
        withheld=next(filter(None, withheld), ""),
    )
    if table.empty:
        raise _not_comparable("The two runs have no load in common.", hint=_loads(old, new, pairs))
    missing = [
        f"{arm} is left out: it did other work in the other run ({'; '.join(said)})."
        for (arm, _), said in apart.items()
    ]
    missing += _of_one_only(old, new, asked)
    notes = [
        "Two runs: their blocks are not paired, and what else changed between the sessions is in the ratios.",
        *_changes(old, new),
        *missing,
        *_known(old, twins[0]),
        *_known(new, twins[1]),
    ]
    return Comparison(table, old.facts.rules, notes, [] if old_arm or new_arm else missing)


def _labelled(found: Evidence, label: str, other: Evidence) -> Side:
    """The run under its folder's name; under `label` where the other's is the same."""
    name = found.run.folder.resolve().name
    return dataclasses.replace(found.side, label=label if name == other.run.folder.resolve().name else name)


def _pairs(old: Evidence, old_arm: str | None, new: Evidence, new_arm: str | None) -> list[tuple[str, str]]:
    """(arm before, arm after); an arm said of one run only is that of the other too."""
    if old_arm is None and new_arm is None:
        both = [(arm, arm) for arm in new.side.arms() if arm in old.side.arms()]
        if not both:
            raise _wrong(
                "The two runs have no arm of the same name.",
                hint=f"Say which: {old.run.folder}:{{{', '.join(old.side.arms())}}} and "
                f"{new.run.folder}:{{{', '.join(new.side.arms())}}}",
            )
        return both
    pair = (old_arm or new_arm or "", new_arm or old_arm or "")
    _refuse_unknown(old, pair[0])
    _refuse_unknown(new, pair[1])
    return [pair]


# -- what forbids it -----------------------------------------------------------------------------------


def _refuse_unknown(found: Evidence, *arms: str) -> None:
    for arm in arms:
        admissible.refuse_unknown(found.run, arm, found.side.arms(), stage=STAGE)


def _refuse_other_work(old: Evidence, old_arm: str, new: Evidence, new_arm: str) -> None:
    found = same_work.obstacles((old.run.record, old_arm), (new.run.record, new_arm))
    if found:
        raise _not_comparable(
            f"{old_arm} of {old.run.folder} cannot be compared with {new_arm} of {new.run.folder}: "
            f"{'; '.join(found)}.",
            hint="The ratio would say more of that than of the arms. --force compares them all the same.",
        )


# -- what a reader has to know -------------------------------------------------------------------------


def _known(found: Evidence, twins: pd.DataFrame) -> list[str]:
    """What is to be known of one run."""
    told = [*found.run.warnings]
    if found.excluded:
        tried = len(admissible.blocks_of(found.run))
        whys = ", ".join(f"block {block}: {why}" for block, why in found.excluded.items())
        told.append(f"{len(found.excluded)} of {tried} blocks are left out ({whys}).")
    if said := session_noise.twin_sentence(twins):
        told.append(f"{said[0].lower()}{said[1:]}.")
    if doubt := session_noise.twin_doubt(twins, found.facts.twin):
        told.append(doubt)
    return [f"{found.run.folder.name}: {one}" for one in told]


def _changes(old: Evidence, new: Evidence) -> list[str]:
    """Differences that do not forbid the comparison: they may be what it is about."""
    before, after = (one.run.record.get("environment") or {} for one in (old, new))
    found = environment.differences(before, after) if before and after else []
    found += same_work.remarks(old.run.record, new.run.record)
    return [f"Between the two: {'; '.join(found)}."] if found else []


def _loads(old: Evidence, new: Evidence, pairs: list[tuple[str, str]]) -> str:
    before = sorted({load for arm, _ in pairs for load in old.side.loads(arm)})
    after = sorted({load for _, arm in pairs for load in new.side.loads(arm)})
    return f"The first was run at {', '.join(before)}; the second at {', '.join(after)}."


def _of_one_only(old: Evidence, new: Evidence, pairs: list[tuple[str, str]]) -> list[str]:
    """Loads and arms that only one of the runs has, so that nobody misses them unawares."""
    alike = all(old.side.loads(before) == new.side.loads(after) for before, after in pairs)
    notes = [] if alike else [f"Only loads that both have are compared. {_loads(old, new, pairs)}"]
    twins = {old.facts.twin, new.facts.twin}  # which are their reference run again
    strangers = sorted((set(old.side.arms()) ^ set(new.side.arms())) - twins)
    if all(before == after for before, after in pairs) and strangers:
        notes.append(f"Only one of the runs has: {', '.join(strangers)}.")
    return notes


def _not_run(found: Evidence, reference: str, others: list[str]) -> list[str]:
    """Arms of the plan without a trial, and loads that the reference or another arm was not run at."""
    have = {arm: set(found.side.loads(arm)) for arm in (reference, *others)}
    never = [f"{arm} has no trial." for arm in found.facts.arms if arm not in found.side.arms()]
    return never + [
        f"{arm} and {reference} were not both run at {', '.join(sorted(have[arm] ^ have[reference]))}."
        for arm in others
        if have[arm] != have[reference]
    ]
