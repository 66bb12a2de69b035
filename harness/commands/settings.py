"""`execbench settings`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from harness.wire.panel import Panel

if TYPE_CHECKING:
    from harness.plans.settings import Known

EXAMPLES = ("execbench settings", "execbench settings > settings.md")
_TABLES = {"plan": "", "arm": "[[arms]]", "options": "[[arms]] options", "capacity": "capacity"}


def settings() -> None:
    """Show all settings, with key in plan files, flag, default and meaning, as Markdown."""
    for line in _page():
        typer.echo(line)


def _page() -> Iterator[str]:
    from harness.capacity.walk import WalkSettings
    from harness.plans import settings

    yield "# Settings"
    yield ""
    yield "Each setting is a key of a plan file (TOML), and many have a flag. The column *table* names the"
    yield "table of the key; without one, the key is at the top level. Arms may differ in the settings marked"
    yield "✓: in `--strategy NAME:key=value`, in `[[arms]]` with its tables `options` and `workload`, and as"
    yield "axes of `execbench sweep --over`."
    yield ""
    yield "`execbench settings` writes this page."
    known = [one for one in settings.every() if not one.setting.hidden]
    known += settings.declared_in(WalkSettings, "capacity")
    for panel in Panel:
        rows = [one for one in known if one.setting.panel is panel]
        if rows:
            yield from ("", f"## {panel}", "")
            yield "| key | table | flag | default | arms | meaning |"
            yield "|---|---|---|---|---|---|"
            yield from map(_row, rows)


def _required(one: Known) -> str:
    return "required" if one.field.is_required() else ""


def _row(one: Known) -> str:
    import strategies
    from harness.plans import settings

    meaning = one.meaning
    if one.section == settings.OPTIONS:
        takers = [name for name in strategies.NAMES if one.name in strategies.get(name).TAKES]
        meaning = f"{', '.join(takers)}: {meaning}"
    flag = ", ".join(f"`{flag}`" for flag in reversed(one.flags))
    varies = "✓" if settings.of_arms().get(one.name) == one else ""
    table = _TABLES.get(one.section, f"[{one.section}]")
    cells = (
        f"`{one.name}`",
        table and f"`{table}`",
        flag,
        one.shown_default or _required(one),
        varies,
        meaning,
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
