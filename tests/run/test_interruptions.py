"""If something dies or stops during a run, every finished trial is kept and no process is left running."""

import csv
import json
import os
import re
import resource
import signal
import time
from pathlib import Path

import psutil
import pytest
from conftest import Execbench, wait_for
from interrupting import QUICK, ending

from harness.commands import report, run
from harness.errors import HarnessError
from harness.plans.plan import Plan
from harness.results import store
from harness.run import load_generator, local_generator, server_process
from harness.run.local_generator import LocalProcess
from harness.run.supervisor import Supervisor
from harness.wire.arrivals import closed
from harness.wire.load_options import LoadOptions

pytestmark = pytest.mark.integration

STUCK = ("--workload", "synthetic", "--service-ms", "60000")
ENDLESS = ("--requests", "20", "--blocks", "1000", "--out", "run")


def trials(execbench: Execbench, run: str = "run") -> list[dict[str, str]]:
    """The rows of the trials saved so far."""
    try:
        with (execbench.folder / run / "trials.csv").open() as stream:
            return list(csv.DictReader(stream))
    except FileNotFoundError:
        return []


def server_of(execbench: Execbench, arm: str) -> psutil.Process:
    """The server of that arm: it is the one that writes the arm's log."""
    log = str(execbench.folder / "run" / "logs" / f"{arm}.log")
    servers = execbench.processes("harness.server")
    (found,) = [child for child in servers if log in [file.path for file in child.open_files()]]
    return found


def arm_under_load(execbench: Execbench) -> str:
    """The arm of the trial that runs now: the order is the plan's, and the plan is in the record."""
    record = json.loads((execbench.folder / "run" / "run.json").read_text())
    cells = list(Plan.model_validate(record["plan"]).cells())
    return cells[len(trials(execbench))].arm.name


def assert_the_finished_trials_can_be_reported(execbench: Execbench, kept: int) -> None:
    done = execbench("report", "run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("At c = ")
    assert "The run did not finish" in done.stdout
    assert len(store.read(execbench.folder / "run").trials) >= kept


def test_ctrl_c_keeps_the_finished_trials_and_prints_how_to_see_them(execbench: Execbench) -> None:
    process = execbench.start(
        "run", "--no-self-check", *QUICK, "--strategy", "process", "--strategy", "thread", *ENDLESS
    )
    wait_for(lambda: len(trials(execbench)) >= 3)
    assert {"spawn_main" in " ".join(p.cmdline()) for p in execbench.processes()} == {True, False}
    process.send_signal(signal.SIGINT)
    code, stderr = ending(process)
    execbench.assert_nothing_is_left()
    assert code == 130
    assert "`execbench report run`" in stderr
    assert json.loads((execbench.folder / "run" / "run.json").read_text())["state"] == "interrupted"
    assert_the_finished_trials_can_be_reported(execbench, kept=3)


def test_ctrl_c_before_the_first_trial_leaves_no_folder_behind(execbench: Execbench) -> None:
    """All four servers hang in their warm-up call: they are stopped together, not one after another."""
    process = execbench.start("run", "--no-self-check", *STUCK, *ENDLESS)
    wait_for(lambda: "spawn_main" in str([p.cmdline() for p in execbench.processes()]))
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    code, stderr = ending(process)
    assert time.monotonic() - began < 2 * server_process.STOP_WITHIN_S
    assert code == 130
    assert "report" not in stderr
    assert not list(execbench.folder.iterdir())


@pytest.mark.timed
def test_a_second_ctrl_c_leaves_nothing_behind(execbench: Execbench) -> None:
    process = execbench.start("run", "--no-self-check", *STUCK, "--strategy", "process", *ENDLESS)
    wait_for(lambda: "spawn_main" in str([p.cmdline() for p in execbench.processes()]))
    process.send_signal(signal.SIGINT)
    time.sleep(1.0)  # two signals before the first is seen would be one; servers are given 5 s to stop
    process.send_signal(signal.SIGINT)
    execbench.assert_nothing_is_left(within_s=3.0)
    assert ending(process)[0] == 130


@pytest.mark.timed
def test_a_run_killed_with_a_worker_in_a_c_call_leaves_no_processes(execbench: Execbench) -> None:
    """The worker holds its interpreter's lock, so nothing in it can notice that its parent has gone.

    Two runs at once, one killed by TERM and one by KILL.
    """
    (execbench.folder / "held.toml").write_text(HELD)
    kills = (signal.SIGTERM, signal.SIGKILL)
    runs = {
        number: execbench.start("run", "held.toml", "--no-self-check", "--out", number.name)
        for number in kills
    }
    wait_for(lambda: all(trials(execbench, number.name) for number in kills))
    time.sleep(0.3)  # into the next call, which lasts longer than we wait for the end
    for number in kills:
        assert len(trials(execbench, number.name)) == 1
    killed = psutil.Process(runs[signal.SIGKILL].pid).children(recursive=True)
    for number, process in runs.items():
        process.send_signal(number)
    psutil.wait_procs(killed, timeout=2.0)
    assert not [process for process in killed if process.is_running() and process.status() != "zombie"]
    execbench.assert_nothing_is_left(within_s=2 * server_process.STOP_WITHIN_S)  # TERM ends it in order
    ends = {signal.SIGTERM: (143, "interrupted"), signal.SIGKILL: (-9, "running")}
    for number, process in runs.items():
        run = store.read(execbench.folder / number.name)
        assert (process.wait(), run.record["state"]) == ends[number]
        assert list(run.trials["state"]) == ["ok"]
        assert run.warnings == []


def test_a_killed_run_resumes_its_own_plan_and_repeats_no_trial(execbench: Execbench) -> None:
    arms = ("--strategy", "inline", "--strategy", "thread")
    process = execbench.start(
        "run", "--no-self-check", *QUICK, *arms, "--requests", "20", "--blocks", "6", "--out", "run"
    )
    wait_for(lambda: len(trials(execbench)) >= 3)
    process.kill()
    execbench.assert_nothing_is_left()
    before = trials(execbench)
    done = execbench("run", "--resume", "run")
    assert done.returncode == 0, done.stderr
    after = trials(execbench)
    assert after[: len(before)] == before
    cells = [(row["block"], row["arm"]) for row in after]
    assert len(cells) == len(set(cells)) == 12
    assert {row["state"] for row in after} == {"ok"}
    again = execbench("run", "--resume", "run")
    assert again.returncode == 1
    assert "Error (resume): run is finished: 12 trials." in again.stderr


HELD = """
    name = "held"
    concurrency = [1]
    requests = 1
    blocks = 5
    warmup_per_client = 0

    [workload]
    name = "synthetic"
    mode = "hold"
    service_ms = 3000

    [[arms]]
    name = "process"
    strategy = "process"
    """


@pytest.mark.timed
def test_a_server_that_dies_fails_only_its_own_trials(
    execbench: Execbench,
) -> None:
    arms = ("--strategy", "inline", "--strategy", "thread")
    measured = ("--duration", "0.6", "--blocks", "3", "--out", "run")
    process = execbench.start("run", "--no-self-check", *QUICK, *arms, *measured)
    wait_for(lambda: len(trials(execbench)) >= 2 and arm_under_load(execbench) == "inline")
    before = len(trials(execbench))
    time.sleep(0.2)
    server_of(execbench, "inline").kill()
    code, stderr = ending(process)
    assert code == 1
    assert re.search(r"Error \(run\): \d of 6 trials failed, .* arm 'inline' ended .*\n.*run/logs", stderr)
    after = trials(execbench)
    assert len(after) == 6
    assert {row["state"] for row in after if row["arm"] == "thread"} == {"ok"}
    assert {row["state"] for row in after[:before]} == {"ok"}
    assert {row["state"] for row in after[before:] if row["arm"] == "inline"} == {"failed"}
    hit = store.read(execbench.folder / "run").requests.query(f"trial == {before + 1}")
    assert hit["error"].ne("").any()
    assert hit["error"].eq("").any()


def test_trials_without_a_good_answer_fail_even_if_the_server_lives(execbench: Execbench) -> None:
    """A worker that is killed breaks its pool for good; a fast 503 is no answer."""
    arms = ("--strategy", "thread", "--strategy", "process")
    process = execbench.start(
        "run", "--no-self-check", *QUICK, *arms, "--requests", "20", "--blocks", "12", "--out", "run"
    )
    wait_for(lambda: len(trials(execbench)) >= 2)
    (worker,) = [child for child in execbench.processes() if "spawn_main" in " ".join(child.cmdline())]
    worker.kill()
    code, stderr = ending(process)
    assert code == 1
    assert "none of 20 requests got a good answer (HTTP 503: BrokenProcessPool: " in stderr
    after = trials(execbench)
    assert len(after) == 24
    assert {row["state"] for row in after if row["arm"] == "thread"} == {"ok"}
    assert after[-1]["state"] == ("ok" if after[-1]["arm"] == "thread" else "failed")


def test_a_load_generator_that_is_killed_ends_the_run_with_a_clear_message(execbench: Execbench) -> None:
    process = execbench.start("run", "--no-self-check", *QUICK, "--strategy", "thread", *ENDLESS)
    wait_for(lambda: len(trials(execbench)) >= 2)
    (generator,) = execbench.processes("harness.client")
    generator.kill()
    code, stderr = ending(process)
    execbench.assert_nothing_is_left()
    assert code == 1
    assert "Error (load): The load generator ended during the run (exit code -9)." in stderr
    assert "`execbench report run`" in stderr
    assert_the_finished_trials_can_be_reported(execbench, kept=2)


def test_a_load_generator_killed_while_nobody_reads_its_rows_has_the_same_message(
    execbench: Execbench,
) -> None:
    """`execbench` is halted meanwhile, so that the rows and the outcome are left in the pipe."""
    instant = ("--workload", "synthetic", "--service-ms", "0", "--io-ms", "0", "--strategy", "inline")
    process = execbench.start(
        "run", "--no-self-check", *instant, "--requests", "1000", "--blocks", "9", "--out", "run"
    )
    wait_for(lambda: trials(execbench))
    time.sleep(0.1)
    process.send_signal(signal.SIGSTOP)
    (generator,) = execbench.processes("harness.client")
    wait_for(lambda: is_idle(generator))
    generator.kill()
    process.send_signal(signal.SIGCONT)
    code, stderr = ending(process)
    assert code == 1
    assert "Error (load): The load generator ended during the run (exit code -9)." in stderr


def is_idle(process: psutil.Process) -> bool:
    """Whether it used no CPU for a while."""
    before = process.cpu_times()
    time.sleep(0.5)
    return process.cpu_times() == before


def test_the_folder_of_a_run_killed_before_its_first_trial_is_reported_as_empty(
    execbench: Execbench,
) -> None:
    process = execbench.start("run", "--no-self-check", *STUCK, "--strategy", "inline", *ENDLESS)
    wait_for(lambda: execbench.processes("harness.server"))
    process.kill()
    execbench.assert_nothing_is_left()
    done = execbench("report", "run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("No trial got good answers")
    assert "The run did not finish" in done.stdout


def test_ctrl_c_during_the_report_prints_where_the_rows_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "show", interrupted)
    writer = store.Writer(tmp_path / "a run")
    with pytest.raises(KeyboardInterrupt):
        run.show_all(writer, full=False, as_json=False)
    stderr = capsys.readouterr().err
    assert f"All rows are in {writer.folder}" in stderr
    assert f"Make the report with `execbench report '{writer.folder}'`." in stderr


def test_stopped_supervisors_and_a_stopped_generator_are_killed_in_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(load_generator, "HANDS_OVER_WITHIN_S", 0.3)
    children = set(psutil.Process().children())
    with Supervisor() as supervisor, load_generator.Loader(LocalProcess(supervisor)) as generator:
        started = set(psutil.Process().children()) - children
        assert len(started) == 3
        for process in started:
            process.suspend()
        began = time.monotonic()
        assert generator.hand_over() is None
    assert time.monotonic() - began < 5.0
    assert not set(psutil.Process().children()) - children


def test_a_generator_that_stays_stopped_ends_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_generator, "LOOKS_EVERY_S", 0.2)
    with Supervisor() as supervisor, load_generator.Loader(LocalProcess(supervisor)) as generator:
        psutil.Process(generator.pids()[0]).suspend()
        with pytest.raises(HarnessError, match="was stopped by a signal and has not resumed"):
            generator.run(
                LoadOptions(url="http://127.0.0.1:1/", arrivals=closed(1), requests=1), lambda *_: None
            )


def test_a_message_that_a_killed_generator_left_half_written_is_none() -> None:
    reader, writer = os.pipe()
    answers = local_generator._Lines(reader)
    os.write(writer, b'{"rows": ""}\n{"outcome": {"requ')
    assert answers.peek(1.0) == b'{"rows": ""}'
    answers.drop()
    assert answers.peek(0.0) is None  # it may still come
    os.close(writer)
    assert answers.peek(1.0) == b""
    os.close(reader)


@pytest.mark.parametrize("after_s", [0.03, 0.06, 0.1, 0.15])
def test_ctrl_c_while_the_command_line_is_imported_leaves_no_traceback(
    execbench: Execbench, after_s: float
) -> None:
    process = execbench.start("load", "http://127.0.0.1:1/", "--out", "loaded")
    wait_for(lambda: takes_ctrl_c(process.pid))  # before that it is Python's own start
    time.sleep(after_s - 0.03)
    process.send_signal(signal.SIGINT)
    code, stderr = ending(process)
    assert (code, stderr) == (130, "Interrupted.\n")


def takes_ctrl_c(pid: int) -> bool:
    """Whether its SIGTERM handler is installed, which is set together with that of Ctrl-C."""
    (caught,) = re.findall(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def test_a_limit_of_eight_open_files_is_one_clear_message(execbench: Execbench) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))

    process = execbench.start("load", "http://127.0.0.1:1/", "--out", "loaded", preexec_fn=limit)
    code, stderr = ending(process)
    assert code == 1
    assert stderr.startswith("Error (start): Only 8 files may be open at the same time; a run needs 64.")
    assert len(stderr.splitlines()) == 2
