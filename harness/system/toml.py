"""TOML from outside → plain data, in bounded time."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from harness.errors import UsageError

MOST_BYTES = 2**20
DEEPEST_KEY = 32  # tomllib takes the square of this in time and memory, and no file of ours has more than 4

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
