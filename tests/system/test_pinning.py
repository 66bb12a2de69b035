"""Pinning: which side gets which CPUs, and that every thread and child is pinned."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import conftest
import psutil
import pytest
import running

from harness.errors import HarnessError
from harness.run import server_process
from harness.run.supervisor import Supervisor
from harness.system import pinning
from harness.wire.options import ServerOptions

NO_PINNING = "elsewhere a process cannot choose its CPUs, and `pinning.split` refuses"
pytestmark = [pytest.mark.integration, pytest.mark.skipif(sys.platform != "linux", reason=NO_PINNING)]

FAMILY = """
import subprocess, sys, threading, time
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
time.sleep(600)
"""
SPLIT_ON_ONE_CPU = """
import os
from harness.system import pinning
from harness.errors import HarnessError
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
try:
    pinning.split()
except HarnessError as error:
    print(error.stage, error.what, error.hint, sep="|")
"""


@contextmanager
def family() -> Iterator[psutil.Process]:
    """A process with a second thread and a child."""
    with subprocess.Popen([sys.executable, "-c", FAMILY]) as started:
        process = psutil.Process(started.pid)
        try:
            conftest.wait_for(lambda: process.children() and process.num_threads() == 2)
            yield process
        finally:
            for member in [*process.children(), process]:
                member.kill()


def affinities(process: psutil.Process) -> set[tuple[int, ...]]:
    """Return the affinities of all threads of the process and its descendants."""
    members = [process, *process.children(recursive=True)]
    threads = [thread.id for member in members for thread in member.threads()]
    return {tuple(sorted(os.sched_getaffinity(thread))) for thread in threads}


@pytest.fixture
def two_cpus() -> None:
    if len(os.sched_getaffinity(0)) < 2:
        # one CPU cannot be split; a test below checks that `split` refuses then
        pytest.skip("needs two usable CPUs")


@pytest.mark.quick
@pytest.mark.usefixtures("two_cpus")
def test_the_client_gets_one_cpu_and_the_servers_all_others() -> None:
    client, servers = pinning.split()
    assert len(client) == 1
    assert not set(client) & set(servers)
    assert {*client, *servers} == os.sched_getaffinity(0)


def test_with_one_usable_cpu_the_error_says_what_to_do() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SPLIT_ON_ONE_CPU], capture_output=True, text=True, check=True
    )
    stage, what, hint = done.stdout.strip().split("|")
    assert stage == "pin"
    assert "this process may use 1" in what
    assert "without --pin" in hint


@pytest.mark.usefixtures("two_cpus")
def test_every_thread_and_child_is_pinned_and_not_only_the_main_thread() -> None:
    cpus = pinning.split().client
    with family() as process:
        pinning.apply(process.pid, cpus)
        assert affinities(process) == {cpus}


def test_a_process_that_has_ended_is_ignored() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    pinning.apply(process.pid, (0,))


def test_a_cpu_that_does_not_exist_is_a_clear_error() -> None:
    with family() as process, pytest.raises(HarnessError, match="cannot be pinned to CPU 9999") as caught:
        pinning.apply(process.pid, (9999,))
    assert caught.value.stage == "pin"


@pytest.mark.usefixtures("two_cpus")
def test_workers_of_a_pinned_server_run_on_its_cpus(tmp_path: Path) -> None:
    cpus = pinning.split().client
    options = ServerOptions(strategy="process", workload=running.synthetic())
    with (
        Supervisor() as supervisor,
        server_process.start("a", options, supervisor, log=tmp_path / "log", cpus=cpus) as child,
    ):
        child.wait_ready(running.READY_WITHIN_S)
        time.sleep(0.1)
        assert affinities(psutil.Process(child.pid)) == {cpus}
