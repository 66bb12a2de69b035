"""Markdown that shows text from outside as plain text, also on GitHub."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from harness.system.printable import one_line

# Invisible; it keeps GitHub from mentioning @people and linking http://addresses.
_APART = "&#8203;"

_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_ACTIVE = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")  # not the _ inside a word, as in default_pool
_LINKING = re.compile(
    r"""
    @(?=\w)                 # a person, or a mail address
    | \#(?=\w)              # an issue
    | :(?=//)               # https://…
    | :(?=[\w+-]+:)         # an emoji's name
    | (?<=\bwww)(?=\.)
    | (?<=\bGH)(?=-\d)      # an issue
    """,
    re.VERBOSE | re.IGNORECASE,
)
_BEGINNING = re.compile(
    r"^(\d*)([-+#.)])(?=[-#\s]*$|[-#]*\s)"
)  # of a list, a heading, a line across the page


def literal(text: object) -> str:
    """`text` on one line, rendered as it is: without HTML, links, images, mentions or new cells."""
    words = " ".join(one_line(str(text)).split())
    words = _ACTIVE.sub(r"\\\g<0>", words.translate(_ENTITIES))
    words = _LINKING.sub(rf"\g<0>{_APART}", words)
    return _BEGINNING.sub(r"\1\\\2", words)


def code(text: str) -> str:
    """`text` on one line as inline code, even if it contains backticks."""
    words = one_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", words)), default=0))
    space = " " if "`" in words else ""
    return f"{fence}{space}{words}{space}{fence}"


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of Markdown cells: the first column is aligned to the left, the others to the right."""
    lines = [line(heads), f"|---|{'--:|' * (len(heads) - 1)}", *map(line, rows)]
    return "\n".join(lines) + "\n"


def line(cells: Iterable[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"
