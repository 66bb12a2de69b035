"""A rich console that shows every text as it is: no markup, no emoji codes, no hidden characters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

from harness.numbers import cell
from harness.system.printable import one_line, visible

if TYPE_CHECKING:
    import pandas as pd


class Screen(Console):
    """The console of all commands. No text from outside can control the terminal through it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """A plain string, also as a cell or a title of a table."""
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Called for each part of the output."""
        if isinstance(renderable, Text):
            renderable = _visible(renderable)
        return super().render(renderable, options)


def _visible(text: Text) -> Text:
    shown = visible(text.plain)
    if shown == text.plain:
        return text
    copy = text.copy()
    copy.plain = shown  # as long as before, so that styles keep their places
    return copy


def plain_table(*columns: Column | str) -> Table:
    """Without lines; its title is printed before it (`titled`)."""
    return Table(*columns, box=None, pad_edge=False, collapse_padding=True)


def titled(title: str, table: Table) -> Group:
    """The table below its title, which rich would break at the table's width, not at the terminal's."""
    return Group(Text(f"\n{title}", style="bold"), table)


def spaced(title: str, *columns: Column | str) -> Table:
    """Without lines, its columns further apart, its title as wide as the table."""
    return Table(
        *columns, title=f"\n{title}", title_justify="left", title_style="bold", box=None, pad_edge=False
    )


def folding(heading: str) -> Column:
    """Of names: broken anywhere rather than cut."""
    return Column(heading, overflow="fold")


def right(heading: str) -> Column:
    """Of figures: to the right, and never broken."""
    return Column(heading, justify="right", no_wrap=True)


def by_arm(title: str, table: pd.DataFrame, columns: Mapping[str, str]) -> RenderableType:
    """A line per row; the arm's name is only in its first line."""
    figures = {name: Column(name, justify="right", no_wrap=True, overflow="fold") for name in columns}
    heads = figures | {"load": folding("load")} if "load" in columns else figures
    shown = plain_table(folding("arm"), *heads.values())
    last = None
    for row in table.to_dict("records"):
        arm = one_line(str(row["arm"]))
        shown.add_row("" if arm == last else arm, *(cell(row[key]) for key in columns.values()))
        last = arm
    return titled(title, shown)
