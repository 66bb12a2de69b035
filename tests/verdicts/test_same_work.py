"""Whether two arms did the same work."""

from __future__ import annotations

from typing import Any

import pytest

from harness.verdicts import same_work


def record(**changes: Any) -> dict[str, Any]:
    facts = {
        "cpu": "EPYC",
        "usable_cores": 2,
        "model": "MiniLM",
        "weights_sha256": "abc",
        "io_ms": 5.0,
        "route": "GET /",
    } | changes
    about_model = {key: facts[key] for key in ("model", "weights_sha256")}
    options = {"workload": {"io_ms": facts["io_ms"]}}
    return {
        "environment": {"cpu": facts["cpu"], "usable_cores": facts["usable_cores"], "python": "3.11.7"},
        "arms": {"inline": {"options": options, "about": about_model}},
        "plan": {"route": facts["route"], "requests": 40, "blocks": 16},
    }


@pytest.mark.parametrize(
    "change",
    [
        {"cpu": "Xeon"},
        {"usable_cores": 8},
        {"model": "other"},
        {"weights_sha256": "def"},
        {"io_ms": 8.0},
        {"route": "POST /predict"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_machine_model_or_load_forbids_the_comparison_and_is_named(change: dict[str, Any]) -> None:
    assert same_work.obstacles((record(), "inline"), (record(), "inline")) == []
    (said,) = same_work.obstacles((record(), "inline"), (record(**change), "inline"))
    assert said.startswith(next(iter(change)))


def test_what_an_older_run_did_not_record_forbids_nothing() -> None:
    assert same_work.obstacles(({}, "inline"), (record(), "inline")) == []


def test_versions_and_blocks_may_differ() -> None:
    other = record()
    other["environment"]["python"] = "3.13.0"
    other["plan"]["blocks"] = 99
    assert same_work.obstacles((record(), "inline"), (other, "inline")) == []


@pytest.mark.parametrize(
    "key", ["fresh", "ping_per_s", "probes", "timeout_s", "settle_s", "open_settle_s", "warmup_per_client"]
)
def test_another_way_of_measuring_is_remarked_and_forbids_nothing(key: str) -> None:
    one, other = record(), record()
    one["plan"][key], other["plan"][key] = 1, 2
    assert same_work.obstacles((one, "inline"), (other, "inline")) == []
    assert same_work.remarks(one, other) == [f"{key}: 1 and 2"]


def test_other_cpus_for_client_and_server_forbid_the_comparison() -> None:
    one, other = record(), record()
    one["plan"]["pin"], other["plan"]["pin"] = False, True
    assert same_work.obstacles((one, "inline"), (other, "inline")) == ["pin: False and True"]


@pytest.mark.parametrize("key", ["transport", "requests", "duration_s", "method"])
def test_two_runs_of_execbench_load_need_the_same_load(key: str) -> None:
    one, other = ({"plan": None, "load": {key: value, "timeout_s": value}} for value in ("a", "b"))
    assert same_work.obstacles((one, "server"), (other, "server")) == [f"{key}: a and b"]
    assert same_work.remarks(one, other) == ["timeout_s: a and b"]


def test_replays_of_another_file_under_the_same_name_are_not_compared() -> None:
    def replayed(load: str, **digests: str) -> tuple[dict[str, Any], str]:
        return record() | {"schedules": {load: digests}}, "inline"

    one, longer = replayed("replay(a)", b1="x", b2="x"), replayed("replay(a)", b1="x", b3="x")
    assert same_work.obstacles(one, longer) == []
    assert same_work.obstacles(one, replayed("replay(a)", b1="y")) == ["replay(a): the file differs"]
    seeds = replayed("poisson(5)", b1="x"), replayed("poisson(5)", b1="y")
    assert same_work.obstacles(*seeds) == []


@pytest.mark.parametrize(("key", "value"), [("think", "fixed(0.5)"), ("new_connections", True)])
def test_another_behaviour_of_users_forbids_the_comparison_also_with_an_older_run(
    key: str, value: object
) -> None:
    one, other = record(), record()
    other["plan"][key] = value
    (said,) = same_work.obstacles((one, "inline"), (other, "inline"))
    assert said.startswith(f"{key}: ")
    load, other_load = {"load": {"method": "GET"}}, {"load": {"method": "GET", key: value}}
    assert len(same_work.obstacles((load, "server"), (other_load, "server"))) == 1
    one["plan"][key] = value
    assert same_work.obstacles((one, "inline"), (other, "inline")) == []
