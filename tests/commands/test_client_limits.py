"""Commands against a server that is faster than the load generator, against a slow one, and without files."""

from __future__ import annotations

import csv
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from conftest import Execbench
from known_server import after, answering

SLOW_MS = 100.0
SHORT = ("--blocks", "1", "--duration", "0.3", "--no-self-check")
BOUND = (
    "These figures are bounds: the server may do better. To measure the server, send fewer requests a second"
)

QUICK = """
import asyncio
OK = b"HTTP/1.1 200 X\\r\\nContent-Length: 2\\r\\n\\r\\nok"
class Answer(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data): self.transport.write(OK)
async def serve():
    server = await asyncio.get_running_loop().create_server(Answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()
asyncio.run(serve())
"""


@contextmanager
def quick_server() -> Iterator[str]:
    """A server in its own process that answers in less time than the load generator takes for a request."""
    with subprocess.Popen([sys.executable, "-c", QUICK], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/"
        finally:
            process.kill()


def words(text: str) -> str:
    return " ".join(text.split())


def shown(done: subprocess.CompletedProcess[str]) -> tuple[bool, list[str]]:
    """Whether the only figures are bounds, and the warnings about the client."""
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    (row,) = document["summary"]
    return row["client_limited"], [text for text in document["warnings"] if "the client:" in text]


@pytest.mark.timed
def test_each_command_says_that_a_faster_server_is_not_what_it_measured(execbench: Execbench) -> None:
    with quick_server() as url:
        load = execbench("load", url, "-c", "32", "--duration", "0.5", "--json")
        run = execbench("run", "--url", f"quick={url}", "-c", "32", *SHORT, "--json", "--out", "run")
    for done, arm in ((load, "server"), (run, "quick")):
        limited, (warning,) = shown(done)
        assert limited
        assert warning.startswith(f"Limited by the client: {arm} at c = 32, because the load generator ")
        assert BOUND in warning


@pytest.mark.timed
def test_a_server_that_is_slower_than_the_client_is_what_was_measured(execbench: Execbench) -> None:
    with answering(after(SLOW_MS)) as server:
        run = execbench("run", "--url", f"slow={server.url}", "-c", "8", *SHORT, "--json", "--out", "run")
    assert shown(run) == (False, [])


@pytest.mark.integration
def test_a_limit_of_open_files_is_named_with_a_way_out_and_not_charged_to_the_server(
    execbench: Execbench,
) -> None:
    few = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (80, 80))
    with answering(after(SLOW_MS)) as server:
        load = ("load", server.url, "-c", "100", "--requests", "100", "--out", "out")
        process = execbench.start(*load, preexec_fn=few)
        stdout, stderr = process.communicate(timeout=60)
    (trial,) = csv.DictReader((execbench.folder / "out" / "trials.csv").read_text().splitlines())
    assert (process.returncode, trial["state"]) == (1, "invalid")
    assert "No trial counts" in stdout
    assert "the load generator ran out of open files (at most 80), so" in words(stderr)
    assert "raise the limit (ulimit -n), or send fewer requests at the same time" in words(stderr)
