"""Settings: what is derived from the one place that declares them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import strategies
from harness.errors import UsageError
from harness.plans import from_flags, plan_files, settings
from harness.plans.plan import Plan

DOCS = Path(__file__).parents[2] / "docs"


def test_no_two_flags_have_the_same_name() -> None:
    names = [name for one in settings.every() for flag in one.flags for name in flag.split("/")]
    assert len(names) == len(set(names))


def test_every_key_that_users_may_set_has_a_one_line_description() -> None:
    for one in settings.every():
        assert one.setting.help.endswith((".", "…")), one.name
        assert "\n" not in one.help, one.name


def test_every_help_of_a_flag_fits_a_line_of_100_columns() -> None:
    widest = max(len(f"  {one.flags[0]} {one.metavar}") for one in settings.every() if one.flags)
    too_long = [one.flag for one in settings.every() if one.flags and len(one.help) > 98 - widest]
    assert not too_long


@pytest.mark.parametrize("name", [one.name for one in settings.every() if one.section == settings.OPTIONS])
def test_every_option_of_a_strategy_is_a_setting_that_some_strategy_takes(name: str) -> None:
    assert any(name in strategies.get(one).TAKES for one in strategies.NAMES)


def test_a_flag_is_its_key_without_the_unit_of_seconds() -> None:
    flags = {(one.section, one.name): one.flags for one in settings.every()}
    assert flags["plan", "timeout_s"] == ("--timeout",)
    assert flags["workload", "service_ms"] == ("--service-ms",)
    assert flags["plan", "pin"] == ("--pin/--no-pin",)
    assert flags["plan", "fresh"] == ("--fresh/--resident",)
    assert flags["plan", "concurrency"] == ("--concurrency", "-c")
    assert flags["workload", "faults"] == ()


def test_a_value_has_the_type_and_the_bounds_of_its_field() -> None:
    timeout = settings.find("timeout_s", settings.PLAN)
    assert timeout.parse("2.5") == 2.5
    with pytest.raises(ValueError, match="must be greater than 0"):
        timeout.parse("0")
    assert settings.find("precision", settings.PLAN).parse("3%") == 0.03
    assert settings.find("inject", settings.ARM).parse(["queue=20", "io=1"]) == {"queue_ms": 20, "io_ms": 1}


def test_an_arm_may_set_options_of_its_strategy_its_workload_and_its_server() -> None:
    arm = from_flags.arm_of("thread:workers=2,torch-threads=1,server_processes=3")
    assert arm == {
        "name": "thread-workers-2-torch-threads-1-server_processes-3",
        "strategy": "thread",
        "options": {"workers": 2},
        "workload": {"torch_threads": 1},
        "server_processes": 3,
    }
    assert settings.given_in(arm) == {"workers": 2, "torch_threads": 1, "server_processes": 3}


@pytest.mark.parametrize(
    "text", ["thread:name=x", "thread:payloads=x", "thread:faults=true", "thread:wrkers=2"]
)
def test_an_arm_may_set_nothing_that_all_arms_share(text: str) -> None:
    with pytest.raises(UsageError, match="there is no option"):
        from_flags.arm_of(text)


def test_workers_of_an_older_plan_are_an_option_like_any_other() -> None:
    arms = [{"name": "old", "strategy": "thread", "workers": 2, "options": {}}]
    arms += [{"name": "new", "strategy": "thread", "options": {"workers": 2}}]
    plan = plan_files.make({"name": "p", "concurrency": [1], "requests": 1, "arms": arms}, source="plan")
    assert plan.arms[0].options == plan.arms[1].options == {"workers": 2}


def test_the_json_schema_knows_every_key_with_its_help() -> None:
    schema = Plan.model_json_schema()
    for name, one in ((one.name, one) for one in settings.every() if one.section == settings.PLAN):
        assert schema["properties"][name]["description"] == one.setting.help
    arm = schema["$defs"]["Arm"]
    assert {"workers", "max_batch", "options", "url"} <= arm["properties"].keys()
    assert arm["required"] == ["name"]
    json.dumps(schema)
