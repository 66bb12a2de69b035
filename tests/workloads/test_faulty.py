"""The synthetic model misbehaves on request, and never otherwise."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import running

from harness import workloads
from harness.errors import HarnessError
from harness.workloads import faulty

pytestmark = pytest.mark.integration


def ask(item: str, **options: Any) -> str:
    workload = workloads.create(running.synthetic(0, 0, **{"faults": True, **options}))
    return str(workload.predict(workload.load(), [item])[0])


def in_a_process(statement: str) -> int:
    code = f"import running\nfrom harness import workloads\n{statement}"
    return subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1]).returncode


def test_without_the_option_a_fault_is_an_ordinary_text() -> None:
    assert ask("fault:raise", faults=False) == "FAULT:RAISE"


def test_a_text_without_the_prefix_is_answered_normally() -> None:
    assert ask("no fault:raise") == "NO FAULT:RAISE"


@pytest.mark.parametrize(
    ("item", "error"),
    [
        ("fault:raise", faulty.Raised),
        ("fault:unpicklable-exception", faulty.UnpicklableError),
        ("fault:one-way-exception", faulty.OneWayError),
        ("fault:nonsense", ValueError),
    ],
)
def test_an_item_raises_the_exception_it_names(item: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        ask(item)


def test_an_item_sleeps_for_the_given_time_and_logs_its_own_line(
    capfd: pytest.CaptureFixture[str],
) -> None:
    began = time.perf_counter()
    assert ask("fault:sleep=0.1 first") == "FAULT:SLEEP=0.1 FIRST"
    assert time.perf_counter() - began >= 0.1
    assert f"{faulty.log_line_prefix('fault:sleep=0.1 first')} {os.getpid()}\n" in capfd.readouterr().err


@pytest.mark.quick
def test_a_result_that_cannot_be_pickled_is_still_a_text() -> None:
    result = faulty.misbehave("fault:unpicklable")
    assert isinstance(result, str)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(result)


@pytest.mark.quick
def test_an_exception_that_cannot_be_pickled_says_so() -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(faulty.UnpicklableError("x"))


def test_an_exception_that_needs_two_arguments_cannot_be_unpickled() -> None:
    """In a new process: if another test has imported Dask, all exceptions known by then can be pickled."""
    error = "pickle.loads(pickle.dumps(faulty.OneWayError('x', 'y')))"
    failing = f"import pickle\nfrom harness.workloads import faulty\ntry: {error}\nexcept TypeError: exit(7)"
    assert in_a_process(failing) == 7


def test_an_item_can_end_its_process() -> None:
    setup = "options = running.synthetic(0, 0, faults=True)\nworkload = workloads.create(options)"
    assert in_a_process(f"{setup}\nworkload.predict(workload.load(), ['fault:exit'])") == faulty.EXIT_CODE


def test_set_up_can_end_its_process() -> None:
    setup = "options = running.synthetic(0, 0, faulty_setup='exit')"
    assert in_a_process(f"{setup}\nworkloads.create(options).load()") == faulty.EXIT_CODE


def test_set_up_logs_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    workloads.create(running.synthetic(0, 0, faults=True)).load()
    workloads.create(running.synthetic(0, 0)).load()
    assert capfd.readouterr().err == f"{faulty.log_line_prefix(faulty.SET_UP)} {os.getpid()}\n"


def test_set_up_takes_the_given_time_and_raises_on_request() -> None:
    began = time.perf_counter()
    with pytest.raises(HarnessError, match="fails to load because faulty_setup is set"):
        workloads.create(running.synthetic(0, 0, setup_ms=100, faulty_setup="raise")).load()
    assert time.perf_counter() - began >= 0.1


def test_set_up_fails_only_while_the_given_file_exists(tmp_path: Path) -> None:
    path = tmp_path / "broken"
    workload = workloads.create(
        running.synthetic(0, 0, faulty_setup="raise", faulty_setup_file=str(path)),
    )
    workload.load()
    path.touch()
    with pytest.raises(HarnessError):
        workload.load()
    path.unlink()
    workload.load()
