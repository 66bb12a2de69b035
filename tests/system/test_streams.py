"""stdout and stderr that cannot show a character, cannot be written, or are closed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import pytest
from conftest import Execbench

from harness.system.streams import Stderr, Stdout

FULL = Path("/dev/full")  # every write to it fails as on a full disk


def over(kind: type[Stderr], file: int | Path, encoding: str = "utf-8") -> TextIO:
    opened = os.fdopen(file, "w") if isinstance(file, int) else file.open("w", encoding=encoding)
    return kind.over(opened)


def closed_pipe() -> int:
    reads, writes = os.pipe()
    os.close(reads)
    return writes


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "koi8-r", "utf-8"])
def test_a_character_that_an_encoding_lacks_prints_as_a_question_mark(tmp_path: Path, encoding: str) -> None:
    with over(Stdout, tmp_path / "out", encoding) as stream:
        stream.write("a ≥ ␛ \ud800 …\n")
    printed = (tmp_path / "out").read_bytes()
    assert printed == "a ≥ ␛ \ud800 …\n".encode(encoding, "replace")
    assert printed.startswith(b"a ")


def test_a_full_disk_behind_stdout_exits_with_1_and_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    stream = over(Stdout, FULL)
    with pytest.raises(SystemExit) as ended:
        print("x", file=stream, flush=True)
    assert ended.value.code == 1
    assert capsys.readouterr().err == "Error (output): stdout cannot be written: No space left on device.\n"
    stream.close()  # without another error


def test_a_closed_pipe_exits_with_1_and_no_message(capsys: pytest.CaptureFixture[str]) -> None:
    stream = over(Stdout, closed_pipe())
    with pytest.raises(SystemExit) as ended:
        print("x", file=stream, flush=True)
    assert ended.value.code == 1
    assert capsys.readouterr().err == ""
    stream.close()


@pytest.mark.parametrize("place", [lambda: FULL, closed_pipe], ids=["full", "closed pipe"])
def test_a_stderr_that_cannot_be_written_does_not_end_the_process(place: Callable[[], int | Path]) -> None:
    with over(Stderr, place()) as stream:
        print("x", file=stream, flush=True)
        print("y", file=stream, flush=True)


def test_output_without_a_stream_is_discarded() -> None:
    with Stdout.over(None) as stream:
        print("x", file=stream, flush=True)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("shell", "code", "said"),
    [
        ("--version > /dev/full", 1, "Error (output): stdout cannot be written: No space left on device.\n"),
        (
            "list --json > /dev/full",
            1,
            "Error (output): stdout cannot be written: No space left on device.\n",
        ),
        ("--version <&- >&- 2>&-", 0, ""),
    ],
)
def test_the_command_line_ends_without_a_traceback(
    execbench: Execbench, shell: str, code: int, said: str
) -> None:
    line = f'exec "{sys.executable}" -m harness.cli {shell}'
    done = run(line, execbench)
    assert (done.returncode, done.stderr) == (code, said)


def run(line: str, execbench: Execbench) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", line],
        cwd=execbench.folder,
        env=execbench._environment(),
        capture_output=True,
        text=True,
    )
