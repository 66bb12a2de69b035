"""`execbench list`."""

from __future__ import annotations

from typing import Any

from harness.commands import flags
from harness.terminal import console, print_json


def list_(as_json: flags.AsJson = False) -> None:
    """Show strategies, workloads and plans, each in a line."""
    import strategies
    from harness import plans, workloads

    said = {
        "Strategies": [(name, strategies.get(name).SUMMARY) for name in strategies.NAMES],
        "… when every worker is busy": [(name, strategies.get(name).WHEN_FULL) for name in strategies.NAMES],
        "Workloads": [(name, workloads.summary(name)) for name in workloads.NAMES],
        "Plans": [(name, plans.load(name).summary) for name in plans.names()],
    }
    if as_json:
        print_json({title.strip("… "): dict(entries) for title, entries in said.items()})
        return
    for title, entries in said.items():
        console().print(_table(title, entries))


def _table(title: str, entries: list[tuple[str, str]]) -> Any:
    from rich.table import Table

    table = Table(title=f"\n{title}", title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column(no_wrap=True, min_width=12)
    table.add_column()
    for name, summary in entries:
        table.add_row(name, summary)
    table.show_header = False
    return table
