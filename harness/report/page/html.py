"""A page as one HTML file: no script, no request to anywhere."""

from __future__ import annotations

from functools import cache
from importlib import resources

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from harness.report.page.parts import Page, Table
from harness.system.printable import visible

MOST_ROWS = 400  # of a table; the CSV has all


def render(page: Page) -> str:
    """The file's text. Every text of the page is escaped; only the drawings are markup."""
    return _template().render(page=page, css=Markup(_text("page.css")))  # noqa: S704 - our own file


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"drawing": Markup, "shown": visible, "kept": _kept, "number": _number}
    return environment.from_string(_text("page.html"))


def _text(name: str) -> str:
    return (resources.files("harness.report.page") / name).read_text(encoding="utf-8")


def _kept(table: Table) -> list[list[str]]:
    return table.rows[:MOST_ROWS]


def _number(number: int) -> str:
    return f"{number:,}"
