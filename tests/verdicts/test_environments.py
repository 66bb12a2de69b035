"""How environments of arms differ, and how that is said."""

from __future__ import annotations

from typing import Any

from harness.environment import between_servers
from harness.system import interpreter
from harness.verdicts import environments


def facts(python: str = "3.11.7", **more: Any) -> dict[str, Any]:
    return {"python": python, "implementation": "CPython", "interpreter_lock": True, "packages": {}, **more}


def record(**arms: dict[str, Any]) -> dict[str, Any]:
    options = {"strategy": "thread", "options": {}}
    return {"arms": {name: {"environment": seen, "options": options} for name, seen in arms.items()}}


def differing(one: dict[str, Any], other: dict[str, Any], **how: bool) -> list[tuple[str, ...]]:
    return [tuple(found) for found in between_servers(one, other, **how)]


def test_this_python_does_not_differ_from_itself() -> None:
    seen = interpreter.facts()
    assert differing(seen, seen, same_strategy=True) == []
    assert seen["packages"]["pydantic"][0].isdigit()


def test_python_comes_first_then_the_packages_that_matter_most() -> None:
    one = facts(packages={"abc": "1", "torch": "2", "pydantic": "3", "same": "1"})
    other = facts("3.13.0", packages={"abc": "2", "torch": "3", "pydantic": "4", "same": "1"})
    assert differing(one, other) == [
        ("Python", "3.11.7", "3.13.0"),
        ("torch", "2", "3"),
        ("pydantic", "3", "4"),
        ("abc", "1", "2"),
    ]


def test_a_package_that_one_server_lacks_counts_only_beside_the_same_strategy() -> None:
    one, other = facts(packages={"loky": "3"}), facts()
    assert differing(one, other) == []
    assert differing(one, other, same_strategy=True) == [("loky", "3", "none")]


def test_a_lock_that_a_package_has_switched_on_is_a_difference() -> None:
    free = facts("3.14.0", free_threaded=True, interpreter_lock=False)
    locked = facts("3.14.0", free_threaded=True)
    assert differing(facts("3.14.0"), free) == [("Python", "3.14.0", "3.14.0, free-threaded")]
    assert differing(free, locked) == [("Python", "3.14.0, free-threaded", "3.14.0, with its lock on")]
    assert differing(facts("3.11.1", implementation="PyPy"), facts()) == [("Python", "PyPy 3.11.1", "3.11.7")]


def test_arms_of_older_runs_do_not_differ() -> None:
    old: dict[str, Any] = {"arms": {"a": {}, "b": {"environment": None}}}
    assert environments.sentences(old, "a", ["a", "b"]) == []
    assert environments.sentences({}, "a", ["a", "b"]) == []
    assert environments.sentences(record(a=facts(), b=facts()) | {"arms": {"a": {}}}, "a", ["a"]) == []


def test_arms_with_the_same_environment_share_a_sentence() -> None:
    new = facts(packages={"torch": "2.13.0", "numpy": "2"})
    found = record(a=facts(packages={"torch": "2.12.0"}), b=new, c=new, d=facts(packages={"torch": "2.12.0"}))
    assert environments.sentences(found, "a", "abcd") == [
        "b and c have torch 2.13.0, numpy 2; a has torch 2.12.0, no numpy."
    ]


def test_of_many_differences_the_first_are_named() -> None:
    names = [f"package-{number}" for number in range(7)]
    found = record(a=facts(packages=dict.fromkeys(names, "1")), b=facts(packages=dict.fromkeys(names, "2")))
    (sentence,) = environments.sentences(found, "a", "ab")
    assert sentence.endswith("package-4 1. 2 more packages differ (run.json).")
