"""`execbench list`."""

from __future__ import annotations

import platform
from typing import Any

from harness.commands import flags
from harness.commands.terminal import console, print_json


def list_(as_json: flags.AsJson = False) -> None:
    """Show strategies, workloads and plans, each in a line."""
    import strategies
    from harness import environment, workloads
    from harness.plans import plan_files
    from harness.workloads.io import kinds

    every = {name: strategies.get(name) for name in strategies.NAMES}
    refusals = {name: strategy.why_not() for name, strategy in every.items()}
    said = {
        "Strategies": [(name, strategy.SUMMARY) for name, strategy in every.items()],
        "… when every worker is busy": [(name, strategy.WHEN_FULL) for name, strategy in every.items()],
        "… when a worker dies": [(name, strategy.WHEN_WORKER_DIES) for name, strategy in every.items()],
        "… the options they take": [
            (name, ", ".join(sorted(strategy.TAKES)) or "none") for name, strategy in every.items()
        ],
        "… that cannot work here": [(name, why) for name, why in refusals.items() if why is not None],
        "Python": [(platform.python_version(), _lock(with_lock=environment.has_interpreter_lock()))],
        "Workloads": [(name, workloads.summary(name)) for name in (*workloads.NAMES, "FILE.py")],
        "I/O (--io)": kinds.summaries(),
        "Plans": [(name, plan_files.load(name).summary) for name in plan_files.names()],
    }
    if as_json:
        print_json({title.strip("… "): dict(entries) for title, entries in said.items()})
        return
    for title, entries in said.items():
        console().print(_table(title, entries))


def _lock(*, with_lock: bool) -> str:
    if with_lock:
        return "with an interpreter lock: threads take turns wherever the model holds it"
    return "without an interpreter lock: threads compute at once"


def _table(title: str, entries: list[tuple[str, str]]) -> Any:
    from rich.table import Table

    table = Table(title=f"\n{title}", title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column(no_wrap=True, min_width=12)
    table.add_column()
    for name, summary in entries:
        table.add_row(name, summary)
    table.show_header = False
    return table
