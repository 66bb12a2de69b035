"""`execbench serve`, and `execbench load` on servers of any kind."""

import http.server
import itertools
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from conftest import Execbench, Invoke
from output import assert_fits, assert_refused, rows

from harness import workloads
from harness.results import store
from harness.wire.options import WorkloadOptions


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
            invoke(*words, "--seed", "1"),
            2,
            r"Error \(load\): .*The texts of replay.* are sent, so --seed has",
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
