"""An unexpected error gives one sentence and exit code 1, in every command and every child process."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import NoReturn

import pytest
from typer.testing import CliRunner

from harness import cli, errors


def raises(error: BaseException) -> Callable[[], NoReturn]:
    def command() -> NoReturn:
        raise error

    return command


@pytest.mark.parametrize("command", cli.FUNCTIONS)
def test_an_uncaught_error_in_a_command_is_one_sentence(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cli.FUNCTIONS, command, raises(KeyError("no such column")))

    done = CliRunner().invoke(cli.app, [command])

    assert done.exit_code == 1
    assert done.stderr == (
        "Error (internal): This is a bug in execbench: KeyError: 'no such column'; "
        "--debug shows the traceback.\n"
    )
    assert done.stdout == ""


def test_debug_shows_where_an_uncaught_error_was_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.FUNCTIONS, "run", raises(ZeroDivisionError("division by zero")))

    done = CliRunner().invoke(cli.app, ["--debug", "run"])

    assert done.exit_code == 1
    assert "Traceback" in done.stderr
    assert "in command" in done.stderr


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("not even its text")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("two\nlines"), "ValueError: two lines"),
        (ValueError(), "ValueError"),
        (Unprintable(), "Unprintable: (its message cannot be shown: ValueError)"),
        (ExceptionGroup("several", [ValueError("a")]), "ExceptionGroup: several (1 sub-exception)"),
    ],
)
def test_any_error_fits_on_one_line(error: Exception, line: str) -> None:
    assert errors.one_line(error) == line


def test_the_line_of_an_error_is_bounded() -> None:
    assert len(errors.one_line(ValueError("x" * 1_000_000))) < 1000


def test_the_error_of_a_child_keeps_its_traceback_as_a_note() -> None:
    try:
        raises(KeyError("gone"))()
    except KeyError as error:
        reported = json.loads(json.dumps(errors.to_parent(error)))

    received = errors.from_child(reported)

    assert received.what == "This is a bug in execbench: KeyError: 'gone'; --debug shows the traceback."
    assert "in command" in received.__notes__[0]


@pytest.mark.integration
def test_the_load_generator_reports_an_uncaught_error_and_takes_the_next_trial() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness.client"],
        input="no options at all\n" * 2,
        capture_output=True,
        text=True,
        timeout=60,
    )

    answers = [json.loads(line)["error"]["what"] for line in done.stdout.splitlines()]
    assert len(answers) == 2
    assert all(what.startswith("This is a bug in execbench: ValidationError: ") for what in answers)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.integration
def test_a_server_reports_an_uncaught_error_of_its_start() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness.server", "1"],
        input="no options at all",
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 3
    (line,) = done.stderr.strip().splitlines()
    error = json.loads(line.removeprefix("EXECBENCH-ERROR "))
    assert error["what"].startswith("The server cannot start: OSError: ")
