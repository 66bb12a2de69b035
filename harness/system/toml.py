"""Parse TOML in bounded time, and read the TOML files in this package."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from typing import Any

from harness.errors import UsageError

MAX_TOML_BYTES = 2**20
MAX_KEY_PARTS = 32  # tomllib takes quadratic time and memory; no file of this package has more than 4

_DATA = files("harness") / "data"  # one folder for each kind: `claims`, `plans`
_PART = r"(?:[\w-]++|\"[^\"\n]*+\"|'[^'\n]*+')"
_LONG_KEY = re.compile(rf"(?<![\w-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{MAX_KEY_PARTS}}}")


def parse(text: str, source: str, stage: str) -> dict[str, Any]:
    """Parse a text. Raises UsageError, which names `source`, if it is not TOML or nested too deeply."""
    if _LONG_KEY.search(text):
        raise UsageError(f"Cannot use {source}: a key has more than {MAX_KEY_PARTS} parts.", stage=stage)
    try:
        return tomllib.loads(text.replace("\r\n", "\n").replace("\r", "\n"))
    except RecursionError as error:
        raise UsageError(f"Cannot use {source}: it is nested too deeply.", stage=stage) from error
    except ValueError as error:  # TOMLDecodeError, or an integer with thousands of digits
        why = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "a number has too many digits"
        raise UsageError(f"{source} is not TOML: {why}.", stage=stage) from error


def packaged_names(kind: str) -> list[str]:
    """Return the names of all files of this kind."""
    file_names = (file.name for file in (_DATA / kind).iterdir())
    return sorted(name.removesuffix(".toml") for name in file_names if name.endswith(".toml"))


def check_packaged(kind: str, name: str) -> None:
    """Raise UsageError, with the names that exist, if there is no file of this name."""
    known = packaged_names(kind)
    if name not in known:
        raise UsageError(
            f"There are no {kind} called {name!r}.", stage=kind, hint=f"There are: {', '.join(known)}."
        )


def read_packaged(kind: str, name: str) -> str:
    """Return the text of a file. Raises UsageError like `check_packaged`."""
    check_packaged(kind, name)
    return (_DATA / kind / f"{name}.toml").read_text(encoding="utf-8")
