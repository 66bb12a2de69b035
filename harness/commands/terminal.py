"""The terminal, as every command uses it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from harness.numbers import plain
from harness.system.streams import document

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, RenderableType

    from harness.commands.screen import Screen

PIPED_WIDTH = 80


def console(*, stderr: bool = False) -> Screen:
    """Return the console. Piped tables are 80 columns wide in any environment; long lines wrap, uncut."""
    from harness.commands.screen import Screen

    found = Screen(stderr=stderr)
    return found if found.is_terminal else Screen(stderr=stderr, width=PIPED_WIDTH)


def print_parts(terminal: Console, parts: Iterable[RenderableType]) -> None:
    """Print tables that fit the width, and each sentence as one line."""
    from rich.text import Text

    for part in parts:
        terminal.print(part, soft_wrap=isinstance(part, Text))


def print_message(sentence: str, *, style: str | None = None) -> None:
    """Print a sentence on stderr as one line, which a narrow terminal wraps."""
    console(stderr=True).print(sentence, style=style, soft_wrap=True)


def print_json(data: Any) -> None:
    """Print one JSON document on stdout, in ASCII, and nothing else there. NaN and infinity become null."""
    stream = document()
    stream.write(json.dumps(plain(data), indent=1, allow_nan=False) + "\n")
    stream.flush()
