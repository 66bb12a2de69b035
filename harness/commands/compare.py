"""`execbench compare`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from harness.commands import flags
from harness.errors import HarnessError, UsageError
from harness.terminal import console, print_json

if TYPE_CHECKING:
    import pandas as pd

    from harness.comparison import Facts, Rules, Side
    from harness.gate import Floors

STAGE = "compare"


class GateFailed(HarnessError):
    """Somebody is slower by more than the gate lets pass: exit code 3."""

    exit_code = 3


class NotComparable(HarnessError):
    """The comparison cannot be made honestly: exit code 4."""

    exit_code = 4


def compare(
    first: Annotated[
        str, typer.Argument(metavar="RUN[:ARM]", help="A run's folder, or one arm of it: folder:arm.")
    ],
    second: Annotated[
        str | None,
        typer.Argument(metavar="[RUN[:ARM]]", help="What is compared with the first; else the run's arms."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", help="Only latency, throughput, service, queue, model or io; repeatable."),
    ] = None,
    load: Annotated[
        list[str] | None, typer.Option("--load", help="Only this load, such as 'closed(8)'; repeatable.")
    ] = None,
    fail_on: Annotated[
        Literal["slower"] | None,
        typer.Option("--fail-on", help="Exit with 3 when an arm's latency or throughput is surely worse."),
    ] = None,
    min_effect: Annotated[
        str | None,
        typer.Option(metavar="SHARE", help="--fail-on: by at least this, such as 5% (the run's own δ)."),
    ] = None,
    floor_ms: Annotated[
        float, typer.Option("--floor-ms", min=0, help="--fail-on: and by this many ms of latency.")
    ] = 1.0,
    floor_per_s: Annotated[
        float, typer.Option("--floor-per-s", min=0, help="--fail-on: and by so many requests/s.")
    ] = 1.0,
    force: Annotated[
        bool, typer.Option("--force", help="Compare although machine, model or load differ.")
    ] = False,
    as_json: flags.AsJson = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print a table for a pull request instead.")
    ] = False,
) -> None:
    """Compare a run's arms with its reference, two arms, or two runs: RUN, RUN:A RUN:B, or OLD NEW.

    The first is what the second is compared with. A gate (--fail-on slower) looks at the median latency and
    the throughput, and fails when three things agree: the interval of the ratio lies wholly on the worse side
    of 1, the difference is at least --min-effect, and at least --floor-ms or --floor-per-s.

    Exit codes: 0 fine; 1 failure, such as a damaged run; 2 wrong usage; 3 the gate failed; 4 the comparison
    cannot be made honestly (a noisy session; machine, model or load differ; with --fail-on also invalid or
    failed trials and fewer than 6 blocks); 130 interrupted.
    """
    if as_json and markdown:
        raise UsageError("Give either --json or --markdown, not both.", stage=STAGE)
    from harness.gate import Floors

    floors = Floors(ms=floor_ms, per_s=floor_per_s, share=flags.share(min_effect, "--min-effect"))
    found = _pick(_compare(first, second, force=force), metric, load)
    if fail_on:
        _refuse_nothing_to_gate(found)
    _show(found, as_json=as_json, markdown=markdown)
    _judge(found, floors if fail_on else None)


class Comparison(NamedTuple):
    """What was asked for, compared."""

    table: pd.DataFrame  # comparison.COLUMNS
    rules: Rules
    notes: list[str]  # what a reader has to know beside the rows


# -- what is compared ----------------------------------------------------------------------------------


class _Run(NamedTuple):
    folder: Path
    record: dict[str, Any]
    facts: Facts
    side: Side
    warnings: list[str]


def _compare(first: str, second: str | None, *, force: bool) -> Comparison:
    old_folder, old_arm = _split(first)
    old = _read(old_folder)
    if second is None:
        return _against_reference(old, old_arm, force=force)
    new_folder, new_arm = _split(second)
    if new_folder.resolve() == old_folder.resolve():
        return _two_arms(old, old_arm, new_arm, force=force)
    return _two_runs(old, old_arm, _read(new_folder), new_arm, force=force)


def _split(text: str) -> tuple[Path, str | None]:
    """RUN or RUN:ARM; a folder may have a colon in its name."""
    folder, colon, arm = text.rpartition(":")
    if not colon or Path(text).is_dir():
        return Path(text), None
    return Path(folder), arm


def _read(folder: Path) -> _Run:
    from harness import analysis, comparison, store

    run = store.read(folder)
    declared = comparison.facts(run.record)
    derived = analysis.derive(run.requests, run.trials)
    side = comparison.Side(derived, run.trials)
    return _Run(folder, run.record, declared, side, [f"{folder.name}: {said}" for said in run.warnings])


def _against_reference(run: _Run, arm: str | None, *, force: bool) -> Comparison:
    from harness import comparable

    reference = run.facts.reference
    _refuse_unknown(run, reference, arm)
    others = [name for name in run.side.arms() if name not in (reference, run.facts.twin)]
    if not others and arm is None and run.facts.twin is None:
        raise UsageError(f"{run.folder} has one arm, so there is nothing to compare.", stage=STAGE)
    if arm is not None:
        return _two_arms(run, reference, arm, force=force)
    apart = {} if force else comparable.other_work(run.record, reference, others)
    left_out = [f"{name} is left out: it does other work than {reference} ({w})" for name, w in apart.items()]
    chosen = {name for name in run.side.arms() if name not in apart}
    table = _arms(run, reference, only=chosen)
    return Comparison(table, run.facts.rules, [*run.warnings, *left_out, *_excluded(run), *_twin(table)])


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
    table = _arms(run, reference, only={arm}, withheld=_noisy(twins))
    return Comparison(table, run.facts.rules, [*run.warnings, *_excluded(run), *_twin(twins)])


def _two_runs(old: _Run, old_arm: str | None, new: _Run, new_arm: str | None, *, force: bool) -> Comparison:
    from harness import comparison

    pairs = _pairs(old, old_arm, new, new_arm)
    for before, after in pairs:
        _refuse_other_work(old, before, new, after, force=force)
    sides = (_labelled(old, "before", new), _labelled(new, "after", old))
    twins = (_twins(old), _twins(new))
    withheld = next(filter(None, map(_noisy, twins)), "")
    table = comparison.runs(*sides, pairs=pairs, rules=old.facts.rules, withheld=withheld)
    if table.empty:
        raise NotComparable("The two runs have no load in common.", stage=STAGE, hint=_loads(old, new, pairs))
    notes = [
        "Two runs: their blocks are not paired, and what else changed between the sessions is in the ratios.",
        *_changes(old, new),
        *_loads_of_one(old, new, pairs),
    ]
    told = [said for run, seen in zip((old, new), twins, strict=True) for said in (*_excluded(run), *_twin(seen))]
    return Comparison(table, old.facts.rules, [*old.warnings, *new.warnings, *notes, *told])
