"""The command line from outside: its files and its output."""

import fcntl
import itertools
import json
import os
import pty
import re
import shutil
import struct
import termios
from collections import Counter
from pathlib import Path

import pytest
from conftest import Execbench, Invoke
from output import QUICK, WIDTH, Done, assert_fits, assert_refused, digests, rows

import strategies
from harness import __version__, workloads
from harness.plans import from_flags, plan_files

REQUESTS = 5
CONCURRENCIES = (1, 2)
BLOCKS = 2
LONG_NAME = "threads-with-two-workers-and-a-name-of-sixty-letters-in-all-x"[:60]


# -- run -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(shared: Execbench) -> Done:
    """A run without PLAN, in the folder `run`."""
    loads = [word for c in CONCURRENCIES for word in ("--concurrency", str(c))]
    measured = ("--requests", str(REQUESTS), "--blocks", str(BLOCKS))
    # slower than QUICK: a model of 2 ms may saturate the load generator, and figures become bounds; so they
    # do if its loop is late by half a request, beside other tests
    model = ("--workload", "synthetic", "--service-ms", "40", "--io-ms", "1")
    return shared(
        "run", "--full", "--no-self-check", *model, *loads, *measured, "--out", "run", COLUMNS="200"
    )


@pytest.fixture(scope="module")
def run_folder(shared: Execbench, ran: Done) -> Path:
    assert ran.returncode == 0, ran.stderr
    return shared.folder / "run"


@pytest.mark.integration
def test_a_run_writes_rows_tables_charts_and_logs_into_the_out_folder(run_folder: Path) -> None:
    names = set(digests(run_folder))
    assert names >= {"run.json", "trials.csv", "requests.csv", "summary.csv"}
    charts = {"timeline", "split", "io"}
    assert names >= {"report.html", *(f"charts/{chart}.png" for chart in charts)}
    assert names >= {f"logs/{name}.log" for name in from_flags.ARTICLES}
    assert json.loads((run_folder / "run.json").read_text())["state"] == "finished"


@pytest.mark.integration
def test_a_run_without_a_plan_has_every_strategy_at_every_load_in_every_block(run_folder: Path) -> None:
    trials = rows(run_folder / "trials.csv")
    cells = [(row["strategy"], int(row["concurrency"]), int(row["block"])) for row in trials]
    blocks = range(1, BLOCKS + 1)
    assert sorted(cells) == sorted(itertools.product(from_flags.ARTICLES, CONCURRENCIES, blocks))


@pytest.mark.integration
def test_every_trial_measures_the_given_number_of_requests(run_folder: Path) -> None:
    requests = rows(run_folder / "requests.csv")
    counts = Counter(row["trial"] for row in requests if row["phase"] == "measure")
    assert set(counts.values()) == {REQUESTS}
    assert len(counts) == len(from_flags.ARTICLES) * len(CONCURRENCIES) * BLOCKS


@pytest.mark.integration
def test_the_output_of_a_run_begins_with_the_finding_in_one_sentence(ran: Done) -> None:
    first = ran.stdout.splitlines()[0]
    figures = r"At c = 2, \w+ answers in (at most )?[\d.]+ ms \(median\), (at least )?\d+ requests/s.*\."
    found = re.fullmatch(figures, first)
    assert found is not None
    # bounds, and only then, where other tests keep the load generator from the processor
    assert bool(found[1]) == bool(found[2]) <= ("Limited by the client" in ran.stdout)
    assert ". " not in first


@pytest.mark.integration
def test_the_output_of_a_run_names_every_arm_and_the_runs_folder(ran: Done) -> None:
    for name in from_flags.ARTICLES:
        assert f"\n{name} " in ran.stdout
    assert "Rows, tables and charts: run" in ran.stdout


@pytest.mark.integration
def test_piped_output_fits_80_columns_regardless_of_the_environment(ran: Done) -> None:
    assert_fits(ran.stdout)


@pytest.mark.integration
def test_without_a_terminal_progress_is_plain_lines_on_stderr_only(ran: Done) -> None:
    assert "starting servers" in ran.stderr
    assert re.search(
        rf"^trial 1/{len(from_flags.ARTICLES) * 4}, block 1: \w+, closed\(\d\)", ran.stderr, re.M
    )
    assert "\x1b" not in ran.stderr + ran.stdout
    assert "trial 1/" not in ran.stdout


@pytest.fixture
def plan(execbench: Execbench) -> str:
    """A user's plan in a TOML file: two arms with the thread strategy, one with process."""
    text = f"""
        name = "mine"
        concurrency = [1]
        requests = 4

        [workload]
        name = "synthetic"
        service_ms = 2
        io_ms = 1

        [[arms]]
        name = "{LONG_NAME}"
        strategy = "thread"
        workers = 2

        [[arms]]
        name = "{LONG_NAME[:-1]}y"
        strategy = "thread"

        [[arms]]
        name = "processes"
        strategy = "process"
        """
    (execbench.folder / "mine.toml").write_text(text)
    return "mine.toml"


@pytest.mark.integration
def test_strategy_selects_arms_of_a_plan_file_and_long_names_are_shown_in_full(
    execbench: Execbench, plan: str
) -> None:
    words = ("--strategy", "thread", "--duration", "0.3", "--concurrency", "3", "--blocks", "2")
    done = execbench("run", plan, "--no-self-check", "--full", *words)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[:2] == [
        "2 arms, 1 load, 2 blocks: 4 trials, under 1 min.",
        "2 blocks will give no verdict: use at least 6 (--blocks 6).",
    ]
    (folder,) = (execbench.folder / "results").iterdir()
    assert re.fullmatch(r"\d{8}-\d{6}-mine", folder.name)
    trials = rows(folder / "trials.csv")
    assert {row["arm"] for row in trials} == {LONG_NAME, f"{LONG_NAME[:-1]}y"}
    assert {row["concurrency"] for row in trials} == {"3"}
    for row in trials:
        assert float(row["window_end_ms"]) - float(row["window_start_ms"]) == pytest.approx(300, abs=1)
    assert_fits(done.stdout)
    table = done.stdout.split("Closed loops")[1].split("\n\n")[0].splitlines()
    (heads,) = [number for number, line in enumerate(table) if line.startswith("arm ")]  # the title varies
    assert {"c", "req/s", "p50", "p95", "p99", "requests", "s", "fail"} <= set(table[heads].split())
    name_column = "".join(line[: line.find("  ")].split(" ")[0] for line in table[heads + 1 :])
    assert name_column == LONG_NAME + LONG_NAME[:-1] + "y"


# -- report ----------------------------------------------------------------------------------------------


@pytest.fixture
def copy(execbench: Execbench, run_folder: Path) -> Path:
    return Path(shutil.copytree(run_folder, execbench.folder / "copy"))


@pytest.mark.integration
def test_report_rebuilds_tables_and_charts_byte_for_byte(
    invoke: Invoke, execbench: Execbench, run_folder: Path, ran: Done
) -> None:
    copy = Path(
        shutil.copytree(run_folder, execbench.folder / "copies" / "run")
    )  # the advice contains the folder's name
    before = digests(copy)
    (copy / "summary.csv").unlink()
    shutil.rmtree(copy / "charts")
    done = invoke("report", "copies/run", "--full")
    assert done.returncode == 0, done.stderr
    assert digests(copy) == before
    assert done.stdout.replace("charts: copies/run", "charts: run") == ran.stdout


@pytest.mark.integration
def test_the_short_report_names_the_page_and_the_command_that_prints_all_tables(
    invoke: Invoke, copy: Path
) -> None:
    full = invoke("report", "copy", "--full").stdout
    assert " ".join(full.split()).startswith(" ".join((copy / "report.txt").read_text().split()))
    short = invoke("report", "copy").stdout
    assert short.splitlines()[0] == full.splitlines()[0]
    assert short.endswith("\nPage: copy/report.html\nMore: execbench report copy --full\n")
    other = invoke("report", "copy", "--reference", "thread").stdout  # the page has the plan's reference
    assert other.endswith(
        "\nRows, tables and charts: copy\nMore: execbench report copy --reference thread --full\n"
    )


@pytest.mark.integration
def test_changing_one_row_changes_the_report(invoke: Invoke, copy: Path) -> None:
    before = digests(copy)
    lines = (copy / "requests.csv").read_text().splitlines(keepends=True)
    names = lines[0].strip().split(",")
    changed = next(number for number, line in enumerate(lines) if ",measure," in line)
    cells = lines[changed].split(",")
    cells[names.index("io_ms")] = "4321.000"
    lines[changed] = ",".join(cells)
    (copy / "requests.csv").write_text("".join(lines))
    assert invoke("report", "copy").returncode == 0
    after = digests(copy)
    changed_files = {name for name in before if before[name] != after[name]}
    assert changed_files >= {"requests.csv", "summary.csv", "charts/split.png", "report.html"}


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("requests.csv", lambda text: "time,latency\n1,2\n", r"requests\.csv is not a file of execbench"),
        ("trials.csv", lambda text: "", r"trials\.csv is not a file of execbench"),
        ("requests.csv", lambda text: text[: len(text) // 2], r"requests\.csv is damaged: trial \d+ should"),
        ("requests.csv", lambda text: re.sub(r",measure,\d", ",measure,x", text, count=1), "is damaged"),
        ("requests.csv", None, r"requests\.csv cannot be read"),
        ("run.json", None, "copy is not a run of execbench"),
        ("run.json", lambda text: text[: len(text) // 2], "copy is not a run of execbench"),
    ],
)
def test_an_unknown_or_damaged_file_is_refused_and_nothing_is_overwritten(
    invoke: Invoke, copy: Path, name: str, damage: object, message: str
) -> None:
    if callable(damage):
        (copy / name).write_text(damage((copy / name).read_text()))
    else:
        (copy / name).unlink()
    before = digests(copy)
    done = invoke("report", "copy")
    assert_refused(done, 1, rf"Error \(results\): .*{message}")
    assert digests(copy) == before


def test_a_missing_folder_is_refused(invoke: Invoke) -> None:
    done = invoke("report", "nothing")
    assert_refused(done, 1, r"Error \(results\): There is no run folder nothing\.\nRuns are in results/")


@pytest.mark.integration
def test_json_prints_the_results_as_one_document(invoke: Invoke, run_folder: Path) -> None:
    for words in (("list",), ("compare", str(run_folder))):
        done = invoke(*words, "--json")
        assert isinstance(json.loads(done.stdout), dict), words
    document = json.loads(invoke("report", str(run_folder), "--json").stdout)
    assert document["finding"].startswith("At c = ")
    assert {row["arm"] for row in document["summary"]} == set(from_flags.ARTICLES)


@pytest.mark.timed
def test_an_open_loop_is_reported_with_latency_service_time_and_dispatch_lag(execbench: Execbench) -> None:
    plan = """
        name = "opened"
        arrivals = ["poisson(60)", "constant(40)"]
        open_duration_s = 0.4
        open_settle_s = 0.1
        blocks = 1
        self_check = false
        workload = { name = "synthetic", service_ms = 2, io_ms = 1 }
        arms = [{ name = "thread", strategy = "thread" }, { name = "inline", strategy = "inline" }]
        """
    (execbench.folder / "opened.toml").write_text(plan)
    done = execbench("run", "opened.toml", "--twin", "--pin", "--out", "run", "--full")
    assert done.returncode == 0, done.stderr
    assert_fits(done.stdout)
    assert "Open loops: requests are sent at given times, whether or not others are answered" in done.stdout
    assert "service: from sending a request to its answer; dispatch lag: from due to sent" in done.stdout
    assert "Each arm against thread, compared block by block" in done.stdout
    trials = rows(execbench.folder / "run" / "trials.csv")
    assert {row["arm"] for row in trials} == {"thread", "inline", "thread-twin"}
    assert {(row["load"], row["rate_per_s"], row["concurrency"]) for row in trials} == {
        ("poisson(60)", "60.000", ""),
        ("constant(40)", "40.000", ""),
    }
    pinning = json.loads((execbench.folder / "run" / "run.json").read_text())["pinning"]
    assert not set(pinning["client"]) & set(pinning["server"])


# -- list, help, version ---------------------------------------------------------------------------------


def test_list_names_every_strategy_workload_and_plan_with_its_summary(invoke: Invoke) -> None:
    done = invoke("list")
    assert done.returncode == 0, done.stderr
    for name in (*strategies.NAMES, *workloads.NAMES, *plan_files.names()):
        assert re.search(rf"^{name} +\S+ ", done.stdout, re.M)
    assert_fits(done.stdout.replace("\n… ", "\n"))


def test_list_works_where_a_strategy_of_a_built_in_plan_does_not(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strategies.get("ray"), "why_not", lambda: "ray is not installed")
    done = invoke("list")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ray +ray is not installed *$", done.stdout, re.M)
    assert re.search(r"^cluster ", done.stdout, re.M)


def test_version_prints_the_version_of_the_package(invoke: Invoke) -> None:
    assert invoke("--version").stdout == f"execbench {__version__}\n"


def test_without_arguments_the_help_is_shown(invoke: Invoke) -> None:
    without_arguments, with_help = invoke(), invoke("--help")
    assert without_arguments.returncode == with_help.returncode == 0
    for command in ("run", "serve", "load", "report", "list"):
        assert re.search(rf"^  {command} +[A-Z]", with_help.stdout, re.M)
    shown = without_arguments.stdout + without_arguments.stderr
    assert "run" in shown
    assert shown.strip() == with_help.stdout.strip()


# -- a terminal ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def terminal(shared: Execbench) -> tuple[str, str]:
    """The output on stderr and stdout of a run with a terminal as stderr and a pipe as stdout."""
    chosen = ("--strategy", "default_pool", "--strategy", "process", "--workers", "2", "--seed", "7")
    words = (
        "run",
        "--no-self-check",
        *QUICK,
        *chosen,
        "--duration",
        "1.2",
        "--blocks",
        "1",
        "--out",
        "terminal",
    )
    our_end, their_end = pty.openpty()
    fcntl.ioctl(their_end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, WIDTH, 0, 0))
    process = shared.start(*words, stderr=their_end)
    os.close(their_end)
    shown = b"".join(iter(lambda: read_terminal(our_end), b""))
    os.close(our_end)
    stdout, _ = process.communicate()
    assert process.returncode == 0, shown
    return shown.decode(), stdout


def read_terminal(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # EIO: the other end is closed
        return b""


@pytest.mark.integration
def test_on_a_terminal_progress_is_a_live_bar_with_the_time_left_on_one_line(
    terminal: tuple[str, str],
) -> None:
    shown, _ = terminal
    frames = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", frame) for frame in re.split(r"[\r\n]", shown)]
    wanted = r"^[━╺╸]+ 2/2 · \d+:\d\d left · block 1: (default_pool|process), closed\(8\) · median \d+\.\d ms"
    assert any(re.search(wanted, frame) for frame in frames), frames
    assert max(map(len, frames)) <= WIDTH
    until_it_is_wiped = shown.split("\x1b[?25h")[0]
    assert "\x1b[1A" not in until_it_is_wiped, "it went back up over more than one line"


@pytest.mark.integration
def test_stdout_is_the_report_alone_when_a_terminal_shows_the_progress(terminal: tuple[str, str]) -> None:
    _, stdout = terminal
    assert stdout.startswith("At c = 8, ")
    assert "trial 2/2" not in stdout
    assert "\x1b" not in stdout


@pytest.mark.integration
def test_strategies_chosen_without_a_plan_are_recorded_as_the_plan(
    shared: Execbench, terminal: tuple[str, str]
) -> None:
    plan = json.loads((shared.folder / "terminal" / "run.json").read_text())["plan"]
    options = {arm["strategy"]: arm["options"] for arm in plan["arms"]}
    assert options == {"default_pool": {}, "process": {"workers": 2}}
    assert plan["seed"] == 7
    assert plan["duration_s"] == 1.2
    assert plan["workload"] == plan["workload"] | {"name": "synthetic", "service_ms": 2, "io_ms": 1}
