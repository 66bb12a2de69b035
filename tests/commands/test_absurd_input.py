"""Absurd files, numbers and code: each is refused with one message before anything is started."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import made_up
import pytest
from conftest import Invoke

from harness.errors import HarnessError, UsageError
from harness.plans import plan_files
from harness.results import store
from harness.system import text_files, toml
from harness.wire import bounds

PLAN = """name = "tiny"
concurrency = [1]
requests = 5
blocks = 1
[workload]
name = "synthetic"
[[arms]]
name = "inline"
strategy = "inline"
"""


def refused(invoke: Invoke, code: int, message: str, *words: str) -> None:
    done = invoke(*words)
    assert done.returncode == code, done.stderr
    assert re.match(r"Error \(\w+\): ", done.stderr), done.stderr
    assert re.search(message, done.stderr), done.stderr
    assert len(done.stderr) < 1_000
    assert done.stdout == ""


# -- plan files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_a_plan_may_have_any_encoding_and_line_ending_of_an_editor(
    tmp_path: Path, encoding: str, ending: str
) -> None:
    path = tmp_path / "p.toml"
    path.write_bytes(PLAN.replace("\n", ending).encode(encoding))
    assert plan_files.load(str(path)).arms[0].name == "inline"


def fifo(path: Path) -> None:
    os.mkfifo(path)


def sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(5 * 10**9)


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a FIFO": (fifo, "is not a regular file"),
    "an endless device": (lambda path: path.symlink_to("/dev/zero"), "is not a regular file"),
    "a folder": (Path.mkdir, "is not a regular file"),
    "5 GB of nothing": (sparse, "is larger than"),
    "a link to itself": (lambda path: path.symlink_to(path), "cannot be read: Too many levels of symbolic"),
    "a NUL": (lambda path: path.write_bytes(b"name\0"), "NUL|null bytes"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_plan_that_is_not_a_text_file_is_refused(invoke: Invoke, tmp_path: Path, kind: str) -> None:
    make, message = FILES[kind]
    make(tmp_path / "p.toml")
    message = "p.toml is not a run of execbench" if kind == "a folder" else message
    refused(invoke, 2, message, "run", "p.toml")


@pytest.mark.parametrize("kind", FILES)
def test_a_workload_that_is_not_a_text_file_is_refused(invoke: Invoke, tmp_path: Path, kind: str) -> None:
    make, message = FILES[kind]
    make(tmp_path / "my_workload_of_no_text.py")
    refused(invoke, 2, message, "run", "--workload", "my_workload_of_no_text.py")


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("name", ["run.json", "trials.csv", "requests.csv"])
def test_a_run_with_a_file_that_is_not_text_is_refused(
    invoke: Invoke, tmp_path: Path, kind: str, name: str
) -> None:
    make, message = FILES[kind]
    folder = small_run(tmp_path)
    (folder / name).unlink()
    make(folder / name)
    refused(invoke, 1, f"{message}|lacks", "report", "run")
    if name == "run.json":
        refused(invoke, 2, message, "run", "./run")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "name is missing"),
        ("# nothing\n", "name is missing"),
        ("a = " + "[" * 10_000, "nested too deep"),
        ("a = " + "{a=" * 10_000, "nested too deep"),
        (".".join("a" * 10_000) + " = 1", "more than 32 parts"),
        ('"a" . ' * 10_000 + "a = 1", "more than 32 parts"),
        ("[" + ".".join("a" * 10_000) + "]", "more than 32 parts"),
        (f"seed = {'9' * 5_000}\n{PLAN}", "too many digits"),
        (f"seed = 0x{'f' * 5_000}\n{PLAN}", "seed: must be less than"),
        ("".join(f"k{number} = 1\n" for number in range(10_000)) + PLAN, "and 9995 more"),
        (f"{'k' * 20_000} = 1\n{PLAN}", "there is no such key"),
        (f'claims = "nosuch"\n{PLAN}', r"no claims called 'nosuch'.\nThere are: article"),
    ],
)
def test_an_absurd_plan_is_refused_in_one_message(
    invoke: Invoke, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "p.toml").write_text(text)
    refused(invoke, 2, message, "run", "p.toml")


def test_every_built_in_plan_has_claims_that_exist() -> None:
    for name in plan_files.names():
        plan = tomllib.loads((files("harness") / "data" / "plans" / f"{name}.toml").read_text())
        if "claims" in plan:
            toml.check_packaged("claims", plan["claims"])


# -- numbers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "concurrency = [200_000]",
        "requests = 1_000_000_000_000",
        "requests_per_user = 100_000_001",
        "duration_s = 1e12",
        "duration_s = inf",
        "open_duration_s = 1e12",
        "settle_s = 1e12",
        "timeout_s = 1e12",
        "blocks = 1_000_000_000",
        "warmup_per_client = 1_000_000_000",
        "seed = 1_000_000_000_001",
        "seed = -1",
        "cap = 1_000_000",
        "own_users = 1_000_000",
        "ping_per_s = 1e9",
        "limit_s = 1e9",
        'arrivals = ["poisson(100000)"]',
        'arrivals = ["burst(10000, 0.001)"]',
        'arrivals = ["constant(20000)"]\nopen_duration_s = 80_000',
    ],
)
def test_a_plan_with_a_number_out_of_bounds_names_its_key(tmp_path: Path, line: str) -> None:
    key = line.split(" ")[0]
    kept = "".join(f"{old}\n" for old in PLAN.splitlines() if not old.startswith(f"{key} "))
    path = tmp_path / "p.toml"
    path.write_text(f"{line}\n{kept}")
    with pytest.raises(UsageError, match=rf"{key}|is not valid: .*at most") as caught:
        plan_files.load(str(path))
    assert caught.value.stage == "plan"


def test_the_number_of_trials_of_a_plan_is_bounded() -> None:
    arms = [{"name": f"a{number}", "strategy": "inline"} for number in range(1_000)]
    data = {"name": "p", "workload": {"name": "synthetic"}, "concurrency": [1], "requests": 1, "arms": arms}
    with pytest.raises(UsageError, match="make 1,000,000 trials; at most 100,000"):
        plan_files.make(data | {"blocks": 1_000}, source="plan")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "-c", "200000"], "--concurrency 200000 is not valid: must be less than or equal to 10000"),
        (["run", "--rate", "100000"], "the rate must be from 0.001 to 20000"),
        (
            ["run", "--workers", "1000000", "--strategy", "thread"],
            "--workers 1000000 is not valid: must be less",
        ),
        (["run", "--server-processes", "100000"], "--server-processes 100000 is not valid: must be less"),
        (
            ["run", "--strategy", "batch:max_batch=1000000000000"],
            "max_batch 1000000000000 is not valid: must be less than or equal to 1000000",
        ),
        (
            ["run", "--strategy", "batch:max_wait_ms=nan"],
            "max_wait_ms nan is not valid: must be a finite number",
        ),
        (
            ["run", "--service-ms", "1e300", "--workload", "synthetic"],
            "--service-ms 1e300 is not valid: must be less",
        ),
        (["run", "--io-ms", "1e300"], "--io-ms 1e300 is not valid: must be less"),
        (["run", "--inject", "queue=1e300"], "--inject queue=1e300 is not valid: must be less"),
        (["run", "--arrivals", "poisson(" + " " * 20_000], "is not an arrival law"),
        (["run", "--url", "a=http://x/", "--url-pid", "a=" + "9" * 5_000], "--url-pid"),
        (["load", "http://x/", "-c", "200000"], "the number of users must be from 1 to 10000"),
        (["load", "http://x/", "--requests", "1" + "0" * 30], "requests"),
        (["load", "http://x/", "--seed", "9" * 4_000], "seed"),
        (["load", "http://x/", "--rate", "20000", "--duration", "86400"], "at most 100,000,000"),
        (["sweep", "--over", "workers=1,1000000"], "less than or equal to 1000"),
        (
            ["sweep", "--over", "workers=" + "9" * 5_000],
            "is not valid: must be a smaller number",
        ),
        (["capacity", "--slo", "p99 < " + "9" * 5_000 + " ms"], "between 0.001 ms and a day"),
        (["capacity", "--slo", "errors < 0.00000001 %"], "is too low to measure"),
    ],
)
def test_a_flag_with_a_number_out_of_bounds_is_refused(
    invoke: Invoke, words: list[str], message: str
) -> None:
    refused(invoke, 2, message, *words)


def test_the_rate_of_an_own_law_is_bounded() -> None:
    from harness.wire.arrivals import parse

    assert parse("own(10)").for_arm(1e6).rate_per_s == bounds.PER_S


# -- paths and user code ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["x" * 300, "x" * 5_000, "a\udcffb", "~nobody-of-this-name/x"])
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["run", "PATH"], 2),
        (["run", "PATH.toml"], 2),
        (["capacity", "PATH"], 2),
        (["run", "--workload", "PATH.py"], 2),
        (["run", "--workload", "PATH"], 2),
        (["run", "--resume", "PATH"], 1),
        (["report", "PATH"], 1),
        (["compare", "PATH"], 1),
        (["compare", "PATH:arm"], 1),
        (["compare", "run", "PATH"], 1),
    ],
)
def test_an_impossible_path_is_refused(
    invoke: Invoke, tmp_path: Path, words: list[str], code: int, path: str
) -> None:
    small_run(tmp_path)
    refused(invoke, code, "", *(word.replace("PATH", path) for word in words))


def test_the_error_names_a_folder_without_permission_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: Path) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", forbidden)
    with pytest.raises(HarnessError, match="cannot be read: Permission denied"):
        store.read(tmp_path)


def test_the_error_names_a_file_without_permission_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: Path, flags: int) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", forbidden)
    with pytest.raises(UsageError, match=r"p\.toml cannot be read: Permission denied"):
        text_files.read_text(tmp_path / "p.toml", "plan", 10)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def predict(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("class B(BaseException): ...\nraise B('x')", "B: x"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("def f(): f()\nf()", "RecursionError"),
        (
            "class E(Exception):\n    def __str__(self): raise ValueError\nraise E",
            r"cannot be imported: E: \(its message cannot be shown",
        ),
        ("raise ValueError('x' * 100_000)", "ValueError: xxx"),
        ("def load(): ...\ndef predict(a, b, c): ...", "is called with two arguments"),
    ],
)
def test_the_error_for_user_code_that_fails_to_import_gives_the_reason(
    invoke: Invoke, tmp_path: Path, source: str, message: str, request: pytest.FixtureRequest
) -> None:
    name = f"absurd_workload_{abs(hash(source))}.py"
    (tmp_path / name).write_text(source)
    refused(invoke, 2, message, "run", "--workload", name)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("class W:\n    def __init__(self): raise SystemExit(4)", "SystemExit: 4"),
        (
            "class M:\n    def __getattr__(self, name): raise RuntimeError('no')\nW = M()",
            "raised RuntimeError: no",
        ),
    ],
)
def test_the_error_for_user_code_whose_attribute_raises_gives_the_reason(
    invoke: Invoke, tmp_path: Path, source: str, message: str
) -> None:
    name = f"absurd_holder_{abs(hash(source))}.py"
    (tmp_path / name).write_text(source)
    refused(invoke, 2, message, "run", "--workload", f"{name}:W")


NOT_UTF8 = "x\udcff"  # how Python passes a byte of the command line that is not UTF-8


@pytest.mark.parametrize(
    "words",
    [
        ["load", "http://x/", "--body", NOT_UTF8],
        ["load", "http://x/", "--payloads", NOT_UTF8],
        ["load", "http://x/", "--arrivals", f"replay({NOT_UTF8})"],
        ["run", "--model", NOT_UTF8],
        ["run", "--workload", f"{NOT_UTF8}.py"],
        ["run", "--reference", NOT_UTF8],
        ["run", "--io", "pgvector", "--io-dsn", f"postgresql://u@h/{NOT_UTF8}"],
        ["sweep", "--over", f"device={NOT_UTF8},cpu"],
    ],
)
def test_bytes_that_are_not_utf8_are_refused_in_options_that_are_recorded(
    invoke: Invoke, tmp_path: Path, words: list[str]
) -> None:
    (tmp_path / NOT_UTF8).write_text("0\n1\n")
    refused(invoke, 2, "bytes that are not UTF-8", *words)


def test_payloads_in_the_home_of_an_unknown_user_are_refused(invoke: Invoke) -> None:
    refused(
        invoke,
        2,
        "begins with ~ and the name of no user here",
        "load",
        "http://x/",
        "--payloads",
        "~nobody-of-this-name/x",
    )


# -- run folders -----------------------------------------------------------------------------------------


def small_run(parent: Path) -> Path:
    """Write a run of two finished trials."""
    writer = store.Writer(parent / "run")
    writer.write_record({"state": "finished", "plan": None})
    for number in (1, 2):
        trial = made_up.trial(trial=number, requests=1, measured=1)
        writer.append(trial, [made_up.sample(trial=number)])
    writer.close()
    return writer.folder


@pytest.mark.parametrize("name", ["run.json", "trials.csv", "requests.csv"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_runs_files_may_be_saved_again_by_a_spreadsheet_or_an_editor(
    tmp_path: Path, name: str, encoding: str, ending: str
) -> None:
    folder = small_run(tmp_path)
    whole = store.read(folder)
    path = folder / name
    path.write_bytes(path.read_text().replace("\n", ending).encode(encoding))
    again = store.read(folder)
    assert again.record == whole.record
    assert again.trials.equals(whole.trials)
    assert again.requests.equals(whole.requests)
    assert again.warnings == []


def test_resuming_a_run_writes_its_files_as_utf8_again(tmp_path: Path) -> None:
    folder = small_run(tmp_path)
    path = folder / "trials.csv"
    before = path.read_bytes()
    path.write_bytes(before.decode().encode("utf-16"))
    store.Writer.reopen(folder, {1, 2}).close()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        (f'{{"schema": {"9" * 5_000}}}', "too many digits"),
        ("[1]", "has no valid key `schema`"),
        ('{"schema": true}', "has no valid key `schema`"),
        ('{"schema": 4, "idle": {"a": 1}}', "idle.a"),
        ('{"schema": 4, "plan": {"arms": "x"}}', "plan.arms"),
        ('{"schema": 4, "limits": 5}', "limits"),
        ('{"schema": 4, "state": "\\ud800"}', "state"),
        ('{"schema": 4, "of tomorrow": "\\ud800"}', "it contains half a surrogate pair"),
        ('{"schema": 4, "capacity": null}', "a capacity run needs the keys plan and capacity"),
    ],
)
def test_the_error_for_an_unusable_run_json_names_the_place(tmp_path: Path, text: str, message: str) -> None:
    folder = small_run(tmp_path)
    (folder / "run.json").write_text(text)
    with pytest.raises(HarnessError, match=message) as caught:
        store.read(folder)
    assert (caught.value.stage, caught.value.exit_code) == ("results", 1)
    assert caught.value.hint


def test_an_unknown_key_in_run_json_is_accepted(tmp_path: Path) -> None:
    folder = small_run(tmp_path)
    record = json.loads((folder / "run.json").read_text()) | {"of tomorrow": {"a": [1]}}
    (folder / "run.json").write_text(json.dumps(record))
    assert store.read(folder).record == record


@pytest.mark.parametrize(
    ("column", "cell"), [("foreign_cpu", "1e308"), ("client_cpu_ms", "inf"), ("concurrency", "1000000000")]
)
def test_the_error_for_a_cell_out_of_bounds_gives_its_line(tmp_path: Path, column: str, cell: str) -> None:
    folder = small_run(tmp_path)
    lines = (folder / "trials.csv").read_text().splitlines()
    cells = lines[2].split(",")
    cells[lines[0].split(",").index(column)] = cell
    (folder / "trials.csv").write_text("\n".join([*lines[:2], ",".join(cells), ""]))
    with pytest.raises(HarnessError, match=f"column {column}: line 3 is out of bounds"):
        store.read(folder)


def test_rows_whose_arm_differs_from_their_trials_are_refused(tmp_path: Path) -> None:
    folder = small_run(tmp_path)
    path = folder / "trials.csv"
    path.write_text(path.read_text().replace(",inline,inline,", ",thread,inline,", 1))
    with pytest.raises(HarnessError, match=r"for trial 1, .* differ in arm"):
        store.read(folder)
