"""A run may have a busy neighbour; it belongs to the run and ends with it."""

import psutil
import pytest
from conftest import Execbench, wait_for

from harness.run import neighbour
from harness.run.supervisor import Supervisor

pytestmark = pytest.mark.integration

PLAN = """
name = "beside"
concurrency = [1]
requests = 5
blocks = 1
neighbours = 1
workload = { name = "synthetic", service_ms = 1, io_ms = 0 }
arms = [{ name = "inline", strategy = "inline" }]
"""


def test_a_neighbour_computes_all_the_time_and_ends_with_its_block() -> None:
    before = set(psutil.Process().children())
    with Supervisor() as supervisor:
        keepers = set(psutil.Process().children())
        with neighbour.busy(supervisor, 2):
            both = set(psutil.Process().children()) - keepers
            assert len(both) == 2
            wait_for(lambda: all(sum(one.cpu_times()[:2]) > 0.3 for one in both))
        assert not any(one.is_running() for one in both)
    assert set(psutil.Process().children()) == before


def test_a_report_names_the_neighbour_of_its_run(execbench: Execbench) -> None:
    (execbench.folder / "plan.toml").write_text(PLAN)
    done = execbench("run", "plan.toml", "--no-self-check", "--out", "run", "--full")
    assert done.returncode == 0, done.stderr
    assert "kept one core busy all the time, as a neighbour would" in done.stdout
    execbench.assert_nothing_is_left()
