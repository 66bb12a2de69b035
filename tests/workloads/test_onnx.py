"""The real model in ONNX Runtime: the same embeddings, from one export."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedding import embed, texts

from harness.errors import HarnessError
from harness.wire.options import WorkloadOptions

pytestmark = pytest.mark.usefixtures("models_cache")


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
