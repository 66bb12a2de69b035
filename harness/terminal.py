"""The terminal, as every command uses it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from harness.stdout import document

if TYPE_CHECKING:
    from rich.console import Console

PIPED_WIDTH = 80


def console(*, stderr: bool = False) -> Console:
    """Piped, tables keep to 80 columns whatever the environment says; nothing is cut, it wraps."""
    from rich.console import Console

    found = Console(stderr=stderr, highlight=False)
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, width=PIPED_WIDTH)


def print_json(data: Any) -> None:
    """One JSON document on stdout, and nothing else there. NaN and infinity are no JSON: give null."""
    stream = document()
    stream.write(json.dumps(data, indent=1, allow_nan=False) + "\n")
    stream.flush()
