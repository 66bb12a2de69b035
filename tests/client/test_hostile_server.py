"""The load generator against a hostile server: every request is a row, in bounded time and memory."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import threading
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hostile_server
import httpx
import pytest
import running
from conftest import Execbench
from hostile_server import (
    BAD_ANSWERS,
    BROKEN,
    ENDLESS,
    FLOODS,
    GOOD_ANSWERS,
    LONG_HEADS,
    TOO_LONG,
    HostileServer,
)
from known_server import fire_here

from harness import workloads
from harness.client.http_client import create_transport
from harness.results import store
from harness.run.load_generator import Loader
from harness.run.local_generator import LocalProcess
from harness.run.server_log import ServerLog
from harness.run.server_process import Server
from harness.run.supervisor import Supervisor
from harness.wire import answers
from harness.wire.arrivals import closed
from harness.wire.load_options import LoadOptions
from harness.wire.records import MEASURE, Outcome
from harness.wire.transports import Client
from harness.workloads.io import kinds

pytestmark = pytest.mark.integration

both_transports = pytest.mark.parametrize("transport", ["aiohttp", "httpx"])

MAX_MIB = 300  # memory of the load generator
TIMEOUT_S = 0.5


@pytest.fixture(scope="module")
def hostile() -> Iterator[HostileServer]:
    gc.freeze()  # each trial starts with a collection, and the heap of a test run is large
    server = HostileServer()
    stopped = threading.Event()
    thread = threading.Thread(
        target=lambda: asyncio.run(server.serve(lambda: asyncio.to_thread(stopped.wait)))
    )
    thread.start()
    yield server
    stopped.set()
    thread.join()
    gc.unfreeze()


def load_options_for(url: str, trick: str, transport: str, **options: object) -> LoadOptions:
    said = {"arrivals": closed(1), "requests": 3, "timeout_s": 10.0, "transport": transport} | options
    return LoadOptions.model_validate({"url": f"{url}/{trick}", **said})


def run_tricks(
    server: HostileServer, tricks: Iterable[str], transport: str, **options: object
) -> dict[str, Outcome]:
    """Run one trial per trick concurrently in this process. Check that every request is one row."""
    tricks = list(tricks)
    before = dict(server.requests)

    async def all_of_them() -> list[Outcome]:
        trials = (fire_here(load_options_for(server.url, name, transport, **options)) for name in tricks)
        return await asyncio.gather(*trials)

    outcomes = dict(zip(tricks, asyncio.run(all_of_them()), strict=True))
    for name, outcome in outcomes.items():
        if name not in FLOODS:  # these leave the server, a thread of this process, no time to count
            assert len(outcome.shots) == server.requests[name] - before[name], name
        assert sum(shot.phase == MEASURE for shot in outcome.shots) == 3, name
    return outcomes


def _ignore(answered: int, median_ms: float) -> None:
    pass


def errors(outcome: Outcome) -> set[tuple[int | None, str]]:
    return {(shot.status, shot.error) for shot in outcome.shots}


def test_every_trick_is_tried_here() -> None:
    groups = (GOOD_ANSWERS, BAD_ANSWERS, LONG_HEADS, BROKEN, TOO_LONG, ENDLESS, FLOODS, hostile_server.OTHERS)
    assert set(hostile_server.TRICKS) == {name for group in groups for name in group} | {"upgrade"}


@both_transports
def test_an_unusual_but_readable_answer_is_a_good_one(hostile: HostileServer, transport: str) -> None:
    """Headers of 60 KiB, a thousand headers, unknown encodings, and a reason phrase that is not text."""
    for name, outcome in run_tricks(hostile, GOOD_ANSWERS, transport).items():
        assert errors(outcome) == {(200, "")}, name
        for shot in outcome.shots:
            figures = dataclasses.asdict(shot.timings).values()
            assert all(figure is None or 0 <= figure <= 3.6e6 for figure in figures), name


@both_transports
def test_the_excerpt_of_a_bad_answer_is_one_printable_line(hostile: HostileServer, transport: str) -> None:
    """For any charset, any depth of JSON and any target of a redirect."""
    tricks = [name for name in BAD_ANSWERS if name != "body-after-204"]
    for name, outcome in run_tricks(hostile, tricks, transport).items():
        status = outcome.shots[0].status
        assert errors(outcome) == {(status, f"HTTP {status}")}, name
        assert status is not None
        said = outcome.bad_answers.get(f"HTTP {status}", "")
        assert said.isprintable(), name
        assert len(said) <= 200, name


@both_transports
def test_endless_headers_or_an_endless_body_are_rows_with_their_own_error(
    hostile: HostileServer, transport: str
) -> None:
    body = [name for name in TOO_LONG if name.startswith("body")]
    head = [*LONG_HEADS, *(name for name in TOO_LONG if name not in body)]
    for tricks, error in ((head, answers.HEAD_TOO_LONG), (body, answers.BODY_TOO_LONG)):
        for name, outcome in run_tricks(hostile, tricks, transport).items():
            assert errors(outcome) == {(None, error)}, name


@both_transports
def test_an_answer_that_breaks_off_or_is_not_http_is_a_row_without_status(
    hostile: HostileServer, transport: str
) -> None:
    for name, outcome in run_tricks(hostile, BROKEN, transport).items():
        ((status, error),) = errors(outcome)
        assert status is None, name
        assert error, name
        assert error.isprintable(), name
    mixed = run_tricks(hostile, ["body-after-204", "upgrade", "answer-twice"], transport)
    assert all(error for name in ("body-after-204", "upgrade") for _, error in errors(mixed[name]))


@both_transports
@pytest.mark.timed
def test_the_time_out_bounds_the_whole_request(hostile: HostileServer, transport: str) -> None:
    """Even if every read gets a byte in time."""
    for name, outcome in run_tricks(hostile, ENDLESS, transport, timeout_s=TIMEOUT_S).items():
        assert errors(outcome) == {(None, f"timeout after {TIMEOUT_S} s")}, name
        assert outcome.shots[-1].done_ms < 3 * (TIMEOUT_S + 1) * 1e3, name


@both_transports
@pytest.mark.timed
def test_an_endless_sequence_of_interim_answers_is_given_up(hostile: HostileServer, transport: str) -> None:
    """aiohttp stops at the limit of all headers, httpx at the timeout."""
    error = answers.HEAD_TOO_LONG if transport == "aiohttp" else f"timeout after {TIMEOUT_S} s"
    for name, outcome in run_tricks(hostile, FLOODS, transport, timeout_s=TIMEOUT_S).items():
        assert errors(outcome) == {(None, error)}, name
        assert outcome.shots[-1].done_ms < 3 * (TIMEOUT_S + 1) * 1e3, name


@pytest.mark.timed
def test_an_idle_connection_that_receives_bytes_is_not_reused(hostile: HostileServer) -> None:
    """Otherwise each request would get the answer of the one before."""
    options = {"arrivals": "constant(5)", "requests": None, "duration_s": 0.6}
    outcome = asyncio.run(fire_here(load_options_for(hostile.url, "answer-twice", "aiohttp", **options)))
    assert errors(outcome) == {(200, "")}


@both_transports
def test_an_upload_ends_if_the_server_answers_early_and_never_reads_it(
    hostile: HostileServer, transport: str
) -> None:
    """The server answers after the headers and never reads the body. Closing must not wait for it."""
    big = {"method": "POST", "body": "x" * 8_000_000, "timeout_s": TIMEOUT_S, "requests": 1}
    trial = fire_here(load_options_for(hostile.url, "body-1g", transport, **big))
    assert len(asyncio.run(asyncio.wait_for(trial, 10)).shots) == 1


@pytest.fixture(scope="module")
def loader() -> Iterator[Loader]:
    with Supervisor() as supervisor, Loader(LocalProcess(supervisor)) as child:
        yield child


@both_transports
def test_the_memory_of_the_load_generator_is_bounded(
    loader: Loader, hostile: HostileServer, transport: str
) -> None:
    """Ten concurrent requests get a body of 1 GB, a gzip of 256 MiB of zeros, or endless headers."""
    for trick in ("body-1g", "bomb", "headers-endless", "trailers-endless"):
        options = {"arrivals": closed(10), "requests": 10, "timeout_s": 1.0}
        outcome = loader.run(load_options_for(hostile.url, trick, transport, **options), _ignore)
        assert sum(shot.phase == MEASURE for shot in outcome.shots) == 10
    assert _peak_mib(loader.pids()[0]) < MAX_MIB


def _peak_mib(pid: int) -> float:
    with open(f"/proc/{pid}/status") as status:  # noqa: PTH123 - no file
        lines = dict(line.split(":", 1) for line in status)
    return int(lines["VmHWM"].split()[0]) / 1024


def test_load_keeps_a_row_for_each_request_to_a_hostile_server(
    execbench: Execbench, hostile: HostileServer
) -> None:
    """From the command line through the load generator and the CSV to the report."""
    url = f"{hostile.url}/json-terminal"
    done = execbench("load", url, "-c", "4", "--requests", "20", "--out", "out")
    assert done.returncode == 1
    assert "\x1b]0" not in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    rows = store.read(execbench.folder / "out").requests
    assert Counter(rows["phase"])[MEASURE] == 20
    assert Counter(rows["status"]) == {500: len(rows)}


@both_transports
def test_an_answer_is_freed_as_soon_as_it_is_read(hostile: HostileServer, transport: str) -> None:
    """Garbage collection is rare during a trial, so a reference cycle would keep the answer in memory."""

    async def ask() -> weakref.ref[httpx.Response]:
        async with Client(create_transport(load_options_for(hostile.url, "good", transport))) as client:
            answer = await client.send_once(client.build_request("GET", f"{hostile.url}/good"))
            await answers.read(answer, 0)
            return weakref.ref(answer)

    gc.disable()
    try:
        assert asyncio.run(ask())() is None
    finally:
        gc.enable()


async def found(server: HostileServer, trick: str) -> str:
    """Return what `--io http` gets from the hostile server, or why it gets nothing."""
    options = running.synthetic(0.0, io=f"{server.url}/{trick}", io_timeout_s=2.0)
    async with kinds.opened(workloads.create(options), options) as ask:
        try:
            return str((await ask("")).value)
        except kinds.DownstreamError as error:
            return str(error)


async def all_found(server: HostileServer, tricks: Iterable[str]) -> list[str]:
    return await asyncio.gather(*(found(server, trick) for trick in tricks))


def test_the_answer_of_a_hostile_io_service_is_read_up_to_a_limit(hostile: HostileServer) -> None:
    good = ("charset-undefined", "encoding-x-gzip", "encoding-not-true", "reason-not-text", "header-60k")
    assert asyncio.run(all_found(hostile, good)) == ["ok", "ok", "", "ok", "ok"]
    for said in asyncio.run(all_found(hostile, TOO_LONG)):
        assert said.startswith(("downstream http: answer too long", "downstream http: it answered 500"))
    broken = asyncio.run(all_found(hostile, [*BROKEN, *BAD_ANSWERS]))
    assert all(said.startswith("downstream http: ") for said in broken)
    assert (
        asyncio.run(all_found(hostile, ["silent", "head-slow"]))
        == ["downstream http: no answer within 2 s"] * 2
    )


@pytest.mark.parametrize("body", [b"[" * 100_000, b"[1]", b"9" * 5_000, b'{"a":"' + b"x" * 2**21 + b'"}'])
def test_the_answer_of_our_own_server_is_read_up_to_a_limit(body: bytes) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_DELETE(self) -> None:
            self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.handle_request).start()
        process: Any = SimpleNamespace(pid=1)
        assert Server("a", process, listening.server_port, ServerLog(Path("log"), 0), 1).unwatch() is None
