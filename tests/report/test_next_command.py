"""The command that a report ends with, and that a shell reads it as it is meant."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from outside import TEXTS, often

from harness.report import next_command
from harness.system.printable import one_line

RECORD: dict[str, Any] = {"plan": {"arms": [{"name": "a"}, {"name": "b"}]}}
FOLDER = Path("elsewhere/20260101-a run")
AGAIN = "execbench run 'results/20260101-a run'"


def test_the_command_names_the_run_as_a_folder_in_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert next_command.run(RECORD, FOLDER) == AGAIN
    assert next_command.run(RECORD, Path("/x/r/"), blocks=60) == "execbench run results/r --blocks 60"
    more = next_command.run(RECORD, Path("r"), blocks=3, command="capacity")
    assert more == "execbench capacity results/r --blocks 3"
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert next_command.run(RECORD, Path(), users=16) == "execbench run results/here -c 16"


def test_arms_are_named_unless_they_are_all_that_the_plan_has() -> None:
    assert next_command.run(RECORD, FOLDER, arms=("b", "a", "b")) == AGAIN
    assert next_command.run(RECORD, FOLDER, arms=("b",)) == f"{AGAIN} --strategy b"
    more = f"{AGAIN} --strategy a --strategy b --strategy inline"
    assert next_command.run(RECORD, FOLDER, arms=("a", "b", "inline")) == more


def test_a_secret_header_becomes_an_environment_variable_in_the_command() -> None:
    headers = [["X-Tenant", "a"], ["X-Key", "${KEY}"], ["Authorization", "(kept secret)"]]
    record = {"plan": {**RECORD["plan"], "ask": {"headers": headers}}}
    line = next_command.run(record, FOLDER, blocks=9)
    assert line == f"{AGAIN} --header 'Authorization: ${{HEADER_AUTHORIZATION}}' --blocks 9"


@pytest.mark.parametrize(
    "record", [{}, {"plan": None}, {"plan": {}}, {"load": {"url": "http://x/"}}], ids=str
)
def test_a_run_without_a_plan_is_not_run_again(record: dict[str, Any]) -> None:
    assert next_command.run(record, FOLDER) == ""
    assert next_command.run(RECORD, Path("/")) == ""


def test_a_load_is_repeated_with_more_users_and_the_same_request() -> None:
    recorded_load = {
        "url": "http://x/",
        "method": "POST",
        "headers": [["X-Tenant", "a"]],
        "body": '{"q": "{text}"}',
        "texts": {"workload": {"payloads": "/tmp/texts.txt"}, "seed": 3},
        "expected_status": 201,
        "timeout_s": 5.0,
        "transport": "aiohttp",
    }
    assert shlex.split(next_command.load({"plan": None, "load": recorded_load}, users=16)) == [
        *("execbench", "load", "http://x/", "-c", "16", "--method", "POST", "--header", "X-Tenant: a"),
        *("--body", '{"q": "{text}"}', "--expect-status", "201"),
        *("--payloads", "/tmp/texts.txt", "--seed", "3", "--timeout", "5"),
    ]
    people = {"url": "http://x/", "think": "exponential(2)", "new_connections": True}
    said = shlex.split(next_command.load({"plan": None, "load": people}, users=16))
    assert said[-3:] == ["--think", "exponential(2)", "--new-connections"]
    hidden = {"url": "http://x/", "headers": [["Authorization", "(kept secret)"]], "transport": "httpx"}
    hidden["generators"] = "tcp://10.0.0.1:8786"
    said = shlex.split(next_command.load({"plan": None, "load": hidden}, users=16))
    assert said[-6:-2] == ["--header", "Authorization: ${HEADER_AUTHORIZATION}", "--transport", "httpx"]
    assert said[-2:] == ["--generators", "tcp://10.0.0.1:8786"]


def test_an_address_that_would_be_an_option_makes_no_command() -> None:
    line = next_command.load({"load": {"url": "http://a.example/"}}, users=2)
    assert line == "execbench load http://a.example/ -c 2"
    assert next_command.load({"load": {"url": "--out=x"}}, users=2) == ""
    assert next_command.load({}, users=2) == ""


@often
@given(st.lists(TEXTS, min_size=1))
def test_a_shell_parses_the_command_into_the_same_words_or_there_is_no_command(words: list[str]) -> None:
    line = next_command.shell_line(words)
    assert line == one_line(line)
    assert line == "" or shlex.split(line) == words


@pytest.mark.parametrize("word", ["a\nrm -r x", "\x1b[31m", "a\u202eb", "\t", "\udcff"])
def test_a_word_that_cannot_be_pasted_gives_no_command(word: str) -> None:
    assert next_command.shell_line(["execbench", word]) == ""
    assert next_command.run(RECORD, Path(f"results/{word}")) == ""


def test_an_arm_is_named_with_the_settings_of_its_server_that_are_not_the_default() -> None:
    plain = {"strategy": "thread", "server_processes": 1, "event_loop": "asyncio", "http_parser": "httptools"}
    assert next_command.strategy(plain) == "thread"
    assert next_command.strategy({"strategy": "thread", "event_loop": "uvloop"}) == "thread:event_loop=uvloop"
    both = {"options": {"workers": 2}, "http_parser": "h11"}
    assert next_command.strategy({**plain, **both}) == "thread:workers=2,http_parser=h11"
