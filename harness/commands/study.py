"""`execbench study`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from harness.commands import flags
from harness.commands.terminal import console, print_json, tell
from harness.errors import HarnessError, UsageError
from harness.wire import bounds

if TYPE_CHECKING:
    from harness.evidence.page import Made
    from harness.evidence.studies.catalogue import Study, Wanted

Name = Literal["coverage", "verdicts", "twins", "power", "windows", "queue", "search", "capacity"]


def study(
    name: Annotated[Name, typer.Argument(help=f"Which: {', '.join(get_args(Name))}.")],
    out: Annotated[Path, typer.Option(help="Where <study>.md and .csv go; older ones are replaced.")] = Path(
        "docs/studies"
    ),
    sessions: Annotated[
        int | None,
        typer.Option(
            min=1, help="twins, search (200), power (50); coverage, verdicts: simulated ones (2000)."
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=1,
            max=bounds.A_DAY_S,
            help="windows: measured each way (48); queue: at load 0.5 (600); capacity (400).",
        ),
    ] = None,
    workload: Annotated[
        Literal["synthetic", "embed"] | None, typer.Option(help="windows: synthetic (default) or embed.")
    ] = None,
    as_json: flags.AsJson = False,
) -> None:
    """Make the evidence behind the method again: a table from real sessions, from minutes to an hour."""
    from harness.evidence.studies.catalogue import STUDIES, Wanted

    chosen = STUDIES[name]
    try:
        wanted = chosen.wanted(Wanted(sessions, seconds, workload))
    except ValueError as error:
        raise UsageError(f"The study {name!r} takes no {error}.", stage="study") from error
    _make(name, chosen, wanted, out, as_json=as_json)


def _make(name: str, study: Study, wanted: Wanted, out: Path, *, as_json: bool) -> None:
    """Collect rows until the study or the user's patience ends; what is finished is kept in either case."""
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
    """Write the page and the raw rows, and show them. An unfinished study never replaces a whole one."""
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
    tell(f"Written: {out / name}.md and .csv")
