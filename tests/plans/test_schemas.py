"""The JSON Schemas of plan files and of run.json are committed, and as strict as what reads these files."""

from __future__ import annotations

import copy
import json
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import CHECKOUT, Invoke
from jsonschema import Draft202012Validator

from harness.errors import UsageError
from harness.plans import plan_files, schemas, settings
from harness.results import record_schema
from harness.wire.records import SCHEMA_VERSION

COPIES = CHECKOUT / "harness" / "data" / "schemas"
PLANS = CHECKOUT / "harness" / "data" / "plans"
_LISTED = subprocess.run(
    ["git", "ls-files", "*run.json"], cwd=CHECKOUT, capture_output=True, text=True, check=True
)
RECORDS = [CHECKOUT / name for name in _LISTED.stdout.split()]
PAGE = (CHECKOUT / "docs" / "reference" / "schema.md").read_text()

PLAN_SCHEMA, RUN_SCHEMA = schemas.of_plan(), schemas.of_run()
OF_PLAN, OF_RUN = Draft202012Validator(PLAN_SCHEMA), Draft202012Validator(RUN_SCHEMA)
ARM = {"name": "a", "strategy": "thread"}
RUNNING = {"name": "a", "url": "http://127.0.0.1:8000/"}
PLAN: dict[str, Any] = {
    "name": "p",
    "concurrency": [8],
    "requests": 10,
    "workload": {"name": "synthetic"},
    "arms": [ARM],
}


def refused_by_run(data: dict[str, Any]) -> bool:
    """Whether `execbench run` refuses a plan with this data, as it does with --dry-run."""
    try:
        plan_files.make(data, source="plan")
    except UsageError:
        return True
    return False


# -- the copies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plan", "run"])
def test_the_committed_copy_is_what_the_command_prints(invoke: Invoke, name: str) -> None:
    printed = invoke("schema", name).stdout
    assert (COPIES / f"{name}.schema.json").read_text() == printed, f"execbench schema {name} > {COPIES}/…"
    Draft202012Validator.check_schema(json.loads(printed))


def test_a_schema_of_anything_else_is_a_usage_error(invoke: Invoke) -> None:
    done = invoke("schema", "trials")
    assert done.returncode == 2
    assert "'plan', 'run'" in done.stderr


# -- plans ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(PLANS.glob("*.toml")), ids=lambda path: path.stem)
def test_a_shipped_plan_is_valid_and_names_its_schema_for_editors(path: Path) -> None:
    text = path.read_text()
    OF_PLAN.validate(tomllib.loads(text))
    first, second = text.splitlines()[:2]
    assert (path.parent / first.removeprefix("#:schema ")).resolve() == COPIES / "plan.schema.json"
    assert second == "", (
        "Tombi looks for the directive in the comment at the top, which ends with an empty line"
    )


def test_the_plan_on_the_page_is_valid() -> None:
    plan = tomllib.loads(PAGE.partition("```toml\n")[2].partition("```")[0])
    OF_PLAN.validate(plan)
    assert not refused_by_run(plan)


def test_a_schema_for_toml_has_neither_references_nor_null() -> None:
    text = json.dumps(PLAN_SCHEMA)
    assert '"$ref"' not in text
    assert "null" not in text


@pytest.mark.parametrize(
    "change",
    [
        {"concurrncy": [8]},
        {"blocks": "many"},
        {"blocks": 0},
        {"blocks": 10_001},
        {"blocks": 1.5},
        {"concurrency": 8},
        {"concurrency": [0]},
        {"concurrency": [20_000]},
        {"requests": 0},
        {"duration_s": -1},
        {"precision": 2},
        {"precision": "0%"},
        {"precision": "120%"},
        {"precision": "three"},
        {"think": 0},
        {"think": "normal(2)"},
        {"arrivals": ["poison(50)"]},
        {"arrivals": ["closed(8)"]},
        {"until": "noon"},
        {"route": "GET /predict"},
        {"transport": "curl"},
        {"twin": "maybe"},
        {"seed": -1},
        {"name": "My plan"},
        {"notes": "one"},
        {"name": None},
        {"arms": []},
        {"arms": [{"name": "a"}]},
        {"arms": [{"strategy": "thread"}]},
        {"arms": [{**ARM, "strategy": "threads"}]},
        {"arms": [{**ARM, "wrkers": 2}]},
        {"arms": [{**ARM, "workers": 0}]},
        {"arms": [{**ARM, "options": {"workers": 1001}}]},
        {"arms": [{**ARM, "options": {"wrkers": 2}}]},
        {"arms": [{**ARM, "strategy": "batch", "over": "batch"}]},
        {"arms": [{**ARM, "server_processes": 0}]},
        {"arms": [{**ARM, "inject": {"queue": 5}}]},
        {"arms": [{**ARM, "io_per_model": 0}]},
        {"arms": [{**ARM, "workload": {"servce_ms": 5}}]},
        {"arms": [{**ARM, "workload": {"service_ms": -5}}]},
        {"arms": [{**RUNNING, "url": "127.0.0.1:8000"}], "workload": {}},
        {"arms": [{**RUNNING, "pid": [0]}], "workload": {}},
        {"workload": {"name": "embde"}},
        {"workload": {"name": "synthetic", "mode": "spim"}},
        {"workload": {"name": "synthetic", "io_ms": "5"}, "blocks": 0},
        {"exclude": {"steal": 0.1}},
        {"exclude": {"steal_share": 0}},
        {"ask": {"expect_status": 600}, "arms": [RUNNING], "workload": {}},
        {"ask": {"headers": {"X-Tenant": 5}}, "arms": [RUNNING], "workload": {}},
        {"ask": {"headers": ["X-Tenant"]}, "arms": [RUNNING], "workload": {}},
        {"concurrency": [], "arrivals": "constant(5)"},
    ],
    ids=str,
)
def test_the_schema_refuses_what_a_dry_run_refuses(change: dict[str, Any]) -> None:
    plan = {key: value for key, value in {**PLAN, **change}.items() if value is not None}
    assert refused_by_run(plan)
    assert not OF_PLAN.is_valid(plan)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"precision": "2.5%", "twin": True},
        {"precision": 0.03, "twin": True},
        {"think": 2},
        {"think": "exponential(0.5)"},
        {"concurrency": [], "arrivals": ["constant(50)", " burst(10, 0.5)", "own(0.8)"]},
        {"arms": [{**ARM, "workers": 2, "options": {"switch_interval_ms": 0.5}}]},
        {"arms": [{**ARM, "strategy": "executor:concurrent.futures:ThreadPoolExecutor"}]},
        {"arms": [{**ARM, "strategy": "batch", "options": {"over": "supervised", "max_batch": 8}}]},
        {"arms": [{**ARM, "workload": {"service_ms": 5}, "inject": {"queue_ms": 5}}]},
        {"workload": {"name": "synthetic", "io": "socket:2ms"}},
        {"arms": [RUNNING, {**RUNNING, "name": "b", "pid": 7}], "workload": {}},
        {"arms": [RUNNING], "workload": {}, "ask": {"headers": {"X-Tenant": "a"}, "ping_path": "/"}},
        {"arms": [RUNNING], "workload": {}, "ask": {"headers": ["X-Tenant: a"], "body": "{text}"}},
    ],
    ids=str,
)
def test_the_schema_accepts_every_way_of_writing_that_a_run_accepts(change: dict[str, Any]) -> None:
    plan = {**PLAN, **change}
    assert not refused_by_run(plan)
    OF_PLAN.validate(plan)


def of_setting(one: settings.Known) -> Any:
    """Return the schema of a setting's value."""
    of_plan = PLAN_SCHEMA["properties"]
    of_arm = of_plan["arms"]["items"]["properties"]
    places = {settings.PLAN: of_plan, settings.ARM: of_arm, settings.OPTIONS: of_arm["options"]["properties"]}
    return (places.get(one.section) or of_plan[one.section]["properties"])[one.name]


@pytest.mark.parametrize(
    "one",
    [one for one in settings.every() if not one.setting.hidden],
    ids=lambda one: f"{one.section}.{one.name}",
)
def test_the_schema_has_the_type_and_the_bounds_of_every_setting(one: settings.Known) -> None:
    schema = of_setting(one)
    check = Draft202012Validator(schema)
    for value in (-1, 0, 0.5, 1e30, {"no": 1}, [["no"]]):
        try:
            one.parse(value)
        except ValueError:
            assert not check.is_valid(value), value
    assert schema["description"] == one.meaning
    if isinstance(one.default, bool | int | float | str) and one.default != "":
        assert schema["default"] == one.default


# -- run.json ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.parent.name)
def test_a_committed_run_is_valid(path: Path) -> None:
    OF_RUN.validate(json.loads(path.read_text()))


WRONG: tuple[Any, ...] = (5, "x", [], {"a": {}})


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the places in a record, of each list and of each table of arms only the first entry."""
    yield place
    if isinstance(value, list) and value:
        yield from places(value[0], (*place, 0))
    if isinstance(value, dict):
        keys = list(value)[:1] if place in (("arms",), ("own_per_s",), ("idle",)) else value
        for key in keys:
            yield from places(value[key], (*place, key))


def changed(record: Any, place: tuple[Any, ...], value: Any) -> Any:
    record = copy.deepcopy(record)
    holder = record
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    return record


def small() -> dict[str, Any]:
    """A run's record with one arm: most keys, and quick to check."""
    record: dict[str, Any] = json.loads(
        next(path for path in RECORDS if "article" in path.parent.name).read_text()
    )
    arm = record["plan"]["arms"][0]["name"]
    record["plan"] |= {"arms": record["plan"]["arms"][:1], "reference": arm}
    for key in ("arms", "idle", "own_per_s"):
        record[key] = {name: value for name, value in (record.get(key) or {}).items() if name == arm}
    return record


JOINED = ("arm", "each look needs a level", "a look is at another number of blocks")


def test_the_schema_and_reading_refuse_the_same_records() -> None:
    """Only reading knows rules that join two keys, and only the schema checks settings that nobody reads."""
    record = small()
    for name in ("options", "about"):  # of the arm: many keys that are settings or unknown
        record["arms"] = {arm: {**facts, name: {}} for arm, facts in record["arms"].items()}
    read = RUN_SCHEMA["properties"].keys() - {"plan", "load", "arms"}
    refused = 0
    for place in list(places(record))[1:]:
        for value in WRONG:
            wrong = changed(record, place, value)
            valid, fault = OF_RUN.is_valid(wrong), record_schema.fault(wrong)
            refused += not valid
            assert valid or fault or place[0] not in read, (place, value)
            assert not valid or not fault or any(rule in fault for rule in JOINED), (place, value, fault)
    assert refused > 100


def test_a_record_of_tomorrow_may_have_more_keys_but_no_other_layout() -> None:
    record = small()
    for more in ((), ("plan",), ("plan", "workload"), ("environment",), ("plan", "exclude")):
        OF_RUN.validate(changed(record, (*more, "of_tomorrow"), 5))
    assert not OF_RUN.is_valid({**record, "schema": SCHEMA_VERSION + 1})
    assert not OF_RUN.is_valid({key: value for key, value in record.items() if key != "schema"})


def test_the_page_lists_the_keys_of_run_json_with_their_meanings() -> None:
    for key, one in RUN_SCHEMA["properties"].items():
        assert f"| `{key}` | {one['description'].replace('|', chr(92) + '|')} |" in PAGE
