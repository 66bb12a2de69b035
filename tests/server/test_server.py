"""The app in its child process, over real HTTP: answers, health, errors, and leaving nothing behind."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import conftest
import httpx
import psutil
import pytest
import running

import strategies
from harness.errors import HarnessError
from harness.run import server_process
from harness.run.supervisor import Supervisor
from harness.wire.loop_lag import Lag
from harness.wire.options import ServerOptions, WorkloadOptions
from harness.wire.timings import decode

pytestmark = pytest.mark.integration

# tests/strategy/test_clusters.py has servers of the others, whose clusters take long to start
SERVED = tuple(name for name in strategies.available() if name not in {"ray", "dask"})
NO_MODEL = WorkloadOptions(model="no-such-model")
OWN_PROCESSES = {"process", "loky", "pebble", "supervised"}


def options_of(strategy: str) -> dict[str, str]:
    """Return the options that the strategy requires."""
    return {"factory": "concurrent.futures:ThreadPoolExecutor"} if strategy == "executor" else {}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "server.log"


@pytest.fixture(scope="module")
def thread_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[server_process.Server]:
    """A server with the strategy `thread`, for tests that only send requests."""
    with running.serving(tmp_path_factory.mktemp("thread_server") / "server.log") as child:
        yield child


def every_strategy(workload: WorkloadOptions, **workers: int) -> dict[str, ServerOptions]:
    return {
        name: ServerOptions(
            strategy=name,
            workload=workload,
            options=options_of(name) | ({"workers": workers[name]} if name in workers else {}),
        )
        for name in SERVED
    }


@pytest.fixture(scope="module")
def resident(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, server_process.Server]]:
    """A server of each strategy, with a model of 20 ms and I/O of 10 ms; unused ones are idle."""
    arms = every_strategy(running.synthetic(20, 10))
    with running.resident(tmp_path_factory.mktemp("resident"), arms) as servers:
        yield servers


@pytest.mark.timed
@pytest.mark.parametrize("strategy", SERVED)
def test_every_strategy_answers_with_the_split_of_the_time(
    resident: dict[str, server_process.Server], strategy: str
) -> None:
    child = resident[strategy]
    answers = [httpx.get(f"{child.url}/") for _ in range(5)]
    assert {answer.status_code for answer in answers} == {200}
    # compare the median with the truth, as the machine may pause during a single request
    answer = sorted(answers, key=lambda answer: decode(answer.headers["Server-Timing"]).handler_ms or 0)[2]
    timings = decode(answer.headers["Server-Timing"])
    assert answer.json() == {"answer": "HOW BIG IS LONDON"}
    assert timings.model_ms == pytest.approx(20, abs=10)
    assert timings.io_ms == pytest.approx(10, abs=8)
    parts = (timings.queue_ms, timings.model_ms, timings.resume_ms, timings.io_ms)
    assert None not in parts
    assert timings.handler_ms == pytest.approx(sum(part or 0 for part in parts), abs=1)
    assert (timings.worker_pid == child.pid) == (strategy not in OWN_PROCESSES)


def test_predict_runs_the_model_on_the_text_of_the_body(thread_server: server_process.Server) -> None:
    answer = httpx.post(f"{thread_server.url}/predict", json={"text": "own words"})
    assert answer.json() == {"answer": "OWN WORDS"}


@pytest.mark.parametrize("body", [b"", b"[]", b'{"txt": "x"}', b'{"text": 5}', b"{"])
def test_a_bad_body_is_refused_with_422(thread_server: server_process.Server, body: bytes) -> None:
    answer = httpx.post(f"{thread_server.url}/predict", content=body)
    assert answer.status_code == 422


def test_health_is_green_only_when_every_worker_is_warm(log: Path) -> None:
    """The warm-up call takes a second here; health must not be green before its end."""
    options = ServerOptions(strategy="process", options={"workers": 2}, workload=running.synthetic(1000, 0))
    began = time.monotonic()
    with Supervisor() as supervisor, server_process.start("a", options, supervisor, log=log) as child:
        health = child.wait_ready(running.READY_WITHIN_S)
        assert time.monotonic() - began > 1.0
        assert health["status"] == "ok"
        workers = [p for p in psutil.Process(child.pid).children() if "spawn_main" in " ".join(p.cmdline())]
        assert len(workers) == 2


def test_health_turns_red_when_a_dead_worker_has_broken_the_pool(log: Path) -> None:
    with running.serving(log, "process") as child:
        worker = decode(httpx.get(f"{child.url}/").headers["Server-Timing"]).worker_pid
        assert worker is not None
        os.kill(worker, signal.SIGKILL)
        statuses = {httpx.get(f"{child.url}/").status_code for _ in range(3)}
        assert statuses == {503}
        assert httpx.get(f"{child.url}/health").status_code == 503


def test_a_service_of_several_processes_is_ready_when_each_has_answered(log: Path) -> None:
    with running.serving(log, "thread", server_processes=3) as child:
        found = {httpx.get(f"{child.url}/health").json()["pid"] for _ in range(60)}
        children = {process.pid for process in psutil.Process(child.pid).children(recursive=True)}
        assert len(found) == 3
        assert found <= children
        assert child.unwatch() is None  # it is random which process would get the request
    conftest.wait_for(lambda: not any(map(psutil.pid_exists, children)), within_s=5)


def test_a_model_that_cannot_be_loaded_in_one_of_several_processes_is_one_clear_message(log: Path) -> None:
    options = ServerOptions(
        strategy="thread", server_processes=2, workload=WorkloadOptions(model="no-such-model")
    )
    with (
        Supervisor() as supervisor,
        server_process.start("a", options, supervisor, log=log) as child,
        pytest.raises(HarnessError, match="Cannot load the model 'no-such-model'"),
    ):
        child.wait_ready(running.READY_WITHIN_S)


def test_a_server_reports_what_it_runs(thread_server: server_process.Server) -> None:
    health = httpx.get(f"{thread_server.url}/health").json()
    assert health["strategy"] == "thread"
    about = health["about"]
    assert (about["model"], about["service_ms"]) == ("synthetic sleep", 5.0)


LOADING = ("inline", "thread", "process", "default_pool", "supervised")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any] | HarnessError]:
    """Outcomes of servers without a model, started together, as each first imports torch."""
    chosen = {name: ServerOptions(strategy=name, workload=NO_MODEL) for name in LOADING}
    folder = tmp_path_factory.mktemp("loaded")
    with Supervisor() as supervisor, ExitStack() as stack:
        servers = {
            name: stack.enter_context(server_process.start(name, options, supervisor, log=folder / name))
            for name, options in chosen.items()
        }
        return {name: outcome(child) for name, child in servers.items()}


def outcome(child: server_process.Server) -> dict[str, Any] | HarnessError:
    """Return its health, or the error of its start."""
    try:
        return child.wait_ready(running.READY_WITHIN_S)
    except HarnessError as error:
        return error


@pytest.mark.timed
@pytest.mark.parametrize("instrumented", [True, False])
def test_a_ping_is_answered_without_the_model(log: Path, instrumented: bool) -> None:
    workload = running.synthetic(400, 0)
    with running.serving(log, workload=workload, instrumented=instrumented) as child:
        began = time.monotonic()
        answer = httpx.get(f"{child.url}/ping")
        took_s = time.monotonic() - began
    assert (answer.status_code, answer.json()) == (200, {"ping": "pong"})
    assert "Server-Timing" not in answer.headers
    assert took_s < 0.3


@pytest.mark.parametrize("strategy", ["inline", "process"])
def test_without_instrumentation_the_answer_is_the_same_but_has_no_timings(log: Path, strategy: str) -> None:
    with running.serving(log, strategy, instrumented=False) as child:
        answer = httpx.post(f"{child.url}/predict", json={"text": "own words"})
    assert (answer.status_code, answer.json()) == (200, {"answer": "OWN WORDS"})
    assert "Server-Timing" not in answer.headers


# -- the lag of the loop -------------------------------------------------------------------------------


@pytest.mark.timed
@pytest.mark.parametrize(("strategy", "stalls"), [("inline", True), ("thread", False)])
def test_a_watched_server_reports_how_long_the_model_stalled_its_loop(
    log: Path, strategy: str, stalls: bool
) -> None:
    with running.serving(log, strategy, workload=running.synthetic(300, 0)) as child:
        child.watch()
        httpx.get(f"{child.url}/")
        lag = child.unwatch()
    assert lag is not None
    assert lag.samples > 50
    assert lag.max_ms is not None
    assert (lag.max_ms > 250) == stalls


FROZEN = """
import gc

def load():
    return None

def predict(model, items):
    return [gc.get_freeze_count() for _ in items]

async def io(result):
    return {"in the worker": result, "in the server": gc.get_freeze_count()}
"""


@pytest.mark.parametrize("gc_freeze", [True, False])
def test_gc_freeze_exempts_what_the_worker_and_the_server_have_loaded(
    tmp_path: Path, log: Path, gc_freeze: bool
) -> None:
    (tmp_path / "frozen.py").write_text(FROZEN)
    workload = WorkloadOptions(name=str(tmp_path / "frozen.py"), gc_freeze=gc_freeze)
    with running.serving(log, "process", workload=workload) as child:
        counts = httpx.get(f"{child.url}/").json()["answer"]
    assert all((count > 10_000) == gc_freeze for count in counts.values()), counts


def test_a_server_that_was_never_watched_has_no_lag_samples(log: Path) -> None:
    with running.serving(log) as child:
        assert child.unwatch() == Lag(0, None, None)


@pytest.mark.timed
def test_between_two_watches_no_lag_is_measured(log: Path) -> None:
    """An idle arm must cost nothing, and its lag then does not belong to the next trial."""
    with running.serving(log, "inline", workload=running.synthetic(300, 0)) as child:
        child.watch()
        child.unwatch()
        httpx.get(f"{child.url}/")
        assert child.unwatch() == Lag(0, None, None)
        child.watch()
        lag = child.unwatch()
    assert lag is not None
    assert (lag.max_ms or 0.0) < 200


def test_the_answer_of_a_busy_inline_server_is_waited_for(log: Path) -> None:
    with running.serving(log, "inline", workload=running.synthetic(2500, 0)) as child:
        child.watch()
        with pytest.raises(httpx.TimeoutException):
            httpx.get(f"{child.url}/", timeout=0.1)
        lag = child.unwatch()
    assert lag is not None
    assert (lag.max_ms or 0.0) > 2000


def test_a_dead_server_is_neither_watched_nor_an_error(log: Path) -> None:
    with running.serving(log) as child:
        os.kill(child.pid, signal.SIGKILL)
        conftest.wait_for(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
        child.watch()
        assert child.unwatch() is None


def test_a_port_in_use_is_a_clear_error(log: Path) -> None:
    options = ServerOptions(strategy="inline", workload=running.synthetic())
    with socket.create_server(("127.0.0.1", 0)) as taken, Supervisor() as supervisor:
        port = taken.getsockname()[1]
        with (
            pytest.raises(HarnessError, match=rf"Port {port} .* cannot be used"),
            server_process.start("a", options, supervisor, log=log, port=port),
        ):
            pass


@pytest.mark.parametrize("strategy", LOADING)
def test_a_model_that_cannot_be_loaded_is_one_clear_message(loaded: dict[str, Any], strategy: str) -> None:
    """Even if loading fails in a spawned worker."""
    error = loaded[strategy]
    assert isinstance(error, HarnessError)
    assert "Cannot load the model 'no-such-model'" in error.what
    assert error.stage == "model"
    assert "\n" not in error.what
    assert "--online" in error.hint


def test_a_worker_that_dies_in_its_set_up_is_one_clear_line(log: Path) -> None:
    """For any failure of the start, the traceback is in the log, which --debug shows."""
    options = ServerOptions(strategy="supervised", workload=running.synthetic(faulty_setup="exit"))
    with (
        Supervisor() as supervisor,
        server_process.start("a", options, supervisor, log=log) as child,
        pytest.raises(server_process.ServerEnded) as caught,
    ):
        child.wait_ready(running.READY_WITHIN_S)
    assert (
        caught.value.what
        == "The server cannot start: EOFError: a worker died before it was warm; --debug shows the traceback."
    )
    assert "Traceback" in "".join(caught.value.__notes__)


def test_the_error_for_a_server_that_dies_before_it_is_ready_gives_the_reason(log: Path) -> None:
    options = ServerOptions(strategy="nonsense", workload=running.synthetic())
    with (
        Supervisor() as supervisor,
        server_process.start("a", options, supervisor, log=log) as child,
        pytest.raises(HarnessError, match="there is no strategy 'nonsense'"),
    ):
        child.wait_ready(running.READY_WITHIN_S)


def test_a_server_that_is_not_ready_at_the_deadline_is_given_up(log: Path) -> None:
    options = ServerOptions(strategy="inline", workload=running.synthetic(3000, 0))
    with (
        Supervisor() as supervisor,
        server_process.start("a", options, supervisor, log=log) as child,
        pytest.raises(HarnessError, match="not ready within 1 s"),
    ):
        child.wait_ready(within_s=1.0)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[psutil.Process]]:
    """The processes of each strategy's server, after a stop with the model in a C call."""
    # with a model that holds the lock, anyio's 40 workers would take 12 s to warm up one after another
    arms = every_strategy(running.synthetic(300, 0, mode="hold"), anyio_limiter=2)
    families = {}
    with running.resident(tmp_path_factory.mktemp("stopped"), arms) as servers:
        for name, child in servers.items():
            family = [psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)]
            with pytest.raises(httpx.TimeoutException):
                httpx.get(f"{child.url}/", timeout=0.1)
            child.stop()
            families[name] = family
    return families


@pytest.mark.parametrize("strategy", SERVED)
def test_stopping_leaves_no_process_even_with_a_model_in_a_c_call(
    stopped: dict[str, list[psutil.Process]], strategy: str
) -> None:
    family = stopped[strategy]
    assert not [process for process in family if process.is_running() and process.status() != "zombie"]
