"""The real model in OpenVINO: as exact as its precision allows, and silent."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedding import embed, texts

from harness import workloads
from harness.errors import HarnessError
from harness.wire.options import WorkloadOptions

pytestmark = pytest.mark.usefixtures("models_cache")


def openvino_options(**options: Any) -> WorkloadOptions:
    return WorkloadOptions.model_validate({"name": "embed", **options})


def skip_without(backend: str) -> None:
    """Skip the test if this processor lacks the precision of the backend."""
    from harness.workloads import openvino_model

    if openvino_model.PRECISION[backend] not in openvino_model.precisions(openvino_model.capabilities()):
        # OpenVINO would compute in float32 there; a test of `refuse_unsupported` holds that it is refused
        pytest.skip("this processor does not compute in bfloat16")


@pytest.fixture(scope="module")
def damaged(exported: Path, models_cache: Path) -> Path:
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
