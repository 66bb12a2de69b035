"""`execbench peers`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.terminal import console, print_message
from harness.errors import HarnessError, UsageError, did_you_mean
from harness.wire.panel import Panel

if TYPE_CHECKING:
    from harness.evidence.peers.environments import Environment


EXAMPLES = ("execbench peers", "execbench peers litserve mosec", "execbench peers --list")


def peers(
    name: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Make only the environments of these peers. [all]"),
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="Show the peers; make nothing.", rich_help_panel=Panel.OUTPUT)
    ] = False,
) -> None:
    """Make the environments of the peers.

    Peers are LitServe, mosec, BentoML and Ray Serve, with a service each that runs the default model. Each
    gets an environment of 1.4 to 1.8 GB in the folder .venv-peers, in about a minute.
    """
    from harness.evidence.peers import environments

    wanted = _known(name or [], environments.names())
    if list_:
        for one in wanted:
            console().print(f"{one} ({'ready' if environments.is_ready(one) else 'not made'})")
        return
    failed = [one for one in _make(wanted) if one.state == "failed"]
    if failed:
        raise _failure(failed, total=len(wanted))


def _known(asked: list[str], known: list[str]) -> list[str]:
    """Return the peers that are asked for, or all. Raises UsageError for an unknown name."""
    for name in asked:
        if name not in known:
            raise UsageError(
                f"There is no peer {name!r}.",
                stage="peers",
                hint=did_you_mean(name, known, f"There are: {', '.join(known)}."),
            )
    return list(dict.fromkeys(asked)) or known


def _make(wanted: list[str]) -> list[Environment]:
    from harness.commands.progress import Progress
    from harness.evidence.peers.environments import make_all

    results = []
    with Progress(console(stderr=True)) as progress:
        for one in make_all(wanted, progress.stage):
            results.append(one)
            took = "was there already" if one.state == "there" else f"{one.state} in {one.seconds:.0f} s"
            print_message(f"{one.name}: {took}")
    return results


def _failure(failed: list[Environment], *, total: int) -> HarnessError:
    from harness.evidence.peers.environments import log_of

    lines = "\n".join(f"{one.name}:\n{one.why}" for one in failed)
    logs = ", ".join(str(Path(log_of(one.name))) for one in failed)
    others = " The other peers can run without." if len(failed) < total else ""
    return HarnessError(
        f"The environments of {len(failed)} of {total} peers could not be made: "
        f"{', '.join(one.name for one in failed)}.\n{lines}",
        stage="peers",
        hint=f"pip's whole output: {logs}.{others}",
    )
