"""The limit: the bare model alone, timed by itself, once for each model that the arms run."""

from __future__ import annotations

import itertools
import statistics
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import running
from sessions import Quiet, plan, record

from harness.errors import HarnessError
from harness.plans import bare_models
from harness.plans.bare_models import SIZES
from harness.report import report
from harness.results import store
from harness.run import bare_model, resume, session
from harness.run.bare_model import BareModel, Job
from harness.run.supervisor import Supervisor
from harness.wire.options import WorkloadOptions


def texts() -> itertools.chain[str]:
    return itertools.chain(map(str, itertools.count()))


def test_no_call_gets_the_texts_of_another() -> None:
    calls: list[list[str]] = []
    source = texts()
    for size in SIZES:
        bare_model.time_call_ms(calls.append, size, source, for_s=0.0)
    assert [len(items) for items in calls] == [*SIZES]
    used = list(itertools.chain.from_iterable(calls))
    assert len(set(used)) == len(used)


@pytest.mark.timed
def test_a_size_is_called_for_the_given_time_and_its_median_is_returned() -> None:
    calls: list[list[str]] = []
    took_ms = bare_model.time_call_ms(calls.append, 4, texts(), for_s=0.02)
    assert len(calls) > 100
    assert 0 <= took_ms < 1


@pytest.mark.parametrize(("users", "largest"), [([1], 1), ([1, 4], 4), ([8, 5], 8), ([33], 64), ([500], 64)])
def test_the_largest_batch_holds_an_item_of_each_user(users: list[int], largest: int) -> None:
    assert bare_models.sizes(plan(concurrency=users))[-1] == largest


def models(**changes: Any) -> list[tuple[WorkloadOptions, list[str]]]:
    arms = [
        {"name": "a", "strategy": "thread", "workload": {"torch_threads": 1}},
        {"name": "b", "strategy": "inline", "io_per_model": 0.5},
        {"name": "c", "strategy": "thread", "workload": {"backend": "onnx", "onnx_threads": 1}},
        {"name": "d", "strategy": "thread", "workload": {"backend": "openvino", "torch_threads": 1}},
    ]
    return bare_models.of_plan(plan(workload={"name": "embed"}, arms=arms, **changes))


def test_arms_that_differ_only_in_threads_or_io_share_a_limit() -> None:
    assert [names for _, names in models()] == [["a", "b"], ["c"], ["d"]]
    assert [names for _, names in models(twin=True)] == [["a", "b", "a-twin"], ["c"], ["d"]]


def test_in_the_loop_the_library_chooses_its_threads() -> None:
    assert {(found.torch_threads, found.onnx_threads, found.io_ms) for found, _ in models()} == {
        (None, None, 0.0)
    }


@pytest.mark.integration
def test_an_error_in_the_child_is_raised_here_with_its_hint(tmp_path: Path) -> None:
    job = Job(workload=WorkloadOptions(name="embd"), sizes=(1,), each_s=0.0, seed=1)
    with (
        Supervisor() as supervisor,
        closing(BareModel(job, supervisor, log=tmp_path / "log")) as child,
        pytest.raises(HarnessError, match="no workload 'embd'") as caught,
    ):
        child.load()
    assert "'embed'" in caught.value.hint


@pytest.mark.integration
def test_a_child_that_dies_is_an_error_that_names_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    job = Job(workload=running.synthetic(0.0, 0.0), sizes=(1,), each_s=0.0, seed=1)
    with Supervisor() as supervisor, closing(BareModel(job, supervisor, log=log)) as child:
        child.load()
        assert child.turn().keys() == {"1"}
        child._process.kill()
        with pytest.raises(HarnessError, match=r"ended \(exit code -9\)") as caught:
            child.turn()
    assert str(log) in caught.value.hint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a call of 4 ms, whatever the size of its batch."""
    found = tmp_path_factory.mktemp("limit") / "run"
    batched = [{"name": "a", "strategy": "thread"}, {"name": "b", "strategy": "batch"}]
    workload = running.synthetic(4.0, 2.0).model_dump(exclude_unset=True)
    shape = {"concurrency": [1, 4], "blocks": 6}
    chosen = plan(limit=True, limit_s=0.02, ranking=True, arms=batched, workload=workload, **shape)
    session.run(chosen, store.Writer(found), Quiet())
    return found


@pytest.mark.timed
def test_a_run_records_the_times_of_the_bare_model_and_the_arms_that_run_it(folder: Path) -> None:
    (found,) = record(folder)["limits"]
    assert found["arms"] == ["a", "b"]
    assert found["workload"]["service_ms"] == 4.0
    assert found["about"]["model"] == "synthetic sleep"
    assert list(found["batches"]) == ["1", "2", "4"]
    assert all(4.0 <= took_ms < 8.0 for took_ms in found["batches"].values())


@pytest.mark.timed
def test_the_bare_model_is_timed_before_the_run_and_in_each_block(folder: Path) -> None:
    (found,) = record(folder)["limits"]
    assert list(found["by_block"]) == ["0", "1", "2", "3", "4", "5", "6"]
    middle = statistics.median(times["4"] for block, times in found["by_block"].items() if block != "0")
    assert found["batches"]["4"] == middle


@pytest.mark.integration
def test_a_resumed_run_keeps_the_times_of_earlier_blocks(tmp_path: Path) -> None:
    workload = running.synthetic(1.0, 0.0).model_dump(exclude_unset=True)
    chosen = plan(limit=True, limit_s=0.01, blocks=3, requests=2, workload=workload)
    with pytest.raises(KeyboardInterrupt):
        session.run(chosen, store.Writer(tmp_path / "run"), Quiet(stop_after=2))
    (before,) = record(tmp_path / "run")["limits"]
    chosen, writer, checkpoint = resume.reopen(tmp_path / "run")
    session.run(chosen, writer, Quiet(), checkpoint)
    (after,) = record(tmp_path / "run")["limits"]
    assert list(after["by_block"]) == ["0", "1", "2", "3"]
    assert after["by_block"]["1"] == before["by_block"]["1"]


@pytest.mark.timed
def test_shares_of_the_limit_have_intervals_over_blocks(folder: Path) -> None:
    table = report.build(store.read(folder)).limits
    assert (table["efficiency_low"] < table["efficiency_high"]).all()
    assert table["of_ideal_low"].notna().all()


@pytest.mark.timed
def test_a_request_without_a_model_takes_less_time_than_one_with_a_model(folder: Path) -> None:
    assert 0.1 < record(folder)["null_ms"] < 4.0


@pytest.mark.timed
def test_a_batching_arm_records_what_happens_when_a_worker_dies_from_its_inner_strategy(folder: Path) -> None:
    arms = record(folder)["arms"]
    assert {arms[name]["when_worker_dies"] for name in "ab"} == {"the server dies with it"}
