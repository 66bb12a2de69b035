"""Each workload keeps its contract."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from embedding import texts

from harness import workloads
from harness.errors import UsageError
from harness.wire.options import WorkloadOptions
from harness.workloads.io import kinds

pytestmark = pytest.mark.usefixtures("models_cache")

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
    options: WorkloadOptions,
) -> None:
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
