"""Studies as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table: the first column is text, the others are aligned to the right."""
    lines = [_line(heads), f"|---|{'--:|' * (len(heads) - 1)}", *map(_line, rows)]
    return "\n".join(lines) + "\n"


def percent(share: float, digits: int = 1) -> str:
    """0.034 → "3.4 %"."""
    return f"{100 * share:.{digits}f} %"


def _line(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"
