"""All outcomes in one picture: a row per fault, a column per arm, as an SVG with a text alternative.

Colour, sign and word of a cell all show its grade, so that no reader depends on colour. The picture has its
own background and a second set of colours for dark screens.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from harness.evidence.faults.records import FaultRow

CELL_WIDTH, ROW_HEIGHT = 58, 22  # px
LONGEST_WORDS = 9  # characters, with the sign, that fit into a cell in smaller letters, even in a wide font
_LABEL_WIDTH, _LINE_HEIGHT, _PAD = 148, 13, 8
_COLUMN_CHARS = 10  # of a line in a column's head
SINGULAR = {"strategies": "strategy", "servers": "server"}  # what arms are called


class Grade(NamedTuple):
    """How good an outcome is: the sign before each word, and the colours on light and dark screens."""

    name: str
    sign: str
    meaning: str
    light: tuple[str, str]  # background, text
    dark: tuple[str, str]


GOOD = Grade("good", "✓", "as it should be", ("#CFE6F5", "#0B3554"), ("#1B4A6B", "#E4F3FD"))
PARTLY = Grade("partly", "~", "with losses or delays", ("#FBE3AC", "#463200"), ("#6B4E00", "#FFF1CC"))
BAD = Grade("bad", "✗", "failed", ("#B83A24", "#FFFFFF"), ("#B83A24", "#FFFFFF"))
NONE = Grade("none", "–", "not tested", ("#E4E4E4", "#444444"), ("#3A3A3A", "#CFCFCF"))
GRADES = (GOOD, PARTLY, BAD, NONE)

LOOKS = {  # outcome → its grade, and a word that fits into a cell
    "unharmed": (GOOD, "ok"),
    "recovered": (PARTLY, "back"),
    "broken": (BAD, "broken"),
    "stuck": (BAD, "stuck"),
    "server died": (BAD, "died"),
    "refused to start": (GOOD, "refuses"),
    "started": (PARTLY, "started"),
    "skipped": (GOOD, "skipped"),
    "run anyway": (PARTLY, "ran"),
    "sheds": (GOOD, "sheds"),
    "piles up": (PARTLY, "queues"),
    "answered": (GOOD, "served"),
    "lost": (BAD, "lost"),
    "ended": (GOOD, "ended"),
    "red": (GOOD, "red"),
    "stayed available": (GOOD, "up"),
    "green": (BAD, "green"),
    "orphans": (BAD, "orphans"),
    "not measured": (NONE, "failed"),
    "not available": (NONE, "absent"),
    "not applicable": (NONE, "n/a"),
}


def sign_and_word(outcome: str) -> str:
    """What a cell shows, such as "✗ broken"."""
    grade, word = LOOKS[outcome]
    return f"{grade.sign} {word}"


def alternative(rows: Sequence[FaultRow], arms_are: str = "strategies") -> str:
    """The picture in a few sentences, for people who cannot see it."""
    faults, arms = in_order(row.fault for row in rows), in_order(row.arm for row in rows)
    counts = [f"{arm}: {_counts([row for row in rows if row.arm == arm])}" for arm in arms]
    return f"Outcomes of {len(faults)} faults under {len(arms)} {arms_are}. {'; '.join(counts)}."


def svg(rows: Sequence[FaultRow], arms_are: str = "strategies") -> str:
    """Draw the picture. Each cell names its fault, arm and outcome in full in its title.

    `arms_are`: what the text alternative calls the arms.
    """
    faults, arms = in_order(row.fault for row in rows), in_order(row.arm for row in rows)
    heads = [_broken(arm) for arm in arms]
    top = _PAD + ROW_HEIGHT + max(map(len, heads), default=0) * _LINE_HEIGHT + _PAD
    width = _LABEL_WIDTH + len(arms) * CELL_WIDTH + _PAD
    height = top + len(faults) * ROW_HEIGHT + _PAD
    lefts = {arm: _LABEL_WIDTH + number * CELL_WIDTH for number, arm in enumerate(arms)}
    tops = {fault: top + number * ROW_HEIGHT for number, fault in enumerate(faults)}
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-labelledby="title desc">',
        f'<title id="title">Outcome of each fault under each {SINGULAR[arms_are]}</title>',
        f'<desc id="desc">{escape(alternative(rows, arms_are))}</desc>',
        _style(),
        f'<rect class="paper" width="{width}" height="{height}" rx="4"/>',
        *_legend(),
        *(_head(head, lefts[arm], top) for arm, head in zip(arms, heads, strict=True)),
        *(_text("label", _LABEL_WIDTH - 6, tops[fault] + 15, fault) for fault in faults),
        *(_cell(row, lefts[row.arm], tops[row.fault]) for row in rows),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def in_order(names: Iterable[str]) -> list[str]:
    """The distinct names, in the order in which they first appear."""
    return list(dict.fromkeys(names))


def _counts(rows: Sequence[FaultRow]) -> str:
    """Such as "12 as it should be, 9 failed"."""
    found = Counter(LOOKS[row.outcome][0] for row in rows)
    return ", ".join(f"{found[grade]} {grade.meaning}" for grade in GRADES if found[grade])


def _style() -> str:
    fonts = "text { font: 11px system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif; }"
    light = {grade.name: grade.light for grade in GRADES}
    dark = {grade.name: grade.dark for grade in GRADES}
    return "\n".join(
        [
            "<style>",
            fonts,
            ".head { font-size: 10px; text-anchor: middle; } .label { text-anchor: end; }",
            ".word { text-anchor: middle; } .long { font-size: 10px; }",
            *_colours("#FFFFFF", "#1A1A1A", light),
            "@media (prefers-color-scheme: dark) {",
            *_colours("#16191D", "#E6E6E6", dark),
            "}",
            "</style>",
        ]
    )


def _colours(paper: str, ink: str, grades: dict[str, tuple[str, str]]) -> list[str]:
    cells = [
        f".{name} rect {{ fill: {back}; }} .{name} text {{ fill: {text}; }}"
        for name, (back, text) in grades.items()
    ]
    return [f".paper {{ fill: {paper}; }} .head, .label, .note {{ fill: {ink}; }}", *cells]


def _legend() -> list[str]:
    """A swatch with its sign for each grade, and what it means, in a line at the top."""
    lines, left = [], _LABEL_WIDTH
    for grade in GRADES:
        swatch = _box(left, _PAD, 22, grade.sign)
        lines += [f'<g class="{grade.name}">{swatch}</g>', _text("note", left + 27, _PAD + 14, grade.meaning)]
        left += 45 + 6 * len(grade.meaning)
    return lines


def _head(lines: Sequence[str], left: int, top: int) -> str:
    """The name of an arm above its column, its last line just above the first row."""
    first = top - 5 - (len(lines) - 1) * _LINE_HEIGHT
    middle = left + CELL_WIDTH / 2
    return "".join(
        _text("head", middle, first + number * _LINE_HEIGHT, line) for number, line in enumerate(lines)
    )


def _cell(row: FaultRow, left: int, top: int) -> str:
    grade, _ = LOOKS[row.outcome]
    full = escape(f"{row.fault}, {row.arm}: {row.outcome}")
    box = _box(left + 1, top + 1, CELL_WIDTH - 2, sign_and_word(row.outcome))
    return f'<g class="{grade.name}"><title>{full}</title>{box}</g>'


def _box(left: int, top: int, width: int, words: str) -> str:
    box = f'<rect x="{left}" y="{top}" width="{width}" height="{ROW_HEIGHT - 2}" rx="2"/>'
    size = "word long" if len(words) >= LONGEST_WORDS else "word"
    return box + _text(size, left + width / 2, top + 14, words)


def _text(name: str, left: float, baseline: float, text: str) -> str:
    return f'<text class="{name}" x="{left:g}" y="{baseline:g}">{escape(text)}</text>'


def _broken(name: str) -> list[str]:
    """The name in lines that fit above a column, broken after hyphens and underscores."""
    lines = [""]
    for piece in re.findall(r"[^-_]*[-_]?", name):
        if lines[-1] and len(lines[-1] + piece) > _COLUMN_CHARS:
            lines.append("")
        lines[-1] += piece
    return lines
