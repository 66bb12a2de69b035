"""Independent services, with and without the middleware: docs/howto/app.md as a reader uses it."""

from __future__ import annotations

import ast
import asyncio
import csv
import json
import os
import pickle
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from conftest import CHECKOUT, Execbench, Invoke, wait_for

from harness import open_run
from harness.errors import UsageError
from harness.plans import from_flags, plan_checks, plan_files
from harness.results import store
from harness.run.foreign_server import is_here, listening_pid
from harness.run.meter import Meter
from harness.server import server_timing
from harness.server.server_timing import ServerTiming, stage, timed
from harness.verdicts import same_work
from harness.wire.timings import HEADER, decode
from harness.workloads.payload_texts import draw, read

DOC = (CHECKOUT / "docs" / "howto" / "app.md").read_text()
MIDDLEWARE = CHECKOUT / "harness" / "server" / "server_timing.py"
SEARCH, ROUTES, STARLETTE = re.findall(r"^```python\n(.*?)^```", DOC, re.MULTILINE | re.DOTALL)
PLAIN = SEARCH.replace("app.add_middleware(ServerTiming)\n", "")
LOAD, RUN = [
    line
    for block in re.findall(r"^```console\n(.*?)^```", DOC, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if line.startswith("execbench")
]
(PLAN,) = re.findall(r"^```toml\n(.*?)^```", DOC, re.MULTILINE | re.DOTALL)

# requires a header, answers 201, logs what it receives, and exits on a certain text
PICKY = """
import json, os

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = (await receive()).get("body", b"").decode()
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    with open("requests.txt", "a") as file:
        print(json.dumps([scope["method"], scope["path"], headers, body]), file=file)
    with open("requests.txt") as file:
        if scope["path"] == "/dies" and len(file.readlines()) > 31:
            os._exit(3)
    status = 201 if headers.get("authorization") == "Bearer s3cret" else 401
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})
"""
MORTAL = """
name = "mortal"
concurrency = [1]
requests = 10
warmup_per_client = 0
blocks = 4
self_check = false
arms = [{{ name = "lives", url = "{lives}/lives" }}, {{ name = "dies", url = "{dies}/dies" }}]
"""
ASKED = ("--header", "Authorization: Bearer s3cret", "--expect-status", "201")
SHORT = ("--no-self-check", "--requests", "12", "--blocks", "2")


class Service(NamedTuple):
    """A running uvicorn."""

    url: str
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def requests(self) -> list[tuple[str, str, dict[str, str], str]]:
        """The requests that `PICKY` received."""
        return [tuple(json.loads(line)) for line in (self.folder / "requests.txt").read_text().splitlines()]


@contextmanager
def serving(folder: Path, app: str) -> Iterator[Service]:
    """Run the app as service.py in `folder`, next to the middleware and without this checkout on the path."""
    (folder / "service.py").write_text(app)
    shutil.copy(MIDDLEWARE, folder / "server_timing.py")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", "uvicorn", "service:app", "--host", "127.0.0.1", "--port", "0"]
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        yield Service(_url(folder / "log.txt", process), folder, process)
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    finally:
        process.kill()
        process.wait()


def _url(log: Path, process: subprocess.Popen[bytes]) -> str:
    found: list[str] = []

    def is_logged() -> bool:
        assert process.poll() is None, log.read_text()
        found.extend(re.findall(r"running on (http://127\.0\.0\.1:\d+)", log.read_text()))
        return bool(found)

    wait_for(is_logged, 60)
    return found[0]


Serve = Callable[[str], Service]


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Start each app on first use."""
    with ExitStack() as stack:
        started: dict[str, Service] = {}

        def start(app: str) -> Service:
            if app not in started or started[app].process.poll() is not None:
                started[app] = stack.enter_context(serving(tmp_path_factory.mktemp("service"), app))
            return started[app]

        yield start


def medians(folder: Path) -> dict[tuple[str, int], dict[Hashable, Any]]:
    """Return (arm, users) → the report's figures."""
    table = open_run(folder).summary
    return {(row["arm"], int(row["concurrency"])): row for row in table.to_dict("records")}


# -- the file ------------------------------------------------------------------------------------------


def test_the_middleware_needs_the_standard_library_alone() -> None:
    tree = ast.parse(MIDDLEWARE.read_text())
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in modules} <= set(sys.stdlib_module_names)


@pytest.mark.integration
def test_it_works_copied_alone_into_an_empty_folder(tmp_path: Path) -> None:
    shutil.copy(MIDDLEWARE, tmp_path / "server_timing.py")
    script = """
import asyncio, sys
sys.path.insert(0, ".")
from server_timing import ServerTiming, stage

async def app(scope, receive, send):
    with stage("model"):
        await send({"type": "http.response.start", "status": 200, "headers": []})

async def show(message):
    print(message["headers"][0][1].decode())

asyncio.run(ServerTiming(app)({"type": "http"}, None, show))
print(sorted({"harness", "starlette", "fastapi"} & set(sys.modules)))
"""
    command = [sys.executable, "-I", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    header, loaded = done.stdout.splitlines()
    assert decode(header).handler_ms is not None
    assert loaded == "[]"


@pytest.mark.integration
@pytest.mark.parametrize("app", [SEARCH, ROUTES, STARLETTE], ids=["search", "routes", "starlette"])
def test_the_services_on_the_page_pass_the_linter_and_are_short(app: str) -> None:
    ruff = [sys.executable, "-m", "ruff"]
    for command in (["check", "-"], ["format", "--check", "-"]):
        done = subprocess.run([*ruff, *command], input=app, text=True, capture_output=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert sum(bool(line.strip()) for line in app.splitlines()) <= 30


# -- the middleware, without a server ------------------------------------------------------------------

Message = dict[str, Any]


async def receive() -> Message:
    return {"type": "http.request", "body": b""}


def answers(app: Any, scope: Message | None = None) -> list[Message]:
    """Return the messages that an ASGI app sends."""
    sent: list[Message] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope or {"type": "http"}, receive, send))
    return sent


def header(app: Any) -> str:
    (start, *_) = answers(ServerTiming(app))
    return ", ".join(value.decode() for name, value in start["headers"] if name == b"server-timing")


def answering(work: Callable[[], Awaitable[None]]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await work()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    return app


async def nap(stretch: str, seconds: float = 0.02) -> None:
    with stage(stretch):
        await asyncio.sleep(seconds)


@pytest.mark.timed
def test_a_stage_entered_twice_adds_up_and_unknown_names_are_sent_but_ignored() -> None:
    async def work() -> None:
        await nap("io")
        await nap("db")
        await nap("io")

    values = [header(answering(work)) for _ in range(5)]
    assert 40 <= min(decode(value).io_ms or 0 for value in values) < 80
    strange = [re.findall(r"\bdb;dur=(\d+\.\d{3})", value) for value in values]
    assert {len(durations) for durations in strange} == {1}
    assert 20 <= min(float(durations[0]) for durations in strange) < 40
    assert decode(values[0]).model_ms is None


@pytest.mark.timed
def test_concurrent_requests_do_not_mix() -> None:
    async def one(seconds: float) -> float:
        seen: list[str] = []

        async def work() -> None:
            await nap("io", seconds)

        async def send(message: Any) -> None:
            seen.extend(value.decode() for _, value in message["headers"])

        await ServerTiming(answering(work))({"type": "http"}, receive, send)
        return decode(seen[0]).io_ms or 0.0

    async def both() -> tuple[float, float]:
        return await asyncio.gather(one(0.02), one(0.12))

    tried = [asyncio.run(both()) for _ in range(3)]
    assert 20 <= min(short for short, _ in tried) < 90
    assert 120 <= min(long for _, long in tried) < 190


def test_several_values_of_the_header_are_kept() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"server-timing", b"cache;dur=1"), (b"x", b"y"), (b"server-timing", b"edge;dur=2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    (start,) = answers(ServerTiming(app))
    assert start["headers"][:3] == [
        (b"server-timing", b"cache;dur=1"),
        (b"x", b"y"),
        (b"server-timing", b"edge;dur=2"),
    ]
    assert len(start["headers"]) == 4


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
def test_other_scopes_than_http_pass_unchanged(kind: str) -> None:
    seen: list[tuple[object, ...]] = []

    async def app(*given: object) -> None:
        seen.append(given)

    given: Any = ({"type": kind}, object(), object())
    asyncio.run(ServerTiming(app)(*given))
    assert all(one is other for one, other in zip(seen[0], given, strict=True))


def test_an_apps_exception_passes_and_the_next_request_is_timed_separately() -> None:
    async def fails() -> None:
        with stage("model"):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        answers(ServerTiming(answering(fails)))

    async def nothing() -> None: ...

    assert "model" not in header(answering(nothing))


def test_every_message_passes_without_delay() -> None:
    order: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for number in range(3):
            await send({"type": "http.response.body", "body": b"%d" % number, "more_body": True})
            order.append(f"sent {number}")

    async def send(message: Any) -> None:
        order.append(f"got {message['body'].decode()}")

    asyncio.run(ServerTiming(app)({"type": "http"}, receive, send))
    assert order == [f"{what} {number}" for number in range(3) for what in ("got", "sent")]


@pytest.mark.integration
def test_a_mounted_app_with_its_own_middleware_adds_no_second_header() -> None:
    async def work() -> None:
        await nap("io")

    assert header(ServerTiming(answering(work))).count("handler;") == 1


def test_outside_of_a_request_a_stage_does_nothing_but_unpack() -> None:
    with stage("model") as model:
        assert model.take(timed(len)("four")) == 4


@pytest.mark.parametrize("name", ["", "two words", "a,b", 'a"b', "handler", "é"])
def test_a_name_that_no_header_can_hold_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a stage's name"):
        stage(name)


def test_take_names_the_type_that_it_needs() -> None:
    with pytest.raises(TypeError, match=r"what timed\(func\) returns, not list"):
        stage("model").take([1.0])  # type: ignore[arg-type]  # the mistake that is tested


def test_a_timed_function_can_be_pickled_and_raises_what_it_raises() -> None:
    again = pickle.loads(pickle.dumps(timed(int)))
    assert pickle.loads(pickle.dumps(again("7"))).value == 7
    with pytest.raises(ValueError, match="seven"):
        again("seven")


def test_a_batch_is_shared_by_its_requests() -> None:
    async def work() -> None:
        done = timed(lambda: ["a", "b"])()
        with stage("model") as model:
            assert model.take(done._replace(value=done.value[1]), batch=2) == "b"

    assert decode(header(answering(work))).batch_size == 2


def test_its_clock_is_that_of_the_load_generator() -> None:
    from harness.wire.clock import now_ms

    assert server_timing._now_ms() == pytest.approx(now_ms(), abs=1000)


# -- its services --------------------------------------------------------------------------------------


@pytest.mark.integration
def test_one_worker_of_20_ms_shared_by_four_users_is_split_from_its_queue(
    execbench: Execbench, serve: Serve
) -> None:
    (execbench.folder / "texts.txt").write_text('How big is London\nWho said "no"?\n')
    words = shlex.split(LOAD.replace("http://127.0.0.1:8000", serve(SEARCH).url))
    done = execbench(*words[1:], "--out", "loaded")
    assert done.returncode == 0, done.stderr
    found = medians(execbench.folder / "loaded")["server", 4]
    rows = store.read(execbench.folder / "loaded").requests
    assert (
        found["model_p50_ms"] >= 20 > rows["model_ms"].min() - 10
    )  # the minimum, as other work only adds time
    assert found["io_p50_ms"] >= 10 > rows["io_ms"].min() - 10
    # at most three others, some of which overlap with I/O
    assert 40 <= found["queue_p50_ms"] < 5 * found["model_p50_ms"]
    assert found["failed"] == 0
    assert rows["worker_pid"].nunique() == 1
    assert serve(SEARCH).process.pid not in set(rows["worker_pid"])
    assert set(rows["batch_size"]) == {1}


@pytest.mark.integration
def test_servers_with_and_without_the_middleware_are_arms(execbench: Execbench, serve: Serve) -> None:
    timed_, plain = serve(SEARCH), serve(PLAIN)
    command = RUN.replace("http://127.0.0.1:8000", timed_.url).replace("http://127.0.0.1:8001", plain.url)
    words = shlex.split(command.replace("--blocks 6", "--blocks 2"))
    done = execbench(*words[1:], "--no-self-check", "--requests", "12", "--twin", "--out", "run", "--full")
    assert done.returncode == 0, done.stderr
    found = medians(execbench.folder / "run")
    rows = store.read(execbench.folder / "run").requests
    assert found["timed", 1]["model_p50_ms"] >= 20 > rows["model_ms"].min() - 10
    assert found["timed", 1]["io_p50_ms"] >= 10 > rows["io_ms"].min() - 10
    assert found["timed", 4]["queue_p50_ms"] > 30
    assert found["timed", 1]["queue_p50_ms"] < found["timed", 4]["queue_p50_ms"] / 3
    assert found["plain", 4]["model_p50_ms"] != found["plain", 4]["model_p50_ms"]  # NaN: it reports nothing
    assert found["plain", 4]["latency_p50_ms"] == pytest.approx(found["timed", 4]["latency_p50_ms"], rel=0.5)
    assert "Each arm against plain, compared block by block" in done.stdout
    assert re.search(r"^  timed +latency ", done.stdout, re.MULTILINE)
    with (execbench.folder / "run" / "trials.csv").open() as file:
        trials = list(csv.DictReader(file))
    assert {trial["arm"] for trial in trials} == {"plain", "plain-twin", "timed"}
    assert {trial["strategy"] for trial in trials} == {"url"}
    assert all(float(trial["server_cpu_ms"]) > 0 for trial in trials)
    assert all(trial["foreign_cpu"] and not trial["server_lag_p99_ms"] for trial in trials)
    assert "timed" in execbench("compare", "run", "--json").stdout
    assert timed_.process.poll() is None


@pytest.mark.integration
def test_a_def_route_reports_the_model_as_a_whole_or_split(execbench: Execbench, serve: Serve) -> None:
    url = serve(ROUTES).url
    words = ("--url", f"whole={url}/whole", "--url", f"split={url}/split", "--ping-path", "/openapi.json")
    done = execbench("run", *words, *SHORT, "--concurrency", "4", "--out", "run", "--full")
    assert done.returncode == 0, done.stderr
    assert "whole: model is known only as a whole, with the wait for a worker in it." in done.stdout
    parts = done.stdout.split("Where the time goes")[1].splitlines()
    titles, line = (
        next(line.split() for line in parts if line.startswith(word)) for word in ("arm ", "whole ")
    )
    assert line[titles.index("worker")] == "-"
    assert float(line[titles.index("model")]) >= 20
    found = medians(execbench.folder / "run")
    whole, split = found["whole", 4], found["split", 4]
    least = open_run(execbench.folder / "run").requests.min(numeric_only=True)
    assert whole["route_model_p50_ms"] >= 20 > least["route_model_ms"] - 10
    assert whole["io_p50_ms"] >= 10 > least["io_ms"] - 10
    assert split["model_p50_ms"] >= 20 > least["model_ms"] - 10
    rows = store.read(execbench.folder / "run").requests
    assert split["queue_p50_ms"] < split["model_p50_ms"] / 2  # no request waits for the call of another
    assert rows.loc[rows["arm"] == "whole", "queue_ms"].isna().all()
    assert set(rows.loc[rows["phase"] == "ping", "status"]) == {200}
    idle = json.loads((execbench.folder / "run" / "run.json").read_text())["idle"]
    assert all(
        arm["cpu_ms"] == 0 for arm in idle.values()
    )  # both arms are routes of one server, so neither is ever idle


@pytest.mark.timed
def test_starlette_alone_streams_fails_and_lacks_a_page_as_it_would_without(serve: Serve) -> None:
    url = serve(STARLETTE).url
    split = decode(httpx.get(f"{url}/ask").headers[HEADER])
    assert 20 <= (split.model_ms or 0) < 200  # the first request, which also starts its thread
    assert 10 <= (split.io_ms or 0) < 200
    assert (split.handler_ms or 0) >= (split.model_ms or 0) + (split.io_ms or 0)
    with httpx.stream("GET", f"{url}/stream") as answer:
        assert list(answer.iter_text()) == ["How", "big", "is", "London"]
        assert "handler;" in answer.headers[HEADER]
    assert httpx.get(f"{url}/missing").status_code == 404
    failed = httpx.get(f"{url}/fail")
    assert failed.status_code == 500
    assert "handler;" in failed.headers[HEADER]
    log = serve(STARLETTE).folder / "log.txt"
    wait_for(lambda: "RuntimeError: the model failed" in log.read_text())


@pytest.mark.timed
def test_load_measures_starlette_and_counts_its_failures(execbench: Execbench, serve: Serve) -> None:
    url = serve(STARLETTE).url
    done = execbench("load", f"{url}/ask", "--requests", "20", "-c", "2", "--out", "loaded")
    assert done.returncode == 0, done.stderr
    assert 20 <= medians(execbench.folder / "loaded")["server", 2]["route_model_p50_ms"] < 40
    done = execbench("load", f"{url}/fail", "--requests", "5", "-c", "1", "--out", "failed")
    assert done.returncode == 1
    said = "HTTP 500: Internal Server Error"
    assert f"none of 5 requests got a good answer ({said})" in done.stderr


# -- requests as given ---------------------------------------------------------------------------------


@pytest.mark.integration
@pytest.mark.parametrize("place", ['"{text}"', "{text}"], ids=["quoted", "bare"])
def test_a_request_is_sent_as_given_and_its_secret_is_not_saved(
    execbench: Execbench, serve: Serve, place: str
) -> None:
    picky = serve(PICKY)
    (picky.folder / "requests.txt").write_text("")
    (execbench.folder / "texts.jsonl").write_text('"Who said \\"no\\"?"\n{"text": "und wo, Öde?"}\n')
    words = ("--requests", "8", "-c", "1", "--payloads", "texts.jsonl", "--header", "X-Tenant: a", *ASKED)
    body = ("--method", "put", "--body", f'{{"q": {place}, "k": 3}}')
    done = execbench("load", f"{picky.url}/put", *words, *body, "--seed", "3", "--out", "loaded")
    assert done.returncode == 0, done.stderr
    requests = [one for one in picky.requests() if one[1] == "/put"]
    assert {method for method, *_ in requests} == {"PUT"}
    assert {headers["content-type"] for _, _, headers, _ in requests} == {"application/json"}
    assert {headers["x-tenant"] for _, _, headers, _ in requests} == {"a"}
    texts = {'Who said "no"?', "und wo, Öde?"}
    assert {json.loads(body)["q"] for *_, body in requests} == texts
    for path in (execbench.folder / "loaded").rglob("*.*"):
        assert b"s3cret" not in path.read_bytes(), path
    assert "X-Tenant" in (execbench.folder / "loaded" / "run.json").read_text()


@pytest.mark.integration
def test_a_body_that_is_not_json_is_sent_unchanged(execbench: Execbench, serve: Serve) -> None:
    picky = serve(PICKY)
    (execbench.folder / "texts.txt").write_text('say "yes"\n')
    kind = ("--header", "Content-Type: text/plain", "--body", "{text}", "--payloads", "texts.txt")
    done = execbench("load", f"{picky.url}/plain", "--requests", "2", *kind, *ASKED, "--out", "loaded")
    assert done.returncode == 0, done.stderr
    requests = {(one[2]["content-type"], one[3]) for one in picky.requests() if one[1] == "/plain"}
    assert requests == {("text/plain", 'say "yes"')}


@pytest.mark.integration
def test_the_seed_0_draws_its_own_texts(execbench: Execbench, serve: Serve) -> None:
    picky = serve(PICKY)
    (execbench.folder / "texts.txt").write_text("\n".join(map(str, range(100_000))))
    words = ("--payloads", "texts.txt", "--seed", "0", "-c", "1", "--requests", "4")
    done = execbench("load", f"{picky.url}/seed", *words, *ASKED, "--out", "loaded")
    assert done.returncode == 0, done.stderr
    requests = {json.loads(one[3])["text"] for one in picky.requests() if one[1] == "/seed"}
    own, other = (set(islice(draw(read(str(execbench.folder / "texts.txt")), seed), 20)) for seed in (0, 1))
    assert requests <= own
    assert not requests & other


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "load http://x/ --header nonsense",
            r"--header is not valid: .*X-Tenant: a.*no colon\.\n--header 'NAME: VALUE'",
        ),
        ("load http://x/ --header 'a b: c'", "'a b' is not a valid header name"),
        ("load http://x/ --header 'Authorization: höhö'", "the value of the header Authorization"),
        ("load http://x/ --header 'Content-Length: 3'", "Content-Length is set by the load generator itself"),
        (
            "load http://x/ --header 'A: ${NO_SUCH_NAME}'",
            r"uses \$\{NO_SUCH_NAME\}, which is not set.*\n.*export NO_SUCH_NAME",
        ),
        ("load http://x/ --method PSOT", "'PSOT' is not an HTTP method; did you mean POST"),
        ("load http://x/ --method nothing", "'nothing' is not an HTTP method; use one of: GET"),
        ("load http://x/ --body no --header 'Content-Type: application/json'", "the body is not JSON"),
        ("load http://x/ --body '{q: {text}}'", "the body is not JSON .*Content-Type"),
        ("load http://x/ --body '{}' --payloads there.txt", r"the body has no \{text\}"),
        ("load http://x/ --payloads nowhere.txt", "nowhere.txt cannot be read"),
        ("load http://x/ --expect-status 99", "(?s)--expect-status.*greater than"),
        ("load http://me:secret@x/", "send credentials in a header"),
        ("run --url http://127.0.0.1:1/", r"has no name\.\n.*--url mine="),
        ("run --url a=b=http://x/", "'b=http://x/' is not an HTTP URL"),
        ("run --url a=nonsense", "'nonsense' is not an HTTP URL"),
        ("run --url a=http://x/ --url a=http://y/", "duplicate arm a"),
        ("run --url a=http://x/ --strategy thread", "different work"),
        ("run smoke --url a=http://x/", r"'smoke' starts its own servers.*\n.*without a plan"),
        ("run --url a=http://x/ --workers 2", "do not take the option 'workers'"),
        ("run --url a=http://x/ --io-ms 2", "servers that already run cannot have workload"),
        ("run --url a=http://x/ --fresh --pin", "servers that already run cannot have fresh, pin"),
        (
            "run --url a=http://x/ --server-processes 2",
            "a server that already runs cannot have server_processes",
        ),
        ("run --url a=http://x/ --body '{}' --payloads there.txt", r"the body has no \{text\}"),
        ("run --strategy thread --body '{}'", r"needs a server that already runs \(--url NAME=URL\)"),
    ],
)
def test_a_request_that_cannot_be_sent_is_refused_before_anything_starts(
    invoke: Invoke, words: str, said: str
) -> None:
    Path("there.txt").write_text("a text\n")
    done = invoke(*shlex.split(words))
    assert done.returncode == 2
    assert re.search(said, done.stderr), done.stderr
    assert "höhö" not in done.stderr
    assert [path.name for path in Path().iterdir()] == ["there.txt"]


def test_strategies_together_with_running_servers_are_refused_in_a_plan_too() -> None:
    data = {
        "name": "mixed",
        "concurrency": [1],
        "requests": 1,
        "arms": [{"name": "a", "url": "http://x/"}, {"name": "b", "strategy": "thread"}],
    }
    with pytest.raises(UsageError, match="different work: use two runs"):
        plan_files.make(data, source="plan")
    data["arms"] = [{"name": "a", "url": "http://x/", "workers": 2}]
    with pytest.raises(UsageError, match="a server that already runs cannot have options"):
        plan_files.make(data, source="plan")


# -- runs that do not go well --------------------------------------------------------------------------


@pytest.mark.integration
def test_a_server_that_answers_something_else_is_refused_before_the_first_trial(
    execbench: Execbench, serve: Serve
) -> None:
    url = serve(STARLETTE).url
    good, bad = f"{url}/ask", f"{url}/missing"
    done = execbench("run", "--url", f"good={good}", "--url", f"bad={bad}", *SHORT, "--out", "run")
    assert done.returncode == 1
    assert f"The server of arm 'bad', {bad}, answers GET with HTTP 404, not with 200." in done.stderr
    assert "It says: Not Found\n" in done.stderr
    done = execbench("run", "--url", "gone=http://127.0.0.1:1/", *SHORT, "--out", "run")
    assert done.returncode == 1
    assert "The server of arm 'gone', http://127.0.0.1:1/, does not answer (" in done.stderr
    assert not (execbench.folder / "run").exists()


@pytest.mark.integration
def test_a_server_that_dies_during_a_run_has_failed_trials_and_the_others_continue(
    execbench: Execbench, serve: Serve, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with serving(tmp_path_factory.mktemp("dies"), PICKY) as mortal:
        plan = MORTAL.format(lives=serve(PICKY).url, dies=mortal.url)
        (execbench.folder / "mortal.toml").write_text(plan)
        by_name = ("--header", "Authorization: Bearer ${OWN_APP}", "--expect-status", "201")
        done = execbench("run", "mortal.toml", *by_name, "--out", "run", OWN_APP="s3cret")
    assert "s3cret" not in (execbench.folder / "run" / "run.json").read_text()
    assert done.returncode == 1
    assert re.search(r"\d of 8 trials failed, the first: none of 10 requests got a good answer", done.stderr)
    trials = store.read(execbench.folder / "run").trials
    states = {arm: list(rows["state"]) for arm, rows in trials.groupby("arm", observed=True)}
    assert states["lives"] == ["ok"] * 4
    assert states["dies"] == ["ok", "ok", "ok", "failed"]  # 1 + 3 x 10 requests; it ends at the 31st


@pytest.mark.integration
def test_an_interrupted_run_resumes_and_needs_the_secret_that_it_did_not_save(
    execbench: Execbench, serve: Serve
) -> None:
    url = f"a={serve(PICKY).url}/"
    words = ("--url", url, "--no-self-check", "--requests", "30", "--blocks", "12", "-c", "1", *ASKED)
    process = execbench.start("run", *words, "--out", "run")
    trials = execbench.folder / "run" / "trials.csv"
    wait_for(lambda: trials.exists() and len(trials.read_text().splitlines()) > 2)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    assert "s3cret" not in (execbench.folder / "run" / "run.json").read_text()
    refused = execbench("run", "--resume", "run")
    assert refused.returncode == 2
    assert "the value of the header Authorization was not saved" in refused.stderr
    done = execbench("run", *words, "--resume", "run")
    assert done.returncode == 0, done.stderr
    assert len(store.read(execbench.folder / "run").trials) == 12


# -- what follows --------------------------------------------------------------------------------------


def test_the_plan_file_on_the_page_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cret")
    (tmp_path / "mine.toml").write_text(PLAN)
    plan = plan_files.load(str(tmp_path / "mine.toml"))
    assert [(arm.name, arm.strategy) for arm in plan.arms] == [("before", "url"), ("after", "url")]
    assert plan_files.restore(plan.model_dump(mode="json")) == plan
    other = from_flags.override(plan, from_flags.Flags(urls=("now=http://127.0.0.1:9/",), plan={"blocks": 3}))
    assert [(arm.name, arm.url) for arm in other.arms] == [("now", "http://127.0.0.1:9/")]
    assert other.ask == plan.ask
    restored = plan_files.restore(plan.model_dump(mode="json"))
    plan_checks.check_headers(restored.ask, stage="resume")  # nothing was lost


def test_flags_keep_a_secret_that_a_plan_holds_in_plain_text() -> None:
    data = {
        "name": "mine",
        "concurrency": [1],
        "requests": 1,
        "ask": {"headers": {"Cookie": "id=7"}},
        "arms": [{"name": "a", "url": "http://x/"}],
    }
    plan = from_flags.override(plan_files.make(data, source="plan"), from_flags.Flags(plan={"blocks": 2}))
    assert plan.ask.headers == (("Cookie", "id=7"),)
    assert "id=7" not in plan.model_dump_json()


def test_running_servers_are_compared_only_if_they_got_the_same_requests() -> None:
    def recorded(**ask: object) -> tuple[dict[str, object], str]:
        return {"plan": {"ask": ask}, "arms": {"a": {"url": "http://x/", "about": {}}}}, "a"

    ours: tuple[dict[str, Any], str] = ({"plan": {}, "arms": {"a": {"options": {}, "about": {}}}}, "a")
    assert same_work.obstacles(recorded(body="x"), recorded(body="x")) == []
    assert same_work.obstacles(recorded(body="x"), recorded(body="y")) == ["body: x and y"]
    assert same_work.obstacles(recorded(), ours) == ["server: external and started by the run"]


@pytest.mark.integration
def test_the_process_that_listens_on_a_port_and_local_addresses_are_recognized(serve: Serve) -> None:
    service = serve(PICKY)
    assert listening_pid(service.port) == service.process.pid
    assert listening_pid(1) is None
    assert is_here("http://127.0.0.1:8000/")
    assert is_here("http://localhost/")
    assert not is_here("http://192.0.2.1/")


def test_two_arms_of_one_process_are_not_each_others_idle_neighbour() -> None:
    meter = Meter({"a": os.getpid(), "b": os.getpid()}, [])
    meter.begin("a")
    sum(range(200_000))
    found = meter.end()
    assert found.server_cpu_ms
    assert found.idle_cpu_ms == 0
    assert meter.idle == {}
