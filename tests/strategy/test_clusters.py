"""The strategies `ray` and `dask` on clusters of their own, and on some that exist, lack something or die."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from functools import partial
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import clusters
import httpx
import psutil
import pytest
import running
import strategy_calls as calls
from conftest import Execbench, wait_for
from strategy_contract import options_for

import strategies
from harness.run import server_process
from harness.wire.timings import decode
from strategies import Options

pytestmark = pytest.mark.timed

ENGINES = ("ray", "dask")
each_engine = pytest.mark.parametrize("name", ENGINES)
GONE_WITHIN_S = 5.0


def test_an_address_of_a_ray_client_is_refused() -> None:
    async def fail_to_open() -> None:
        with pytest.raises(ValueError, match=r"HOST:PORT, not ray://localhost:10001"):
            async with strategies.get("ray").open(
                calls.ready, calls.double, Options(address="ray://localhost:10001")
            ):
                pytest.fail("opened")

    asyncio.run(fail_to_open())


@each_engine
def test_an_address_at_which_no_cluster_answers_is_a_clear_error(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strategies.dask.CONNECTS_WITHIN_S", 0.5)
    scheme = {"dask": "tcp://"}.get(name, "")

    async def fail_to_open() -> None:
        with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:9"):
            async with strategies.get(name).open(
                calls.ready, calls.double, Options(address=f"{scheme}127.0.0.1:9")
            ):
                pytest.fail("opened")

    asyncio.run(fail_to_open())


@pytest.mark.parametrize("name", ["dask"])
def test_a_cluster_with_too_few_workers_is_a_clear_error(name: str) -> None:
    async def fail_to_open() -> None:
        with pytest.raises(ConnectionError, match="has 3 workers, but 4 are asked for"):
            async with strategies.get(name).open(calls.ready, calls.double, options_for(name, 4)):
                pytest.fail("opened")

    asyncio.run(fail_to_open())


def test_a_worker_with_several_threads_runs_one_call_at_a_time_in_order() -> None:
    wide = clusters.start(clusters.DASK, WORKERS="1", THREADS="2")

    async def submit_all() -> list[calls.Ran]:
        call, options = partial(calls.run_for, 0.01), Options(address=wide.address)
        async with strategies.get("dask").open(calls.ready, call, options) as submit:
            return await asyncio.gather(*map(submit, range(8)))

    try:
        ran = asyncio.run(submit_all())
        assert all(one.end <= after.start for one, after in pairwise(ran))
    finally:
        clusters.stop(wide)


@each_engine
def test_a_killed_worker_fails_only_what_it_had_and_another_takes_over(name: str) -> None:
    async def kill() -> tuple[list[Any], int, int]:
        call = partial(calls.run_for, 0.3)
        async with strategies.get(name).open(calls.ready, call, options_for(name, 1)) as submit:
            victim = (await submit("who")).pid
            tasks = [asyncio.create_task(submit(number)) for number in range(5)]
            await asyncio.sleep(0.15)
            os.kill(victim, signal.SIGKILL)
            answers: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
            assert submit.is_able()
            return answers, victim, (await submit("who")).pid

    answers, victim, successor = asyncio.run(kill())
    failed = [answer for answer in answers if isinstance(answer, BrokenExecutor)]
    had = 1 + import_module(f"strategies.{name}").AHEAD
    assert failed == answers[:had]
    assert "the worker died that had this item" in str(failed[0])
    assert [answer.item for answer in answers[had:]] == list(range(had, 5))
    assert victim != successor


@each_engine
def test_an_idle_worker_that_is_killed_is_noticed_and_replaced(name: str) -> None:
    async def kill() -> None:
        call = partial(calls.run_for, 0)
        async with strategies.get(name).open(calls.ready, call, options_for(name, 1)) as submit:
            victim = (await submit("who")).pid
            os.kill(victim, signal.SIGKILL)
            await asyncio.sleep(1.2)
            assert (await submit("again")).pid != victim

    asyncio.run(kill())


NODES = """
import sys
from ray.cluster_utils import Cluster
soon = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 100}  # to see that a node is dead
cluster = Cluster(
    initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": soon}
)
first = cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
sys.stdin.readline()
cluster.remove_node(first, allow_graceful=False)
cluster.add_node(num_cpus=1)
sys.stdin.read()
cluster.shutdown()
"""


def test_a_killed_node_of_ray_fails_what_its_actor_had_and_another_node_takes_over() -> None:
    several = clusters.start(NODES)

    async def kill() -> list[Any]:
        call, options = partial(calls.run_for, 1.0), Options(address=several.address)
        async with strategies.get("ray").open(calls.ready, call, options) as submit:
            tasks = [asyncio.create_task(submit(number)) for number in range(3)]
            await asyncio.sleep(0.3)
            assert several.process.stdin is not None
            several.process.stdin.write("kill the node\n")
            several.process.stdin.flush()
            return await asyncio.gather(*tasks, return_exceptions=True)

    try:
        assert [type(answer) for answer in asyncio.run(kill())] == [BrokenExecutor, BrokenExecutor, calls.Ran]
    finally:
        clusters.stop(several)


LACKS = """
import sys
sys.modules["strategies"] = None  # importing it then fails, as in an environment without it
"""


@each_engine
def test_a_worker_whose_environment_lacks_a_package_is_a_clear_error(name: str, tmp_path: Path) -> None:
    """The workers import sitecustomize at their start; the cluster itself needs no package of ours."""
    (tmp_path / "sitecustomize.py").write_text(LACKS)
    lacking = clusters.start(clusters.PROGRAMS[name], PYTHONPATH=str(tmp_path), WORKERS="1")
    children = psutil.Process().children()
    try:

        async def fail_to_open() -> None:
            with pytest.raises(
                RuntimeError, match=r"cannot run the model: .*strategies.* needs executor-bench"
            ):
                async with strategies.get(name).open(
                    calls.ready, calls.double, Options(address=lacking.address)
                ):
                    pytest.fail("opened")

        asyncio.run(fail_to_open())
        assert psutil.Process().children() == children
    finally:
        clusters.stop(lacking)


# -- in a run --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ray"])
def test_a_worker_killed_in_mid_trial_costs_requests_but_no_rows(execbench: Execbench, name: str) -> None:
    address = clusters.address(name)
    words = ["--workload", "synthetic", "--service-ms", "20", "--io", "sleep:0ms", "-c", "4"]
    words += ["--strategy", f"{name}:address={address}", "--blocks", "1", "--duration", "2"]
    run = execbench.start("run", *words, "--no-self-check", "--out", "run")
    folder = execbench.folder / "run"

    def of_workers() -> list[dict[str, str]]:
        rows = rows_of(folder) if (folder / "requests.csv").exists() else []
        return [row for row in rows if row["strategy"] == name and row["block"] == "1" and row["worker_pid"]]

    wait_for(of_workers)
    before = of_workers()
    os.kill(int(before[-1]["worker_pid"]), signal.SIGKILL)
    said, complaint = run.communicate(timeout=60)
    assert run.returncode == 0, said + complaint
    after = of_workers()
    assert after[: len(before)] == before
    assert after[-1]["worker_pid"] != before[-1]["worker_pid"]
    failed = [row for row in rows_of(folder) if row["error"] and row["strategy"] == name]
    assert {row["status"] for row in failed} == {"503"}
    record = json.loads((folder / "run.json").read_text())
    assert "the worker died that had this item" in str(record["bad_answers"])
    arms = {arm["strategy"]: arm for arm in record["plan"]["arms"]}
    assert arms[name]["options"]["address"] == address
    assert "CPU and memory are those of the server" in (folder / "report.txt").read_text()


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "requests.csv").open() as stream:
        return list(csv.DictReader(stream))


# -- a cluster of its own, behind the app ----------------------------------------------------------------


@pytest.fixture(params=ENGINES)
def server(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[server_process.Server]:
    """A server whose strategy starts a cluster with one worker."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with running.serving(tmp_path / "log", request.param, workload=running.synthetic(300, 0)) as child:
        yield child


def test_a_cluster_of_its_own_answers_survives_a_kill_and_ends_with_the_server(
    server: server_process.Server, tmp_path: Path
) -> None:
    family = psutil.Process(server.pid).children(recursive=True)
    timings = decode(httpx.get(server.url).headers["Server-Timing"])
    assert None not in (timings.queue_ms, timings.model_ms, timings.resume_ms)
    assert timings.worker_pid in {process.pid for process in family}
    folders = [*tmp_path.glob("dask-*"), *{path for process in family for path in folders_of_ray(process)}]
    assert folders

    async def kill() -> httpx.Response:
        async with httpx.AsyncClient() as client:
            answer = asyncio.create_task(client.get(server.url, timeout=30))
            await asyncio.sleep(0.15)
            os.kill(timings.worker_pid or 0, signal.SIGKILL)
            return await answer

    answer = asyncio.run(kill())
    assert (answer.status_code, "the worker died that had this item" in answer.text) == (503, True)
    wait_for(lambda: httpx.get(server.url, timeout=30).status_code == 200)
    family += psutil.Process(server.pid).children(recursive=True)
    with pytest.raises(httpx.TimeoutException):
        httpx.get(server.url, timeout=0.1)
    server.stop()
    assert not [process for process in family if is_running(process)]
    assert not [path for path in folders if path.exists()]


def test_a_ray_of_its_own_ends_with_a_server_that_is_killed(tmp_path: Path) -> None:
    """Without help, Ray's agents would go on."""
    with running.serving(tmp_path / "log", "ray") as child:
        family = psutil.Process(child.pid).children(recursive=True)
        folders = {path for process in family for path in folders_of_ray(process)}
        assert folders
        os.kill(child.pid, signal.SIGKILL)
        wait_for(lambda: not any(map(is_running, family)), GONE_WITHIN_S)
        wait_for(lambda: not any(path.exists() for path in folders), GONE_WITHIN_S)


def folders_of_ray(process: psutil.Process) -> set[Path]:
    """Ray's temporary folder, if the process was started with it. It is in /tmp, for a short path."""
    return set(map(Path, re.findall(r"/tmp/ray-\w+", " ".join(process.cmdline()))))


def is_running(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
