"""The real model is real, and says what it is."""

from __future__ import annotations

import math
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import wait_for
from embedding import ABSENT_MODELS, embed
from workloads.test_io import ask, fetched

from harness.errors import HarnessError
from harness.wire.options import WorkloadOptions
from harness.workloads.embed import missing_package, unsupported
from harness.workloads.io import embeddings
from harness.workloads.io.service import Services
from harness.workloads.local_setup import refuse_missing

pytestmark = pytest.mark.usefixtures("models_cache")


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
    monkeypatch.setattr("harness.workloads.embed.find_spec", lambda name: object())
    assert missing_package(options) == ""
    monkeypatch.setattr("harness.workloads.embed.find_spec", lambda name: None)
    assert missing_package(options) == "openvino is not installed (extra: openvino)"
