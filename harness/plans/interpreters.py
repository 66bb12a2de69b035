"""Whether the Python of an arm can run its server, asked in that Python before anything starts."""

from __future__ import annotations

import functools
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from harness import workloads
from harness.errors import UsageError, shortened
from harness.plans.arm import Arm
from harness.system import children
from harness.wire.options import WorkloadOptions
from harness.workloads.io import kinds

OLDEST = (3, 11)
ANSWERS_WITHIN_S = 30.0  # a cold disk is slow
# what `harness.server` imports, as pyproject.toml requires it
SERVER_PACKAGES = ("fastapi>=0.115", "uvicorn>=0.54", "pydantic>=2.10")
OF_PARSER = {"httptools": ("httptools>=0.6",), "h11": ()}  # uvicorn brings h11
OF_LOOP = {"asyncio": (), "uvloop": ("uvloop>=0.21",)}

_VERSION = re.compile(r"Python (\d+)\.(\d+)")
_STAGE = "plan"
_SAY_VERSIONS = """
import importlib.metadata, json, platform, sys
found = {one.metadata["Name"].lower(): one.version for one in importlib.metadata.distributions()}
versions = {name: found[name.lower()] for name in sys.argv[1:] if name.lower() in found}
about = {"python": platform.python_version(), "implementation": platform.python_implementation()}
print(json.dumps({**about, "packages": versions}))
"""


class _Found(NamedTuple):
    versions: Mapping[str, str | None]  # distribution → version; None: not installed
    refusals: Mapping[str, str | None]  # strategy → why it cannot work there; None: it can


def check(arms: Iterable[Arm], workload: WorkloadOptions) -> None:
    """Raise UsageError unless each arm's Python exists, is new enough and has what the arm's server needs.

    Every such Python is started twice and asked, for a moment; that of execbench is not.
    """
    for arm in arms:
        if arm.python is not None:
            _check(arm, arm.python, arm.own_workload(workload))


def what_is_missing(arm: Arm, workload: WorkloadOptions) -> str:
    """Say in a clause why the arm's Python cannot run its server; "" if it can."""
    try:
        check([arm], workload)
    except UsageError as error:
        return error.clause
    except ValidationError:  # `plan_checks.check_workload` reports it
        pass
    return ""


def environment_of(program: str, packages: Iterable[str]) -> dict[str, Any] | None:
    """The Python in the folder of a command's program, and the versions of these packages there.

    None if there is no Python in that folder, or it does not answer.
    """
    python = Path(shutil.which(program) or program).parent / "python"
    if not python.exists():
        return None
    try:
        answer = json.loads(_ran((str(python), "-c", _SAY_VERSIONS, *packages)))
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return answer if isinstance(answer, dict) else None


def _check(arm: Arm, python: str, workload: WorkloadOptions) -> None:
    whose = f"The Python of arm {arm.name!r}, {shortened(python, 200)},"
    _refuse_unusable(whose, python)
    needed = [
        *(*SERVER_PACKAGES, *OF_PARSER[arm.http_parser], *OF_LOOP[arm.event_loop]),
        *(*workloads.packages(workload), *kinds.packages(workload)),
    ]
    found = _asked(whose, python, tuple(sorted({_name(one) for one in needed})))
    lacking = [one for one in needed if not _satisfies(found.versions.get(_name(one)), one)]
    if lacking:
        have = [f"{_name(one)} {found.versions[_name(one)]}" for one in lacking if found.versions[_name(one)]]
        instead = f" (it has {', '.join(have)})" if have else ""
        raise UsageError(
            f"{whose} lacks {', '.join(lacking)}{instead}.",
            stage=_STAGE,
            hint=f"Install them there: {shlex.join([python, '-m', 'pip', 'install', *lacking])}",
        )
    for name in arm.strategies_used:
        if why := found.refusals.get(name):
            raise UsageError(
                f"{whose} cannot run the strategy {name!r}: {why}.",
                stage=_STAGE,
                hint=f"Install it there, with {shlex.join([python, '-m', 'pip'])}, or leave the arm out.",
            )


def _refuse_unusable(whose: str, python: str) -> None:
    """Raise UsageError unless this is a Python that is new enough."""
    where = "Give the path of an interpreter, such as .venv/bin/python, or of a virtual environment."
    if not Path(python).exists():
        raise UsageError(f"{whose} does not exist.", stage=_STAGE, hint=where)
    if Path(python).is_dir():
        raise UsageError(f"{whose} is a folder without bin/python.", stage=_STAGE, hint=where)
    answer = _output(whose, [python, "-V"], where)  # asked first, so that no other program gets a script
    found = _VERSION.match(answer)
    if found is None:
        words = f": -V answers {shortened(answer.strip())!r}" if answer.strip() else ""
        raise UsageError(f"{whose} is not a Python interpreter{words}.", stage=_STAGE, hint=where)
    version = (int(found[1]), int(found[2]))
    if version < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise UsageError(
            f"{whose} is Python {version[0]}.{version[1]}; the server needs {oldest} or later.",
            stage=_STAGE,
            hint=f"Make an environment with a later Python: python{oldest} -m venv FOLDER",
        )


def _asked(whose: str, python: str, names: tuple[str, ...]) -> _Found:
    try_it = f"Try it: {shlex.join([python, '-c', 'import fastapi, uvicorn'])}"
    output = _output(whose, children.python("harness.plans.probe", *names, interpreter=python), try_it)
    try:
        answer = json.loads(output.splitlines()[-1])
        return _Found(answer["versions"], answer["refusals"])
    except (IndexError, ValueError, KeyError, TypeError) as error:
        last = shortened(output.strip().splitlines()[-1]) if output.strip() else "no output"
        raise UsageError(f"{whose} does not work: {last}.", stage=_STAGE, hint=try_it) from error


def _output(whose: str, command: list[str], hint: str) -> str:
    """What the command prints on either stream. Raises UsageError if it cannot be started or hangs."""
    try:
        return _ran(tuple(command))
    except subprocess.TimeoutExpired as error:
        why = f"does not answer within {ANSWERS_WITHIN_S:.0f} s"
        raise UsageError(f"{whose} {why}.", stage=_STAGE, hint=hint) from error
    except OSError as error:
        why = f"cannot be started: {error.strerror or error}"
        raise UsageError(f"{whose} {why}.", stage=_STAGE, hint=hint) from error


@functools.cache  # a plan is made more than once in a command
def _ran(command: tuple[str, ...]) -> str:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=children.environment_of(command[0]),
        timeout=ANSWERS_WITHIN_S,
        check=False,
    )
    return done.stdout.decode(errors="replace")


def _name(requirement: str) -> str:
    return requirement.partition(">=")[0]


def _satisfies(version: str | None, requirement: str) -> bool:
    least = requirement.partition(">=")[2]
    return version is not None and _numbers(version) >= _numbers(least)


def _numbers(version: str) -> list[int]:
    """The release of a version as numbers: "2.13.0+cpu" → [2, 13, 0]."""
    release = re.match(r"\d+(?:\.\d+)*", version)
    return [int(number) for number in release[0].split(".")] if release else []
