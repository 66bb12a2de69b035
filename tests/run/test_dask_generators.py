"""Load generators on the workers of a Dask cluster; each worker may be a host with a clock of its own."""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
import three_hosts
from conftest import wait_for
from known_server import after, answering
from running import measured

from harness.errors import HarnessError
from harness.run import dask_cluster, generators
from harness.run.generators import LoadGenerator
from harness.run.supervisor import Supervisor
from harness.wire.arrivals import parse
from harness.wire.load_options import LoadOptions
from harness.wire.records import FAILED, judge

pytestmark = [pytest.mark.integration, pytest.mark.timed]

OPEN = {"arrivals": parse("poisson(200)"), "seed": 7, "settle_s": 0.1, "duration_s": 0.4}
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
PORT = 8791


@contextmanager
def cluster(
    workers: int, port: int, folder: Path | None = None
) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Start a scheduler and workers on this host; yield its address, and all of them, the scheduler first."""
    address = f"tcp://127.0.0.1:{port}"
    with ExitStack() as stack:
        started = [
            stack.enter_context(three_hosts.running(three_hosts.scheduler("127.0.0.1", port), **QUIET))
        ]
        started += [
            stack.enter_context(three_hosts.running(three_hosts.worker(address), cwd=folder, **QUIET))
            for _ in range(workers)
        ]
        wait_for(lambda: _workers(address) == workers)
        yield address, started


def _workers(address: str) -> int:
    from distributed import Client

    with contextlib.suppress(OSError), Client(address, timeout=1, set_as_default=False) as client:
        return len(client.scheduler_info(n_workers=-1)["workers"])
    return 0


@contextmanager
def opened(address: str) -> Iterator[LoadGenerator]:
    with Supervisor() as supervisor, generators.opened(address, supervisor) as found:
        yield found


def load(url: str, **options: object) -> LoadOptions:
    return LoadOptions(url=url, **OPEN | options)


def children(processes: list[subprocess.Popen[bytes]]) -> list[int]:
    return [child.pid for one in processes for child in psutil.Process(one.pid).children(recursive=True)]


def test_two_workers_send_one_load_and_leave_nothing_behind() -> None:
    with cluster(2, PORT) as (address, started), answering(after(2.0)) as server:
        with opened(address) as both:
            outcome = both.run(load(server.url))
            assert len(children(started[1:])) == 2
            limits = both.limits_there("aiohttp")
        wait_for(lambda: not children(started[1:]))
    assert {shot.generator for shot in measured(outcome)} == {0, 1}
    assert judge(outcome) is None
    assert len(limits) == 2
    assert all(one["requests_per_s"] > 100 for one in limits)


def test_a_killed_worker_fails_the_trial_and_another_takes_its_place() -> None:
    lines: list[str] = []
    with cluster(2, PORT + 1) as (address, started), answering(after(2.0)) as server, opened(address) as both:
        both.run(load(server.url))  # until both have started
        threading.Timer(0.5, os.kill, (started[2].pid, signal.SIGKILL)).start()
        outcome = both.run(load(server.url, duration_s=30.0), sink=lines.append)
        again = both.run(load(server.url))
    fault = judge(outcome)
    assert fault is not None
    assert fault.state == FAILED
    assert "Dask worker" in fault.words
    assert sum(text.count("\n") for text in lines) == outcome.counts.requests > 0
    assert judge(again) is None


def test_a_killed_scheduler_ends_the_run_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_cluster, "CONNECTS_WITHIN_S", 2.0)
    lines: list[str] = []
    with cluster(2, PORT + 2) as (address, started), answering(after(2.0)) as server, opened(address) as both:
        both.run(load(server.url))  # until both have started
        threading.Timer(1.2, os.kill, (started[0].pid, signal.SIGKILL)).start()
        with contextlib.suppress(HarnessError):  # or it ends with what the workers have sent
            both.run(load(server.url, duration_s=30.0), sink=lines.append)
        with pytest.raises(HarnessError, match=r"Dask (worker|scheduler)"):
            both.run(load(server.url), sink=lines.append)
    assert lines


def test_a_worker_without_our_package_is_named_with_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness" / "__init__.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'harness'\")"
    )
    with cluster(1, PORT + 3, tmp_path) as (address, _):  # noqa: SIM117 - in this order
        with pytest.raises(HarnessError) as caught, opened(address):
            pass
    assert "No module named 'harness'" in caught.value.what
    assert "Install this version of executor-bench" in caught.value.hint


def test_an_address_without_a_scheduler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_cluster, "CONNECTS_WITHIN_S", 0.5)
    with pytest.raises(HarnessError, match="There is no Dask scheduler"), opened("tcp://127.0.0.1:9"):
        pass


@pytest.fixture
def namespaces() -> None:
    if why := three_hosts.why_not():
        # they need root and a kernel that allows them; tests/run/test_generators.py has the form for one host
        pytest.skip(why)


@pytest.mark.usefixtures("namespaces")
def test_three_hosts_agree_on_one_clock_although_one_is_250_ms_ahead() -> None:
    with three_hosts.hosts(shifted=True):
        wait_for(lambda: _workers(three_hosts.SCHEDULER) == 2)
        wait_for(lambda: _answers(three_hosts.SERVICE))
        with opened(three_hosts.SCHEDULER) as both:
            outcome = both.run(load(three_hosts.SERVICE + "/"))
    assert judge(outcome) is None
    offsets_ms = {one.host: one.offset_before_ms or 0.0 for one in outcome.generators}
    assert abs(offsets_ms[three_hosts.ADDRESS.format(2)]) < 0.5
    assert abs(offsets_ms[three_hosts.ADDRESS.format(3)] - 250.0) < 0.5
    shots = measured(outcome)
    bound_ms = max(one.bound_ms or 0.0 for one in outcome.generators)
    assert {shot.generator for shot in shots} == {0, 1}
    assert all(shot.sent_ms > shot.due_ms - bound_ms for shot in shots)  # no clock is ahead of the schedule
    assert all((one.dispatch_lag_p50_ms or 0.0) < 20.0 for one in outcome.generators)


def _answers(url: str) -> bool:
    import httpx

    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/ping", timeout=1).status_code == 200
    return False
