"""Several load generators send one load: the same requests, one window, one file of rows."""

import asyncio
import itertools
import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from conftest import Execbench
from known_server import Arrival, after, answering, reply
from running import measured

from harness.results import store
from harness.run.generators import Generators
from harness.run.local_generator import LocalProcess
from harness.run.supervisor import Supervisor
from harness.wire.arrivals import closed, due_times_s, parse
from harness.wire.load_options import LoadOptions, Texts
from harness.wire.options import WorkloadOptions
from harness.wire.records import COOLDOWN, FAILED, WARMUP, counts_of, judge

pytestmark = pytest.mark.integration

TEXTS = Texts(workload=WorkloadOptions(name="synthetic"), seed=3)


@contextmanager
def generators(count: int) -> Iterator[Generators]:
    with Supervisor() as supervisor, Generators(lambda _: LocalProcess(supervisor), count) as found:
        yield found


@pytest.fixture(scope="module")
def four() -> Iterator[Generators]:
    with generators(4) as found:
        yield found


def load(url: str, **options: object) -> LoadOptions:
    return LoadOptions(url=url, method="POST", texts=TEXTS, **options)


OPEN = {"arrivals": parse("poisson(300)"), "seed": 7, "settle_s": 0.1, "duration_s": 0.4}


def schedule() -> Iterator[float]:
    return due_times_s(parse("poisson(300)"), 7)


def numbers(bodies: list[bytes]) -> list[int]:
    """The numbers of the texts in the stream that the seed draws."""
    return sorted(int(json.loads(body)["text"].rpartition("-")[2]) for body in bodies)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_same_seed_sends_the_same_requests_from_any_number_of_generators(
    four: Generators, count: int
) -> None:
    with answering(after(1.0)) as server:
        outcome = four.run(load(server.url, **OPEN, most_generators=count))
        sent = numbers([arrival.body for arrival in server.arrivals])
    shots = [shot for shot in outcome.shots if shot.phase != COOLDOWN]
    due_ms = [due_s * 1e3 for due_s in itertools.takewhile(lambda due_s: due_s < 0.5, schedule())]
    assert sorted(shot.due_ms for shot in shots) == pytest.approx(due_ms, abs=0.001)
    assert sent[: len(due_ms)] == [*range(len(due_ms))]
    assert {shot.generator for shot in shots} == {*range(count)}


def test_users_of_all_generators_measure_one_window(four: Generators) -> None:
    with answering(after(5.0)) as server:
        outcome = four.run(load(server.url, arrivals=closed(6), warmup_requests=12, duration_s=0.4))
    shots = measured(outcome)
    assert {shot.generator for shot in shots} == {0, 1, 2, 3}
    assert outcome.window_end_ms - outcome.window_start_ms == pytest.approx(400.0)
    for shot in shots:
        assert outcome.window_start_ms <= shot.sent_ms <= outcome.window_end_ms
    ends = [shot.done_ms for shot in outcome.shots if shot.phase == WARMUP]
    assert max(ends) >= outcome.window_start_ms  # under load from its first moment


def test_the_load_goes_on_until_the_last_generator_is_done(four: Generators) -> None:
    """The users of one generator wait for a slow answer; those of the others keep up the load."""

    async def slow_once(arrival: Arrival) -> bytes:
        await asyncio.sleep(0.6 if arrival.number == 40 else 0.005)
        return reply()

    with answering(slow_once) as server:
        outcome = four.run(load(server.url, arrivals=closed(4), duration_s=0.2))
    last = max(shot.done_ms for shot in measured(outcome))
    late = {shot.generator for shot in outcome.shots if shot.phase == COOLDOWN and shot.sent_ms > last - 100}
    assert last > outcome.window_end_ms + 200
    assert len(late) >= 3


def test_the_outcome_counts_the_requests_of_all(four: Generators) -> None:
    lines: list[str] = []
    with answering(after(2.0)) as server:
        outcome = four.run(load(server.url, **OPEN), sink=lines.append)
    assert sum(text.count("\n") for text in lines) == outcome.counts.requests == len(outcome.shots)
    counted = counts_of(outcome.shots)  # of rounded times, so a lag may fall into the next bin
    assert outcome.counts == counted._replace(lags=outcome.counts.lags)
    assert len({shot.seq for shot in outcome.shots}) == len(outcome.shots)
    assert [one.requests for one in outcome.generators] == [
        sum(shot.generator == number for shot in outcome.shots) for number in range(4)
    ]


def test_all_stamps_count_from_one_start(four: Generators) -> None:
    with answering(after(2.0)) as server:
        outcome = four.run(load(server.url, **OPEN))
    for one in outcome.generators:
        assert one.offset_before_ms is not None
        assert one.bound_ms is not None
        assert abs(one.offset_before_ms) <= one.bound_ms  # one clock, as they run here
    assert all(shot.sent_ms >= shot.due_ms for shot in outcome.shots)


def test_a_generator_that_dies_fails_the_trial_and_keeps_its_rows() -> None:
    lines: list[str] = []
    with generators(2) as two, answering(after(2.0)) as server:
        two.run(load(server.url, **OPEN))  # until both have started
        lines.clear()
        doomed = two.pids()[1]
        threading.Timer(0.6, os.kill, (doomed, signal.SIGKILL)).start()
        outcome = two.run(load(server.url, **OPEN | {"duration_s": 30.0}), sink=lines.append)
        fault = judge(outcome)
        again = two.run(load(server.url, **OPEN))
        assert doomed not in two.pids()
    assert fault is not None
    assert fault.state == FAILED
    assert "generator ended" in fault.words
    assert [bool(one.error) for one in outcome.generators] == [False, True]
    assert outcome.generators[1].requests > 20
    assert sum(text.count("\n") for text in lines) == outcome.counts.requests
    assert judge(again) is None


def test_a_generator_that_has_died_between_trials_is_replaced() -> None:
    with generators(2) as two, answering(after(2.0)) as server:
        os.kill(two.pids()[0], signal.SIGKILL)
        outcome = two.run(load(server.url, **OPEN))
    assert judge(outcome) is None
    assert {shot.generator for shot in measured(outcome)} == {0, 1}


def test_a_trial_can_be_handed_over_early() -> None:
    with generators(2) as two, answering(after(2.0)) as server:
        two.run(load(server.url, **OPEN))  # until both have started
        threading.Timer(0.6, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            two.run(load(server.url, **OPEN | {"duration_s": 30.0}))
        outcome = two.hand_over()
    assert outcome is not None
    assert {shot.generator for shot in measured(outcome)} == {0, 1}


def test_no_generator_outlives_the_run() -> None:
    with generators(2) as two, answering(after(2.0)) as server:
        pids = two.pids()
        threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            two.run(load(server.url, **OPEN | {"duration_s": 30.0}))
    assert not any(map(psutil.pid_exists, pids))


PLAN = """
name = "shared"
concurrency = []
arrivals = ["constant(60)"]
open_duration_s = 0.5
open_settle_s = 0.1
blocks = 1
generators = 2
arms = [{{ name = "mine", url = "{url}" }}, {{ name = "alone", url = "{url}", generators = 1 }}]
"""


def test_a_run_keeps_the_rows_and_the_clocks_of_all_generators(execbench: Execbench) -> None:
    with answering(after(2.0)) as server:
        (execbench.folder / "plan.toml").write_text(PLAN.format(url=server.url))
        done = execbench("run", "plan.toml", "--no-self-check", "--out", "run", "--full")
    assert done.returncode == 0, done.stderr
    assert "Load generators" in done.stdout
    run = store.read(execbench.folder / "run")
    sent_by = run.requests.groupby("arm", observed=True)["generator"].agg(set)
    assert dict(sent_by) == {"mine": {0, 1}, "alone": {0}}
    rows = store.read_generators(execbench.folder / "run")
    assert sorted(rows["generator"]) == [0, 0, 1]
    assert rows["bound_ms"].between(0, 50).all()
    assert rows["requests"].sum() == run.trials["requests"].sum()
