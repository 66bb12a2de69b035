"""kill -9 of the process that has started a command, as execbench does: does anything outlive it?

`python -m harness.evidence.faults.parent_kill` is that process. It reads an arm and the path of a log as a
line of JSON from stdin, starts the command, prints where it is, and waits until stdin closes.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from harness.errors import HarnessError, from_child, to_parent
from harness.evidence.faults import asking, command_site
from harness.evidence.faults.command_site import CommandSite
from harness.evidence.faults.records import FaultRow, Observation, make_row
from harness.evidence.faults.site import LOG, ORPHANS_END_WITHIN_S, Pace, until
from harness.plans.arm import Arm
from harness.run import command_server
from harness.run.supervisor import MARK, Supervisor
from harness.system import children
from harness.wire.load_options import LoadOptions

_ENDS_WITHIN_S = 30.0
_IN_FLIGHT_AFTER_S = 0.1


def run(name: str, arm: Arm, request: LoadOptions, pace: Pace, folder: Path) -> FaultRow:
    """Try it and return the row. Raises HarnessError if the command does not start or answer well."""
    parent = children.start(
        children.python(__spec__.name),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        process_group=0,  # Ctrl-C ends it by its stdin, after what it has started
        text=True,
    )
    try:
        where = _started(parent, arm, folder)
        family = psutil.Process(parent.pid).children(recursive=True)
        orphans, observed = asyncio.run(_kill(parent, arm, where, request, pace, family))
    finally:
        _end(parent)
    for orphan in orphans:
        with suppress(psutil.NoSuchProcess):
            orphan.kill()
    return make_row(name, arm.name, observed, orphans=len(orphans))


def _started(parent: subprocess.Popen[str], arm: Arm, folder: Path) -> dict[str, Any]:
    assert parent.stdin is not None
    assert parent.stdout is not None
    with suppress(BrokenPipeError):
        parent.stdin.write(json.dumps({"arm": arm.model_dump(mode="json"), "log": str(folder / LOG)}) + "\n")
        parent.stdin.flush()
    answer = json.loads(parent.stdout.readline() or "{}")
    if "what" in answer:
        raise from_child(answer)
    if "url" not in answer:
        raise HarnessError("The process that starts the command has ended.", stage="faults")
    return dict(answer)


async def _kill(
    parent: subprocess.Popen[str],
    arm: Arm,
    where: dict[str, Any],
    request: LoadOptions,
    pace: Pace,
    family: list[psutil.Process],
) -> tuple[list[psutil.Process], Observation]:
    """Kill the parent with requests in flight; return what still runs after 2 s, and the observation."""
    async with command_site.session() as client:
        site = CommandSite(arm, where["url"], where["pid"], client, asking.of(request.at(where["url"])), pace)
        await site.check_answer()
        burst = site.burst(command_site.USERS)
        await asyncio.sleep(_IN_FLIGHT_AFTER_S)
        began = site.kill(parent.pid)
        parent.wait()
        await until(lambda: not left(family, where["mark"]), ORPHANS_END_WITHIN_S)
        remaining = left(family, where["mark"])
        took = time.monotonic() - began
        for one in burst:
            one.answer.cancel()
        await asyncio.wait([one.answer for one in burst])
    return remaining, Observation("ended", notes=() if remaining else (f"all had ended after {took:.1f} s",))


def left(family: list[psutil.Process], mark: str) -> list[psutil.Process]:
    """Those of the family that run, and every process that was started with this mark."""
    marked = [one for one in psutil.process_iter() if _has(one, mark)]
    return [one for one in {*family, *marked} if command_site.runs(one)]


def _has(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK) == mark
    except (psutil.Error, OSError):
        return False  # it has ended, or belongs to another user


def _end(parent: subprocess.Popen[str]) -> None:
    """Let it stop the command, if it still runs, and reap it."""
    with suppress(OSError, subprocess.TimeoutExpired):
        parent.communicate(timeout=_ENDS_WITHIN_S)
    parent.kill()
    parent.wait()


def _report(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    given = json.loads(sys.stdin.readline())
    arm = Arm.model_validate(given["arm"])
    try:
        with (
            Supervisor() as supervisor,
            command_server.start(arm, supervisor, log=Path(given["log"])) as server,
        ):
            server.wait_ready()
            _report({"url": server.url, "pid": server.pid, "mark": supervisor.mark})
            sys.stdin.read()
    except HarnessError as error:
        _report(to_parent(error))


if __name__ == "__main__":
    main()
