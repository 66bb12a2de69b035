"""Runs the commands of README's "Your own service" in order and in one folder, as a reader would."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from conftest import CHECKOUT, Execbench, wait_for

from harness.results import store

pytestmark = pytest.mark.integration

SECTION = (CHECKOUT / "README.md").read_text().split("## Your own service\n")[1].split("\n## ")[0]
(APP,) = re.findall(r"^```python\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)
LINES = [
    line.split("  #")[0].strip()
    for block in re.findall(r"^```console\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
COMMANDS = [line.removeprefix("execbench ") for line in LINES if line.startswith("execbench ")]
SERVERS = [line.removesuffix("&") for line in LINES if line.endswith("&")]
FILES = [line for line in LINES if not line.startswith("execbench ") and not line.endswith("&")]

ONE_BLOCK = ["--blocks", "1", "--duration", "0.3", "--no-self-check"]
SHORTER = {
    "init": [],
    "run": ONE_BLOCK,
    "load": ["--requests", "20"],
    "sweep": ONE_BLOCK,
    "capacity": ["--blocks", "2", "--window", "0.5", "--search-window", "0.5", "--no-self-check"],
}
# The real model is loaded for the vectors and for one arm instead of five, with few vectors. It has one torch
# thread, because other tests run at the same time.
SHORTER_ON_THE_MODEL = [
    "--strategy",
    "thread",
    "--no-twin",
    "--blocks",
    "1",
    "--requests",
    "8",
    "-c",
    "2",
    "--io-rows",
    "200",
    "--torch-threads",
    "1",
    "--no-self-check",
]
ENDS_WITHIN_S = 170.0


@contextmanager
def serving(folder: Path, command: str, port: int) -> Iterator[None]:
    """Run the README's app, started by the README's command."""
    environment = {"PATH": "", "PYTHONPATH": ""}  # without this checkout
    with (folder / "app.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *shlex.split(command)],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(lambda: _answers(port), 60)
        yield
    finally:
        process.terminate()
        process.wait(20)


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/", timeout=2).status_code == 404
    except httpx.HTTPError:
        return False


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def ports(shared: Execbench) -> Iterator[dict[str, str]]:
    """Create the README's files, start its servers on free ports, and map the README's ports to these."""
    (shared.folder / "embed.py").write_text(APP)
    (shared.folder / "harness").symlink_to(CHECKOUT / "harness")  # the README assumes the project's folder
    for line in FILES:
        subprocess.run(line, shell=True, check=True, cwd=shared.folder)
    (shared.folder / "harness").unlink()
    ports = {port: str(_free_port()) for port in re.findall(r"--port (\d+)", " ".join(SERVERS))}
    with ExitStack() as stack:
        for command, (written, port) in zip(SERVERS, ports.items(), strict=True):
            stack.enter_context(serving(shared.folder, command.replace(written, port), int(port)))
        yield ports


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, marks=pytest.mark.model if "article" in command else (), id=command)
        for command in COMMANDS
    ],
)
def test_each_command_in_the_readme_works(command: str, shared: Execbench, ports: dict[str, str]) -> None:
    words = shlex.split(re.sub(r"(?<=127\.0\.0\.1:)\d+", lambda found: ports[found[0]], command))
    before = _runs(shared.folder)
    shorter = SHORTER_ON_THE_MODEL if "article" in words else SHORTER[words[0]]
    done = shared(*words, *shorter, within_s=ENDS_WITHIN_S)
    assert done.returncode == 0, done.stdout + done.stderr
    (new,) = _runs(shared.folder) - before or {None}
    assert (new is None) == (words[0] == "init")
    if words[0] == "init":
        make_cheaper(shared.folder / "my_workload.py")
    if new is not None:
        assert "What to do" in done.stdout
        run = store.read(new)
        assert (run.requests["error"] == "").all()


@pytest.mark.quick
def test_the_section_shows_every_way_to_use_ones_own_code_or_service() -> None:
    every = " ".join(COMMANDS)
    for word in ("init", "--workload", "--payloads", "--io socket", "--io pgvector", "load", "--url"):
        assert word in every
    assert {command.split()[0] for command in COMMANDS} == set(SHORTER)


def make_cheaper(workload: Path) -> None:
    """Reduce the sentences of the file to an eighth; test_own_workload.py tests it with all of them."""
    text = workload.read_text()
    assert "itertools.product(_WHO, " in text
    workload.write_text(text.replace("itertools.product(_WHO, ", "itertools.product(_WHO[:1], "))


def _runs(folder: Path) -> set[Path | None]:
    results = folder / "results"
    return set(results.iterdir()) if results.exists() else set()
