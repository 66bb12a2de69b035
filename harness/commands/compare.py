"""`execbench compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.commands import completion, flags
from harness.commands.terminal import console, print_json, print_message, print_parts
from harness.errors import GATE_FAILED, HarnessError, UsageError, shortened
from harness.wire.panel import Panel

GATE = "Gate"

if TYPE_CHECKING:
    from harness.verdicts.compare_runs import Comparison
    from harness.verdicts.gate import Outcome

STAGE = "compare"
EXAMPLES = (
    "execbench compare results/20261129-073812-article",
    "execbench compare results/20261129-073812-article:inline results/20261129-073812-article:thread",
    "execbench compare results/before results/after --fail-on slower --min-effect 5%",
)


class GateFailed(HarnessError):
    """An arm is slower by more than the gate allows: exit code 3."""

    exit_code = GATE_FAILED


def compare(
    first: Annotated[
        str,
        typer.Argument(
            metavar="RUN[:ARM]", help="Folder of a run, or one of its arms.", autocompletion=completion.runs
        ),
    ],
    second: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN[:ARM]",
            help="Compare this with the first. Without it, compare the arms of the first.",
            autocompletion=completion.runs,
        ),
    ] = None,
    all_pairs: Annotated[
        bool,
        typer.Option(
            "--all-pairs",
            help="Compare every arm of the run with every other.",
            rich_help_panel=Panel.COMPARE,
        ),
    ] = False,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Compare only latency, throughput, service, queue, model or io.",
            rich_help_panel=Panel.COMPARE,
        ),
    ] = None,
    load: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LOAD",
            help="Compare only this load, such as 'closed(8)'. Repeatable.",
            rich_help_panel=Panel.COMPARE,
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Compare although machine, model or load differ.", rich_help_panel=Panel.COMPARE
        ),
    ] = False,
    fail_on: Annotated[
        Literal["slower"] | None,
        typer.Option(
            metavar="slower", help="Exit with code 3 if an arm is surely slower.", rich_help_panel=GATE
        ),
    ] = None,
    min_effect: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="Fail only at this share or more. [5 % latency, 3 % throughput]",
            rich_help_panel=GATE,
        ),
    ] = None,
    floor_ms: Annotated[
        float,
        typer.Option(
            min=0, metavar="MS", help="Fail only at this much latency or more. [1]", rich_help_panel=GATE
        ),
    ] = 1.0,
    floor_per_s: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="PER_S",
            help="Fail only at this many requests/s or more. [1]",
            rich_help_panel=GATE,
        ),
    ] = 1.0,
    as_json: flags.AsJson = False,
    markdown: Annotated[
        bool,
        typer.Option(
            "--markdown", help="Print Markdown for a pull request instead.", rich_help_panel=Panel.OUTPUT
        ),
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", metavar="FILE", help="Write a page for the browser, too.", rich_help_panel=Panel.OUTPUT
        ),
    ] = None,
) -> None:
    """Compare a run's arms with its reference, two arms, or two runs.

    \b
    RUN          every arm against the run's reference;
                 with --all-pairs, against every other
    RUN:A RUN:B  B against A
    OLD NEW      the arms that both runs have, the new ones against the old

    \b
    The gate (--fail-on slower) looks at the median latency and the throughput.
    It fails if the whole interval of the ratio is on the worse side of 1, and
    the difference is at least --min-effect and at least --floor-ms (or
    --floor-per-s). Throughput, which is not the primary metric, also needs
    p < 0.05 after Holm's correction.

    \b
    Exit codes:
      0    no failure
      1    failure, such as a damaged run
      2    wrong usage
      3    the gate failed
      4    the comparison would not be honest
      130  interrupted

    \b
    A comparison is not honest if the session was noisy, or if machine, model or
    load differ. With --fail-on it is not honest either if trials are invalid or
    failed, if there are fewer than 6 blocks, or if one side lacks arms or loads
    (unless RUN:ARM, --load or --metric selects others). If the gate fails too,
    the exit code is 3.
    """
    if as_json and markdown:
        raise UsageError("Give either --json or --markdown, not both.", stage=STAGE)
    if all_pairs and fail_on:
        raise UsageError(
            "--fail-on compares arms with a reference, --all-pairs with each other.",
            stage=STAGE,
            hint="Remove one of them.",
        )
    from harness.verdicts import compare_runs, gate

    floors = gate.Floors(ms=floor_ms, per_s=floor_per_s, share=_share(min_effect))
    found = _pick(compare_runs.compare(first, second, force=force, all_pairs=all_pairs), metric, load)
    if fail_on and gate.gated(found.table).empty:
        raise UsageError(
            "--fail-on needs latency or throughput, and these rows have neither.",
            stage=STAGE,
            hint="Remove --metric, or add --metric latency.",
        )
    missing = [] if metric or load else found.missing
    judged = gate.judge(found.table, floors, found.rules, missing) if fail_on else None
    _show(found, judged, as_json=as_json, markdown=markdown)
    if html is not None:
        _write_page(html, found, judged)
    _refuse(found, judged)


# -- rows ----------------------------------------------------------------------------------------------


def _share(text: str | None) -> float | None:
    from pydantic import TypeAdapter

    from harness.wire.setting import Share, reason

    if text is None:
        return None
    try:
        return TypeAdapter(Share).validate_python(text)
    except ValueError as error:
        raise UsageError(
            f"--min-effect {shortened(text)} is not valid: {reason(error)}.",
            stage=STAGE,
            hint="For example: --min-effect 5%",
        ) from error


def _pick(found: Comparison, metrics: list[str] | None, loads: list[str] | None) -> Comparison:
    """Select rows. Families of tests stay as they were: a filter makes no p smaller."""
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
            f"There is no {flag} {name!r}.", stage=STAGE, hint=f"There are: {', '.join(offered)}."
        )


def _show(found: Comparison, judged: Outcome | None, *, as_json: bool, markdown: bool) -> None:
    from harness.commands import compare_markdown, compare_tables

    if as_json:
        print_json(compare_tables.data(found.table, found.notes))
    elif markdown:
        console().print(compare_markdown.page(found, judged), soft_wrap=True)
    else:
        print_parts(console(), compare_tables.render(found.table, found.notes))


def _write_page(path: Path, found: Comparison, judged: Outcome | None) -> None:
    from harness.report.charts.plotting import import_matplotlib

    import_matplotlib()
    from harness.report.page import compared, html
    from harness.results import derived_files
    from harness.verdicts import headline

    runs = " and ".join(str(run.folder) for run in found.runs)
    page = compared.page(
        found.table,
        found.notes,
        found.rules,
        answer=headline.of(found.table, judged),
        about=f"Compared: {runs}",
    )
    try:
        with derived_files.making(path.parent, stage=STAGE) as new:
            derived_files.write_text(new, path.name, html.render(page))
    except HarnessError as error:
        raise HarnessError(error.what, stage=STAGE, hint="Give another file with --html.") from error
    print_message(f"Page: {path}")


# -- the gate ------------------------------------------------------------------------------------------


def _refuse(found: Comparison, judged: Outcome | None) -> None:
    """Raise the error that the exit code stands for, if there is one."""
    from harness.verdicts import session_noise
    from harness.verdicts.compare_runs import NotComparable

    if noisy := session_noise.noisy(found.table):
        raise NotComparable(noisy, stage=STAGE)
    if judged is None:
        return
    if len(judged.failed):
        raise GateFailed(
            f"The gate failed on {len(judged.failed)} of {judged.compared} comparisons.",
            stage=STAGE,
            hint="\n".join(judged.failed["sentence"]),
        )
    if judged.hindrances:
        raise NotComparable(
            f"The gate cannot pass: {'; '.join(judged.hindrances)}.",
            stage=STAGE,
            hint="\n".join([*judged.doubts, *judged.missing]),
        )
