"""A client that leaves takes its item along, over real HTTP; and staying costs nothing."""

import socket
import time
from pathlib import Path

import httpx
import pytest
import running

pytestmark = pytest.mark.timed


def ask_and_leave(url: str, after_s: float) -> None:
    """Send a whole request, and close the connection without waiting for the answer."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(after_s)


@pytest.mark.parametrize("strategy", ["thread", "process", "supervised", "batch"])
def test_requests_of_clients_that_have_left_are_not_served(tmp_path: Path, strategy: str) -> None:
    """Eight leave while they wait: who comes then waits for those that are under way, not for eight."""
    with running.serving(tmp_path / "log", strategy, workload=running.synthetic(300, 0)) as child:
        for _ in range(8):
            ask_and_leave(child.url, after_s=0.08)
        began = time.monotonic()
        assert httpx.get(f"{child.url}/", timeout=10).status_code == 200
        took_s = time.monotonic() - began
    assert took_s < 1.6  # eight and its own would be 2.7 s less what has passed
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_client_that_stays_gets_its_answer_however_long_it_takes(tmp_path: Path) -> None:
    with running.serving(tmp_path / "log", "thread", workload=running.synthetic(400, 0)) as child:
        answer = httpx.post(f"{child.url}/predict", json={"text": "patience"})
    assert answer.json() == {"answer": "PATIENCE"}
