"""Runs on disk → what of them is compared, and whether it may be: what `execbench compare` reads."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from harness import environment
from harness.errors import HarnessError, UsageError
from harness.results import store
from harness.verdicts import admissible, comparison, same_work, session_noise
from harness.verdicts.admissible import Evidence
from harness.verdicts.metrics import Facts, Rules
from harness.verdicts.sides import Side
from harness.wire.records import PILOT_BLOCK

STAGE = "compare"


class NotComparable(HarnessError):
    """The comparison cannot be made honestly: exit code 4."""

    exit_code = 4


class Comparison(NamedTuple):
    """What was asked for, compared."""

    table: pd.DataFrame  # comparison.COLUMNS
    rules: Rules
    notes: list[str]  # what a reader has to know beside the rows
    missing: list[str]  # arms and loads that nobody left out by asking for others, and that have no row


# -- what is compared ----------------------------------------------------------------------------------


class _Run(NamedTuple):
    folder: Path
    found: Evidence
    side: Side

    @property
    def facts(self) -> Facts:
        return self.found.facts

    @property
    def record(self) -> dict[str, Any]:
        return self.found.run.record


def compare(first: str, second: str | None, *, force: bool, all_pairs: bool = False) -> Comparison:
    """RUN alone: its arms with its reference, or `all_pairs`. RUN:A and RUN:B, or two runs: the second with
    the first.

    Raises UsageError for arms that are not there, NotComparable when machine, model or load differ (unless
    `force`) or nothing is left, and HarnessError when a folder is no run.
    """
    old_folder, old_arm = _split(first)
    old = _read(old_folder)
    if all_pairs and (second is not None or old_arm is not None):
        raise UsageError(
            "--all-pairs compares the arms of one run.", stage=STAGE, hint="Give the run's folder alone."
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


def _read(folder: Path) -> _Run:
    run = store.read(folder)
    found = admissible.admit(run)
    return _Run(folder, found, found.side)


def _against_reference(run: _Run, arm: str | None, *, force: bool) -> Comparison:
    reference = run.facts.reference
    _refuse_no_arms(run)
    if arm is not None:
        return _two_arms(run, reference, arm, force=force)
    _refuse_unknown(run, reference)
    others = [name for name in run.side.arms() if name != reference]
    if not others:
        raise UsageError(f"{run.folder} has one arm, so there is nothing to compare.", stage=STAGE)
    apart = {} if force else same_work.other_work(run.record, reference, others)
    left_out = [
        f"{name} is left out: it does other work than {reference} ({w})." for name, w in apart.items()
    ]
    table = _arms(run, reference, only=set(others) - set(apart))
    if table.empty:
        raise NotComparable(
            f"No arm of {run.folder} can be compared with {reference}.",
            stage=STAGE,
            hint="\n".join(left_out) or "They were run at other loads.",
        )
    missing = [*left_out, *_not_run(run, reference, [name for name in others if name not in apart])]
    return Comparison(table, run.facts.rules, [*_known(run, table), *left_out], missing)


def _all_pairs(run: _Run, *, force: bool) -> Comparison:
    """Every arm with every one before it in the plan, if they do the same work; the twin is no arm."""
    _refuse_no_arms(run)
    arms = [arm for arm in run.facts.arms if arm in run.side.arms()]
    twins = _twins(run)
    tables, missing = [], [f"{arm} has no trial." for arm in run.facts.arms if arm not in arms]
    for number, reference in enumerate(arms[:-1], start=1):
        others = arms[number:]
        apart = {} if force else same_work.other_work(run.record, reference, others)
        only = set(others) - set(apart)
        missing += [
            f"{name} is not compared with {reference}: it does other work ({w})." for name, w in apart.items()
        ]
        tables.append(_arms(run, reference, only=only, withheld=session_noise.noisy(twins)))
    tables = [table for table in tables if len(table)]
    if not tables:
        raise NotComparable(f"{run.folder} has no two arms that do the same work.", stage=STAGE)
    table = pd.concat(tables, ignore_index=True)
    pairs = len(table[["arm", "reference"]].drop_duplicates())
    note = f"{pairs} pairs, each judged by itself: of many that are alike some differ by chance."
    return Comparison(table, run.facts.rules, [note, *_known(run, twins), *missing], missing)


def _two_arms(run: _Run, reference: str | None, arm: str | None, *, force: bool) -> Comparison:
    if reference is None or arm is None or reference == arm:
        raise UsageError(
            "Both are the same run: say which two of its arms.",
            stage=STAGE,
            hint=f"For example: execbench compare {run.folder}:{run.facts.reference} {run.folder}:ARM",
        )
    _refuse_unknown(run, reference, arm)
    _refuse_other_work(run, reference, run, arm, force=force)
    twins = _twins(run)
    table = _arms(run, reference, only={arm}, withheld=session_noise.noisy(twins))
    return Comparison(table, run.facts.rules, _known(run, twins), [])


def _two_runs(old: _Run, old_arm: str | None, new: _Run, new_arm: str | None, *, force: bool) -> Comparison:
    asked = _pairs(old, old_arm, new, new_arm)
    apart = {} if force else _other_work(old, new, asked)
    if len(apart) == len(asked):
        _refuse_other_work(old, asked[0][0], new, asked[0][1], force=False)
    pairs = [pair for pair in asked if pair not in apart]
    twins = (_twins(old), _twins(new))
    table = comparison.runs(
        _labelled(old, "before", new),
        _labelled(new, "after", old),
        pairs=pairs,
        rules=old.facts.rules,
        withheld=next(
            filter(None, [old.found.withheld, new.found.withheld, *map(session_noise.noisy, twins)]), ""
        ),
    )
    if table.empty:
        raise NotComparable("The two runs have no load in common.", stage=STAGE, hint=_loads(old, new, pairs))
    missing = [
        *(
            f"{arm} is left out: it did other work in the other run ({said})."
            for (arm, _), said in apart.items()
        ),
        *_of_one_only(old, new, asked),
    ]
    notes = [
        "Two runs: their blocks are not paired, and what else changed between the sessions is in the ratios.",
        *_changes(old, new),
        *missing,
        *_known(old, twins[0]),
        *_known(new, twins[1]),
    ]
    return Comparison(table, old.facts.rules, notes, [] if old_arm or new_arm else missing)


def _other_work(old: _Run, new: _Run, pairs: list[tuple[str, str]]) -> dict[tuple[str, str], str]:
    found = {
        (before, after): same_work.obstacles((old.record, before), (new.record, after))
        for before, after in pairs
    }
    return {pair: "; ".join(said) for pair, said in found.items() if said}


def _arms(run: _Run, reference: str, *, only: set[str], withheld: str = "") -> pd.DataFrame:
    return comparison.arms(
        run.side,
        reference=reference,
        twin=run.facts.twin,
        rules=run.facts.rules,
        only=only,
        withheld=run.found.withheld or withheld,
    )


def _twins(run: _Run) -> pd.DataFrame:
    """The rows that say how quiet the run's session was; none without a twin."""
    return _arms(run, run.facts.reference, only={run.facts.twin or ""})


def _labelled(run: _Run, label: str, other: _Run) -> Side:
    """The run under its folder's name; under `label` where the other's is the same."""
    name = run.folder.resolve().name
    return dataclasses.replace(run.side, label=label if name == other.folder.resolve().name else name)


def _pairs(old: _Run, old_arm: str | None, new: _Run, new_arm: str | None) -> list[tuple[str, str]]:
    """(arm before, arm after); an arm said of one run only is that of the other too."""
    if old_arm is None and new_arm is None:
        both = [(arm, arm) for arm in new.side.arms() if arm in old.side.arms()]
        if not both:
            raise UsageError(
                "The two runs have no arm of the same name.",
                stage=STAGE,
                hint=f"Say which: {old.folder}:{{{', '.join(old.side.arms())}}} and "
                f"{new.folder}:{{{', '.join(new.side.arms())}}}",
            )
        return both
    pair = (old_arm or new_arm or "", new_arm or old_arm or "")
    _refuse_unknown(old, pair[0])
    _refuse_unknown(new, pair[1])
    return [pair]


# -- what forbids it -----------------------------------------------------------------------------------


def _refuse_no_arms(run: _Run) -> None:
    if not run.facts.reference:
        raise UsageError(
            f"{run.folder} is a run of `execbench load`: it knows one server and has no arms to compare.",
            stage=STAGE,
            hint=f"Compare it with another such run: execbench compare {run.folder} OTHER",
        )


def _refuse_unknown(run: _Run, *arms: str | None) -> None:
    for arm in arms:
        if arm is not None and arm not in run.side.arms():
            raise UsageError(
                f"{run.folder} has no trial of an arm {arm!r}.",
                stage=STAGE,
                hint=f"It has: {', '.join(run.side.arms()) or 'none'}.",
            )


def _refuse_other_work(old: _Run, old_arm: str, new: _Run, new_arm: str, *, force: bool) -> None:
    found = same_work.obstacles((old.record, old_arm), (new.record, new_arm))
    if found and not force:
        raise NotComparable(
            f"{old_arm} of {old.folder} cannot be compared with {new_arm} of {new.folder}: "
            f"{'; '.join(found)}.",
            stage=STAGE,
            hint="The ratio would say more of that than of the arms. --force compares them all the same.",
        )


# -- what a reader has to know -------------------------------------------------------------------------


def _known(run: _Run, twins: pd.DataFrame) -> list[str]:
    """What is to be known of one run."""
    warnings = [f"{run.folder.name}: {said}" for said in run.found.run.warnings]
    return [*warnings, *_excluded(run), *_twin(run, twins)]


def _excluded(run: _Run) -> list[str]:
    """Blocks left out by criteria that the plan fixed before the run."""
    if not run.found.excluded:
        return []
    blocks = run.side.trials["block"]
    tried = blocks[blocks > PILOT_BLOCK].nunique()
    whys = ", ".join(f"block {block}: {why}" for block, why in run.found.excluded.items())
    return [f"{run.folder.name}: {len(run.found.excluded)} of {tried} blocks are left out ({whys})."]


def _twin(run: _Run, table: pd.DataFrame) -> list[str]:
    said = session_noise.twin_sentence(table)
    doubt = session_noise.twin_doubt(table, run.facts.twin)
    told = [f"{said[0].lower()}{said[1:]}."] if said else []
    return [f"{run.folder.name}: {one}" for one in [*told, *([doubt] if doubt else [])]]


def _changes(old: _Run, new: _Run) -> list[str]:
    """Differences that do not forbid the comparison: they may be what it is about."""
    before, after = (run.record.get("environment") or {} for run in (old, new))
    found = environment.differences(before, after) if before and after else []
    found += same_work.remarks(old.record, new.record)
    return [f"Between the two: {'; '.join(found)}."] if found else []


def _loads(old: _Run, new: _Run, pairs: list[tuple[str, str]]) -> str:
    before = sorted({load for arm, _ in pairs for load in old.side.loads(arm)})
    after = sorted({load for _, arm in pairs for load in new.side.loads(arm)})
    return f"The first was run at {', '.join(before)}; the second at {', '.join(after)}."


def _of_one_only(old: _Run, new: _Run, pairs: list[tuple[str, str]]) -> list[str]:
    """Loads and arms that only one of the runs has, so that nobody misses them unawares."""
    alike = all(old.side.loads(before) == new.side.loads(after) for before, after in pairs)
    notes = [] if alike else [f"Only loads that both have are compared. {_loads(old, new, pairs)}"]
    twins = {old.facts.twin, new.facts.twin}  # which are their reference run again
    strangers = sorted((set(old.side.arms()) ^ set(new.side.arms())) - twins)
    if all(before == after for before, after in pairs) and strangers:
        notes.append(f"Only one of the runs has: {', '.join(strangers)}.")
    return notes


def _not_run(run: _Run, reference: str, others: list[str]) -> list[str]:
    """Arms of the plan without a trial, and loads that the reference or another arm was not run at."""
    have = {arm: set(run.side.loads(arm)) for arm in (reference, *others)}
    never = [f"{arm} has no trial." for arm in run.facts.arms if arm not in run.side.arms()]
    return never + [
        f"{arm} and {reference} were not both run at {', '.join(sorted(have[arm] ^ have[reference]))}."
        for arm in others
        if have[arm] != have[reference]
    ]
