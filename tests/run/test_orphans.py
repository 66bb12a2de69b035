"""No process of a run survives SIGKILL of any one of its processes, or of any two at once.

Four pairs are tried here; `EXECBENCH_ALL_PAIRS=1` tries all, under both strategies that have workers.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable

import psutil
import pytest
from conftest import Execbench, wait_for

pytestmark = pytest.mark.integration

FIND: dict[str, Callable[[Execbench], list[psutil.Process]]] = {
    "cli": lambda run: run.processes("harness.cli"),
    "keeper": lambda run: run.processes("harness.run.supervisor")[:1],
    "other keeper": lambda run: run.processes("harness.run.supervisor")[1:],
    "generator": lambda run: run.processes("harness.client"),
    "server": lambda run: run.processes("harness.server"),
    "worker": lambda run: having(run, "spawn_main"),
    "tracker": lambda run: having(run, "resource_tracker"),
    "service": lambda run: run.processes("harness.workloads.io.socket"),
    "service's keeper": lambda run: run.processes("harness.workloads.io.keeper"),
}
HARD = [
    ("process", ("cli", "keeper")),
    ("process", ("keeper", "server")),
    ("supervised", ("cli", "server")),
    ("supervised", ("cli", "generator")),
]
SETS = [*[(role,) for role in FIND], *itertools.combinations(FIND, 2)]
ALL = list(itertools.product(("process", "supervised"), SETS))
CASES = ALL if os.environ.get("EXECBENCH_ALL_PAIRS") else HARD
LONG = ("--workload", "synthetic", "--service-ms", "2", "--duration", "60", "--blocks", "9", "--out", "run")


def having(run: Execbench, word: str) -> list[psutil.Process]:
    return [process for process in run.processes() if word in " ".join(process.cmdline())]


@pytest.mark.parametrize(("strategy", "killed"), CASES, ids=str)
def test_a_run_whose_processes_are_killed_leaves_nothing_running(
    execbench: Execbench, strategy: str, killed: tuple[str, ...]
) -> None:
    io = ("--io", "socket:1ms") if CASES is ALL else ("--io-ms", "1")
    process = execbench.start("run", "--no-self-check", "--strategy", strategy, "-c", "2", *LONG, *io)
    stderr = process.stderr
    assert stderr is not None
    wait_for(lambda: "trial 1/" in stderr.readline(), 60)
    victims = [victim for role in killed for victim in FIND[role](execbench)]
    assert len(victims) >= len(killed)
    for victim in victims:
        victim.kill()
    if "cli" not in killed:
        process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    execbench.assert_nothing_is_left(within_s=10)
