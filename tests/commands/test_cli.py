"""The command line from outside: its files, its output, and its errors."""

import csv
import fcntl
import hashlib
import http.server
import itertools
import json
import os
import pty
import re
import shutil
import socket
import struct
import subprocess
import termios
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from conftest import Execbench, Invoke

import strategies
from harness import __version__, workloads
from harness.plans import from_flags, plan_files
from harness.results import store
from harness.wire.options import WorkloadOptions

QUICK = ("--workload", "synthetic", "--service-ms", "2", "--io-ms", "1")
REQUESTS = 5
CONCURRENCIES = (1, 2)
BLOCKS = 2
LONG_NAME = "threads-with-two-workers-and-a-name-of-sixty-letters-in-all-x"[:60]
WIDTH = 80

Done = subprocess.CompletedProcess[str]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as stream:
        return list(csv.DictReader(stream))


def digests(folder: Path, pattern: str = "*") -> dict[str, str]:
    files = [path for path in folder.rglob(pattern) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


SENTENCES = (
    *("At c = ", "At poisson", "Machine: ", "(foreign CPU: ", "Warning: ", "The law of T2"),
    *("Next: ", "Rows, tables and charts: "),
)


def assert_fits(text: str) -> None:
    """Check that tables fit the width. A sentence is one line, for `head -1` and for copying its path."""
    tables = [line for line in text.splitlines() if not line.startswith(SENTENCES)]
    assert max(map(len, tables)) <= WIDTH
    assert "…" not in text


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


# -- bad input -------------------------------------------------------------------------------------------


def assert_refused(done: Done, code: int, message: str) -> None:
    assert done.returncode == code, done.stderr
    assert re.search(message, done.stderr), done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert done.stdout == ""


@pytest.fixture
def littered(execbench: Execbench) -> Execbench:
    """`execbench` in a folder with files and folders that cause errors."""
    (execbench.folder / "there").mkdir()
    (execbench.folder / "file").write_text("")
    (execbench.folder / "typo.toml").write_text('name = "typo"\nconcurency = [1]\n')
    (execbench.folder / "broken.toml").write_text("name = \n")
    return execbench


ONE_ARM = f"run --no-self-check {' '.join(QUICK)} --strategy inline --requests 1 --blocks 1"
NOWHERE = "http://127.0.0.1:1/"
PLAN, RESULTS, LOAD = (rf"Error \({stage}\): .*" for stage in ("plan", "results", "load"))


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("run --strategy tread", 2, PLAN + r"no strategy 'tread'\.\n.*'thread'"),
        ("serve proces", 2, PLAN + r"no strategy 'proces'\.\n.*'process'"),
        ("run artikle", 2, PLAN + r"no plan 'artikle'\.\n.*'article'"),
        ("run nothing.toml", 2, PLAN + r"nothing\.toml cannot be read"),
        ("run typo.toml", 2, PLAN + r"concurency: there is no such key"),
        ("run broken.toml", 2, PLAN + r"broken\.toml' is not TOML: .*line 1"),
        ("run smoke --strategy nothing", 2, PLAN + r"no strategy 'nothing'\.\n.*execbench list"),
        ("run --workload sinthetic", 2, PLAN + r"no workload 'sinthetic'\.\n.*'synthetic'"),
        ("run --concurrency 0", 2, "(?s)--concurrency.*greater than"),
        ("run --concurrency -3", 2, "(?s)--concurrency.*greater than"),
        ("run --requests 0", 2, "(?s)--requests.*greater than"),
        ("run --duration 0", 2, "(?s)--duration.*greater than"),
        ("run --duration inf", 2, PLAN + "--duration inf is not valid: must be a finite number"),
        ("run --requests 5 --duration 1", 2, PLAN + "either --requests or --duration"),
        ("run --workers 0", 2, "(?s)--workers.*greater than"),
        (
            "run --workers 2 --strategy inline",
            2,
            PLAN + "No strategy of this plan takes the option 'workers'",
        ),
        ("run --blocks many", 2, "(?s)--blocks.*whole number"),
        ("run --io-ms inf", 2, PLAN + "--io-ms inf is not valid: must be a finite number"),
        ("run --service-ms nan --workload synthetic", 2, "--service-ms"),
        ("run --service-ms 5", 2, PLAN + r"'embed' does not take the option service_ms\.\n.*takes"),
        (
            "run --model x --workload synthetic",
            2,
            PLAN + r"'synthetic' does not take the option model\.\n.*takes",
        ),
        ("run --transport pigeon", 2, "(?s)--transport.*aiohttp"),
        (
            "run --inject nonsense",
            2,
            PLAN + r"--inject nonsense is not .*\n--inject PART=MS: Add a delay to queue",
        ),
        (
            "run --inject queue=-1",
            2,
            PLAN + r"--inject queue=-1 is not valid: must be greater .*\n--inject PART=MS",
        ),
        (
            "run --inject model=inf",
            2,
            PLAN + r"--inject model=inf is not valid: must be a finite .*\n--inject PART=MS",
        ),
        ("run --nonsense", 2, "No such option: --nonsense"),
        ("run --arrivals poison(5)", 2, PLAN + r"'poison\(5\)' is not an arrival law.*poisson\(50\)"),
        ("run --arrivals closed(5)", 2, PLAN + r"give a closed loop with concurrency \(-c\)"),
        ("run --rate 0", 2, PLAN + "--rate 0 is not valid: the rate must be from"),
        ("run --rate 5 --rate 5", 2, PLAN + r"duplicate load poisson\(5\)"),
        ("run --precision 300%", 2, PLAN + r"--precision 300% is not valid: must be less than 1.*\n.*3%"),
        (
            "run --precision narrow",
            2,
            PLAN + r"--precision narrow is not valid: must be a number.*\n.*3%",
        ),
        ("run --reference nobody", 2, PLAN + "reference: there is no arm 'nobody'"),
        ("run --cap 0", 2, "(?s)--cap.*greater than"),
        ("run --resume nowhere", 1, RESULTS + r"no run folder nowhere"),
        ("run --resume file --out other", 2, r"Error \(resume\): .*remove --out"),
        ("load http://127.0.0.1:1/ -c 2 --rate 5", 2, LOAD + "one of --concurrency, --rate and --arrivals"),
        ("compare nowhere", 1, RESULTS + "no run folder nowhere"),
        ("check --only nothing", 2, r"(?s)Error \(check\): .*nothing"),
        ("study nothing", 2, "(?s)nothing.*coverage"),
        ("bench", 2, "No such command 'bench'"),
        ("report nowhere --full --json", 2, "Give either --full or --json, not both"),
        ("run --full --json", 2, "Give either --full or --json, not both"),
        (f"{ONE_ARM} --out there", 1, RESULTS + r"folder there already exists.*\n.*--out"),
        (f"{ONE_ARM} --out file/run", 1, RESULTS + r"file/run cannot be written.*\n.*--out"),
        (f"load {NOWHERE} --requests 0", 2, "(?s)--requests.*greater than"),
        (f"load {NOWHERE} --requests 5 --duration 1", 2, "either --requests or --duration"),
        ("load nonsense", 2, LOAD + r"'nonsense' is not an HTTP URL\.\n.*http://127"),
        ("load ftp://x/", 2, LOAD + "'ftp://x/' is not an HTTP URL"),
        ("load http://[::1/", 2, LOAD + r"'http://\[::1/' is not an HTTP URL"),
        ("load http://x:port/", 2, LOAD + "'http://x:port/' is not an HTTP URL"),
        (f"load {NOWHERE} --think 0.5 --rate 5", 2, LOAD + "This load is not valid: think: only the users"),
        (f"load {NOWHERE} --think soon", 2, LOAD + "--think soon is not valid: 'soon' is not a think time"),
        ("capacity --slo p99<9ms --think 0.5", 2, "No such option: --think"),
        ("load", 2, "Missing argument 'URL'"),
    ],
)
def test_bad_input_gives_one_clear_message_and_leaves_no_files(
    littered: Execbench, invoke: Invoke, words: str, code: int, message: str
) -> None:
    """The command starts no process, so it runs in the process of the tests."""
    before = set(littered.folder.rglob("*"))
    assert_refused(invoke(*words.split()), code, message)
    assert set(littered.folder.rglob("*")) == before


@pytest.mark.integration
def test_load_fails_if_no_server_listens(littered: Execbench, invoke: Invoke) -> None:
    before = set(littered.folder.rglob("*"))
    assert_refused(invoke("load", NOWHERE), 1, LOAD + r"does not answer .*\n.*execbench serve")
    assert set(littered.folder.rglob("*")) == before


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


@pytest.mark.model
def test_a_model_that_fails_to_load_leaves_no_folder_that_blocks_the_next_attempt(
    execbench: Execbench,
) -> None:
    words = ("--no-self-check", "--model", "no-such-model", "--strategy", "inline", "--out", "run")
    done = execbench("run", *words)
    assert_refused(done, 1, r"Error \(model\): Cannot load the model 'no-such-model' .*\n.*--model.*--online")
    assert not list(execbench.folder.iterdir())


@pytest.mark.integration
def test_a_port_in_use_is_refused(invoke: Invoke) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = invoke("serve", "inline", *QUICK, "--port", port)
    assert_refused(done, 1, rf"Error \(server\): Port {port} of 127\.0\.0\.1 cannot be used: .*\n.*--port")


@pytest.mark.integration
def test_a_server_that_accepts_the_connection_but_never_answers_is_reported(
    execbench: Execbench, invoke: Invoke
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        done = invoke("load", url, "--timeout", "0.3")
    assert_refused(done, 1, rf"Error \(load\): {url} does not answer \(timeout after 0\.3 s\)")
    assert not list(execbench.folder.iterdir())


def test_debug_adds_the_traceback_and_keeps_message_and_exit_code(invoke: Invoke) -> None:
    done = invoke("--debug", "run", "--strategy", "tread")
    assert done.returncode == 2
    assert "Traceback (most recent call last)" in done.stderr
    assert "Error (plan): There is no strategy 'tread'." in done.stderr


# -- list, help, version ---------------------------------------------------------------------------------


def test_list_names_every_strategy_workload_and_plan_with_its_summary(invoke: Invoke) -> None:
    done = invoke("list")
    assert done.returncode == 0, done.stderr
    for name in (*strategies.NAMES, *workloads.NAMES, *plan_files.names()):
        assert re.search(rf"^{name} +\S+ ", done.stdout, re.M)
    assert_fits(done.stdout.replace("\n… ", "\n"))


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


# -- serve and load --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(shared: Execbench) -> Iterator[str]:
    """The URL that `execbench serve thread` prints."""
    # slower than QUICK: on a quiet machine two users and a 2 ms model would saturate the load generator
    process = shared.start(
        "serve", "thread", "--workload", "synthetic", "--service-ms", "10", "--io-ms", "1", "--port", "0"
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+/", line)
    assert found is not None, line
    yield found[0]
    process.terminate()
    process.communicate()


@pytest.mark.integration
def test_serve_prints_its_url_and_answers_there_with_the_split(served: str) -> None:
    answer = httpx.get(served)
    assert answer.status_code == 200
    assert "queue" in answer.headers["Server-Timing"]


@pytest.mark.timed
def test_load_shows_the_split_if_the_server_reports_it(
    execbench: Execbench, invoke: Invoke, served: str
) -> None:
    done = execbench("load", served, "--requests", "20", "--concurrency", "2", "--out", "loaded", "--full")
    assert done.returncode == 0, done.stderr
    # a load generator that waits for a processor says so, and its figures are bounds
    at_most = "at most " if "Limited by the client: server at c = 2" in done.stdout else ""
    assert re.match(rf"At c = 2, server answers in {at_most}[\d.]+ ms \(median\), ", done.stdout)
    assert_fits(done.stdout)
    whole, parts = done.stdout.split("Where the time goes")
    (line,) = [line.split() for line in whole.splitlines() if line.startswith("server ")]
    assert line[-1] == "0"  # failed
    (line,) = [line.split() for line in parts.splitlines() if line.startswith("server ")]
    titles = next(line.split() for line in parts.splitlines() if line.startswith("arm "))
    assert 2 <= float(line[titles.index("worker")]) < 20
    assert invoke("report", "loaded", "--full").stdout == done.stdout
    refused = invoke("load", served, "--out", "loaded")
    assert_refused(refused, 1, r"Error \(results\): The folder loaded already exists")


@pytest.mark.integration
def test_load_posts_the_texts_of_the_seed_for_the_given_duration(execbench: Execbench) -> None:
    with plain_server() as (url, received):
        measured = ("--duration", "0.3", "--concurrency", "1", "--transport", "httpx")
        done = execbench("load", url, *measured, "--seed", "5", "--out", "loaded")
    assert done.returncode == 0, done.stderr
    assert {method for method, _ in received} == {"POST"}
    texts = [
        json.loads(body)["text"] for _, body in received[1:6]
    ]  # the first request checks that the server answers
    assert texts == list(itertools.islice(workloads.create(WorkloadOptions()).payloads(5), 5))
    (trial,) = rows(execbench.folder / "loaded" / "trials.csv")
    assert float(trial["window_end_ms"]) - float(trial["window_start_ms"]) == pytest.approx(300, abs=1)
    assert trial["failed"] == "0"


@pytest.mark.timed
def test_load_replays_recorded_texts_until_the_end_of_the_recording(
    execbench: Execbench, invoke: Invoke
) -> None:
    lines = [json.dumps({"at_s": number / 20, "text": f"text {number}"}) for number in range(11)]
    (execbench.folder / "recorded.jsonl").write_text("\n".join(reversed(lines)))
    with plain_server() as (url, received):
        words = ("load", url, "--arrivals", "replay(recorded.jsonl)", "--out", "loaded")
        assert_refused(
            invoke(*words, "--seed", "1"), 2, LOAD + "The texts of replay.* are sent, so --seed has"
        )
        done = execbench(*words)
    assert done.returncode == 0, done.stderr
    texts = [json.loads(body)["text"] for _, body in received]
    assert texts == ["text 0", *(f"text {number}" for number in range(11))]  # the first checks the server
    run = store.read(execbench.folder / "loaded")
    assert list(run.requests["phase"]) == ["warmup"] * 3 + ["measure"] * 8
    schedules = run.record["schedules"]["replay(recorded.jsonl)"]
    assert schedules == {"1": run.trials["schedule"].iloc[0]}


@pytest.mark.integration
def test_load_measures_a_server_that_does_not_report_timings(execbench: Execbench) -> None:
    with plain_server() as (url, received):
        done = execbench("load", url, "--requests", "10", "--concurrency", "2", "--out", "loaded", "--full")
    assert done.returncode == 0, done.stderr
    assert {method for method, _ in received} == {"GET"}
    assert_fits(done.stdout)
    (line,) = [line.split() for line in done.stdout.splitlines() if line.startswith("server ")]
    assert "-" in line
    run = store.read(execbench.folder / "loaded")
    assert run.requests["status"].eq(200).all()
    assert run.requests["model_ms"].isna().all()


@pytest.mark.integration
def test_load_fails_with_the_reason_when_no_request_gets_a_good_answer(execbench: Execbench) -> None:
    with plain_server() as (url, _):
        done = execbench("load", f"{url}unfit", "--requests", "10", "--out", "loaded")
    assert done.returncode == 1
    reason = "HTTP 422: body.text: Field required"
    assert f"none of 10 requests got a good answer ({reason})" in done.stderr
    assert f"10 of 10 measured requests got no good answer, most often because of: {reason}" in done.stdout
    requests = store.read(execbench.folder / "loaded").requests
    assert set(zip(requests["status"], requests["error"], strict=True)) == {(422, "HTTP 422")}


@pytest.mark.integration
def test_errors_of_external_servers_do_not_refer_to_a_server_log(execbench: Execbench) -> None:
    with plain_server() as (url, _):
        done = execbench("load", f"{url}unfit", "--requests", "3", "--out", "loaded")
    assert not list((execbench.folder / "loaded" / "logs").iterdir())
    assert not re.search(r"\blogs\b", done.stdout + done.stderr)
    assert "own log may say more" in " ".join(done.stdout.split())


@contextmanager
def plain_server() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Run a server that answers /unfit with 422, and yield its URL and the received requests."""
    unfit = b'{"detail":[{"type":"missing","loc":["body","text"],"msg":"Field required","input":{}}]}'
    received: list[tuple[str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            received.append((self.command, body))
            good = self.path != "/unfit"
            answer = b"ok" if good else unfit
            self.send_response(200 if good else 422)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/", received
        finally:
            server.shutdown()
            thread.join()


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
