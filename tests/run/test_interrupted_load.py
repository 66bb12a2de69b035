"""If `load` or `serve` is stopped or dies, it keeps what was measured and leaves no process running."""

import signal
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Execbench, wait_for
from interrupting import QUICK, ending

from harness.commands.progress import Progress
from harness.commands.terminal import console
from harness.results import store
from harness.run import load_url, server_process
from harness.wire.arrivals import closed
from harness.wire.load_options import LoadOptions
from harness.wire.records import to_rows

pytestmark = pytest.mark.integration


def serve(execbench: Execbench, **environment: str) -> subprocess.Popen[str]:
    """`execbench serve process`, once it has reported that it is ready."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        process = execbench.start("serve", "process", *QUICK[:-2], "--port", "0")
    assert process.stdout is not None
    assert "http://" in process.stdout.readline()
    return process


class Answering(socketserver.StreamRequestHandler):
    """One request a connection, answered ok."""

    def handle(self) -> None:
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")


@contextmanager
def answering() -> Iterator[str]:
    """The address of a server that already runs."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answering) as known:
        threading.Thread(target=known.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{known.server_address[1]}/"
        known.shutdown()


ENDLESS_LOAD = ("--duration", "60", "-c", "2", "--out", "loaded")


def loaded(execbench: Execbench) -> Path:
    return execbench.folder / "loaded"


def test_interrupted_load_keeps_and_shows_what_was_measured(execbench: Execbench) -> None:
    with answering() as url:
        process = execbench.start("load", url, *ENDLESS_LOAD)
        wait_for(lambda: (loaded(execbench) / "run.json").exists())
        time.sleep(1.5)  # warm-up takes four answers
        process.send_signal(signal.SIGINT)
        shown, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    run = store.read(loaded(execbench))
    assert run.record["state"] == "interrupted"
    measured = int(run.trials["measured"].sum())
    assert measured == (run.requests["phase"] == "measure").sum() > 0
    assert shown.startswith("At c = 2, server answers in")
    assert f"The load was interrupted: {measured} requests were measured." in stderr
    assert "All rows are in loaded." in stderr


def test_load_interrupted_after_its_last_answer_saves_its_rows_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*words: Any, **more: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return to_rows(*words, **more)

    monkeypatch.setattr(load_url, "to_rows", interrupted)
    writer = store.Writer(tmp_path / "run")
    with answering() as url, Progress(console(stderr=True)) as progress:
        options = LoadOptions(url=url, arrivals=closed(1), requests=2)
        with pytest.raises(KeyboardInterrupt):
            load_url.load(options, writer, progress)
    assert store.read(writer.folder).record["state"] == "finished"


def test_load_interrupted_before_it_measured_anything_leaves_no_folder(execbench: Execbench) -> None:
    with socketserver.TCPServer(
        ("127.0.0.1", 0), Answering
    ) as silent:  # no server accepts the connection, so the request hangs
        url = f"http://127.0.0.1:{silent.server_address[1]}/"
        process = execbench.start("load", url, *ENDLESS_LOAD)
        stderr = process.stderr
        assert stderr is not None
        wait_for(lambda: "checking the server with one request" in stderr.readline())
        process.send_signal(signal.SIGINT)
        assert ending(process)[0] == 130
    assert not loaded(execbench).exists()


def test_ctrl_c_ends_serve(execbench: Execbench) -> None:
    process = serve(execbench)
    process.send_signal(signal.SIGINT)
    code, stderr = ending(process)
    execbench.assert_nothing_is_left()
    assert code == 130
    assert "Interrupted" in stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 129), (signal.SIGKILL, -9)])
def test_a_killed_serve_leaves_no_processes_and_no_folder_if_it_can(
    execbench: Execbench, number: signal.Signals, code: int
) -> None:
    temporary = execbench.folder / "temporary"
    temporary.mkdir()
    process = serve(execbench, TMPDIR=str(temporary))
    process.send_signal(number)
    execbench.assert_nothing_is_left(within_s=2 * server_process.STOP_WITHIN_S)
    assert process.wait() == code
    assert bool(list(temporary.iterdir())) == (number == signal.SIGKILL)


def test_serve_reports_that_its_server_died(execbench: Execbench) -> None:
    process = serve(execbench)
    (child,) = execbench.processes("harness.server")
    child.kill()
    code, stderr = ending(process)
    assert code == 1
    assert "Error (server): The server of arm 'process' ended (exit code -9, at serving)." in stderr
