"""A sweep's axes: the arms that they make, and what is refused before anything starts."""

from __future__ import annotations

from typing import Any

import pytest

from harness.errors import UsageError
from harness.plans import from_flags, grid, plan_files, size
from harness.plans.plan import Plan

_SECTIONS = {"strategies", "workload", "options"}


def plan(*over: str, **flags: Any) -> Plan:
    """Return the plan of a sweep. Flags that are not a section of `Flags` are keys of the plan."""
    any_size = flags.pop("any_size", False)
    keys = {"fresh": False, **{name: flags.pop(name) for name in flags.keys() - _SECTIONS}}
    given = {"workload": {"name": "synthetic"}, "plan": keys, **flags}
    return grid.plan(from_flags.Flags(**given), grid.axes(over), allow_any_size=any_size)


def refused(*over: str, **flags: Any) -> str:
    with pytest.raises(UsageError) as caught:
        plan(*over, **flags)
    return f"{caught.value} {caught.value.hint}"


def test_every_combination_is_an_arm_with_its_setting_in_name_and_record() -> None:
    made = plan("workers=1,2", "service-ms=5,10", strategies=("thread",))
    assert [arm.name for arm in made.arms] == [
        f"thread-workers-{workers}-service_ms-{ms}" for workers in (1, 2) for ms in ("5.0", "10.0")
    ]
    assert [(arm.chosen.workers, arm.workload) for arm in made.arms[:2]] == [
        (1, {"service_ms": 5.0}),
        (1, {"service_ms": 10.0}),
    ]
    assert made.sweep is not None
    assert made.sweep.axes == {"workers": (1, 2), "service_ms": (5.0, 10.0)}
    assert made.sweep.settings["thread-workers-2-service_ms-5.0"] == {"workers": 2, "service_ms": 5.0}
    assert plan_files.restore(made.model_dump(mode="json")) == made


def test_strategy_options_and_server_processes_can_be_swept() -> None:
    made = plan("max_batch=8,32", "server_processes=1,2", strategies=("batch",))
    assert {(arm.options["max_batch"], arm.server_processes) for arm in made.arms} == {
        (8, 1),
        (8, 2),
        (32, 1),
        (32, 2),
    }


def test_a_strategy_that_does_not_take_an_axis_is_not_multiplied_by_it() -> None:
    made = plan("workers=1,2,4", "mode=sleep,hold", strategies=("thread", "inline"))
    assert len(made.arms) == 6 + 2
    assert made.sweep is not None
    assert made.sweep.settings["inline-mode-hold"] == {"mode": "hold"}


def test_the_strategy_under_batch_decides_which_axes_apply() -> None:
    made = plan("switch_interval_ms=1,5", "over=thread,process", strategies=("batch",))
    assert len(made.arms) == 2 + 1


def test_options_given_with_a_strategy_hold_for_every_setting() -> None:
    made = plan("max_batch=8,32", strategies=("batch:over=process,workers=2",))
    assert {(arm.chosen.workers, arm.options["over"]) for arm in made.arms} == {(2, "process")}


def test_a_sweep_over_io_takes_the_io_time_from_each_value() -> None:
    made = plan("io=sleep:5ms,socket:50ms", strategies=("thread",))
    ios = [made.workload.model_copy(update=arm.workload) for arm in made.arms]
    assert [(one.io, one.io_ms) for one in ios] == [("sleep", 5.0), ("socket", 50.0)]
    assert [arm.name for arm in made.arms] == ["thread-io-sleep-5ms", "thread-io-socket-50ms"]
    assert plan_files.restore(made.model_dump(mode="json")) == made


def test_arms_are_numbered_when_their_names_would_be_too_long() -> None:
    names = [f"factory={','.join('module.of.mine.' * 5 + word for word in ('one', 'two'))}"]
    made = plan(*names, strategies=("executor",))
    assert [arm.name for arm in made.arms] == ["executor-1", "executor-2"]


@pytest.mark.parametrize(
    ("over", "flags", "expected"),
    [
        (["wrkers=1,2"], {}, "There is no option 'wrkers' to sweep over. Did you mean 'workers'?"),
        (["workers=1,x"], {}, "--over workers: x is not valid: must be a whole number"),
        (["workers=0"], {}, "--over workers: 0 is not valid: must be greater than or equal to 1"),
        (
            ["max_batch=0"],
            {"strategies": ("batch",)},
            "--over max_batch: 0 is not valid: must be greater than or equal to 1",
        ),
        (["workers"], {}, "--over 'workers' is not understood. For example"),
        (["workers=1,"], {}, "is not understood"),
        (["workers=1,1"], {}, "give each axis and each value once"),
        (["workers=1", "workers=2"], {}, "give each axis and each value once"),
        ([], {}, "A sweep needs an axis: --over OPTION=VALUE,VALUE."),
        (
            ["workers=1,2"],
            {"strategies": ("inline",)},
            "No strategy of this plan takes the option 'workers'.",
        ),
        (
            ["max_batch=1,2"],
            {},
            "No strategy of this plan takes the option 'max_batch'. These do: batch.",
        ),
        (["workers=1,2"], {"options": {"workers": 2}}, "workers is both set and swept over"),
        (["mode=sleep"], {"workload": {"name": "synthetic", "mode": "spin"}}, "mode is both set and swept"),
        (["max_batch=8,9"], {"strategies": ("batch:max_batch=2",)}, "max_batch is both set and swept"),
        (["model=a,b"], {}, "The workload 'synthetic' does not take the option model"),
        (
            ["io=sleep:5ms,socket:fast"],
            {},
            "--over io: socket:fast is not valid: 'socket:fast' is not understood",
        ),
        (
            ["io=sleep:5ms"],
            {"workload": {"name": "synthetic", "io_ms": 7.0}},
            "io_ms is both set and swept",
        ),
        (["io=sleep:5ms", "io_ms=1"], {}, "both set how long the I/O takes"),
        (["faults=true,false"], {}, "There is no option 'faults' to sweep over"),
        (["faulty_setup=raise,exit"], {}, "There is no option 'faulty_setup' to sweep over"),
        (["faulty_setup_file=a,b"], {}, "There is no option 'faulty_setup_file' to sweep over"),
        (["io_address=1,2"], {}, "There is no option 'io_address' to sweep over"),
        (["strategy=thread,process"], {}, "--strategy, repeated"),
        (["workers=1,2"], {"strategies": ("thred",)}, "There is no strategy 'thred'. Did you mean 'thread'?"),
    ],
)
def test_a_sweep_that_is_impossible_is_refused_with_the_reason(
    over: list[str], flags: dict[str, Any], expected: str
) -> None:
    assert expected in refused(*over, **flags)


def test_a_very_large_sweep_is_refused_with_its_size_unless_any_size_is_given() -> None:
    many = ("workers=" + ",".join(map(str, range(1, 11))), "service_ms=1,2,3,4,5,6,7")
    assert "This sweep is large: 70 settings, about " in refused(*many)
    assert "--any-size" in refused(*many)
    assert len(plan(*many, any_size=True).arms) == 70
    assert "hours" in refused("workers=1,2", arrivals=("poisson(5)",), duration_s=600.0)
    assert "1,000,000 settings are too many" in refused(
        *(f"{name}={','.join(map(str, range(1, 101)))}" for name in ("workers", "service_ms", "io_ms"))
    )


def test_a_sweep_of_many_settings_starts_a_new_server_per_trial_by_default() -> None:
    nine = "service_ms=1,2,3,4,5,6,7,8,9"
    given = from_flags.Flags(workload={"name": "synthetic"})
    assert grid.plan(given, grid.axes([nine])).fresh
    assert not grid.plan(given.with_plan(fresh=False), grid.axes([nine])).fresh
    assert not grid.plan(given, grid.axes(["service_ms=1"])).fresh


def test_the_size_of_a_sweep_counts_the_twin_and_every_block() -> None:
    made = plan("workers=1,2", twin=True, blocks=10, concurrency=(1, 8))
    found = size.of_plan(made)
    assert (found.arms, found.trials) == (3, 60)
    assert size.in_words(made) == "3 arms, 2 loads, 10 blocks: 60 trials, about 2 min"
