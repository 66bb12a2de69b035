"""Help, completion and flags that are given twice."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import Execbench, Invoke
from typer.testing import CliRunner

from harness import cli
from harness.commands import completion
from harness.evidence.faults.catalogue import FAULTS
from harness.wire.panel import Panel

COMMANDS = tuple(cli.FUNCTIONS)
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def help_of(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    monkeypatch.setenv("COLUMNS", "100")
    return lambda *words: invoke(*words, "--help")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_100_columns_and_ends_with_examples_that_name_the_command(
    help_of: Invoke, command: str
) -> None:
    text = help_of(command).stdout
    body, _, examples = text.partition("\nExamples:\n")
    assert max(map(len, body.splitlines())) <= 100
    assert len(examples.splitlines()) >= 2
    assert f"  execbench {command}" in examples


def test_flags_of_run_are_in_panels_and_take_a_line_each(help_of: Invoke) -> None:
    text = help_of("run").stdout
    assert [title for title in Panel if f"\n{title}:\n" in text] == list(Panel)
    flags = re.findall(r"^  (?:-\w, )?(--[\w-]+)", text, re.M)
    assert len(flags) > 45
    assert len(text.splitlines()) < 90


def test_brackets_and_colons_are_printed_as_written(help_of: Invoke) -> None:
    text = help_of("compare").stdout
    assert "RUN:A RUN:B  B against A\n" in text
    assert "RUN[:ARM]" in text


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (["run", "--pin", "--no-pin"], "--pin or --no-pin"),
        (["run", "--out", "a", "--out", "b"], "--out"),
        (["load", "http://127.0.0.1:1/", "-c", "1", "--concurrency", "2"], "--concurrency"),
    ],
)
def test_a_flag_of_one_value_is_refused_when_given_twice(invoke: Invoke, words: list[str], flag: str) -> None:
    done = invoke(*words)
    assert done.returncode == 2
    assert done.stderr == f"Error (flags): {flag} is given twice, but takes one value.\n"


def test_several_values_of_an_axis_point_to_a_sweep(invoke: Invoke) -> None:
    twice = invoke("run", "--workers", "2", "--workers", "4")
    assert twice.stderr.splitlines() == [
        "Error (flags): --workers is given twice, but takes one value.",
        "To compare several values: `execbench sweep --over workers=…`.",
    ]
    listed = invoke("run", "--workers", "2,4")
    assert listed.stderr.splitlines()[1] == "To compare several values: `execbench sweep --over workers=2,4`."


def test_every_example_is_a_command_line_that_the_command_accepts() -> None:
    group: Any = typer.main.get_command(cli.app)
    for name, function in cli.FUNCTIONS.items():
        for example in sys.modules[function.__module__].EXAMPLES:
            words = shlex.split(example.partition(" > ")[0])[1:]
            made = group.get_command(None, words[0])
            context = made.make_context(words[0], words[1:])
            assert not context.args, example
            if name == "faults":
                assert set(context.params["fault"] or ()) <= set(FAULTS), example


def test_a_repeatable_flag_may_be_given_twice(invoke: Invoke) -> None:
    words = ("-c", "1", "-c", "2", "--strategy", "thread", "--strategy", "inline", "--dry-run")
    done = invoke("run", "--workload", "synthetic", *words)
    assert "Loads: closed(1), closed(2)\n" in done.stdout


def test_completion_offers_strategies_plans_and_folders_of_runs(
    execbench: Execbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(execbench.folder)
    for folder in ("results/20260101-000000-mine", "results/no-run"):
        Path(folder).mkdir(parents=True)
    Path("results/20260101-000000-mine/run.json").write_text("{}")
    Path("own.toml").write_text("")
    assert completion.strategies("pr") == ["process"]
    assert completion.plans("") == [
        "article",
        "beyond",
        "cluster",
        "garbage",
        "generators",
        "neighbour",
        "peers",
        "peers-io",
        "servers",
        "smoke",
        "thrash",
        "own.toml",
        "results/20260101-000000-mine",
    ]
    assert completion.runs("results/2") == ["results/20260101-000000-mine"]


def test_a_shell_completes_strategies_and_values() -> None:
    def completed(line: str) -> list[str]:
        words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        environment = {"_EXECBENCH_COMPLETE": "complete_bash", **words}
        return CliRunner().invoke(cli.app, [], env=environment, prog_name="execbench").stdout.split()

    assert completed("execbench run --strategy an") == ["anyio_limiter"]
    assert completed("execbench run --transport h") == ["httpx"]
    assert completed("execbench swe") == ["sweep"]


def test_the_table_of_settings_in_the_docs_is_that_of_the_command(invoke: Invoke) -> None:
    assert (DOCS / "reference" / "settings.md").read_text() == invoke("settings").stdout
