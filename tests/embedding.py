"""The real embedding model for tests: a pytest plugin, and helpers.

Tests that use `models_cache` share a worker of pytest-xdist, and so the loaded models and the export to ONNX,
which takes long.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import workloads
from harness.wire.options import WorkloadOptions

ABSENT_MODELS = ["no-such-model", "no-such/model", "/no/such/folder"]
LOAD_AND_WATCH_THE_NETWORK = """
import json, os, sys, tempfile, time
asked, refused = [], {}
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        asked.append(f"{event} {arguments}")
sys.addaudithook(watch)
from harness import workloads
from harness.errors import HarnessError
from harness.wire.options import WorkloadOptions
workload = workloads.create(WorkloadOptions(name="embed", torch_threads=1))
about = workload.about(workload.load())
for name in sys.argv[1:]:
    began = time.perf_counter()
    try:
        workloads.create(WorkloadOptions(name="embed", model=name)).load()
    except HarnessError as error:
        refused[name] = {**vars(error), "took_s": time.perf_counter() - began}
os.environ.pop("CI", None)  # where OpenVINO sends nothing
with tempfile.TemporaryDirectory() as home:
    os.environ["HOME"] = home
    from harness.workloads import openvino_model
    written = os.listdir(home)
print(json.dumps({"about": about, "refused": refused, "asked": asked, "written": written}))
"""


@pytest.fixture(scope="session")
def begun() -> Iterator[subprocess.Popen[str]]:
    """The running process of `another_process`, which imports torch while other tests import or export."""
    with subprocess.Popen(
        [sys.executable, "-c", LOAD_AND_WATCH_THE_NETWORK, *ABSENT_MODELS],
        env={**os.environ, **embed(torch_threads=1).environment()},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


@pytest.fixture(scope="session")
def another_process(begun: subprocess.Popen[str]) -> dict[str, Any]:
    """The report of a process that loads the default model and fails to load others, and watches its network.

    It has the environment that a server would set. A process is needed, as libraries read it on import.
    """
    output, _ = begun.communicate()
    assert begun.returncode == 0
    report: dict[str, Any] = json.loads(output)
    return report


def embed(**options: Any) -> workloads.Workload:
    return workloads.create(WorkloadOptions(name="embed", **options))


def texts(options: WorkloadOptions, seed: int, count: int = 50) -> list[str]:
    return list(itertools.islice(workloads.create(options).payloads(seed), count))


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that is empty at first, so that the first test to need the export makes it."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def models_cache(models_folder: Path) -> Iterator[Path]:
    """The cache of the module, instead of the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXECBENCH_CACHE", str(models_folder))
        yield models_folder


@pytest.fixture(scope="session")
def model(begun: object) -> Any:
    """The model in torch, loaded while another process loads it, too."""
    return embed().load()


@pytest.fixture(scope="session")
def onnx_model(models_folder: Path) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXECBENCH_CACHE", str(models_folder))
        return embed(backend="onnx").load()


@pytest.fixture(scope="session")
def exported(onnx_model: Any, models_folder: Path) -> Path:
    """The only file in the cache."""
    (path,) = models_folder.glob("onnx/*.onnx")
    return path
