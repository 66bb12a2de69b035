"""What a page consists of: plain data, ready to be written."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple


class Table(NamedTuple):
    """Cells as they are shown. The first `words` columns are words, the others figures."""

    heads: list[str]
    rows: list[list[str]]
    words: int = 1


class Panel(NamedTuple):
    """One drawing of a picture, with what it is about."""

    caption: str
    svg: str


class Key(NamedTuple):
    """An entry of a legend: its mark as <svg>, and its name."""

    svg: str
    name: str


@dataclasses.dataclass(frozen=True)
class Picture:
    """A chart of one or more panels. `title` is the finding; `alt` says in words what the picture shows."""

    title: str
    alt: str
    panels: list[Panel]
    table: Table
    keys: list[Key] = dataclasses.field(default_factory=list)
    note: str = ""


class Tile(NamedTuple):
    """A fact about how far to trust the figures; `state` is good, fair, bad, or "" for unknown."""

    name: str
    value: str
    detail: str
    state: str = ""


class Term(NamedTuple):
    word: str
    meaning: str


class Reason(NamedTuple):
    """A sentence of the page's beginning, and the section that shows it."""

    sentence: str
    anchor: str


class Link(NamedTuple):
    name: str
    href: str  # relative to the page
    about: str


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page below its heading; `anchor` is the id to link to."""

    anchor: str
    heading: str
    pictures: list[Picture] = dataclasses.field(default_factory=list)
    tables: list[Table] = dataclasses.field(default_factory=list)
    lines: list[str] = dataclasses.field(default_factory=list)
    facts: list[Term] = dataclasses.field(default_factory=list)  # name and value
    links: list[Link] = dataclasses.field(default_factory=list)
    command: str = ""
    command_about: str = "To go on, run:"
    terms: list[Term] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Page:
    """A whole page. `take` is the arm to take, "" for none."""

    title: str
    about: str  # what was run, on one line
    answer: str
    take: str
    how: str  # the setting that makes a server this arm, "" if its name says it
    reasons: list[Reason]
    tiles: list[Tile]
    warnings: list[str]
    notes: list[str]
    sections: list[Section]
