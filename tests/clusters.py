"""A pytest plugin with a Ray and a Dask cluster that tests share, each in a process of its own.

They start before the first test of `tests/strategy` that needs them by its parameters, so that they are
not among the processes that a test has started. All those tests run in one worker of pytest-xdist.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

TESTS = Path(__file__).parent
RAY = """
import os, sys, tempfile, ray
with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
    # actors take no CPU once they run, so one is enough, and fewer processes start with the cluster
    info = ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
    print(info.address_info["gcs_address"], flush=True)
    sys.stdin.read()
    ray.shutdown(wait_for_processes=True)
"""
DASK = """
import os, sys, dask, distributed
if __name__ == "__main__":
    dask.config.set({"distributed.worker.daemon": False})
    with distributed.LocalCluster(
        n_workers=int(os.environ["WORKERS"]),
        threads_per_worker=int(os.environ["THREADS"]),
        memory_limit=None,
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
    ) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""
PROGRAMS = {"ray": RAY, "dask": DASK}
# of the cluster, and of each process that uses it
VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # listens on loopback only
    "RAY_AUTH_MODE": "disabled",
}
SIZE = {"WORKERS": "3", "THREADS": "1"}  # of Dask's; no test asks for more


class Cluster(NamedTuple):
    address: str
    process: subprocess.Popen[str]


def start(program: str, **environment: str) -> Cluster:
    """Start a cluster by a program that prints its address, and ends it when its stdin closes."""
    path = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", program],
        env={**os.environ, **VARIABLES, "PYTHONPATH": path} | SIZE | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return Cluster(process.stdout.readline().strip(), process)


def stop(cluster: Cluster) -> None:
    """Let it end, and wait for that."""
    assert cluster.process.stdin is not None
    assert cluster.process.stdout is not None
    cluster.process.stdin.close()
    cluster.process.wait()
    cluster.process.stdout.close()


# -- shared by tests -------------------------------------------------------------------------------------

_started: dict[str, Cluster] = {}


@cache
def address(name: str) -> str:
    """The address of the cluster that all tests share; start it if this is the first test that needs it."""
    os.environ.update(VARIABLES)  # before this process imports ray
    _started[name] = start(PROGRAMS[name])
    return _started[name].address


def processes() -> set[int]:
    """The shared clusters with all of their processes, which come and go by themselves."""
    roots = [psutil.Process(cluster.process.pid) for cluster in _started.values()]
    return {process.pid for root in roots for process in (root, *root.children(recursive=True))}


def needed_by(item: pytest.Item) -> set[str]:
    """The clusters that a test needs by its parameters."""
    if item.path.parent != TESTS / "strategy" or item.get_closest_marker("quick"):
        return set()
    given = getattr(getattr(item, "callspec", None), "params", {})
    more = given.get("more")
    places = (given.get("name"), more.get("over") if isinstance(more, dict) else None)
    return {name for name in PROGRAMS if name in places}


@pytest.fixture(scope="session")
def shared_clusters() -> Iterator[None]:
    """Ends the clusters that tests have started."""
    yield
    for cluster in _started.values():
        stop(cluster)


@pytest.fixture(autouse=True)
def started_clusters(request: pytest.FixtureRequest) -> None:
    """Start the clusters that the test needs, unless they run."""
    for name in needed_by(request.node):
        request.getfixturevalue("shared_clusters")
        address(name)
