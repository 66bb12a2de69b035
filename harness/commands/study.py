"""`execbench study`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from harness.commands import flags
from harness.commands.terminal import console, print_json, print_message
from harness.errors import HarnessError, UsageError
from harness.wire import bounds
from harness.wire.panel import Panel

if TYPE_CHECKING:
    from harness.evidence.page import Made
    from harness.evidence.studies.catalogue import Study, Wanted

Name = Literal[
    "coverage",
    "verdicts",
    "twins",
    "power",
    "windows",
    "twin-blocks",
    "stopping",
    "queue",
    "search",
    "capacity",
    "choosing",
]


EXAMPLES = (
    "execbench study coverage",
    "execbench study twins --sessions 50 --out /tmp/studies",
    "execbench study windows --workload embed",
)


def study(
    name: Annotated[Name, typer.Argument(metavar="NAME", help=f"One of {', '.join(get_args(Name))}.")],
    sessions: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Run this many sessions. [search, twins: 200; twin-blocks: 100; power: 50; choosing: 20; "
            "others: 2,000]",
            rich_help_panel=Panel.PRECISION,
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=1,
            max=bounds.A_DAY_S,
            metavar="SECONDS",
            help="Measure for this long. [windows: 48; queue: 600; capacity: 400]",
            rich_help_panel=Panel.PRECISION,
        ),
    ] = None,
    workload: Annotated[
        Literal["synthetic", "embed"] | None,
        typer.Option(
            metavar="synthetic|embed",
            help="windows: Run this model. [synthetic]",
            rich_help_panel=Panel.MODEL,
        ),
    ] = None,
    twins: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="stopping: Replay the sessions in this CSV of `twin-blocks`.",
            rich_help_panel=Panel.PRECISION,
        ),
    ] = None,
    run: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RUN",
            help="stopping: Replay this run with claims. Repeatable.",
            rich_help_panel=Panel.PRECISION,
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            help="Write NAME.md and NAME.csv here, over older ones. [docs/studies]",
            rich_help_panel=Panel.OUTPUT,
        ),
    ] = Path("docs/studies"),
    as_json: flags.AsJson = False,
) -> None:
    """Repeat a study behind the method: a table from real sessions, in minutes to an hour."""
    from harness.evidence.studies.catalogue import STUDIES, Wanted

    chosen = STUDIES[name]
    try:
        wanted = chosen.wanted(Wanted(sessions, seconds, workload, twins, tuple(run) if run else None))
    except ValueError as error:
        flag = str(error).replace("--runs", "--run")
        raise UsageError(f"The study {name!r} does not take {flag}.", stage="study") from error
    _make(name, chosen, wanted, out, as_json=as_json)


def _make(name: str, study: Study, wanted: Wanted, out: Path, *, as_json: bool) -> None:
    """Collect rows until the study ends or is interrupted; keep the finished rows in either case."""
    from harness.commands.progress import Progress
    from harness.evidence.page import made
    from harness.evidence.studies.catalogue import command

    how, rows = made(command(name, wanted)), list[Any]()
    try:
        with Progress(console(stderr=True)) as progress:
            for row in study.rows(wanted, progress):
                rows.append(row)
    except (KeyboardInterrupt, HarnessError):
        if rows:
            _keep(f"{name}-partial", study, how, rows, out, as_json=as_json)
        raise
    _keep(name, study, how, rows, out, as_json=as_json)
    for ending in ("md", "csv"):
        (out / f"{name}-partial.{ending}").unlink(missing_ok=True)


def _keep(name: str, study: Study, how: Made, rows: list[Any], out: Path, *, as_json: bool) -> None:
    """Write and show the page and the rows. An unfinished study does not replace a finished one."""
    from harness.evidence.frames import frame
    from harness.evidence.page import write
    from harness.evidence.studies import catalogue

    found, partial = frame(study.row, rows), name.endswith("-partial")
    text = catalogue.render(name, study, how, found, partial=partial)
    write(out / f"{name}.md", text, found, stage="study")
    if as_json:
        print_json(catalogue.as_json(name, study, how, found, partial=partial))
    else:
        console().print(text, soft_wrap=True)
    print_message(f"Written: {out / name}.md and .csv")
