"""How commands parse flags and print help. Help is plain text, so brackets and colons stay as written."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand

from harness.errors import UsageError
from harness.wire.panel import Panel

HELP_WIDTH = 100
_WIDEST_FLAG = 34
_REST = "Other"
_HELP_WITH_DEFAULTS = "Show this message and exit. Values in [brackets] are defaults."
CONTEXT = {"max_content_width": HELP_WIDTH, "help_option_names": ["--help", "-h"]}


class Command(TyperCommand):
    """A command that lists its flags in panels, and refuses a flag given twice unless it is repeatable."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:  # completion, of an unfinished line
            self._refuse_twice(ctx, args)
        return super().parse_args(ctx, args)

    def _refuse_twice(self, ctx: Any, args: list[str]) -> None:
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        times = Counter(id(one) for one in order)
        for one in order:
            is_single = one.param_type_name == "option" and not getattr(one, "multiple", False)
            if is_single and times[id(one)] > 1:
                raise UsageError(
                    f"{_long_forms(one)} is given twice, but takes one value.",
                    stage="flags",
                    hint=_way_to_compare(one.opts),
                )

    def sections(self, ctx: Any) -> dict[str, list[tuple[str, str]]]:
        """Return title → rows of an argument or flag and its help: arguments, then the panels in order."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": []}
        sections |= {str(panel): [] for panel in Panel if panel is not Panel.OUTPUT}
        for one in self.get_params(ctx):
            record = one.get_help_record(ctx)
            if record is not None:
                is_argument = one.param_type_name == "argument"
                first = one.metavar or one.name if is_argument else record[0]
                record = (str(first), str(getattr(one, "help", "")))  # without typer's defaults and ranges
                panel = "Arguments" if is_argument else getattr(one, "rich_help_panel", None) or _REST
                sections.setdefault(str(panel), []).append(record)
        for last in (Panel.OUTPUT, _REST):  # after panels that only one command has
            sections[last] = sections.pop(last, [])
        return {title: rows for title, rows in sections.items() if rows}

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write one section for each panel, all with the same width of the first column."""
        sections = self.sections(ctx)
        widest = max(len(first) for rows in sections.values() for first, _ in rows)
        if any(" [" in second for rows in sections.values() for _, second in rows):
            sections[_REST][-1] = (sections[_REST][-1][0], _HELP_WITH_DEFAULTS)
        for title, rows in sections.items():
            with formatter.section(title):
                width = min(widest, _WIDEST_FLAG)
                formatter.write_dl([(first.ljust(width), help_) for first, help_ in rows], _WIDEST_FLAG)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - click's signature
        """Write the examples as they are, each on a line."""
        if self.epilog:
            with formatter.section("Examples"):
                for line in self.epilog.splitlines():
                    formatter.write(f"  {line}\n")


def _long_forms(one: Any) -> str:
    return " or ".join(flag for flag in (*one.opts, *one.secondary_opts) if flag.startswith("--"))


def _way_to_compare(flags: list[str]) -> str:
    """How to compare several values of the setting with this flag, if arms may differ in it."""
    from harness.plans import settings

    for one in settings.of_arms().values():
        if one.flag in flags:
            return settings.in_sweep(one, "…")
    return ""


def made(function: Callable[..., None], name: str) -> Any:
    """Return the command of a function; its module may have EXAMPLES."""
    examples = getattr(sys.modules[function.__module__], "EXAMPLES", ())
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(name, cls=Command, epilog="\n".join(examples), context_settings=CONTEXT)(function)
    return typer.main.get_command(app)
