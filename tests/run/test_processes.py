"""The processes of each arm, found in made-up tables of processes; test_foreign_cpu.py has real ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pytest

from harness.run.processes import Families, Process, System, Table, short_command

# the machine: a script (10) has started execbench (20), whose load generator is 21
HOST = {1: 0, 10: 1, 20: 10, 21: 20}
OWN = (20, 21)


def table(parents: Mapping[int, int], **created: float) -> Table:
    """pid → parent, and of `p7=3.0` that the process 7 was created then."""
    return {pid: Process(parent, created.get(f"p{pid}", 1.0)) for pid, parent in {**HOST, **parents}.items()}


def system(shells: Collection[int] = (), groups: Mapping[int, str] | None = None) -> System:
    return System(
        starts_others=lambda parent, child: parent in shells,
        group_of=lambda pid: (groups or {}).get(pid, "/"),
        command_of=lambda pid: f"command {pid}",
    )


def family(
    parents: Mapping[int, int],
    servers: Mapping[str, int],
    running: Mapping[str, Collection[int]] | None = None,
    **options: Any,
) -> dict[str, set[int]]:
    """Families of servers that already ran, unless `running` says which did."""
    families = Families(OWN, dict.fromkeys(servers, ()) if running is None else running, system(**options))
    return families.members(servers, table(parents))


# -- how far up --------------------------------------------------------------------------------------------


def test_a_launcher_of_listener_and_workers_belongs_to_the_server_with_all_descendants() -> None:
    parents = {50: 1, 51: 50, 52: 50, 53: 52}  # a launcher, its listener, its worker, and the worker's own
    assert family(parents, {"a": 51}) == {"a": {50, 51, 52, 53}}


def test_an_ancestor_of_execbench_does_not_belong_to_a_server() -> None:
    parents = {50: 10, 51: 50, 52: 50, 60: 10}
    assert family(parents, {"a": 51}) == {"a": {50, 51, 52}}
    assert family(parents, {"a": 60}) == {"a": {60}}


def test_an_ancestor_of_two_servers_belongs_to_neither() -> None:
    parents = {40: 1, 50: 40, 51: 50, 60: 40, 61: 60}
    assert family(parents, {"a": 51, "b": 61}) == {"a": {50, 51}, "b": {60, 61}}


def test_process_1_belongs_to_no_server() -> None:
    assert family({50: 1, 51: 1, 52: 50}, {"a": 50}) == {"a": {50, 52}}


def test_a_shell_or_service_manager_belongs_to_no_server() -> None:
    parents = {30: 1, 50: 30, 51: 50, 70: 30}  # the shell, a launcher and its listener, something else
    assert family(parents, {"a": 51}, shells=[30]) == {"a": {50, 51}}
    assert family(parents, {"a": 51}) == {"a": {30, 50, 51, 70}}


def test_a_server_below_another_server_does_not_belong_to_it() -> None:
    parents = {50: 1, 51: 50, 52: 51, 53: 50}
    assert family(parents, {"a": 50, "b": 51}) == {"a": {50, 53}, "b": {51, 52}}


def test_two_arms_of_one_server_have_the_same_processes() -> None:
    parents = {50: 1, 51: 50, 52: 50}
    assert family(parents, {"a": 51, "twin": 51}) == {"a": {50, 51, 52}, "twin": {50, 51, 52}}


def test_a_server_started_by_the_run_is_its_process_with_all_descendants() -> None:
    assert family({22: 20, 30: 22, 31: 30}, {"a": 30}, running={}) == {"a": {30, 31}}


def test_an_invisible_parent_ends_the_search() -> None:
    assert family({50: 0, 51: 50, 60: 999}, {"a": 51, "b": 60}) == {"a": {50, 51}, "b": {60}}


# -- what the user names -----------------------------------------------------------------------------------


def test_a_given_process_counts_with_its_descendants() -> None:
    parents = {50: 1, 70: 1, 71: 70}
    assert family(parents, {"a": 50}, running={"a": [70]}) == {"a": {50, 70, 71}}


def test_a_given_process_is_enough_if_the_listener_is_unknown() -> None:
    assert family({70: 1, 71: 70}, {}, running={"a": [70], "b": ()}) == {"a": {70, 71}}


def test_a_process_given_for_one_arm_belongs_to_no_other() -> None:
    parents = {40: 1, 50: 40, 60: 40}  # 40 has started both; who listens for b is not known
    assert family(parents, {"a": 50}, running={"a": (), "b": [60]}) == {"a": {50}, "b": {60}}


def test_execbench_is_never_counted_even_below_a_given_process() -> None:
    assert family({50: 10}, {}, running={"a": [10]}) == {"a": {10, 50}}


def test_a_given_process_that_ended_is_not_confused_with_a_new_one_of_the_same_pid() -> None:
    families = Families(OWN, {"a": [70]}, system())
    servers = {"a": 50}
    assert families.members(servers, table({50: 1, 70: 1}))["a"] == {50, 70}
    assert families.members(servers, table({50: 1, 70: 1}, p70=2.0))["a"] == {50}


# -- as time goes by ---------------------------------------------------------------------------------------


def test_a_known_process_stays_in_the_family_if_its_parent_changes() -> None:
    families = Families(OWN, {"a": ()}, system())
    servers = {"a": 51}
    assert families.members(servers, table({50: 1, 51: 50, 52: 51, 53: 50}))["a"] == {50, 51, 52, 53}
    orphans = {51: 1, 52: 1, 53: 1, 54: 53, 99: 1}  # the launcher has ended, a worker has begun one more
    assert families.members(servers, table(orphans))["a"] == {51, 52, 53, 54}
    assert families.members(servers, table({51: 1, 54: 1, 99: 1}))["a"] == {51, 54}


def test_the_new_parent_of_an_orphan_does_not_join_the_family() -> None:
    families = Families(OWN, {"a": ()}, system())
    assert families.members({"a": 51}, table({50: 1, 51: 50, 30: 1}))["a"] == {50, 51}
    assert families.members({"a": 51}, table({51: 30, 30: 1, 31: 30}))["a"] == {51}


def test_a_reused_pid_does_not_belong_to_the_arm() -> None:
    families = Families(OWN, {"a": ()}, system())
    families.members({"a": 50}, table({50: 1, 51: 50}))
    assert families.members({"a": 50}, table({50: 1, 51: 1}, p51=2.0))["a"] == {50}


def test_a_restarted_server_is_located_again() -> None:
    families = Families(OWN, {"a": ()}, system())
    families.members({"a": 51}, table({50: 1, 51: 50}))
    assert families.members({"a": 61}, table({60: 1, 61: 60, 62: 60}))["a"] == {60, 61, 62}


# -- control groups ----------------------------------------------------------------------------------------

CONTAINER = {50: "/box", 51: "/box/inner", 52: "/boxes"}
ORPHANS = {50: 1, 51: 1, 52: 1}


def test_a_control_group_with_only_the_server_belongs_to_it() -> None:
    assert family(ORPHANS, {"a": 50}, groups=CONTAINER) == {"a": {50, 51}}


@pytest.mark.parametrize("outsider", [20, 21, 60, 30])
def test_a_control_group_shared_with_an_outsider_does_not_belong_to_the_server(outsider: int) -> None:
    parents = {**ORPHANS, 60: 1, 30: 1, 50: 30}
    groups = {**CONTAINER, outsider: "/box/deep/in/it"}
    found = family(parents, {"a": 50, "b": 60}, groups=groups, shells=[30])
    assert found == {"a": {50}, "b": {60}}


def test_the_root_control_group_belongs_to_no_server() -> None:
    assert family(ORPHANS, {"a": 50}, groups={}) == {"a": {50}}


# -- in words ----------------------------------------------------------------------------------------------


def test_counted_processes_are_recorded_for_servers_that_already_ran() -> None:
    families = Families(OWN, {"a": ()}, system())
    families.members({"a": 50, "ours": 22}, table({50: 1, 51: 50, 22: 20}))
    families.members({"a": 50, "ours": 22}, table({50: 1, 52: 50, 22: 20}))
    assert families.commands == {"a": {50: "command 50", 51: "command 51", 52: "command 52"}}


def test_only_the_first_processes_of_a_server_that_keeps_starting_some_are_named() -> None:
    families = Families(OWN, {"a": ()}, system())
    for turn in range(3):
        families.members(
            {"a": 50}, table({50: 1, **dict.fromkeys(range(100 + 40 * turn, 140 + 40 * turn), 50)})
        )
    assert list(families.commands["a"]) == [50, *range(100, 199)]


@pytest.mark.parametrize(
    ("name", "words", "command"),
    [
        (
            "python3.11",
            ["/usr/bin/python3.11", "-X", "dev", "/srv/app/server.py", "--token", "s3cret"],
            "python server.py",
        ),
        ("python", ["python", "-u", "-m", "uvicorn", "app:app"], "python -m uvicorn"),
        ("python", ["python", "-c", "print('s3cret')"], "python -c"),
        ("python", ["python"], "python"),
        ("python", [], "python"),
        ("python", ["python", "-m"], "python -m"),
        ("uvicorn", ["/venv/bin/python", "/venv/bin/uvicorn", "app:app"], "uvicorn"),
        ("ray::ServeReplica", ["ray::ServeReplica:mine"], "ray::ServeReplica"),
    ],
)
def test_a_command_is_shown_without_folders_and_arguments(name: str, words: list[str], command: str) -> None:
    assert short_command(name, words) == command
