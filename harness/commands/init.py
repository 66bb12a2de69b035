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


EXAMPLES = ("execbench init my_model.py", "execbench run --workload my_model.py")


def init(
    path: Annotated[
        Path,
        typer.Argument(metavar="FILE.py", help="Write this file, which must not exist. [my_workload.py]"),
    ] = Path("my_workload.py"),
) -> None:
    """Write an example of your own workload, which runs and says what to change."""
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise UsageError(
            f"{path} is not the name of a Python module.", stage="init", hint="For example: my_workload.py"
        )
    _write(path, _TEMPLATE.read_text(encoding="utf-8"))
    quoted = shlex.quote(str(path))
    for line in (
        f"Wrote {path}, with a stand-in for your model. Run it as it is, then change it:",
        f"  execbench run --workload {quoted}           # compare strategies, about 2 min",
        f"  execbench serve thread --workload {quoted}  # serve it, for curl",
    ):
        console().print(line, soft_wrap=True)


def _write(path: Path, text: str) -> None:
    """Write the whole text, but never over an existing file."""
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
            f"{path} already exists.",
            stage="init",
            hint="Give another name: execbench init other_workload.py",
        ) from error
    except OSError as error:
        raise HarnessError(f"{path} cannot be written: {error.strerror}.", stage="init") from error
