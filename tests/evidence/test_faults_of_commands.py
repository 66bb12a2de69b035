"""Faults on servers that are commands, seen from outside. Each cell is a server of its own, a few at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from conftest import Execbench, Invoke, wait_for

from harness.evidence.faults import catalogue, command_faults, page, parent_kill, saved, targets
from harness.evidence.faults.command_site import working
from harness.evidence.faults.records import FaultRow, empty_row
from harness.evidence.faults.site import Pace
from harness.evidence.page import Made
from harness.plans.from_flags import Flags
from harness.run.supervisor import MARK

SERVER = Path(__file__).parent.parent / "a_command.py"
AT_ONCE = 4
HURRIED = Pace(
    recovers_within_s=3.0, ends_within_s=1.0, overload_s=0.7, storm_s=1.5, storm_every_s=0.4, pilot_s=0.3
)

See = Callable[[str, str], FaultRow]


def target(modes: str, *, ready: str | None = "/health", path: str = "/predict") -> targets.Target:
    command = f"{sys.executable} -S {SERVER} {{port}} {modes}"
    arm = {"ready": ready, "path": path} if ready else {"path": path}
    return targets.chosen(None, Flags(commands=(f"mine={command}",), arm=arm)).targets[0]


def cell(fault: str, modes: str) -> FaultRow:
    arm, request = target(modes)
    assert request is not None
    return command_faults.run_fault(fault, arm, request, HURRIED)


@pytest.fixture(scope="module")
def see(request: pytest.FixtureRequest) -> Iterator[See]:
    """The row of one fault and one server; all rows that this module needs are started at once."""
    wanted = dict.fromkeys(
        (str(item.callspec.params["fault"]), str(item.callspec.params["modes"]))
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.module is request.module and "see" in item.fixturenames
    )
    with ThreadPoolExecutor(AT_ONCE) as pool:
        met: dict[tuple[str, str], Future[FaultRow]] = {pair: pool.submit(cell, *pair) for pair in wanted}
        yield lambda fault, modes: met[fault, modes].result()


OUTCOMES = {
    ("kill-running", "heals"): "unharmed",
    ("overload", "bounded"): "sheds",
    ("overload", ""): "piles up",
    ("shutdown", ""): "answered",
    ("shutdown", "drops"): "lost",
    ("server-kill", "leaves"): "orphans",
    ("parent-kill", "deaf leaves"): "ended",
    ("health", ""): "red",
    ("health", "liar"): "green",
    ("kill-storm", "heals"): "unharmed",
}


@pytest.mark.timed
@pytest.mark.parametrize(("fault", "modes"), OUTCOMES)
def test_the_outcome_of_a_fault_is_seen_from_outside(see: See, fault: str, modes: str) -> None:
    found = see(fault, modes)
    assert found.outcome == OUTCOMES[fault, modes], found
    assert (found.orphans > 0) == (modes == "leaves")


@pytest.mark.timed
@pytest.mark.parametrize(("fault", "modes"), [("kill-rebuild", "heals")])
def test_the_process_that_replaces_a_killed_worker_is_killed_too(see: See, fault: str, modes: str) -> None:
    found = see(fault, modes)
    assert found.kills == 2
    assert "its replacement was killed too" in found.notes
    assert found.recovered_s is not None


@pytest.mark.timed
@pytest.mark.parametrize(("fault", "modes"), [("shutdown", "deaf")])
def test_a_server_that_ignores_the_signal_is_killed(see: See, fault: str, modes: str) -> None:
    found = see(fault, modes)
    assert found.ended_s is None
    assert "still running" in found.notes
    assert found.answered > 0


@pytest.mark.timed
@pytest.mark.parametrize(("fault", "modes"), [("overload", "bounded")])
def test_requests_that_are_refused_with_429_count_as_refused(see: See, fault: str, modes: str) -> None:
    found = see(fault, modes)
    assert found.refused > 0
    assert found.failed == 0
    assert "were 429" in found.notes


@pytest.mark.timed
def test_work_whose_clients_have_left_is_seen_by_the_wait_of_the_next_request() -> None:
    """Alone, as it compares durations."""
    assert cell("client-leaves-queued", "").outcome == "run anyway"


@pytest.mark.integration
def test_a_process_that_outlives_execbench_is_found_by_its_mark() -> None:
    """Also one that is no descendant any more."""
    stays = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={MARK: "marked"})
    try:
        wait_for(lambda: parent_kill.left([], "marked"))
        assert parent_kill.left([], "marked") == [psutil.Process(stays.pid)]
    finally:
        stays.communicate()
    assert parent_kill.left([], "marked") == []


@pytest.mark.integration
def test_the_command_injects_into_a_command_and_leaves_nothing_running(execbench: Execbench) -> None:
    command = f"mine={sys.executable} -S {SERVER} {{port}}"
    done = execbench(
        "faults", "--command", command, "--fault", "parent-kill", "--fault", "hang", "--out", "x.md"
    )
    assert done.returncode == 0, done.stderr
    assert "all had ended after" in done.stdout
    assert "Not applicable, as it needs the app of execbench: hang" in done.stdout
    assert "# Faults: how each server handles them" in (execbench.folder / "x.md").read_text()
    execbench.assert_nothing_is_left()


@pytest.mark.integration
def test_a_command_that_does_not_answer_well_is_refused_before_the_first_fault(execbench: Execbench) -> None:
    command = f"mine={sys.executable} -m http.server {{port}}"
    done = execbench("faults", "--command", command, "--fault", "kill-idle")
    assert done.returncode == 1
    assert "The command of arm 'mine' answers POST with 501" in done.stderr
    assert "--path" in done.stderr
    execbench.assert_nothing_is_left()


# -- rules ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cpu_ms", "found"),
    [
        ({1: 50.0}, [1]),
        ({1: 90.0, 2: 9.0}, [1]),
        ({1: 60.0, 2: 40.0}, [2]),
        ({1: 10.0, 2: 40.0, 3: 50.0, 4: 15.0}, [3, 2]),
        ({1: 0.0, 2: 0.0}, [2]),
        ({}, [1]),
    ],
)
def test_workers_are_the_busiest_processes_and_seldom_the_command_itself(
    cpu_ms: dict[int, float], found: list[int]
) -> None:
    assert working(cpu_ms, main=1) == found


def test_faults_that_need_our_app_are_not_applicable_to_a_command() -> None:
    arm, request = target("", ready=None)
    assert request is not None
    unfit = [name for name in catalogue.FAULTS if command_faults.why_not_applicable(name, arm)]
    assert {"hang", "poison", "start-raise", "unpicklable", "health"} <= set(unfit)
    assert not {"kill-idle", "shutdown", "overload", "parent-kill"} & set(unfit)
    row = command_faults.run_fault("hang", arm, request, HURRIED)
    assert (row.outcome, page.cell(row)) == ("not applicable", "not applicable")
    assert row.outcome not in page.BAD


def test_every_fault_of_commands_is_in_the_catalogue() -> None:
    assert {*command_faults.FAULTS, command_faults.PARENT_KILL} <= set(catalogue.FAULTS)
    assert all(fault.run or command_faults.can_have(name) for name, fault in catalogue.FAULTS.items())


def test_a_fault_of_commands_alone_is_not_applicable_to_a_strategy() -> None:
    (ours,) = targets.chosen(None, Flags(strategies=("thread",))).targets
    row = catalogue.run_fault("parent-kill", ours.arm, catalogue.SYNTHETIC, HURRIED)
    assert row.outcome == "not applicable"


def test_the_page_of_a_command_has_no_chapter_for_faults_that_it_cannot_have(tmp_path: Path) -> None:
    rows = [
        empty_row("hang", "mine", "not applicable", "it needs the app of execbench"),
        empty_row("shutdown", "mine", "answered", ""),
    ]
    how = Made("execbench faults --command mine=x", "2026-01-01", "a machine", "some code")
    saved.write(tmp_path / "x.md", saved.Saved(rows, how))
    text = (tmp_path / "x.md").read_text()
    assert "# Faults: how each server handles them" in text
    assert "| hang | not applicable |" in text
    assert "## shutdown" in text
    assert "## hang" not in text
    assert saved.read(tmp_path / "x.csv").rows == rows


def test_arms_of_a_plan_are_tested_by_name(tmp_path: Path) -> None:
    plan = tmp_path / "both.toml"
    plan.write_text(
        f"""name = "both"
        concurrency = [1]
        duration_s = 1
        [[arms]]
        name = "ours"
        strategy = "thread"
        workers = 3
        [[arms]]
        name = "theirs"
        command = ["{sys.executable}", "x.py", "{{port}}"]
        path = "/embed?q={{text}}"
        method = "GET"
        """
    )
    ours, theirs = targets.chosen(str(plan), Flags()).targets
    assert (ours.arm.name, ours.arm.options, ours.request) == ("ours", {"workers": 3}, None)
    assert theirs.request is not None
    assert (theirs.request.method, theirs.request.url) == ("GET", "/embed?q={text}")
    (alone,) = targets.chosen(str(plan), Flags(strategies=("theirs",))).targets
    assert alone.arm.name == "theirs"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--ready /health", "--ready is about servers that are commands"),
        ("--strategy thread --command thread=cat", "Two arms have the name 'thread'"),
        ("--command mine=cat --workload synthetic", "--workload is about strategies"),
        ("--command mine=/no/such/program", "there is no program"),
        ("--from x.csv --command mine=cat", "--from reads recorded rows"),
        ("--command cat", "is not NAME=COMMAND"),
    ],
)
def test_what_does_not_fit_together_is_refused(invoke: Invoke, words: str, message: str) -> None:
    done = invoke("faults", *words.split())
    assert done.returncode == 2
    assert message in done.stderr


def test_the_recorded_command_says_how_the_server_is_asked_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, invoke: Invoke
) -> None:
    from harness.commands import faults

    monkeypatch.setenv("TOKEN", "secret")
    given = Flags(
        commands=("mine=cat {port}",),
        arm={"ready": "/up"},
        ask={"expect_status": 201, "headers": (("X-Key", "secret"),)},
    )
    words = faults.made_by(None, given, ["shutdown"], storm=False, workload=None)
    assert words == (
        "execbench faults --command 'mine=cat {port}' --ready /up --expect-status 201 "
        "--header 'X-Key: ${HEADER_X_KEY}' --fault shutdown"
    )
