"""`execbench schema`."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from harness.commands.terminal import print_json

EXAMPLES = ("execbench schema plan > plan.schema.json", "execbench schema run > run.schema.json")


class Document(enum.StrEnum):
    """What a schema describes."""

    PLAN = "plan"
    RUN = "run"


def schema(
    document: Annotated[
        Document, typer.Argument(metavar="plan|run", help="plan: a plan file (TOML). run: a run's run.json.")
    ],
) -> None:
    """Print the JSON Schema of plan files or of run.json, for editors and other programs."""
    from harness.plans import schemas

    print_json(schemas.of_plan() if document is Document.PLAN else schemas.of_run())
