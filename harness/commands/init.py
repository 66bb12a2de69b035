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
    _refuse_no_module(path)
    _write(path, _TEMPLATE.read_text(encoding="utf-8"))
    quoted = shlex.quote(str(path))
    terminal = console()
    terminal.print(
        f"{path} is written: a stand-in for a model, and what to change. It runs as it is:", soft_wrap=True
    )
    terminal.print(
        f"  execbench run --workload {quoted}           # where should it run? A minute and a half",
        soft_wrap=True,
    )
    terminal.print(
        f"  execbench serve thread --workload {quoted}  # the service alone, for curl", soft_wrap=True
    )


def _refuse_no_module(path: Path) -> None:
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise UsageError(
            f"{path} is no name for a Python module.", stage="init", hint="For example: my_workload.py"
        )


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
