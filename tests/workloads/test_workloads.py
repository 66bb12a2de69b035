"""Each workload keeps its contract, the synthetic one has the right cost, and the real model is real."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import running
from conftest import wait_for
from workloads.test_io import ask, fetched

from harness import workloads
from harness.errors import HarnessError, UsageError
from harness.wire.options import WorkloadOptions
from harness.workloads.embed import missing_package, unsupported
from harness.workloads.io import embeddings, kinds
from harness.workloads.io.service import Services
from harness.workloads.local_setup import refuse_missing

OWN = "own_model:Model"
ALL = [
    pytest.param(WorkloadOptions(name="synthetic", service_ms=1.0, io_ms=1.0), id="synthetic"),
    pytest.param(WorkloadOptions(name=OWN, io_ms=1.0), id="own"),
    pytest.param(WorkloadOptions(name="embed", io_ms=1.0), id="embed", marks=pytest.mark.model),
    pytest.param(
        WorkloadOptions(name="embed", backend="onnx", io_ms=1.0), id="embed-onnx", marks=pytest.mark.model
    ),
]
IDLE_OPTIONS = [
    ("embed", "service_ms", 5.0),
    ("embed", "mode", "spin"),
    ("embed", "setup_ms", 5.0),
    ("embed", "faulty_setup", "raise"),
    ("embed", "faulty_setup_file", "x"),
    ("embed", "faults", True),
    ("synthetic", "model", "x"),
    ("synthetic", "device", "cpu"),
    ("synthetic", "torch_threads", 2),
    ("synthetic", "online", True),
    ("synthetic", "backend", "onnx"),
    ("synthetic", "onnx_threads", 2),
    ("synthetic", "max_cosine_difference", 0.1),
    (OWN, "model", "x"),
    (OWN, "service_ms", 5.0),
]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache that is empty at first, so that the first test to need the export makes it."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXECBENCH_CACHE", str(folder))
        yield folder


def texts(options: WorkloadOptions, seed: int, count: int = 50) -> list[str]:
    return list(itertools.islice(workloads.create(options).payloads(seed), count))


# -- the contract --------------------------------------------------------------------------------------


def test_every_workload_is_tested_here() -> None:
    tested = [options for param in ALL for options in param.values if isinstance(options, WorkloadOptions)]
    assert {options.name for options in tested} == {*workloads.NAMES, OWN}


@pytest.mark.parametrize("options", ALL)
def test_a_seed_determines_the_texts(options: WorkloadOptions) -> None:
    assert texts(options, seed=1) == texts(options, seed=1)
    assert texts(options, seed=1) != texts(options, seed=2)
    assert all(isinstance(text, str) and text for text in texts(options, seed=1))


@pytest.mark.integration
@pytest.mark.parametrize("options", ALL)
def test_predict_gives_one_result_per_item_and_answers_fit_json(
    options: WorkloadOptions, request: pytest.FixtureRequest
) -> None:
    if options.backend == "onnx":  # the first export takes long on one core: the other one is free for this
        request.getfixturevalue("begun")
    workload = workloads.create(options)
    model = workload.load()
    items = [workload.warmup_item, *texts(options, seed=1, count=3)]
    results = workload.predict(model, items)
    one_by_one = [workload.predict(model, [item])[0] for item in items]
    assert len(results) == len(items)
    for result, alone in zip(results, one_by_one, strict=True):
        assert result == pytest.approx(alone, abs=1e-5) if options.name == "embed" else result == alone
    assert len(json.dumps(workload.answer(results[0]))) < 200


@pytest.mark.timed
@pytest.mark.parametrize("options", ALL)
def test_the_awaited_io_takes_its_nominal_time_and_lets_others_run(options: WorkloadOptions) -> None:
    workload = workloads.create(options)

    async def ten_at_once() -> float:
        async with kinds.opened(workload, options.model_copy(update={"io_ms": 30.0})) as ask:
            began = time.perf_counter()
            await asyncio.gather(*(ask("x") for _ in range(10)))
            return (time.perf_counter() - began) * 1e3

    assert 30 <= min(asyncio.run(ten_at_once()) for _ in range(3)) < 60


@pytest.mark.integration
@pytest.mark.parametrize("options", ALL)
def test_the_facts_about_its_model_fit_the_runs_record(options: WorkloadOptions) -> None:
    workload = workloads.create(options)
    about = workload.about(workload.load())
    assert json.loads(json.dumps(about)) == about
    assert about["model"]
    assert all(isinstance(value, str) for value in workload.environment().values())


@pytest.mark.parametrize("name", [*workloads.NAMES, OWN])
def test_its_summary_is_one_line(name: str) -> None:
    assert workloads.summary(name)
    assert "\n" not in workloads.summary(name)


def test_an_unknown_workload_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="no workload 'syntetic'") as caught:
        workloads.create(WorkloadOptions(name="syntetic"))
    assert "'synthetic'" in caught.value.hint


def test_an_unknown_workload_like_no_other_is_refused_with_the_list() -> None:
    with pytest.raises(UsageError) as caught:
        workloads.check_name("zzz")
    assert all(name in caught.value.hint for name in workloads.NAMES)


@pytest.mark.parametrize(("name", "option", "value"), IDLE_OPTIONS)
def test_an_option_that_the_workload_does_not_take_is_refused(name: str, option: str, value: Any) -> None:
    with pytest.raises(UsageError, match=option) as caught:
        workloads.check(WorkloadOptions.model_validate({"name": name, option: value}))
    assert "It takes: " in caught.value.hint


@pytest.mark.parametrize(
    "given",
    [
        {"name": "embed", "model": "x", "device": "cpu", "torch_threads": 1, "online": True, "io_ms": 1.0},
        {"name": "embed", "backend": "onnx", "device": "cpu", "torch_threads": 1, "onnx_threads": 2},
        {"name": "embed", "backend": "openvino", "torch_threads": 1},
        {"name": "embed", "backend": "openvino-bf16", "max_cosine_difference": 0.01},
        {"name": "synthetic", "service_ms": 1.0, "mode": "spin", "io_ms": 1.0},
        {"name": "synthetic", "setup_ms": 1.0, "faulty_setup": "exit", "faults": True},
        {"name": OWN, "torch_threads": 1, "io_ms": 1.0},
    ],
)
def test_an_option_that_the_workload_takes_is_accepted(given: dict[str, Any]) -> None:
    workloads.check(WorkloadOptions.model_validate(given))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"onnx_threads": 2}, "onnx_threads has no effect with the backend torch"),
        ({"onnx_threads": 2, "backend": "openvino"}, "onnx_threads has no effect with the backend openvino"),
        ({"max_cosine_difference": 0.1}, "no effect with the backend torch"),
        ({"max_cosine_difference": 0.1, "backend": "openvino"}, "no effect with the backend openvino"),
        ({"backend": "onnx", "device": "cuda"}, "not on 'cuda'"),
        ({"backend": "openvino", "device": "cuda"}, "openvino runs on the CPU, not on 'cuda'"),
    ],
)
def test_options_that_contradict_each_other_are_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        workloads.check(WorkloadOptions.model_validate(given))


# -- synthetic: the cost is the known truth ------------------------------------------------------------


def synthetic_call(mode: str, service_ms: float) -> Callable[[], list[str]]:
    workload = workloads.create(running.synthetic(service_ms, mode=mode))
    model = workload.load()
    return lambda: workload.predict(model, ["a", "b"])


class Cost:
    """The wall time and the calling thread's CPU time of one call, in ms."""

    def __init__(self, call: Callable[[], object]) -> None:
        cpu, wall = time.thread_time(), time.perf_counter()
        call()
        self.wall_ms = (time.perf_counter() - wall) * 1e3
        self.cpu_ms = (time.thread_time() - cpu) * 1e3


class Counter:
    """A thread that always needs the interpreter lock; `count` is its progress."""

    def __init__(self) -> None:
        self.count = 0
        self.stopped = False

    def run(self) -> None:
        while not self.stopped:
            self.count += 1

    def per_ms_during(self, call: Callable[[], object]) -> float:
        before = self.count
        cost = Cost(call)
        return (self.count - before) / cost.wall_ms


@contextmanager
def counting() -> Iterator[Counter]:
    counter = Counter()
    thread = threading.Thread(target=counter.run)
    thread.start()
    try:
        yield counter
    finally:
        counter.stopped = True
        thread.join()


def pace_beside(mode: str, service_ms: float) -> float:
    """How fast another thread counts during a call of `mode`, as a share of its pace during a sleep."""
    busy, idle = synthetic_call(mode, service_ms), lambda: time.sleep(0.05)
    with counting() as counter:
        shares = [counter.per_ms_during(busy) / counter.per_ms_during(idle) for _ in range(3)]
    return statistics.median(shares)


@pytest.mark.timed
def test_the_synthetic_model_answers_in_capitals_in_one_service_time_for_all_items() -> None:
    call = synthetic_call("sleep", 20)
    assert call() == ["A", "B"]
    assert min(Cost(call).wall_ms for _ in range(5)) < 30


def test_a_synthetic_call_takes_longer_for_each_of_its_items() -> None:
    options = WorkloadOptions(name="synthetic", service_ms=10.0, per_item_ms=4.0)
    took_ms: list[float] = []
    workload = workloads.create(options)
    assert workload.predict(took_ms.append, ["a", "b", "c"]) == ["A", "B", "C"]
    workload.predict(took_ms.append, ["d"])
    assert took_ms == [22.0, 14.0]


@pytest.mark.timed
@pytest.mark.parametrize("mode", ["sleep", "hold"])
@pytest.mark.parametrize("service_ms", [5, 40])
def test_sleep_and_hold_take_their_wall_time_and_no_cpu(mode: str, service_ms: float) -> None:
    """Compare with a bare sleep of that length, in turn, as machines differ in the delay and cost of waking.

    Compare lower quartiles, because periodic work of other programs may hit one side more often.
    """
    call = synthetic_call(mode, service_ms)
    costs, bare = [], []
    for _ in range(9):
        costs.append(Cost(call))
        bare.append(Cost(lambda: time.sleep(service_ms / 1e3)))
    assert min(cost.wall_ms for cost in costs) >= service_ms - 0.01
    for what, bound in (("wall_ms", 1.9), ("cpu_ms", 0.45)):
        more, usual = (sorted(getattr(cost, what) for cost in side)[2] for side in (costs, bare))
        assert more - usual < bound, what


@pytest.mark.timed
@pytest.mark.parametrize("mode", ["spin", "release"])
@pytest.mark.parametrize("service_ms", [5, 40])
def test_spin_and_release_take_their_cpu_time_whatever_the_wall_time(mode: str, service_ms: float) -> None:
    costs = [Cost(synthetic_call(mode, service_ms)) for _ in range(9)]
    assert min(cost.cpu_ms for cost in costs) >= service_ms
    assert statistics.median(cost.cpu_ms for cost in costs) < service_ms + 1


@pytest.mark.timed
@pytest.mark.parametrize("mode", ["spin", "release"])
def test_the_cpu_time_is_the_same_next_to_a_busy_thread(mode: str) -> None:
    with counting():
        costs = [Cost(synthetic_call(mode, 5)) for _ in range(3)]
    assert all(5 <= cost.cpu_ms < 7 for cost in costs)


@pytest.mark.timed
@pytest.mark.parametrize("service_ms", [300, 1200])
def test_no_other_thread_runs_during_hold(service_ms: float) -> None:
    """The other thread gets turns of 5 ms just before, just after, and once a second between two C calls.

    `usleep` may refuse a whole second, so a longer hold consists of several calls.
    """
    call = synthetic_call("hold", service_ms)
    with counting() as counter:
        alone_per_ms = counter.per_ms_during(lambda: time.sleep(0.2))
        before = counter.count
        cost = Cost(call)
        ran_ms = (counter.count - before) / alone_per_ms
    assert service_ms <= cost.wall_ms < service_ms + 50
    assert ran_ms < 40


@pytest.mark.timed
def test_another_thread_shares_the_lock_with_spin_and_both_are_slower() -> None:
    assert 0.1 < pace_beside("spin", 50) < 0.8
    with counting():
        walls = [Cost(synthetic_call("spin", 50)).wall_ms for _ in range(3)]
    assert min(walls) > 65


@pytest.mark.timed
@pytest.mark.parametrize("mode", ["sleep", "release"])
def test_another_thread_runs_during_sleep_and_release(mode: str) -> None:
    assert pace_beside(mode, 10) > 0.6


# -- embed: the real model -----------------------------------------------------------------------------


def embed(**options: Any) -> workloads.Workload:
    return workloads.create(WorkloadOptions(name="embed", **options))


@pytest.fixture(scope="module")
def model() -> Any:
    return embed().load()


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


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def another_process(begun: subprocess.Popen[str]) -> dict[str, Any]:
    """The report of a process that loads the default model and fails to load others, and watches its network.

    It has the environment that a server would set. A process is needed, as libraries read it on import.
    """
    output, _ = begun.communicate()
    assert begun.returncode == 0
    report: dict[str, Any] = json.loads(output)
    return report


@pytest.mark.model
def test_the_embedding_of_a_text_is_always_the_same_unit_vector_of_384(model: Any) -> None:
    workload = embed()
    first, again = (workload.predict(model, ["How big is London"])[0] for _ in range(2))
    assert first.shape == (384,)
    assert first.tolist() == again.tolist()
    assert math.hypot(*first.tolist()) == pytest.approx(1, abs=1e-5)
    assert workload.predict(model, ["How big is Paris"])[0].tolist() != first.tolist()


@pytest.mark.model
def test_a_batch_of_mixed_lengths_equals_its_texts_one_by_one(model: Any) -> None:
    workload = embed()
    items = ["a", "How big is London", "one word after another " * 30, "Wie groß ist London?"]
    together = workload.predict(model, items)
    for item, result in zip(items, together, strict=True):
        assert workload.predict(model, [item])[0] == pytest.approx(result, abs=1e-5)


@pytest.mark.model
def test_small_passes_give_the_same_embeddings_in_the_same_order(model: Any) -> None:
    items = ["one word after another " * number for number in (9, 1, 5, 3)]
    whole, in_passes = (embed(encode_batch=size).predict(model, items) for size in (None, 2))
    for one, other in zip(whole, in_passes, strict=True):
        assert other == pytest.approx(one, abs=1e-5)


@pytest.mark.model
def test_embeddings_reflect_the_meaning_of_a_text(model: Any) -> None:
    """A model with random weights or hashes would fail this test."""
    about = ["How big is London", "What is the size of the English capital?", "My cat sleeps all day"]
    london, capital, cat = embed().predict(model, about)
    assert london @ capital > 0.5 > london @ cat + 0.2


@pytest.mark.model
def test_the_hash_of_the_weights_is_the_same_in_another_process(
    model: Any, another_process: dict[str, Any]
) -> None:
    here = embed().about(model)["weights_sha256"]
    assert isinstance(here, str)
    assert len(here) == 64
    assert set(here) <= set("0123456789abcdef")
    assert another_process["about"]["weights_sha256"] == here


@pytest.mark.model
def test_the_environments_settings_apply_and_are_recorded(another_process: dict[str, Any]) -> None:
    about = another_process["about"]
    assert about["torch_threads"] == 1
    assert about["omp_num_threads"] == "1"
    assert about["tokenizers_parallelism"] == "false"
    assert about["hub_offline"] is True
    assert about["device"] == "cpu"


@pytest.mark.model
def test_different_weights_have_different_hashes(model: Any) -> None:
    import torch

    before = embed().about(model)["weights_sha256"]
    weight = next(iter(model.parameters()))
    with torch.no_grad():
        kept = weight[0, 0].clone()
        weight[0, 0] += 1e-3
        changed = embed().about(model)["weights_sha256"]
        weight[0, 0] = kept
    assert changed != before
    assert embed().about(model)["weights_sha256"] == before


@pytest.mark.model
def test_torch_threads_are_set_on_load_and_recorded() -> None:
    import torch

    found = torch.get_num_threads()
    try:
        for count in (1, 2):
            workload = embed(torch_threads=count)
            assert workload.about(workload.load())["torch_threads"] == count == torch.get_num_threads()
        assert workload.environment()["OMP_NUM_THREADS"] == "2"
    finally:
        torch.set_num_threads(found)
    workload = embed()
    assert "OMP_NUM_THREADS" not in workload.environment()
    assert workload.about(workload.load())["torch_threads"] == found


@pytest.mark.model
def test_a_model_can_be_given_by_path(model: Any, tmp_path: Path) -> None:
    model.save(str(tmp_path / "mine"))
    workload = embed(model=str(tmp_path / "mine"))
    mine = workload.load()
    assert workload.about(mine)["weights_sha256"] == embed().about(model)["weights_sha256"]
    item = ["How big is London"]
    assert workload.predict(mine, item)[0] == pytest.approx(embed().predict(model, item)[0], abs=1e-5)


@pytest.mark.model
def test_a_database_finds_a_stored_text_by_its_index_and_vectors_are_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXECBENCH_CACHE", str(tmp_path))
    asked = WorkloadOptions(io="pgvector", io_rows=1000, torch_threads=1)
    with Services(lambda name: tmp_path / f"{name}.log", lambda stage: None) as services:
        options = services.connected(asked)
        text = next(embeddings.texts(1, 1000))
        assert ask(options, text).value[0]["text"] == text
        assert options.io_address is not None
        scans = "SELECT idx_scan FROM pg_stat_user_indexes WHERE relname = 'texts'"
        wait_for(lambda: fetched(str(options.io_address), scans) == [1])
    (kept,) = (tmp_path / "vectors").iterdir()
    assert kept.stat().st_size > 1000 * 384 * 4


@pytest.mark.model
@pytest.mark.parametrize("name", ABSENT_MODELS)
def test_a_missing_model_is_an_error_at_once(another_process: dict[str, Any], name: str) -> None:
    error = another_process["refused"][name]
    assert f"Cannot load the model {name!r}" in error["what"]
    assert "it is neither a folder nor in the hub's cache" in error["what"]
    assert "\n" not in error["what"]
    assert error["stage"] == "model"
    assert "--model" in error["hint"]
    assert error["took_s"] < 3


@pytest.mark.model
@pytest.mark.parametrize(("asked", "cached"), [("own/it", "own/it"), ("it", "sentence-transformers/it")])
def test_a_model_in_the_hubs_cache_is_not_reported_as_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, cached: str
) -> None:
    """This model has an empty configuration, so it is found but cannot be loaded."""
    folder = tmp_path / f"models--{cached.replace('/', '--')}"
    for name, text in (("refs/main", "1"), ("snapshots/1/config.json", "{}")):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(HarnessError, match="Cannot load the model") as caught:
        embed(model=asked).load()
    assert "nor in the hub's cache" not in caught.value.what


@pytest.mark.model
def test_offline_loading_uses_no_network(another_process: dict[str, Any]) -> None:
    """Neither for a model on this machine nor for a missing one."""
    assert another_process["asked"] == []


@pytest.mark.model
def test_importing_openvino_sends_and_writes_nothing(another_process: dict[str, Any]) -> None:
    """Unless it is kept from it, it notes an identifier in the home folder and sends it from a thread."""
    assert another_process["asked"] == []
    assert another_process["written"] == []


@pytest.mark.model
def test_an_empty_folder_is_not_accepted_as_a_model(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="Cannot load the model"):
        embed(model=str(tmp_path)).load()


@pytest.mark.model
def test_a_missing_device_is_a_clear_error() -> None:
    with pytest.raises(HarnessError, match="on 'no-such-device'"):
        embed(device="no-such-device").load()


@pytest.mark.model
@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_threads_may_share_a_newly_loaded_model_for_texts_of_any_length(backend: str) -> None:
    """A tokenizer raises "Already borrowed" if one thread sets it up while another uses it.

    So it is set up when the model is loaded, and no call changes it.
    """
    workload = embed(backend=backend, torch_threads=1)
    fresh = workload.load()
    tokenizer = fresh.tokenizer.backend_tokenizer
    settled = (tokenizer.truncation, tokenizer.padding)
    lengths = (1, 8, 2, 5, 3)

    def many(number: int) -> list[Any]:
        items = [[f"item {number} " * lengths[(number + turn) % 5]] for turn in range(50)]
        return [workload.predict(fresh, item)[0] for item in items]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(many, range(8)))
    assert [len(results) for results in found] == [50] * 8
    assert (tokenizer.truncation, tokenizer.padding) == settled
    for number in (0, 3):
        item = [f"item {number} " * lengths[(number + 49) % 5]]
        assert found[number][49] == pytest.approx(workload.predict(fresh, item)[0], abs=1e-5)


# -- embed on ONNX Runtime -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def onnx_model() -> Any:
    return embed(backend="onnx").load()


@pytest.fixture(scope="module")
def exported(onnx_model: Any, cache: Path) -> Path:
    """The only file in the cache."""
    (path,) = cache.glob("onnx/*.onnx")
    return path


@pytest.mark.model
def test_both_backends_give_the_same_embeddings(model: Any, onnx_model: Any) -> None:
    mixed = ["one word after another " * (1 + number % 8) + str(number) for number in range(32)]
    for items in (["How big is London"], mixed, ["too long for it " * 100], texts(WorkloadOptions(), 1)):
        with_torch = np.array(embed().predict(model, items))
        with_onnx = np.array(embed(backend="onnx").predict(onnx_model, items))
        assert with_onnx.dtype == with_torch.dtype == np.float32
        assert np.abs(with_onnx - with_torch).max() <= 1e-5


@pytest.mark.model
def test_a_second_load_finds_the_export_in_the_cache(exported: Path) -> None:
    before = exported.stat()
    embed(backend="onnx").load()
    after = exported.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert sorted(path.suffix for path in exported.parent.iterdir()) == [".json", ".lock", ".onnx"]


@pytest.fixture
def torch_threads_restored() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.model
@pytest.mark.usefixtures("torch_threads_restored")
@pytest.mark.parametrize("threads", [1, 3])
def test_the_runtime_has_the_given_threads_and_does_not_spin(threads: int) -> None:
    workload = embed(backend="onnx", onnx_threads=threads)
    about = workload.about(workload.load())
    assert (about["onnx_intra_op_threads"], about["onnx_inter_op_threads"]) == (threads, 1)
    assert about["onnx_spinning"] is False
    assert about["torch_threads"] == threads  # it pools the tokens; other threads would wait in a loop


@pytest.mark.model
def test_by_default_the_runtime_has_as_many_threads_as_torch(onnx_model: Any) -> None:
    about = embed(backend="onnx").about(onnx_model)
    assert about["onnx_intra_op_threads"] == about["torch_threads"]


@pytest.mark.model
def test_the_record_names_weights_and_runtime(model: Any, onnx_model: Any, exported: Path) -> None:
    with_torch, with_onnx = embed().about(model), embed(backend="onnx").about(onnx_model)
    assert (with_torch["backend"], with_onnx["backend"]) == ("torch", "onnx")
    assert with_torch["runtime"] == f"torch {version('torch')}"
    assert with_onnx["runtime"] == f"onnxruntime {version('onnxruntime')}"
    assert with_onnx["weights_sha256"] == with_torch["weights_sha256"]
    assert with_onnx["onnx_sha256"] == hashlib.sha256(exported.read_bytes()).hexdigest()
    assert with_onnx["onnx_providers"] == "CPUExecutionProvider"
    difference = with_onnx["onnx_max_abs_difference"]
    assert isinstance(difference, float)
    assert 0 <= difference <= 1e-5


@pytest.mark.model
def test_the_torch_weights_are_freed_once_the_runtime_has_its_own(onnx_model: Any) -> None:
    assert sum(parameter.numel() for parameter in onnx_model.parameters()) == 0


@pytest.mark.model
def test_an_export_with_other_embeddings_is_refused_and_leaves_no_files(
    exported: Path, tmp_path: Path
) -> None:
    import onnx

    from harness.workloads import onnx_export

    def slightly_wrong(model: Any, path: Path) -> None:
        graph = onnx.load(exported)
        largest = max(graph.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        numbers = np.frombuffer(largest.raw_data, dtype=np.float32) * np.float32(1.01)
        largest.raw_data = numbers.tobytes()
        onnx.save(graph, path)

    with pytest.raises(HarnessError, match="differ from torch's by") as caught:
        onnx_export.make(embed().load(), tmp_path / "wrong.onnx", export=slightly_wrong)
    assert caught.value.stage == "model"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.model
def test_a_damaged_export_is_replaced(exported: Path, tmp_path: Path) -> None:
    from harness.workloads import exported as exports
    from harness.workloads import onnx_export

    def copied(model: Any, new: Path) -> None:
        shutil.copy(exported, new)

    path = tmp_path / "mine.onnx"
    path.write_bytes(b"half a fi")
    assert exports.cached(path) is None
    onnx_export.make(embed().load(), path, export=copied)
    assert exports.cached(path) is not None
    path.write_bytes(path.read_bytes()[:-1])
    assert exports.cached(path) is None


@pytest.mark.parametrize(
    ("backend", "module", "extra"),
    [("onnx", "onnxscript", "onnx"), ("openvino-bf16", "openvino", "openvino")],
)
def test_a_backend_without_a_package_names_its_extra(
    monkeypatch: pytest.MonkeyPatch, backend: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # Python cannot import it
    with pytest.raises(HarnessError, match=rf"The backend {backend} needs .*{module}") as caught:
        embed(backend=backend).load()
    assert caught.value.stage == "model"
    assert f"executor-bench[{extra}]" in caught.value.hint


def test_a_missing_package_is_an_error_that_names_the_extra() -> None:
    with pytest.raises(HarnessError, match=r"needs no_such_package\.") as caught:
        refuse_missing(["json", "no_such_package"], "The backend onnx", extra="onnx", stage="model")
    assert caught.value.stage == "model"
    assert "executor-bench[onnx]" in caught.value.hint
    assert "make setup EXTRAS=onnx" in caught.value.hint


# -- embed on OpenVINO ---------------------------------------------------------------------------------


def openvino_options(**options: Any) -> WorkloadOptions:
    return WorkloadOptions.model_validate({"name": "embed", **options})


def skip_without(backend: str) -> None:
    """Skip the test if this processor lacks the precision of the backend."""
    from harness.workloads import openvino_model

    if openvino_model.PRECISION[backend] not in openvino_model.precisions(openvino_model.capabilities()):
        # OpenVINO would compute in float32 there; a test of `refuse_unsupported` holds that it is refused
        pytest.skip("this processor does not compute in bfloat16")


@pytest.fixture(scope="module")
def damaged(exported: Path) -> Path:
    """The note about how exact OpenVINO is, cut in half before it is first needed."""
    from harness.workloads import exported as exports
    from harness.workloads import openvino_model

    entry = exports.cached(exported)
    assert entry is not None
    path = openvino_model.note_path(entry)
    path.parent.mkdir()
    path.write_text('{"f32": {"max_abs_di')
    assert openvino_model.noted(path) is None
    return path


@pytest.fixture(scope="module", params=["openvino", "openvino-bf16"])
def openvino(request: pytest.FixtureRequest, damaged: Path) -> tuple[workloads.Workload, Any]:
    """The workload in one of the precisions, and its model."""
    skip_without(request.param)
    workload = embed(backend=request.param)
    return workload, workload.load()


def cosines(rows: Any) -> Any:
    return np.array(rows) @ np.array(rows).T


@pytest.mark.model
def test_openvino_gives_the_embeddings_of_torch_within_the_bound_of_its_precision(
    model: Any, openvino: tuple[workloads.Workload, Any]
) -> None:
    workload, loaded = openvino
    is_exact = workload.about(loaded)["openvino_precision"] == "f32"
    mixed = ["one word after another " * (1 + number % 8) + str(number) for number in range(32)]
    for items in (["How big is London"], mixed, ["too long for it " * 100], texts(WorkloadOptions(), 1)):
        with_torch = np.array(embed().predict(model, items))
        with_openvino = np.array(workload.predict(loaded, items))
        assert with_openvino.dtype == with_torch.dtype == np.float32
        difference = np.abs(with_openvino - with_torch).max()
        assert difference <= 1e-5 if is_exact else difference > 1e-5  # it does compute in bfloat16
        assert np.abs(cosines(with_openvino) - cosines(with_torch)).max() <= (1e-5 if is_exact else 0.005)


@pytest.mark.model
def test_four_threads_may_call_openvino_at_once_and_no_call_changes_the_result_of_another(
    openvino: tuple[workloads.Workload, Any],
) -> None:
    workload, loaded = openvino
    batches = [[f"batch {number} " * (1 + number + turn) for turn in range(3)] for number in range(4)]
    alone = [np.array(workload.predict(loaded, batch)) for batch in batches]
    together = threading.Barrier(4)

    def many(number: int) -> list[Any]:
        together.wait()
        return [workload.predict(loaded, batches[number]) for _ in range(20)]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(many, range(4)))
    for expected, calls in zip(alone, found, strict=True):
        assert all(np.array_equal(np.array(call), expected) for call in calls)


@pytest.mark.model
def test_the_record_has_openvinos_settings_and_how_much_it_differs_from_torch(
    model: Any, openvino: tuple[workloads.Workload, Any], exported: Path, damaged: Path
) -> None:
    from harness.workloads import openvino_model

    workload, loaded = openvino
    about = workload.about(loaded)
    assert json.loads(json.dumps(about)) == about
    assert about["runtime"] == f"openvino {version('openvino')}"
    assert about["openvino_precision"] == openvino_model.PRECISION[str(about["backend"])]
    assert (about["openvino_threads"], about["openvino_streams"]) == (about["torch_threads"], 1)
    assert about["openvino_pinning"] is False
    assert about["weights_sha256"] == embed().about(model)["weights_sha256"]
    assert about["onnx_sha256"] == hashlib.sha256(exported.read_bytes()).hexdigest()
    noted = openvino_model.noted(damaged)
    assert noted is not None  # made again
    recorded = (about["openvino_max_abs_difference"], about["openvino_max_cosine_difference"])
    assert recorded == noted[str(about["openvino_precision"])]
    assert sum(parameter.numel() for parameter in loaded.parameters()) == 0


@pytest.mark.model
def test_torch_threads_sets_the_threads_of_openvino_and_a_later_load_finds_the_note(damaged: Path) -> None:
    import torch

    found, before = torch.get_num_threads(), damaged.stat()
    workload = embed(backend="openvino", torch_threads=1)
    try:
        about = workload.about(workload.load())
    finally:
        torch.set_num_threads(found)
    assert about["openvino_threads"] == about["torch_threads"] == 1
    assert (damaged.stat().st_ino, damaged.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


TWO_MODELS_OF_WHICH_THE_FIRST_ENDS = """
import gc, signal, sys
from pathlib import Path
from harness.workloads import openvino_model
models = [openvino_model.Transformer(None, Path(sys.argv[1]), "f32", 1) for _ in range(2)]
while models:
    models.pop(0)
    gc.collect()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    sys.exit(7)
"""


@pytest.mark.model
def test_a_process_survives_a_signal_after_its_models_of_openvino_have_ended(exported: Path) -> None:
    """OpenVINO frees a stack for signals that is still in use, unless there is only one instance of it."""
    command = [sys.executable, "-c", TWO_MODELS_OF_WHICH_THE_FIRST_ENDS, str(exported)]
    assert subprocess.run(command).returncode == 7


@pytest.mark.model
def test_bfloat16_that_differs_by_more_than_the_given_bound_is_refused(damaged: Path) -> None:
    from harness.workloads import openvino_model

    skip_without("openvino-bf16")
    with pytest.raises(HarnessError, match=r"differ from torch's by 0\.\d+, more than 1e-09") as caught:
        embed(backend="openvino-bf16", max_cosine_difference=1e-9).load()
    assert caught.value.stage == "model"
    assert "--backend openvino" in caught.value.hint
    assert "max_cosine_difference" in caught.value.hint
    noted = openvino_model.noted(damaged)
    assert noted is not None
    assert f"by {noted['bf16'].max_cosine_difference:.2g}," in caught.value.what


@pytest.mark.model
@pytest.mark.parametrize(
    ("found", "options", "says"),
    [
        ((2e-5, 0.0), {"backend": "openvino"}, "The embeddings .* by 2e-05, more than 1e-05"),
        ((math.nan, 0.0), {"backend": "openvino"}, "by nan"),
        ((0.0, 0.006), {"backend": "openvino-bf16"}, "The cosine similarities .* by 0.006, more than 0.005"),
        ((0.0, 0.02), {"backend": "openvino-bf16", "max_cosine_difference": 0.01}, "more than 0.01"),
        ((1e-5, 1.0), {"backend": "openvino"}, None),
        ((1.0, 0.005), {"backend": "openvino-bf16"}, None),
        ((1.0, 0.02), {"backend": "openvino-bf16", "max_cosine_difference": 0.02}, None),
    ],
)
def test_float32_is_judged_by_its_numbers_and_bfloat16_by_its_cosines(
    found: tuple[float, float], options: dict[str, Any], says: str | None
) -> None:
    from harness.workloads import openvino_model

    difference = openvino_model.Difference(*found)
    if says is None:
        openvino_model.refuse_different(difference, openvino_options(**options))
        return
    with pytest.raises(HarnessError, match=says):
        openvino_model.refuse_different(difference, openvino_options(**options))


@pytest.mark.model
def test_bfloat16_is_refused_on_a_processor_without_it() -> None:
    from harness.workloads import openvino_model

    without = ["FP32", "INT8"]
    openvino_model.refuse_unsupported(openvino_options(backend="openvino"), without)
    with pytest.raises(HarnessError, match="This processor does not compute in bfloat16") as caught:
        openvino_model.refuse_unsupported(openvino_options(backend="openvino-bf16"), without)
    assert caught.value.stage == "model"
    assert "--backend openvino" in caught.value.hint
    openvino_model.refuse_unsupported(openvino_options(backend="openvino-bf16"), [*without, "BF16"])


@pytest.mark.parametrize(
    ("backend", "flags", "reason"),
    [
        ("torch", "", ""),
        ("openvino", "", ""),
        ("openvino-bf16", "flags : fpu avx512_bf16", ""),
        ("openvino-bf16", "flags : fpu avx512f", "this processor has no instructions for bfloat16"),
        ("openvino-bf16", None, ""),  # not Linux: not known
    ],
)
def test_a_backend_says_what_the_processor_lacks(
    backend: str, flags: str | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(flags)
    monkeypatch.setattr("harness.workloads.embed._CPUINFO", tmp_path / "cpuinfo")
    assert unsupported(WorkloadOptions(name="embed", backend=backend)) == reason


def test_a_backend_names_a_missing_package_and_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    options = WorkloadOptions(name="embed", backend="openvino")
    assert missing_package(options) == ""
    monkeypatch.setattr("harness.workloads.embed.find_spec", lambda name: None)
    assert missing_package(options) == "openvino is not installed (extra: openvino)"
