"""Unusual uses of the middleware, beyond docs/howto/app.md: no figure is negative."""

from __future__ import annotations

import asyncio
import functools
import pickle
import re
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from harness.server import server_timing
from harness.server.server_timing import Done, Record, ServerTiming, stage, timed


class Clock:
    """A clock that advances only when a test calls `passes`."""

    def __init__(self) -> None:
        self.now_ms = 0.0

    def __call__(self) -> float:
        return self.now_ms

    def passes(self, duration_ms: float) -> float:
        self.now_ms += duration_ms
        return duration_ms


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(server_timing, "_now_ms", made)
    return made


async def figures(work: Callable[[], Awaitable[None]]) -> dict[str, float]:
    """Return the figures in the header of one request."""
    found: dict[str, float] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await work()
        await send({"type": "http.response.start", "headers": []})

    async def send(message: Any) -> None:
        said = message["headers"][0][1].decode()
        found.update((name, float(dur)) for name, dur in re.findall(r"([\w.-]+);dur=(-?[\d.]+)", said))

    async def receive() -> Any:
        raise AssertionError("the app reads nothing")

    await ServerTiming(app)({"type": "http"}, receive, send)
    return found


# -- what cannot be timed ------------------------------------------------------------------------------


async def answer(_: int = 0) -> int:
    return 1


async def stream() -> AsyncIterator[int]:
    yield 1


def lines() -> Iterator[int]:
    yield 1


class Model:
    async def __call__(self) -> int:
        return 1

    async def predict(self) -> int:
        return 1


LATER = [answer, stream, lines, functools.partial(functools.partial(answer), 1), Model(), Model().predict]


@pytest.mark.parametrize("func", LATER, ids=lambda func: type(func).__name__)
def test_a_function_that_returns_before_its_work_is_done_cannot_be_timed(func: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="async or a generator: use `with stage"):
        timed(func)


@pytest.mark.parametrize("func", [lambda: answer(), lambda: stream(), lambda: lines(), Future])
def test_a_plain_function_that_returns_pending_work_is_refused_when_it_is_called(
    func: Callable[..., Any],
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # for a coroutine that is never awaited
        with pytest.raises(TypeError, match="needs a function that returns when its work is done"):
            timed(func)()


def test_a_function_that_runs_to_its_end_can_be_timed() -> None:
    for func in (len, functools.partial(len), str.upper, str, lambda text: text):
        assert timed(func)("x").pid


# -- one object for many uses --------------------------------------------------------------------------


def test_a_stage_created_once_gives_each_request_its_own_figures(clock: Clock) -> None:
    model = stage("model")

    async def work() -> None:
        with model:
            clock.passes(1)  # the queue
            done = timed(clock.passes)(10)
            clock.passes(2)
            model.take(done)

    async def three() -> list[dict[str, float]]:
        return [await figures(work) for _ in range(3)]

    for found in asyncio.run(three()):
        assert (found["queue"], found["model"], found["resume"]) == (1, 10, 2)


def test_a_stage_created_once_serves_concurrent_requests(clock: Clock) -> None:
    io = stage("io")

    async def work(entered: asyncio.Event, leave: asyncio.Event) -> None:
        with io:
            entered.set()
            await leave.wait()

    async def both() -> tuple[dict[str, float], dict[str, float]]:
        events = [asyncio.Event() for _ in range(4)]
        first = asyncio.create_task(figures(functools.partial(work, *events[:2])))
        await events[0].wait()
        clock.passes(5)
        second = asyncio.create_task(figures(functools.partial(work, *events[2:])))
        await events[2].wait()
        clock.passes(7)
        events[1].set()
        one = await first
        clock.passes(9)
        events[3].set()
        return one, await second

    one, other = asyncio.run(both())
    assert (one["io"], other["io"]) == (12, 16)


def test_a_nested_entry_of_the_same_stage_is_refused_and_changes_nothing(clock: Clock) -> None:
    io = stage("io")

    async def work() -> None:
        with io:
            with pytest.raises(RuntimeError, match="already open in this request: create a new one"), io:
                pytest.fail("entered")
            with stage("io"):  # another object with the same name
                clock.passes(3)

    assert asyncio.run(figures(work))["io"] == 6


# -- figures that cannot be ----------------------------------------------------------------------------


def test_a_call_made_before_its_stage_has_its_length_and_no_queue(clock: Clock) -> None:
    async def work() -> None:
        done = timed(clock.passes)(10)
        clock.passes(30)
        with stage("model") as model:
            clock.passes(2)
            model.take(done)

    found = asyncio.run(figures(work))
    assert (found["queue"], found["model"], found["resume"]) == (0, 10, 2)


def test_a_result_taken_before_its_stage_is_only_unpacked(clock: Clock) -> None:
    async def work() -> None:
        model = stage("model")
        assert model.take(timed(clock.passes)(10)) == 10
        with model:
            clock.passes(4)

    found = asyncio.run(figures(work))
    assert found["model"] == 4
    assert "queue" not in found


def test_a_call_taken_twice_counts_once(clock: Clock) -> None:
    async def work() -> None:
        with stage("model") as model:
            done = timed(clock.passes)(10)
            model.take(done)
            model.take(done)
        with stage("model") as model:
            model.take(done._replace(value="another item of that batch"))

    assert asyncio.run(figures(work))["model"] == 10


@pytest.mark.parametrize(("started", "ended"), [(50.0, 40.0), (-9.0, 1e9), (1e9, 2e9)])
def test_no_timestamps_make_a_figure_negative(clock: Clock, started: float, ended: float) -> None:
    async def work() -> None:
        with stage("model") as model:
            model.take(Done("x", started, ended, -1.0, 1))

    assert min(asyncio.run(figures(work)).values()) >= 0


# -- a call on another host ----------------------------------------------------------------------------


def test_of_a_call_on_another_host_only_its_own_length_is_known(clock: Clock) -> None:
    async def work() -> None:
        with stage("model") as model:
            clock.passes(30)
            model.take(Done("x", 7e9, 7e9 + 20, 1.0, 1, clock="of another host"))
        with stage("io"):
            clock.passes(5)

    found = asyncio.run(figures(work))
    assert found == {"model": 20, "io": 5, "handler": 35}


def test_of_calls_on_several_hosts_nothing_is_known(clock: Clock) -> None:
    async def work() -> None:
        with stage("model") as model:
            model.take(timed(clock.passes)(10))
            model.take(Done("x", 7e9, 7e9 + 20, 1.0, 1, clock="of another host"))

    assert asyncio.run(figures(work)) == {"handler": 10}


@pytest.mark.integration
def test_a_call_in_another_process_of_this_host_has_the_same_clock() -> None:
    code = "from harness.server.server_timing import timed; print(timed(len)('x').clock)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == f"{timed(len)('x').clock}\n"


# -- stages in an executor's function ------------------------------------------------------------------


def test_a_stage_inside_a_timed_function_counts_in_an_executors_thread(clock: Clock) -> None:
    def predict() -> None:
        with stage("tokens"):
            clock.passes(3)

    async def work() -> None:
        with ThreadPoolExecutor(1) as pool, stage("model") as model:
            model.take(await asyncio.get_running_loop().run_in_executor(pool, timed(predict)))

    assert asyncio.run(figures(work))["tokens"] == 3


def predict_in_stages() -> int:
    with stage("tokens"):
        return 1


def test_a_timed_function_created_in_a_request_is_pickled_without_the_request() -> None:
    sent: list[bytes] = []

    async def work() -> None:
        sent.append(pickle.dumps(timed(predict_in_stages)))

    asyncio.run(figures(work))
    assert pickle.loads(sent[0])().value == 1


# -- a part of a route ---------------------------------------------------------------------------------


def test_a_record_that_the_user_creates_times_its_own_block(clock: Clock) -> None:
    io = stage("io")
    clock.passes(100)
    with Record() as record:
        with io:
            clock.passes(5)
            io.note_server_ms(3)
            io.note_server_ms(None)
        with io:
            clock.passes(2)
            io.note_server_ms(1.5)
        clock.passes(1)
        header = record.header()
    with io:  # outside it does nothing
        io.note_server_ms(9)
    assert header == 'io;dur=7.000;desc="server=4.500", handler;dur=8.000;desc="entered=100.000"'
    assert record.header() == header


def test_a_call_reports_the_number_of_requests_that_shared_it(clock: Clock) -> None:
    with Record() as record, stage("model") as model:
        done = timed(clock.passes)(10)
        assert model.take(done._replace(value="mine", batch=8)) == "mine"
    assert "batch=8" in record.header()
