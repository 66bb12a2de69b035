"""From runs on disk to a comparison, if it is allowed: the logic of `execbench compare`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from harness import environment
from harness.errors import NOT_COMPARABLE, HarnessError, UsageError
from harness.numbers import users
from harness.results import store
from harness.results.store import Run
from harness.verdicts import admissible, comparison, environments, same_work, session_noise
from harness.verdicts.admissible import Evidence
from harness.verdicts.metrics import Rules
from harness.verdicts.sides import Side

STAGE = "compare"


class NotComparable(HarnessError):
    """The comparison cannot be made honestly: exit code 4."""

    exit_code = NOT_COMPARABLE


_wrong = functools.partial(UsageError, stage=STAGE)
_not_comparable = functools.partial(NotComparable, stage=STAGE)


class Comparison(NamedTuple):
    """The result of `execbench compare`."""

    table: pd.DataFrame  # comparison.COLUMNS
    rules: Rules
    notes: list[str]  # what to know in addition to the rows
    missing: list[str]  # arms and loads without a row, although the user did not leave them out
    runs: tuple[Run, ...]  # one or two: those that were compared, the older first


# -- what is compared ----------------------------------------------------------------------------------


def compare(first: str, second: str | None, *, force: bool, all_pairs: bool = False) -> Comparison:
    """Compare the arms of one run with its reference or in `all_pairs`, or the second run with the first.

    `first` and `second` are RUN or RUN:ARM. Raises UsageError for unknown arms, NotComparable if machine,
    model or load differ (unless `force`) or nothing is left to compare, and HarnessError if a folder is no
    run.
    """
    old_folder, old_arm = _split(first)
    old = _read(old_folder)
    if all_pairs and (second is not None or old_arm is not None):
        raise _wrong("--all-pairs compares the arms of one run.", hint="Give the run's folder alone.")
    if second is None and not old.facts.reference:
        raise _wrong(
            f"{old_folder} is a run of `execbench load`: it has one server, and no arms to compare.",
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
    """Split RUN or RUN:ARM; a folder's name may contain a colon."""
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
        raise _wrong(f"{found.run.folder} has only one arm, so there is nothing to compare.")
    apart = {} if force else same_work.other_work(found.run.record, reference, others)
    left_out = [
        f"{name} is left out, because it does other work than {reference} ({difference})."
        for name, difference in apart.items()
    ]
    table = found.compared(set(others) - set(apart))
    if table.empty:
        raise _not_comparable(
            f"No arm of {found.run.folder} can be compared with {reference}.",
            hint="\n".join(left_out) or "Its arms have no load in common.",
        )
    missing = [*left_out, *_not_run(found, reference, [name for name in others if name not in apart])]
    return Comparison(table, found.facts.rules, [*_known(found, table), *left_out], missing, (found.run,))


def _all_pairs(found: Evidence, *, force: bool) -> Comparison:
    """Every arm with every arm before it in the plan, if they do the same work; without the twin."""
    arms = [arm for arm in found.facts.arms if arm in found.side.arms()]
    twins = found.twins()
    noisy = session_noise.noisy(twins)
    tables, missing = [], [f"{arm} has no trial." for arm in found.facts.arms if arm not in arms]
    for number, reference in enumerate(arms[:-1], start=1):
        others = arms[number:]
        apart = {} if force else same_work.other_work(found.run.record, reference, others)
        only = set(others) - set(apart)
        missing += [
            f"{name} is not compared with {reference}, because it does other work ({difference})."
            for name, difference in apart.items()
        ]
        tables.append(found.compared(only, reference=reference, withheld=noisy))
    tables = [table for table in tables if len(table)]
    if not tables:
        raise _not_comparable(f"No two arms of {found.run.folder} do the same work.")
    table = pd.concat(tables, ignore_index=True)
    pairs = len(table[["arm", "reference"]].drop_duplicates())
    note = f"{pairs} pairs, each judged alone: among many equal pairs, some differ by chance."
    return Comparison(
        table, found.facts.rules, [note, *_known(found, twins), *missing], missing, (found.run,)
    )


def _two_arms(found: Evidence, reference: str | None, arm: str | None, *, force: bool) -> Comparison:
    if reference is None or arm is None or reference == arm:
        folder = found.run.folder
        raise _wrong(
            "Both are the same run: name two of its arms.",
            hint=f"For example: execbench compare {folder}:{found.facts.reference} {folder}:ARM",
        )
    _refuse_unknown(found, reference, arm)
    if not force:
        _refuse_other_work(found, reference, found, arm)
    twins = found.twins()
    table = found.compared({arm}, reference=reference, withheld=session_noise.noisy(twins))
    if table.empty:
        raise _not_comparable(
            f"{arm} of {found.run.folder} cannot be compared with {reference}.",
            hint="They have no load in common.",
        )
    return Comparison(table, found.facts.rules, _known(found, twins), [], (found.run,))


def _two_runs(
    old: Evidence, old_arm: str | None, new: Evidence, new_arm: str | None, *, force: bool
) -> Comparison:
    asked = _pairs(old, old_arm, new, new_arm)
    obstacles = {
        (before, after): same_work.obstacles((old.run.record, before), (new.run.record, after))
        for before, after in asked
    }
    apart = {} if force else {pair: differences for pair, differences in obstacles.items() if differences}
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
        f"{arm} is left out, because it did other work in the other run ({'; '.join(differences)})."
        for (arm, _), differences in apart.items()
    ]
    missing += _of_one_only(old, new, asked)
    notes = [
        "Two runs: blocks are not paired, and the ratios include all other changes between the sessions.",
        *_changes(old, new, pairs),
        *missing,
        *_known(old, twins[0]),
        *_known(new, twins[1]),
    ]
    selected = bool(old_arm or new_arm)
    return Comparison(table, old.facts.rules, notes, [] if selected else missing, (old.run, new.run))


def _labelled(found: Evidence, label: str, other: Evidence) -> Side:
    """The run's side, labelled with its folder's name, or with `label` if both folders have the same name."""
    name = found.run.folder.resolve().name
    return dataclasses.replace(found.side, label=label if name == other.run.folder.resolve().name else name)


def _pairs(old: Evidence, old_arm: str | None, new: Evidence, new_arm: str | None) -> list[tuple[str, str]]:
    """(arm before, arm after); an arm named for one run only is used for both."""
    if old_arm is None and new_arm is None:
        both = [(arm, arm) for arm in new.side.arms() if arm in old.side.arms()]
        if not both:
            raise _wrong(
                "The two runs have no arm of the same name.",
                hint=f"Name one of each: {old.run.folder}:{{{', '.join(old.side.arms())}}} and "
                f"{new.run.folder}:{{{', '.join(new.side.arms())}}}",
            )
        return both
    pair = (old_arm or new_arm or "", new_arm or old_arm or "")
    _refuse_unknown(old, pair[0])
    _refuse_unknown(new, pair[1])
    return [pair]


# -- what forbids a comparison -------------------------------------------------------------------------


def _refuse_unknown(found: Evidence, *arms: str) -> None:
    for arm in arms:
        admissible.refuse_unknown(found.run, arm, found.side.arms(), stage=STAGE)


def _refuse_other_work(old: Evidence, old_arm: str, new: Evidence, new_arm: str) -> None:
    differences = same_work.obstacles((old.run.record, old_arm), (new.run.record, new_arm))
    if differences:
        raise _not_comparable(
            f"{old_arm} of {old.run.folder} cannot be compared with {new_arm} of {new.run.folder}: "
            f"{'; '.join(differences)}.",
            hint="The ratio would show these differences, not the arms. --force compares them anyway.",
        )


# -- notes -------------------------------------------------------------------------


def _known(found: Evidence, twins: pd.DataFrame) -> list[str]:
    """The notes on one run."""
    notes = [*found.run.warnings]
    if found.excluded:
        tried = len(admissible.blocks_of(found.run))
        whys = ", ".join(f"block {block}: {why}" for block, why in found.excluded.items())
        notes.append(f"{len(found.excluded)} of {tried} blocks are left out ({whys}).")
    if sentence := session_noise.twin_sentence(twins):
        notes.append(f"{sentence[0].lower()}{sentence[1:]}.")
    if doubt := session_noise.twin_doubt(twins, found.facts.twin):
        notes.append(doubt)
    return [f"{found.run.folder.name}: {note}" for note in notes]


def _changes(old: Evidence, new: Evidence, pairs: list[tuple[str, str]]) -> list[str]:
    """Differences that do not forbid the comparison: they may be its purpose."""
    return [*_of_runs(old, new), *_of_servers(old, new, pairs)]


def _of_servers(old: Evidence, new: Evidence, pairs: list[tuple[str, str]]) -> Iterator[str]:
    """How the environment of an arm changed, if one of its servers ran in a Python of its own."""
    for arm, against in pairs:
        if not {*_with_a_python(old.run.record, arm), *_with_a_python(new.run.record, against)}:
            continue  # its versions are those of the run
        if found := environments.between((old.run.record, arm), (new.run.record, against)):
            changes = "; ".join(f"{name}: was {one}, is {other}" for name, one, other in found)
            yield f"Changed in the environment of {against}: {changes}."


def _with_a_python(record: Mapping[str, Any], arm: str) -> list[str]:
    planned = (record.get("plan") or {}).get("arms") or []
    return [one["python"] for one in planned if one["name"] == arm and one.get("python")]


def _of_runs(old: Evidence, new: Evidence) -> list[str]:
    before, after = (one.run.record.get("environment") or {} for one in (old, new))
    found = environment.differences(before, after) if before and after else []
    found += same_work.remarks(old.run.record, new.run.record)
    return [f"Changed between the two runs: {'; '.join(found)}."] if found else []


def _loads(old: Evidence, new: Evidence, pairs: list[tuple[str, str]]) -> str:
    before = _in_words({load for arm, _ in pairs for load in old.side.loads(arm)})
    after = _in_words({load for _, arm in pairs for load in new.side.loads(arm)})
    return f"The first run has {before}; the second has {after}."


def _in_words(loads: Iterable[str]) -> str:
    return ", ".join(map(users, sorted(loads)))


def _of_one_only(old: Evidence, new: Evidence, pairs: list[tuple[str, str]]) -> list[str]:
    """Notes on loads and arms that only one of the runs has."""
    alike = all(old.side.loads(before) == new.side.loads(after) for before, after in pairs)
    notes = [] if alike else [f"Only loads that both runs have are compared. {_loads(old, new, pairs)}"]
    twins = {old.facts.twin, new.facts.twin}
    unshared = sorted((set(old.side.arms()) ^ set(new.side.arms())) - twins)
    if all(before == after for before, after in pairs) and unshared:
        notes.append(f"Only one of the runs has: {', '.join(unshared)}.")
    return notes


def _not_run(found: Evidence, reference: str, others: list[str]) -> list[str]:
    """Notes on arms of the plan without a trial, and on loads that an arm and the reference do not share."""
    have = {arm: set(found.side.loads(arm)) for arm in (reference, *others)}
    never = [f"{arm} has no trial." for arm in found.facts.arms if arm not in found.side.arms()]
    return never + [
        f"{arm} and {reference} were not both run at {_in_words(have[arm] ^ have[reference])}."
        for arm in others
        if have[arm] != have[reference]
    ]
