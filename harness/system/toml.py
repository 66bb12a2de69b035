"""TOML → plain data, in bounded time; and the TOML files that come with this package."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from typing import Any

from harness.errors import UsageError

MOST_BYTES = 2**20
DEEPEST_KEY = 32  # tomllib takes the square of this in time and memory, and no file of ours has more than 4

_DATA = files("harness") / "data"  # of this package, a folder for each kind: `claims`, `plans`
_PART = r"(?:[\w-]++|\"[^\"\n]*+\"|'[^'\n]*+')"
_LONG_KEY = re.compile(rf"(?<![\w-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{DEEPEST_KEY}}}")


def parse(text: str, source: str, stage: str) -> dict[str, Any]:
    """What the text says; UsageError, with `source`, for what is no TOML, or nested beyond any use."""
    if _LONG_KEY.search(text):
        raise UsageError(f"{source} is not usable: a key has more than {DEEPEST_KEY} parts.", stage=stage)
    try:
        return tomllib.loads(text.replace("\r\n", "\n").replace("\r", "\n"))
    except RecursionError as error:
        raise UsageError(f"{source} is not usable: it is nested too deep.", stage=stage) from error
    except ValueError as error:  # TOMLDecodeError, and an integer of thousands of digits
        why = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "a number has too many digits"
        raise UsageError(f"{source} is not TOML: {why}.", stage=stage) from error


def packaged_names(kind: str) -> list[str]:
    """Of all files of this kind."""
    found = (file.name for file in (_DATA / kind).iterdir())
    return sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml"))


def check_packaged(kind: str, name: str) -> None:
    """UsageError, with the names that exist, unless there is a file of this name."""
    known = packaged_names(kind)
    if name not in known:
        raise UsageError(
            f"There are no {kind} called {name!r}.", stage=kind, hint=f"There are: {', '.join(known)}."
        )


def read_packaged(kind: str, name: str) -> str:
    """The file's TOML; UsageError as in `check_packaged`."""
    check_packaged(kind, name)
    return (_DATA / kind / f"{name}.toml").read_text(encoding="utf-8")
