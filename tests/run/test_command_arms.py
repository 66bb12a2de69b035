"""Arms that are commands: any server is started, measured and stopped, and none of its processes stays."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from command_servers import CPU_S, PROGRAM, STARTS_WITHIN_S
from conftest import Execbench, Invoke, wait_for

from harness.plans.arm import Arm
from harness.results import store
from harness.run import command_server
from harness.run.supervisor import Supervisor
from harness.wire.records import MEASURE

pytestmark = pytest.mark.integration

SHORT = ("--no-self-check", "--io-ms", "0", "--workload", "synthetic", "--service-ms", "2")
ONE_BLOCK = ("--no-self-check", "-c", "2", "--blocks", "1", "--requests", "10")
JAVASCRIPT = """
require("node:http").createServer((request, response) => {
  request.resume();
  request.on("end", () => response.end("{}"));
}).listen(Number(process.argv[2]), "127.0.0.1");
"""


def command_of(kind: str) -> tuple[str, ...]:
    return (sys.executable, str(PROGRAM), kind)


def command(kind: str) -> tuple[str, str]:
    return "--command", f"{kind}={' '.join(command_of(kind))} {{port}}"


@pytest.fixture(scope="module")
def mixed(shared: Execbench) -> store.Run:
    """A strategy beside three commands."""
    kinds = ("detached", "orphans", "slow")
    words = [word for kind in kinds for word in command(kind)]
    done = shared(
        *("run", *SHORT, "--strategy", "thread", *words, "-c", "2", "--blocks", "2"),
        *("--requests", "60", "--out", "mixed"),
    )
    assert done.returncode == 0, done.stderr
    shared.assert_nothing_is_left()
    return store.read(shared.folder / "mixed")


def measured(run: store.Run, arm: str) -> Any:
    return run.requests[(run.requests["arm"] == arm) & (run.requests["phase"] == MEASURE)]


def test_commands_are_measured_beside_strategies(mixed: store.Run) -> None:
    for arm in ("thread", "detached", "orphans", "slow"):
        rows = measured(mixed, arm)
        assert len(rows) >= 2 * 60
        assert (rows["status"] == 200).all()
    assert set(mixed.trials["strategy"]) == {"thread", "command"}


def test_the_split_of_a_command_is_what_its_server_sends(mixed: store.Run) -> None:
    assert (measured(mixed, "detached")["model_ms"] == 1.5).all()


def test_the_record_has_when_a_command_was_ready_and_its_memory(mixed: store.Run) -> None:
    slow = mixed.record["arms"]["slow"]
    assert 0 < slow["ready_s"] < slow["first_answer_s"]
    assert slow["first_answer_s"] > STARTS_WITHIN_S
    assert 1e6 < slow["uss_bytes"] < 1e9


def test_the_cpu_of_ended_processes_without_a_parent_counts_as_the_commands(mixed: store.Run) -> None:
    trials = mixed.trials[(mixed.trials["arm"] == "orphans") & (mixed.trials["block"] > 0)]
    requests = mixed.requests[mixed.requests["arm"] == "orphans"]
    cpu_ms = trials["server_cpu_ms"].sum() / len(requests)
    assert cpu_ms > 0.8 * CPU_S * 1e3


def test_a_command_is_suspended_while_another_arm_is_measured(execbench: Execbench) -> None:
    Path(execbench.folder, "two.toml").write_text(f"""
name = "two"
suspend_idle = true
concurrency = [1]
duration_s = 0.4
blocks = 2
self_check = false
[[arms]]
name = "busy"
command = ["{sys.executable}", "{PROGRAM}", "busy", "{{port}}"]
[[arms]]
name = "plain"
command = ["{sys.executable}", "{PROGRAM}", "plain", "{{port}}"]
""")
    done = execbench("run", "two.toml", "--out", "run")
    assert done.returncode == 0, done.stderr
    run = store.read(execbench.folder / "run")
    idle = run.record["idle"]
    assert idle["busy"]["cpu_ms"] < 0.2 * idle["busy"]["wall_ms"]  # it computes whenever it may
    busy = run.trials[run.trials["arm"] == "busy"]
    # it went on in its own window: while suspended it would use none, and beside other tests it gets little
    assert (busy["server_cpu_ms"] > 20).all()


@pytest.mark.parametrize("killed", [("cli",), ("keeper",), ("cli", "keeper")], ids=str)
def test_a_command_that_detached_and_ignores_signals_ends_with_its_run(
    execbench: Execbench, killed: tuple[str, ...]
) -> None:
    process = execbench.start(
        "run", "--no-self-check", *command("detached"), "-c", "2", "--duration", "60", "--out", "run"
    )
    stderr = process.stderr
    assert stderr is not None
    wait_for(lambda: "trial 1/" in stderr.readline(), 60)
    modules = {"cli": "harness.cli", "keeper": "harness.run.command_keeper"}
    found = [one for role in killed for one in execbench.processes(modules[role])]
    assert len(found) == len(killed)
    for victim in found:
        victim.kill()
    if "cli" not in killed:
        process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    execbench.assert_nothing_is_left(within_s=10)


def test_a_command_that_stops_on_sigint_gets_it(tmp_path: Path) -> None:
    arm = Arm.model_validate({"name": "mine", "command": [*command_of("plain"), "{port}"], "stop": "SIGINT"})
    with Supervisor() as supervisor, command_server.start(arm, supervisor, log=tmp_path / "log") as server:
        server.wait_ready()
    assert "KeyboardInterrupt" in (tmp_path / "log").read_text()


# no Python package: a bare machine may lack it, and the tests above hold the same with servers in Python
@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed; others are in Python")
def test_a_server_in_another_language_is_an_arm(execbench: Execbench) -> None:
    Path(execbench.folder, "server.js").write_text(JAVASCRIPT)
    done = execbench("run", *ONE_BLOCK, "--command", "js=node server.js {port}", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert (store.read(execbench.folder / "run").requests["status"] == 200).all()


def test_a_command_that_ends_at_once_is_shown_with_its_log(execbench: Execbench) -> None:
    done = execbench("run", *ONE_BLOCK, *command("broken"))
    assert done.returncode == 1
    assert "The command of arm 'broken' ended (exit code 1, at start)." in done.stderr
    assert "  | no such model" in done.stderr


def test_an_unexpected_answer_of_a_command_is_shown(execbench: Execbench) -> None:
    done = execbench("run", *ONE_BLOCK, *command("plain"), "--expect-status", "201")
    assert done.returncode == 1
    assert "/predict, answers POST with HTTP 200, not with 201." in done.stderr


def test_the_request_to_a_command_is_set_by_flags_and_its_plan(execbench: Execbench) -> None:
    done = execbench("run", *ONE_BLOCK, *command("plain"), "--method", "get", "--path", "/x", "--out", "run")
    assert done.returncode == 0, done.stderr
    arm = json.loads((execbench.folder / "run" / "run.json").read_text())["plan"]["arms"][0]
    assert (arm["path"], arm["strategy"]) == ("/x", "command")


def test_an_arm_whose_program_is_missing_is_left_out_if_the_plan_says_so(execbench: Execbench) -> None:
    Path(execbench.folder, "peers.toml").write_text(f"""
name = "peers"
skip_missing = true
concurrency = [1]
requests = 5
blocks = 1
self_check = false
[[arms]]
name = "gone"
command = "{{peers}}/gone/bin/python {{port}}"
[[arms]]
name = "here"
command = ["{sys.executable}", "{PROGRAM}", "plain", "{{port}}"]
packages = ["pytest", "no-such-package"]
""")
    done = execbench("run", "peers.toml", "--out", "run")
    assert done.returncode == 1
    assert "Left out: gone, as there is no program .venv-peers/gone/bin/python." in done.stderr
    run = store.read(execbench.folder / "run")
    assert set(run.trials["arm"]) == {"here"}
    assert run.record["arms"]["here"]["environment"]["packages"] == {"pytest": pytest.__version__}
    again = execbench("run", "run", "--out", "again")
    assert again.returncode == 0, again.stderr


def test_capacity_measures_a_command(execbench: Execbench) -> None:
    words = ("--slo", "mean latency < 100 ms", "--no-self-check", "--window", "0.6", "--search-window", "0.6")
    process = execbench.start("capacity", *command("single"), *words, "--out", "run")
    trials = execbench.folder / "run" / "trials.csv"
    wait_for(lambda: trials.exists() and ",single," in trials.read_text(), 60)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    rows = store.read(execbench.folder / "run").requests
    assert (rows["status"] == 200).any()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--command", "a=nothing-like-it {port}"), "there is no program nothing-like-it"),
        (("--command", "a=sh {porte}"), "{porte}, which has no value"),
        (("--command", "sh {port}"), "is not NAME=COMMAND"),
        (("--command", "a=sh 'open"), "no closing quotation"),
        (("--command", "a=sh", "--workers", "2"), "Commands do not take the option 'workers'"),
        (("--command", "a=sh", "--service-ms", "2"), "A command cannot have service_ms"),
        (("--command", "a=sh", "--server-processes", "2"), "A command cannot have server_processes"),
        (("--command", "a=sh", "--url", "b=http://x/"), "different work"),
        (("--strategy", "thread", "--path", "/x"), "this plan has none"),
    ],
)
def test_a_command_that_cannot_be_started_is_refused(
    invoke: Invoke, words: tuple[str, ...], said: str
) -> None:
    done = invoke("run", *words)
    assert done.returncode == 2
    assert said in done.stderr


def test_names_in_braces_are_axes_of_a_sweep(invoke: Invoke) -> None:
    words = ("--command", "a=sh {size} {workers} {port}", "--strategy", "thread")
    done = invoke("sweep", *words, "--over", "workers=1,2", "--over", "size=s,l", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    arms = {arm["name"]: arm["command"] for arm in json.loads(done.stdout)["plan"]["arms"]}
    assert arms == {
        "thread-workers-1": None,
        "thread-workers-2": None,
        **{
            f"a-workers-{workers}-size-{size}": ["sh", size, str(workers), "{port}"]
            for workers, size in itertools.product((1, 2), "sl")
        },
    }
