"""The item of a client that leaves is dropped, over real HTTP; a client that stays is not affected."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import running

from harness.wire.options import ServerOptions

pytestmark = pytest.mark.timed


def ask_and_leave(url: str, after_s: float) -> None:
    """Send a whole request, and close the connection without waiting for the answer."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(after_s)


STRATEGIES = ("thread", "process", "supervised", "batch")


def left_and_came(url: str) -> float:
    """Let eight waiting clients leave. Return how many seconds the next client waits for its answer."""
    for _ in range(8):
        ask_and_leave(url, after_s=0.08)
    began = time.monotonic()
    assert httpx.get(f"{url}/", timeout=10).status_code == 200
    return time.monotonic() - began


@pytest.fixture(scope="module")
def took(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[float, str]]:
    """Seconds and server log for each strategy. All run concurrently, as their models only sleep."""
    folder = tmp_path_factory.mktemp("leaving")
    arms = {
        name: ServerOptions(strategy=name, workload=running.synthetic(300, 0), options={"workers": 1})
        for name in STRATEGIES
    }
    with running.resident(folder, arms) as servers, ThreadPoolExecutor() as pool:
        took_s = list(pool.map(left_and_came, [child.url for child in servers.values()]))
    return {name: (s, (folder / f"{name}.log").read_text()) for name, s in zip(servers, took_s, strict=True)}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_requests_of_clients_that_have_left_are_not_served(
    took: dict[str, tuple[float, str]], strategy: str
) -> None:
    """The next client waits only for the running requests, not for all eight."""
    took_s, log = took[strategy]
    assert took_s < 1.6  # all nine requests would take 2.7 s, minus the time that has passed
    assert "Traceback" not in log


def test_a_client_that_stays_gets_its_answer_however_long_it_takes(tmp_path: Path) -> None:
    with running.serving(tmp_path / "log", "thread", workload=running.synthetic(400, 0)) as child:
        answer = httpx.post(f"{child.url}/predict", json={"text": "patience"})
    assert answer.json() == {"answer": "PATIENCE"}
