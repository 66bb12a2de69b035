"""`execbench init`."""

from __future__ import annotations

import shlex
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from harness.commands.terminal import console
from harness.errors import HarnessError, UsageError

_TEMPLATE = files("harness") / "data" / "my_workload.py"


def init(
    path: Annotated[Path, typer.Argument(help="The file to write; must not exist.")] = Path("my_workload.py"),
) -> None:
    """Write a workload of your own to begin with: it runs as it is, and says what to change."""
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise UsageError(
            f"{path} is no name for a Python module.", stage="init", hint="For example: my_workload.py"
        )
    _write(path, _TEMPLATE.read_text(encoding="utf-8"))
    quoted = shlex.quote(str(path))
    for line in (
        f"{path} is written: a stand-in for a model, and what to change. It runs as it is:",
        f"  execbench run --workload {quoted}           # where should it run? A minute and a half",
        f"  execbench serve thread --workload {quoted}  # the service alone, for curl",
    ):
        console().print(line, soft_wrap=True)


def _write(path: Path, text: str) -> None:
    """Whole, and never over a file that is there."""
    try:
        with path.open("x", encoding="utf-8") as stream:
            try:
                stream.write(text)
                stream.flush()
            except BaseException:
                path.unlink()
                raise
    except FileExistsError as error:
        raise UsageError(
            f"{path} is there already, and is left as it is.",
            stage="init",
            hint="Say another name: execbench init other_workload.py",
        ) from error
    except OSError as error:
        raise HarnessError(f"{path} cannot be written: {error.strerror}.", stage="init") from error
