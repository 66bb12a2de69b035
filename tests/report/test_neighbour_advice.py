"""The line of the advice about programs on the same cores, on made-up tables."""

from __future__ import annotations

import io
from typing import Any

import made_up
import pytest
from made_reports import closed
from made_up import Point
from rich.console import Console

from harness.commands import brief
from harness.plans import from_flags
from harness.report import advice, report
from harness.report.advice import Advice
from harness.results import store

SLOW = Point(model_ms=10.0, queue_ms=70.0)
QUICK = Point(model_ms=20.0)
WORLD: made_up.World = {("thread", 8): SLOW, ("batch", 8): QUICK}
IN_A_LOOP = "threads of torch wait in a loop for one that has no core, so a call can take many times as long"


def beside(
    busy: float | None,
    world: made_up.World = WORLD,
    *,
    about: dict[str, Any] | None = None,
    omp_wait: str | None = None,
    shell: str | None = None,
    **plan: Any,
) -> store.Run:
    """A run whose other programs used so many of two cores, with two threads of torch in each arm."""
    run = closed(world, **plan)
    run = run._replace(trials=run.trials.assign(foreign_cpu=busy))
    facts = {"backend": "torch", "device": "cpu", "torch_threads": 2, **(about or {})}
    for arm in run.record["plan"]["arms"]:
        arm |= {"strategy": arm["name"], "options": {}, "workload": {}}
    run.record["arms"] = {
        arm: {"about": dict(facts), "options": {"workload": {"omp_wait": omp_wait}}} for arm, _ in world
    }
    run.record["environment"] = {"usable_cores": 2, "thread_variables": {"OMP_WAIT_POLICY": shell}}
    return run


def advised(run: store.Run) -> Advice:
    return report.build(run).advised


def of_neighbours(run: store.Run) -> list[str]:
    return [line for line in advised(run).lines if "hreads of torch" in line]


def printed_briefly(said: Advice) -> str:
    console = Console(width=80, record=True, file=io.StringIO())
    for part in brief.advised(said):
        console.print(part)
    return " ".join(console.export_text().replace("\n- ", " ").split())


def set_workload(run: store.Run, arm: str, **options: Any) -> None:
    """Make it an arm of batch with these options of the workload."""
    (planned,) = (one for one in run.record["plan"]["arms"] if one["name"] == arm)
    planned |= {"strategy": "batch", "workload": options}
    run.record["arms"][arm]["options"]["workload"] |= options
    run.record["arms"][arm]["about"] |= {key: n for key, n in options.items() if key == "torch_threads"}


def test_beside_a_busy_core_the_advice_says_what_was_seen_what_it_does_and_what_to_set() -> None:
    said = advised(beside(0.97))
    assert said.take == "batch"
    line = (
        f"Other programs used 1.0 of 2 cores in the median trial. In batch, {IN_A_LOOP}: try --strategy "
        "batch:omp_wait=passive (in a service, OMP_WAIT_POLICY=passive) or one thread in each worker "
        "(torch_threads=1)."
    )
    assert line in said.lines
    assert line in printed_briefly(said)


@pytest.mark.parametrize("text", ["batch:omp_wait=passive", "batch:torch_threads=1"])
def test_the_strategy_to_try_is_one_that_run_takes(text: str) -> None:
    (arm,) = from_flags.from_flags(from_flags.Flags(strategies=(text,))).arms
    assert arm.strategy == "batch"


@pytest.mark.parametrize("busy", [0.01, 0.45, None])
def test_a_quiet_run_or_one_without_a_reading_says_nothing_of_neighbours(busy: float | None) -> None:
    assert of_neighbours(beside(busy)) == []


@pytest.mark.parametrize(
    "said",
    [
        {"omp_wait": "passive"},
        {"shell": "PASSIVE"},
        {"about": {"torch_threads": 1}},
        {"about": {"backend": "onnx"}},
        {"about": {"device": "cuda:0"}},
        {"about": {"torch_threads": None}},
    ],
)
def test_arms_whose_threads_sleep_or_do_without_torch_get_no_such_line(said: dict[str, Any]) -> None:
    assert of_neighbours(beside(1.0, **said)) == []


def test_an_arm_that_asks_for_active_threads_has_them_whatever_the_shell_says() -> None:
    assert of_neighbours(beside(1.0, omp_wait="active", shell="passive"))


def test_only_the_advised_arm_matters() -> None:
    run = beside(1.0)
    set_workload(run, "batch", omp_wait="passive")
    assert advised(run).take == "batch"
    assert of_neighbours(run) == []


def test_neighbours_of_the_plan_are_named_although_their_cpu_is_not_foreign() -> None:
    (line,) = of_neighbours(beside(0.01, neighbours=1))
    assert line.startswith("The run kept 1 of 2 cores busy (neighbours = 1). In batch, threads of torch wait")


def test_what_the_run_measured_replaces_the_proposal() -> None:
    world = {**WORLD, ("passive", 8): Point(model_ms=19.9), ("one", 8): SLOW, ("other", 8): SLOW}
    run = beside(0.01, world, neighbours=1, reference="batch")
    set_workload(run, "passive", omp_wait="passive")
    set_workload(run, "one", torch_threads=1)
    set_workload(run, "other", torch_threads=1, encode_batch=8)
    assert advised(run).take == "batch"
    (line,) = of_neighbours(run)
    assert line.endswith(
        f"{IN_A_LOOP}. In this run, passive has 1.00 times [1.00, 1.00] the requests/s of batch; "
        "one has 0.30 times [0.30, 0.30] the requests/s of batch."
    )


def test_if_all_blocks_are_excluded_for_foreign_cpu_a_short_report_too_says_it_of_all_arms() -> None:
    run = beside(1.0, {**WORLD, ("passive", 8): QUICK}, exclude={"foreign_cpu": 0.33})
    set_workload(run, "passive", omp_wait="passive")
    said = advised(run)
    assert said.take == ""
    line = (
        f"Other programs used 1.0 of 2 cores in the median trial. T{IN_A_LOOP[1:]}: try "
        "omp_wait=passive or one thread in each worker (torch_threads=1)."
    )
    assert line in said.lines
    assert line in printed_briefly(said)


def test_excluded_blocks_count_for_what_was_seen() -> None:
    run = beside(1.0, blocks=12, exclude={"foreign_cpu": 0.33})
    quiet = run.trials["block"] > 7
    busy_most = run._replace(trials=run.trials.assign(foreign_cpu=quiet.map({True: 0.0, False: 1.0})))
    assert of_neighbours(busy_most)
    busy_seldom = run._replace(trials=run.trials.assign(foreign_cpu=quiet.map({True: 1.0, False: 0.0})))
    assert not of_neighbours(busy_seldom)


def test_a_run_of_one_arm_has_the_line_too() -> None:
    run = beside(1.0, {("thread", 8): SLOW})
    (line,) = of_neighbours(run)
    assert line in printed_briefly(advised(run))


def test_the_advice_stays_within_its_lines() -> None:
    said = advised(beside(1.0, {**WORLD, ("thread", 1): QUICK, ("batch", 1): SLOW}))
    assert len(advice.printed_lines(said)) <= advice.MOST_LINES
