"""The command of an arm as it is started: its placeholders filled on this machine, in this folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import harness
from harness.plans.arm import Arm
from harness.wire import server_command
from harness.workloads import embed

PEERS = Path(".venv-peers")  # holds an environment for each peer, in the current folder


class Resolved(NamedTuple):
    """What is started."""

    words: tuple[str, ...]
    cwd: str | None  # None: the current folder
    env: dict[str, str]  # added to the environment of the run


def resolved(arm: Arm, **values: object) -> Resolved:
    """Fill the placeholders of an arm's command, folder and variables; `values` add to those known here.

    A program given by its path is looked up from the current folder, also if the command has a folder.
    """
    assert arm.command is not None
    texts = arm.model_dump(include={"command", "cwd", "env"})
    filled = server_command.with_values(texts, {**_known(server_command.templates(texts)), **values})
    program, *rest = filled["command"]
    if "/" in program:
        program = str(Path(program).expanduser().absolute())
    cwd = None if filled["cwd"] is None else str(Path(filled["cwd"]).expanduser().absolute())
    return Resolved((program, *rest), cwd, filled["env"])


def _known(texts: list[str]) -> dict[str, object]:
    known: dict[str, object] = {
        "python": sys.executable,
        "bin": Path(sys.executable).parent,
        "data": Path(harness.__file__).parent / "data",
        "peers": PEERS.absolute(),
    }
    if "weights" in server_command.placeholders(texts):
        known["weights"] = embed.default_weights()
    return known
