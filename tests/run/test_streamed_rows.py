"""The rows of a trial are on disk while it runs, each exactly once, and take no memory."""

from __future__ import annotations

import csv
import json
import signal

import psutil
import pytest
from conftest import Execbench, wait_for
from interrupting import ending
from known_server import after, answering, load_options

from harness.run.load_generator import Loader
from harness.run.local_generator import LocalProcess
from harness.run.supervisor import Supervisor
from harness.wire.clock import now_ms
from harness.wire.row_lines import shots_of

pytestmark = pytest.mark.integration

ENDLESS = ("--duration", "60", "-c", "4", "--out", "loaded")


def rows(execbench: Execbench) -> list[dict[str, str]]:
    """The complete rows of requests.csv."""
    path = execbench.folder / "loaded" / "requests.csv"
    text = path.read_text() if path.exists() else ""
    return list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))


def test_a_killed_load_has_lost_at_most_its_last_second(execbench: Execbench) -> None:
    with answering(after(5)) as server:
        process = execbench.start("load", server.url, *ENDLESS)
        wait_for(lambda: max((float(row["done_ms"]) for row in rows(execbench)), default=0.0) > 1_500)
        process.kill()  # so they arrive while it runs
        killed_ms = now_ms()
        execbench.assert_nothing_is_left()
    old = [arrival for arrival in server.arrivals if arrival.left_ms and arrival.left_ms < killed_ms - 1000]
    kept = rows(execbench)
    assert len(kept) >= len(old) - 1 > 0  # the first one is the check
    assert {(row["arm"], row["load"], row["block"], row["trial"]) for row in kept} == {
        ("server", "closed(4)", "1", "1")
    }
    assert len({row["seq"] for row in kept}) == len(kept)


def test_a_load_whose_generator_dies_keeps_its_rows_and_says_where(execbench: Execbench) -> None:
    with answering(after(5)) as server:
        process = execbench.start("load", server.url, *ENDLESS)
        wait_for(lambda: len(rows(execbench)) > 100)
        (generator,) = execbench.processes("harness.client")
        generator.kill()
        code, stderr = ending(process)
    assert code == 1
    assert "The rows of this trial until then are in requests.csv." in stderr
    assert "The request and the error are kept in" in stderr
    assert len(rows(execbench)) > 100
    record = json.loads((execbench.folder / "loaded" / "run.json").read_text())
    assert (record["state"], record["error"]) == (
        "failed",
        "The load generator ended during the run (exit code -9).",
    )


def test_an_interrupt_in_the_middle_of_a_batch_loses_no_row_and_doubles_none() -> None:
    batches: list[str] = []

    def interrupted(lines: str) -> None:
        if not batches:
            signal.raise_signal(signal.SIGINT)
        batches.append(lines)

    with (
        answering(after(2)) as server,
        Supervisor() as supervisor,
        Loader(LocalProcess(supervisor)) as loader,
    ):
        options = load_options(server.url, concurrency=4, duration_s=30)
        with pytest.raises(KeyboardInterrupt):
            loader.run(options, sink=interrupted, keep_shots=False)
        outcome = loader.hand_over()
    assert outcome is not None
    assert outcome.shots == []
    seen = [shot.seq for shot in shots_of("".join(batches))]
    assert len(seen) == len(set(seen)) == outcome.counts.requests > 0


def test_requests_take_no_memory_in_the_load_generator() -> None:
    rss: list[tuple[int, int]] = []  # answered, bytes

    def look(answered: int, _: float) -> None:
        rss.append((answered, process.memory_info().rss))

    with (
        answering(after(0)) as server,
        Supervisor() as supervisor,
        Loader(LocalProcess(supervisor)) as loader,
    ):
        process = psutil.Process(loader.pids()[0])
        options = load_options(server.url, concurrency=16, duration_s=2.0)
        loader.run(options, look, keep_shots=False)
    (first, before), (last, at_end) = rss[0], rss[-1]
    assert last - first > 300
    assert (at_end - before) / (last - first) < 2_000  # bytes a request; with the collector off it was 9,000
