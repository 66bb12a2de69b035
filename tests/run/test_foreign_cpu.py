"""Servers whose workers are not descendants of the listening process, and an unrelated program."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import conftest
import psutil
import pytest
from conftest import CHECKOUT, Invoke

from harness.analysis import machine
from harness.errors import HarnessError
from harness.plans import from_flags, plan_files
from harness.plans.plan import Exclusion
from harness.results import store
from harness.run import processes, resume
from harness.run.foreign_server import check_processes
from harness.run.meter import Meter
from harness.verdicts import admissible

BURNS_MS = 10.0
CORES = 0.1  # less than a worker burns here, so that one which counts as foreign excludes the block
MARK = "EXECBENCH_FOREIGN_CPU"  # in the environment of all that the script starts, orphans too

# uses a core while a client is connected
WORKER = f"""
import socket, sys, time
listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    asked, _ = listening.accept()
    with asked:
        until = time.process_time() + {BURNS_MS / 1e3}
        while time.process_time() < until: pass
        asked.sendall(b"done")
"""

# answers requests by what the worker says; burns little itself
LISTENER = """
import http.server, socket, subprocess, sys, time
port, worker_port = map(int, sys.argv[1:3])
if len(sys.argv) > 3:
    subprocess.Popen([sys.executable, sys.argv[3], str(worker_port)])

class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        with socket.create_connection(("127.0.0.1", worker_port)) as worker:
            body = worker.recv(9)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): ...

http.server.ThreadingHTTPServer(("127.0.0.1", port), Answer).serve_forever()
"""

# Two launchers that end at once: one server has its worker below the listener, of the other both are orphans.
# Then two runs of execbench, the second while another program burns a core. Other tests run
# beside this one, so the machine is taken to be what the script has started.
SCRIPT = """
import json, os, socket, subprocess, sys, time
import psutil

def launch(*commands):
    code = "import json, subprocess as s, sys; quiet = {'stdout': s.DEVNULL, 'stderr': s.DEVNULL}; "
    code += "print(*(s.Popen(command, **quiet).pid for command in json.loads(sys.argv[1])))"
    launcher = [sys.executable, "-c", code, json.dumps(commands)]
    return list(map(int, subprocess.check_output(launcher).split()))

def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True

ports = json.loads(sys.argv[1])
python = sys.executable
below = launch([python, "listener.py", *map(str, ports[:2]), "worker.py"])
beside = launch([python, "listener.py", *map(str, ports[2:])], [python, "worker.py", str(ports[3])])
with open("pids.json", "w") as file:
    json.dump([below, beside], file)

import harness.report.report, harness.run.session
from harness import cli
from harness.run import meter, processes
from harness.wire import clock

def is_ours(pid):
    try:
        return "MARK" in psutil.Process(pid).environ()
    except psutil.Error:
        return False

def machine():
    table = processes.read_table()
    busy_ms = sum((meter.process_cpu_ms(pid) or 0) + table[pid].ended_ms for pid in filter(is_ours, table))
    return clock.now_ms() * meter.cores() - busy_ms, None

meter._machine = machine
urls = ["--url", f"below=http://127.0.0.1:{ports[0]}/", "--url", f"beside=http://127.0.0.1:{ports[2]}/"]
words = ["run", *urls, "--url-pid", f"beside={beside[1]}", *sys.argv[2:]]

def run(folder):
    if not (pid := os.fork()):
        cli.app([*words, "--out", folder], prog_name="execbench")
    assert os.waitpid(pid, 0)[1] == 0

while not all(map(answers, ports)):
    time.sleep(0.02)
run("quiet")
other = subprocess.Popen([python, "-c", "while True: pass"])
try:
    run("disturbed")
finally:
    other.kill()
    other.wait()
""".replace("MARK", MARK)


class Done(NamedTuple):
    """The two runs of the script."""

    quiet: Path
    disturbed: Path
    pids: dict[str, list[int]]  # arm → its orphans, the listener first
    output: str


def free_ports(count: int) -> list[int]:
    import socket

    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@contextmanager
def nothing_left(folder: Path) -> Iterator[None]:
    """The orphans of the script end with the test."""
    try:
        yield
    finally:
        pids = json.loads((folder / "pids.json").read_text()) if (folder / "pids.json").exists() else []
        for pid in (pid for both in pids for pid in both):
            with suppress(psutil.Error):
                for process in [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]:
                    process.kill()


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    folder = tmp_path_factory.mktemp("foreign")
    for name, code in (("worker.py", WORKER), ("listener.py", LISTENER), ("script.py", SCRIPT)):
        (folder / name).write_text(code)
    words = ["-c", "2", "--duration", "0.5", "--blocks", "2", "--no-self-check", "--full"]
    command = [sys.executable, "script.py", json.dumps(free_ports(4)), *words]
    command += ["--exclude-foreign-cpu", str(CORES)]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), MARK: "1"}
    with nothing_left(folder):
        ran = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
        )
        assert ran.returncode == 0, ran.stderr
        pids = dict(zip(("below", "beside"), json.loads((folder / "pids.json").read_text()), strict=True))
        yield Done(folder / "quiet", folder / "disturbed", pids, ran.stdout)


def trials(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def counted(folder: Path) -> dict[str, dict[int, str]]:
    """Arm → pid → command, as run.json has it."""
    arms = json.loads((folder / "run.json").read_text())["arms"]
    return {
        arm: {process["pid"]: process["command"] for process in about["processes"]}
        for arm, about in arms.items()
    }


# -- real servers ------------------------------------------------------------------------------------------


@pytest.mark.timed
def test_the_cpu_of_each_arm_is_its_own_and_excludes_no_block(done: Done) -> None:
    for trial in trials(done.quiet):
        assert BURNS_MS <= float(trial["server_cpu_ms"]) / int(trial["requests"]) < 3 * BURNS_MS
        assert float(trial["idle_cpu_ms"]) < 50
    assert admissible.admit(store.read(done.quiet)).spoilt == {}


@pytest.mark.timed
def test_the_memory_of_each_arm_is_known_but_not_how_long_its_server_took_to_start(done: Done) -> None:
    assert all(float(trial["server_rss_mb"]) > 5 for trial in trials(done.quiet))
    arms = json.loads((done.quiet / "run.json").read_text())["arms"]
    assert all("ready_s" not in about for about in arms.values())


@pytest.mark.timed
def test_another_program_that_uses_a_core_excludes_every_block(done: Done) -> None:
    spoilt = admissible.admit(store.read(done.disturbed)).spoilt
    assert spoilt.keys() == {1, 2}
    assert all(re.search(r"foreign_cpu [\d.]+ \(at most 0.1\)", why) for why in spoilt.values())
    for trial in trials(done.disturbed):
        assert BURNS_MS <= float(trial["server_cpu_ms"]) / int(trial["requests"]) < 3 * BURNS_MS


@pytest.mark.timed
def test_the_report_names_the_processes_of_each_arm(done: Done) -> None:
    servers = {"python listener.py", "python worker.py"}
    for folder in (done.quiet, done.disturbed):
        found = counted(folder)
        assert {arm: set(commands.values()) for arm, commands in found.items()} == dict.fromkeys(
            done.pids, servers
        )
        assert all(set(pids) <= found[arm].keys() for arm, pids in done.pids.items())
    processes = "2 processes (python listener.py, python worker.py)"
    line = f"CPU time counted for below: {processes}; for beside: {processes}."
    assert line in " ".join(done.output.split())


# -- children that end -------------------------------------------------------------------------------------

# a line of input → two children that burn 0.2 s each, one after the other, and are waited for
STARTS_TWO = """
import subprocess, sys
burn = "import time\\nwhile time.process_time() < 0.2: pass"
for _ in sys.stdin:
    for _ in range(2):
        subprocess.run([sys.executable, "-c", burn])
    print(flush=True)
"""
# a child that burns until a line of input ends it
ENDS_ONE = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
print(flush=True)
sys.stdin.readline()
child.kill()
child.wait()
print(flush=True)
sys.stdin.readline()
"""


@contextmanager
def server(code: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        try:
            yield started
        finally:
            for child in psutil.Process(started.pid).children(recursive=True):
                child.kill()
            started.kill()


def ask(started: subprocess.Popen[str]) -> None:
    """Send a line, and wait for one."""
    assert started.stdin is not None
    assert started.stdout is not None
    started.stdin.write("\n")
    started.stdin.flush()
    started.stdout.readline()


@pytest.mark.timed
def test_children_that_begin_and_end_while_they_are_measured_count() -> None:
    with server(STARTS_TWO) as started:
        meter = Meter({"arm": started.pid}, [])
        meter.begin("arm")
        ask(started)
        burnt_ms = meter.end().server_cpu_ms
    assert burnt_ms is not None
    assert 380 < burnt_ms < 800  # each begins as any Python does


@pytest.mark.timed
def test_an_ended_child_counts_only_since_the_last_reading() -> None:
    with server(ENDS_ONE) as started:
        assert started.stdout is not None
        started.stdout.readline()
        (child,) = psutil.Process(started.pid).children()
        conftest.wait_for(lambda: sum(child.cpu_times()[:2]) > 0.6)
        meter = Meter({"arm": started.pid}, [])
        meter.begin("arm")
        ask(started)
        burnt_ms = meter.end().server_cpu_ms
        assert burnt_ms is not None
        assert burnt_ms < 300  # what it took to hear of it, not the 0.6 s of before
        assert sum(psutil.Process(started.pid).cpu_times()[2:4]) > 0.5


# -- how far up, on this machine ---------------------------------------------------------------------------

# leads a session at a terminal, and starts a child as a job of its own, or as a part of its own job
AT_A_TERMINAL = """
import os, pty, subprocess, sys, time
pid, terminal = pty.fork()
if not pid:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], process_group=GROUP)
    os.write(1, b"%d %d\\n" % (os.getpid(), child.pid))
    time.sleep(60)
print(os.read(terminal, 99).decode().strip(), flush=True)
sys.stdin.readline()
"""


@pytest.mark.integration
@pytest.mark.parametrize(("group", "is_shell"), [("0", True), ("None", False)])
def test_a_shell_in_a_terminal_is_recognised_by_its_jobs(group: str, is_shell: bool) -> None:
    with server(AT_A_TERMINAL.replace("GROUP", group)) as started:
        assert started.stdout is not None
        leader, child = map(int, started.stdout.readline().split())
        assert processes.starts_others(leader, child) is is_shell
        assert processes.starts_others(started.pid, leader)  # it is the terminal
        assert not processes.starts_others(os.getpid(), started.pid)
        assert not processes.starts_others(2**30, child)


# -- what the user says ------------------------------------------------------------------------------------

URLS = ("a=http://127.0.0.1:1/", "b=http://127.0.0.1:2/")


def test_a_given_process_belongs_to_its_arm_from_flags_and_from_a_plan_file() -> None:
    plan = from_flags.from_flags(from_flags.Flags(urls=URLS, url_pids=("b=11", "b=12")))
    assert [arm.pid for arm in plan.arms] == [(), (11, 12)]
    data = {"name": "mine", "concurrency": [1], "requests": 1}
    plan = plan_files.make({**data, "arms": [{"name": "a", "url": "http://x/", "pid": 7}]}, source="plan")
    assert plan.arms[0].pid == (7,)
    assert plan_files.restore(plan.model_dump(mode="json")) == plan
    changed = from_flags.override(plan, from_flags.Flags(url_pids=("a=8",)))
    assert changed.arms[0].pid == (8,)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("run --url a=http://x/ --url-pid 7", "'7' is not understood.*--url-pid a=4711"),
        ("run --url a=http://x/ --url-pid b=7", "'b=7' is not understood"),
        ("run --url a=http://x/ --url-pid a=x", "'a=x' is not understood"),
        ("run --url a=http://x/ --url-pid a=0", "greater than 0"),
        ("run --strategy thread --url-pid thread=7", "pid names processes of a server that already runs"),
        ("run --strategy thread --exclude-foreign-cpu 0", "exclude-foreign-cpu"),
    ],
)
def test_a_pid_option_without_a_known_arm_or_process_is_refused(
    invoke: Invoke, words: str, message: str
) -> None:
    done = invoke(*words.split())
    assert done.returncode == 2
    assert re.search(message, done.stderr, re.DOTALL), done.stderr


def test_a_given_process_that_does_not_exist_is_refused() -> None:
    with pytest.raises(HarnessError, match="no process 1073741824, given by --url-pid for arm 'a'"):
        check_processes("a", [os.getpid(), 2**30])


def test_a_run_resumes_if_only_the_pids_of_its_servers_differ(tmp_path: Path) -> None:
    had = from_flags.from_flags(from_flags.Flags(urls=URLS, url_pids=("b=11",)))
    same = from_flags.override(had, from_flags.Flags(url_pids=("b=12",)))
    assert not list(resume._plan_obstacles(had, same, tmp_path))
    ((what, _),) = resume._plan_obstacles(
        had, from_flags.override(had, from_flags.Flags(plan={"blocks": 3})), tmp_path
    )
    assert "blocks 3 instead of 24" in what


def test_a_flag_sets_one_criterion_and_keeps_the_others() -> None:
    usual = Exclusion()
    plan = from_flags.from_flags(from_flags.Flags(exclude={"foreign_cpu": 0.7}))
    assert plan.exclude == usual.model_copy(update={"foreign_cpu": 0.7})
    data = {"name": "mine", "concurrency": [1], "requests": 1, "exclude": {"steal_share": 0.2}}
    plan = plan_files.make({**data, "arms": [{"name": "a", "url": "http://x/"}]}, source="plan")
    changed = from_flags.override(plan, from_flags.Flags(exclude={"foreign_cpu": 0.7}))
    assert (changed.exclude.steal_share, changed.exclude.foreign_cpu) == (0.2, 0.7)


def test_many_processes_are_shown_on_one_line() -> None:
    commands = ["gunicorn", *["python worker.py"] * 5, "a", "b", "c", "d"]
    about = {"processes": [{"pid": pid, "command": command} for pid, command in enumerate(commands)]}
    one = {"processes": [{"pid": 1, "command": "mosec"}]}
    (line,) = machine.counted_processes({"arms": {"many": about, "one": one, "none": {"processes": []}}})
    assert line == (
        "CPU time counted for many: 10 processes (5 × python worker.py, gunicorn, a, b, 2 more); "
        "for one: 1 process (mosec)."
    )
    hundred = {"processes": [{"pid": pid, "command": "mosec"} for pid in range(100)]}
    assert list(machine.counted_processes({"arms": {"a": hundred}})) == [
        "CPU time counted for a: 100 processes or more (100 × mosec)."
    ]
    assert not list(machine.counted_processes({"arms": {"ours": {"options": {}}}}))
