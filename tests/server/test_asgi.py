"""The app under other servers, and under the event loop and HTTP parser that an arm chooses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import conftest
import httpx
import psutil
import pytest
import running
from ports import free_port

from harness.errors import ERROR_MARK, UsageError
from harness.plans import filled_command, from_flags, plan_files
from harness.plans.arm import Arm
from harness.plans.from_flags import Flags
from harness.wire.options import APP_VARIABLE, ServerOptions
from harness.wire.timings import HEADER, decode

STOPS_WITHIN_S = 4.0  # the run kills a command after 5 s
NO_METHOD = "SPAM"  # httptools refuses to parse it (400); h11 does not, so the app does (405)


# -- other servers -------------------------------------------------------------------------------------


@contextmanager
def started(arm: Arm, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The process of an arm's command, and its address. Kills what a failed test has left."""
    port = free_port()
    found = filled_command.resolved(arm, port=port)
    environment = {**os.environ, "PYTHONPATH": str(conftest.CHECKOUT), **found.env}
    with (
        log.open("wb") as stream,
        subprocess.Popen(
            found.words, env=environment, cwd=log.parent, stdout=stream, stderr=stream
        ) as process,
    ):
        try:
            yield process, f"http://127.0.0.1:{port}"
        finally:
            if process.poll() is None:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
                process.kill()


def health(url: str) -> dict[str, Any]:
    """The answer of `/health`; empty if the server is not ready."""
    try:
        answer = httpx.get(f"{url}/health")
    except httpx.TransportError:
        return {}
    return answer.json() if answer.status_code == 200 else {}


@pytest.mark.integration
@pytest.mark.parametrize("name", ["granian-x2", "hypercorn-x2", "gunicorn-x2"])
def test_another_server_runs_the_app_in_two_processes_and_ends_both_on_sigterm(
    tmp_path: Path, name: str
) -> None:
    arm = next(arm for arm in plan_files.load("servers").arms if arm.name == name)
    with started(arm, tmp_path / "log") as (process, url):
        pids: set[int] = set()

        def both_answer() -> bool:
            assert process.poll() is None, (tmp_path / "log").read_text()
            pids.update(pid for pid in [health(url).get("pid")] if pid is not None)
            return len(pids) == 2

        conftest.wait_for(both_answer, running.READY_WITHIN_S)
        about = health(url)["about"]
        assert (about["model"], about["service_ms"], about["event_loop"]) == (
            "synthetic sleep",
            1.0,
            "asyncio",
        )
        assert httpx.get(f"{url}/ping").json() == {"ping": "pong"}
        answer = httpx.post(f"{url}/predict", json={"text": "own words"})
        assert answer.json() == {"answer": "OWN WORDS"}
        assert decode(answer.headers[HEADER]).worker_pid in pids

        process.terminate()
        process.wait(STOPS_WITHIN_S)
        conftest.wait_for(lambda: not any(map(psutil.pid_exists, pids)), within_s=1)


def test_the_commands_of_the_plan_run_what_its_strategies_run() -> None:
    plan = plan_files.load("servers")
    ours = {arm.server_options(plan.workload).workload for arm in plan.arms if arm.command is None}
    theirs = [
        ServerOptions.model_validate_json(arm.env[APP_VARIABLE])
        for arm in plan.arms
        if arm.command is not None
    ]
    assert {arm.strategy for arm in plan.arms if arm.command is None} == {"inline"}
    assert all(options.strategy == "inline" and {options.workload} == ours for options in theirs)


def starting(**environment: str) -> subprocess.CompletedProcess[str]:
    """Create the app as a server does."""
    return subprocess.run(
        [sys.executable, "-c", "from harness.server import asgi; asgi.app()"],
        env={**{key: value for key, value in os.environ.items() if key != APP_VARIABLE}, **environment},
        cwd=conftest.CHECKOUT,
        capture_output=True,
        text=True,
    )


@pytest.mark.integration
@pytest.mark.parametrize(
    ("text", "what"),
    [
        (None, "The environment variable EXECBENCH_SERVER is not set."),
        ("{", "EXECBENCH_SERVER is not valid: Invalid JSON: "),
        (
            '{"strategy": "thread", "wrkers": 2}',
            "EXECBENCH_SERVER is not valid: wrkers: there is no such key",
        ),
        (
            '{"strategy": "thread", "event_loop": "uvloop"}',
            "EXECBENCH_SERVER has event_loop, which the app cannot set.",
        ),
    ],
)
def test_wrong_options_of_the_app_are_one_message_that_a_run_can_show(text: str | None, what: str) -> None:
    done = starting() if text is None else starting(**{APP_VARIABLE: text})
    (line,) = [line for line in done.stderr.splitlines() if line.strip()]
    reported = json.loads(line.removeprefix(ERROR_MARK))
    assert done.returncode == 3
    assert reported["what"].startswith(what)
    assert reported["hint"]


# -- the event loop and the HTTP parser of our own server ----------------------------------------------


@pytest.mark.integration
def test_the_server_runs_in_the_event_loop_and_with_the_parser_of_its_arm(tmp_path: Path) -> None:
    arms = {
        f"{loop}-{parser}-{processes}": ServerOptions(
            strategy="inline",
            event_loop=loop,
            http_parser=parser,
            server_processes=processes,
            workload=running.synthetic(),
        )
        for loop, parser, processes in (
            ("asyncio", "h11", 1),
            ("uvloop", "httptools", 1),
            ("uvloop", "h11", 2),
        )
    }
    with running.resident(tmp_path, arms) as servers:
        loops = {name: health(server.url)["about"]["event_loop"] for name, server in servers.items()}
        statuses = {
            name: httpx.request(NO_METHOD, f"{server.url}/ping").status_code
            for name, server in servers.items()
        }
    assert loops == {name: name.partition("-")[0] for name in arms}
    assert statuses == {name: 405 if "h11" in name else 400 for name in arms}


@pytest.fixture
def without_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)  # Python then finds no such package


@pytest.mark.usefixtures("without_uvloop")
def test_an_event_loop_that_is_not_installed_is_refused_with_the_name_of_its_extra() -> None:
    with pytest.raises(
        UsageError, match=r"'uvloop' \(arm '.*'\) cannot work here: .* not installed"
    ) as refused:
        from_flags.from_flags(Flags(strategies=("thread:event_loop=uvloop",)))
    assert "EXTRAS=servers" in refused.value.hint


@pytest.mark.usefixtures("without_uvloop")
def test_the_plan_of_servers_leaves_out_an_event_loop_that_is_not_installed() -> None:
    plan = plan_files.load("servers")
    assert {"uvicorn-uvloop", "uvicorn-uvloop-h11"} <= plan.left_out.keys()
    assert not any(arm.event_loop == "uvloop" for arm in plan.arms)


def test_event_loop_and_parser_of_an_arm_can_be_set_for_one_and_for_all() -> None:
    one = from_flags.from_flags(Flags(strategies=("thread", "thread:http_parser=h11")))
    assert [arm.http_parser for arm in one.arms] == ["httptools", "h11"]
    every = from_flags.from_flags(Flags(strategies=("thread", "inline"), arm={"http_parser": "h11"}))
    assert [arm.http_parser for arm in every.arms] == ["h11", "h11"]
