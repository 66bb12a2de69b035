"""`execbench compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.commands import flag_groups, flags
from harness.commands.terminal import console, print_json, print_parts
from harness.errors import HarnessError, UsageError

if TYPE_CHECKING:
    from harness.verdicts.compare_runs import Comparison
    from harness.verdicts.gate import Floors

STAGE = "compare"


class GateFailed(HarnessError):
    """An arm is slower by more than the gate allows: exit code 3."""

    exit_code = 3


def compare(
    first: Annotated[
        str, typer.Argument(metavar="RUN[:ARM]", help="A run's folder, or one arm of it: folder:arm.")
    ],
    second: Annotated[
        str | None,
        typer.Argument(metavar="RUN[:ARM]", help="What is compared with the first; else the run's arms."),
    ] = None,
    all_pairs: Annotated[
        bool, typer.Option("--all-pairs", help="Compare every arm of the run with every other.")
    ] = False,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Only latency, throughput, service, queue, model or io; repeatable."),
    ] = None,
    load: Annotated[
        list[str] | None, typer.Option(help="Only this load, such as 'closed(8)'; repeatable.")
    ] = None,
    fail_on: Annotated[
        Literal["slower"] | None,
        typer.Option(help="Exit with 3 when an arm's latency or throughput is surely worse."),
    ] = None,
    min_effect: Annotated[
        str | None,
        typer.Option(metavar="SHARE", help="--fail-on: by at least this, such as 5% (the run's own δ)."),
    ] = None,
    floor_ms: Annotated[float, typer.Option(min=0, help="--fail-on: and by this many ms of latency.")] = 1.0,
    floor_per_s: Annotated[float, typer.Option(min=0, help="--fail-on: and by so many requests/s.")] = 1.0,
    force: Annotated[
        bool, typer.Option("--force", help="Compare although machine, model or load differ.")
    ] = False,
    as_json: flags.AsJson = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print a table for a pull request instead.")
    ] = False,
) -> None:
    """Compare a run's arms with its reference, two arms, or two runs.

    RUN alone: every arm against the run's reference, or with --all-pairs
    against every other. RUN:A RUN:B: B against A.
    OLD NEW: the arms that both runs have, the new ones against the old.

    A gate (--fail-on slower) looks at the median latency and the throughput.
    It fails when three things agree: the interval of the ratio lies wholly on
    the worse side of 1, and the difference is at least --min-effect and at
    least --floor-ms (or --floor-per-s). Throughput, which is not the primary
    metric, also needs p < 0.05 after Holm's correction.

    Exit codes: 0 fine; 1 failure, such as a damaged run; 2 wrong usage;
    3 the gate failed; 4 the comparison cannot be made honestly (the session
    was noisy; machine, model or load differ; with --fail-on also trials that
    are invalid or failed, fewer than 6 blocks, and arms or loads that were
    left out or that one side lacks, unless RUN:ARM, --load or --metric
    narrows what is asked); 130 interrupted. A sure failure (3) is told before
    what is in doubt (4).
    """
    if as_json and markdown:
        raise UsageError("Give either --json or --markdown, not both.", stage=STAGE)
    if all_pairs and fail_on:
        raise UsageError(
            "--fail-on looks at arms against a reference, --all-pairs at every pair.",
            stage=STAGE,
            hint="Leave one of them out.",
        )
    from harness.verdicts import compare_runs, gate

    floors = gate.Floors(ms=floor_ms, per_s=floor_per_s, share=flag_groups.share(min_effect, "--min-effect"))
    found = _pick(compare_runs.compare(first, second, force=force, all_pairs=all_pairs), metric, load)
    if fail_on and gate.gated(found.table).empty:
        raise UsageError(
            "--fail-on looks at latency and throughput, and neither is among these rows.",
            stage=STAGE,
            hint="Leave --metric out, or add --metric latency.",
        )
    _show(found, as_json=as_json, markdown=markdown)
    _judge(found, floors if fail_on else None, [] if metric or load else found.missing)


# -- which rows, and how they are shown -----------------------------------------------------------------


def _pick(found: Comparison, metrics: list[str] | None, loads: list[str] | None) -> Comparison:
    """The rows asked for. Families of tests stay as they were: a filter makes no p smaller."""
    from harness.verdicts.metrics import METRICS

    short = {one.name.removesuffix("_ms").removesuffix("_per_s"): one.name for one in METRICS}
    wanted = {short.get(name, name) for name in metrics or short}
    _refuse_absent("--metric", wanted, short, set(short.values()))
    known = list(dict.fromkeys(found.table["load"]))
    _refuse_absent("--load", set(loads or ()), known, set(known))
    table = found.table[found.table["metric"].isin(wanted) & found.table["load"].isin(loads or known)]
    return found._replace(table=table.reset_index(drop=True))


def _refuse_absent(flag: str, wanted: set[str], offered: Any, known: set[str]) -> None:
    for name in sorted(wanted - known):
        raise UsageError(
            f"{flag} {name!r} is not there.", stage=STAGE, hint=f"There are: {', '.join(offered)}."
        )


def _show(found: Comparison, *, as_json: bool, markdown: bool) -> None:
    from harness.commands import compare_tables

    if as_json:
        print_json(compare_tables.data(found.table, found.notes))
    elif markdown:
        console().print(compare_tables.markdown(found.table, found.notes), soft_wrap=True)
    else:
        print_parts(console(), compare_tables.render(found.table, found.notes))


# -- how it ends ---------------------------------------------------------------------------------------


def _judge(found: Comparison, floors: Floors | None, missing: list[str]) -> None:
    """Nothing, or the error that the exit code stands for."""
    from harness.verdicts import gate, session_noise
    from harness.verdicts.compare_runs import NotComparable

    if noisy := session_noise.noisy(found.table):
        raise NotComparable(noisy, stage=STAGE)
    if floors is None:
        return
    failed = gate.slower(found.table, floors, found.rules)
    if len(failed):
        raise GateFailed(
            f"The gate failed on {len(failed)} of {len(gate.gated(found.table))} comparisons.",
            stage=STAGE,
            hint="\n".join(failed["sentence"]),
        )
    doubts = gate.doubts(found.table)
    if doubts or missing:
        few = f"{len(doubts)} of its comparisons say too little" if doubts else ""
        lacks = "arms or loads are missing (RUN:ARM, --load or --metric say what you want)" if missing else ""
        raise NotComparable(
            f"The gate cannot pass: {'; '.join(filter(None, [few, lacks]))}.",
            stage=STAGE,
            hint="\n".join([*doubts, *missing]),
        )
