"""The page of all commands, from the same objects that parse them and print their help."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Any

WIDTH = 118  # of a line of the page


def lines(group: Any) -> Iterator[str]:
    """The page as lines of Markdown. `group` is the command `execbench` itself."""
    root = group.make_context("execbench", [], resilient_parsing=True)
    names = group.list_commands(root)
    yield "# Commands"
    yield ""
    yield "`execbench COMMAND --help` prints the same in a terminal. Values in [brackets] are defaults."
    yield ""
    yield "`execbench reference commands` writes this page."
    yield ""
    yield "| command | does |"
    yield "|---|---|"
    for name in names:
        first, *_ = _paragraphs(group.get_command(root, name).help)
        yield f"| [{name}](#execbench-{name}) | {literal(first)} |"
    yield from ("", "Flags of `execbench` itself, before the command:", "")
    yield from _table(
        [(record[0], record[1]) for one in group.params if (record := one.get_help_record(root))]
    )
    for name in names:
        yield from _command(group.get_command(root, name), root, name)


def _command(command: Any, root: Any, name: str) -> Iterator[str]:
    context = command.make_context(name, [], parent=root, resilient_parsing=True)
    yield from ("", f"## execbench {name}", "")
    yield "```text"
    yield " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield "```"
    for paragraph in _paragraphs(command.help):
        yield from ("", *wrapped(paragraph))
    yield from ("", "```sh", *str(command.epilog or "").splitlines(), "```")
    for title, rows in command.sections(context).items():
        shown = [row for row in rows if "--help" not in row[0]]
        if shown:
            yield from ("", f"**{title}**", "")  # no heading: it would be in the page's contents many times
            yield from _table(shown)


def _table(rows: list[tuple[str, str]]) -> Iterator[str]:
    yield "| flag or argument | meaning |"
    yield "|---|---|"
    for first, meaning in rows:
        yield f"| {literal(f'`{first}`')} | {literal(meaning)} |"


def _paragraphs(text: str | None) -> list[str]:
    """The paragraphs of a command's help, each on one line."""
    return [" ".join(one.split()) for one in re.split(r"\n\s*\n", text or "")]


def wrapped(text: str) -> list[str]:
    """The lines of a paragraph."""
    return textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def literal(text: str) -> str:
    """The text with what Markdown would read as its own made literal, except for code in backticks."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([<>*\[\]])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts).replace("|", "\\|")  # a table's cell ends at |, also in code
