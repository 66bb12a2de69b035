"""`execbench list`."""

from __future__ import annotations

import platform

from harness.commands import flags
from harness.commands.terminal import console, print_json

EXAMPLES = ("execbench list", "execbench list --json")


def list_(as_json: flags.AsJson = False) -> None:
    """Show strategies with their options, workloads, kinds of I/O and plans."""
    import strategies
    from harness import workloads
    from harness.plans import plan_files
    from harness.system.interpreter import has_interpreter_lock
    from harness.workloads.io import kinds

    every = {name: strategies.get(name) for name in strategies.NAMES}
    refusals = {name: strategy.why_not() for name, strategy in every.items()}
    lock = "without an interpreter lock: threads compute in parallel"
    if has_interpreter_lock():
        lock = "with an interpreter lock: threads take turns while the model holds it"
    sections = {
        "Strategies": [(name, strategy.SUMMARY) for name, strategy in every.items()],
        "Strategies, when every worker is busy": [
            (name, strategy.WHEN_FULL) for name, strategy in every.items()
        ],
        "Strategies, when a worker dies": [
            (name, strategy.WHEN_WORKER_DIES) for name, strategy in every.items()
        ],
        "Strategies, the options they take": [
            (name, ", ".join(sorted(strategy.TAKES)) or "none") for name, strategy in every.items()
        ],
        "Strategies that do not work here": [(name, why) for name, why in refusals.items() if why is not None]
        or [("none", "all strategies work here")],
        "Python": [(platform.python_version(), lock)],
        "Workloads": [(name, workloads.summary(name)) for name in (*workloads.NAMES, "FILE.py")],
        "I/O (--io)": kinds.summaries(),
        "Plans": [*plan_files.summaries().items()],
    }
    if as_json:
        print_json({title: dict(entries) for title, entries in sections.items()})
        return
    from rich.table import Column

    from harness.commands.screen import spaced

    for title, entries in sections.items():
        table = spaced(title, Column(no_wrap=True, min_width=12), "")
        table.show_header = False
        for entry in entries:
            table.add_row(*entry)
        console().print(table)
