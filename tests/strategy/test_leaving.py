"""The contract of `strategies`: a failed opening, closing and killing leave nothing behind."""

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import psutil
import pytest
import strategy_calls as calls
from strategy_contract import every_strategy, one_and_three_workers, options_for, threads_and_children

import strategies
from strategies import Options

pytestmark = pytest.mark.integration

PACKAGE = Path(strategies.__file__).parent


@every_strategy
@pytest.mark.parametrize(("failing", "workers"), [(1, 1), (1, 3), (3, 3)])
def test_a_setup_that_fails_in_one_worker_raises_on_opening_and_leaves_nothing_behind(
    name: str, failing: int, workers: int, tmp_path: Path
) -> None:
    failing = min(failing, strategies.get(name).worker_count(options_for(name, workers)))
    before = threads_and_children(name)

    async def fail_to_open() -> None:
        setup = partial(calls.setup_that_raises, tmp_path, failing)
        with pytest.raises(calls.Refused, match="no such model"):
            async with strategies.get(name).open(setup, calls.double, options_for(name, workers)):
                pytest.fail("opened")
        assert threads_and_children(name) <= before

    asyncio.run(fail_to_open())


@pytest.mark.parametrize(("dying", "workers"), [(1, 1), (1, 3), (3, 3)])
def test_a_setup_that_kills_its_process_breaks_the_pool_and_leaves_nothing_behind(
    dying: int, workers: int, tmp_path: Path
) -> None:
    before = threads_and_children("process")

    async def fail_to_open() -> None:
        setup = partial(calls.setup_that_kills_its_process, tmp_path, dying)
        with pytest.raises(BrokenProcessPool):
            async with strategies.get("process").open(setup, calls.double, Options(workers=workers)):
                pytest.fail("opened")
        assert threads_and_children("process") <= before

    asyncio.run(fail_to_open())


@pytest.mark.timed
@every_strategy
def test_an_opening_that_is_cancelled_leaves_nothing_behind(name: str) -> None:
    before = threads_and_children(name)

    async def stay_open() -> None:
        async with strategies.get(name).open(calls.slow_setup, calls.double, options_for(name, 3)):
            await asyncio.Event().wait()

    async def cancel_early() -> None:
        opening = asyncio.create_task(stay_open())
        await asyncio.sleep(0.02)
        opening.cancel()
        await asyncio.wait([opening])
        assert opening.cancelled()
        assert threads_and_children(name) <= before

    asyncio.run(cancel_early())


def test_a_setup_that_cannot_be_pickled_raises_on_opening_and_leaves_nothing_behind() -> None:
    before = threads_and_children("process")

    async def fail_to_open() -> None:
        with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
            async with strategies.get("process").open(lambda: 1, calls.double, Options(workers=3)):
                pytest.fail("opened")
        assert threads_and_children("process") <= before

    asyncio.run(fail_to_open())


@pytest.mark.timed
@every_strategy
def test_leaving_that_is_cancelled_still_leaves_nothing_behind(name: str) -> None:
    before = threads_and_children(name)

    async def leave_slowly() -> None:
        async with strategies.get(name).open(
            calls.ready, partial(calls.run_for, 0.2), options_for(name)
        ) as submit:
            await submit("long")

    async def cancel_twice() -> None:
        using = asyncio.create_task(leave_slowly())
        for _ in range(2):  # once in the call, once while it waits for the call
            await asyncio.sleep(0.05)
            using.cancel()
        await asyncio.wait([using])
        assert threads_and_children(name) <= before

    asyncio.run(cancel_twice())


@pytest.mark.timed
def test_an_opening_of_default_pool_that_is_cancelled_while_others_use_its_threads_does_not_hang() -> None:
    async def stay_open() -> None:
        async with strategies.get("default_pool").open(calls.ready, calls.double, Options()):
            pytest.fail("opened")

    async def cancel_early() -> None:
        foreign = asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.2)
        opening = asyncio.create_task(stay_open())
        await asyncio.sleep(0.05)  # all but one of its workers are waiting for the last
        opening.cancel()
        await asyncio.wait([opening])
        assert opening.cancelled()
        assert foreign.done()

    asyncio.run(cancel_early())


@every_strategy
@one_and_three_workers
def test_leaving_by_an_exception_leaves_no_thread_and_no_child(name: str, workers: int) -> None:
    before = threads_and_children(name)

    async def use_and_fail() -> None:
        strategy, options = strategies.get(name), options_for(name, workers)
        with pytest.raises(calls.Refused):
            async with strategy.open(calls.ready, calls.raise_on_item, options) as submit:
                await submit("poison")
        assert threads_and_children(name) <= before

    asyncio.run(use_and_fail())


@pytest.mark.timed
@every_strategy
def test_leaving_waits_for_calls_that_run_and_cancels_those_that_wait(name: str, tmp_path: Path) -> None:
    strategy, options = strategies.get(name), options_for(name)
    call = partial(calls.noted_run_for, tmp_path, 0.4)
    too_many = strategy.worker_count(options) + 10
    before = threads_and_children(name)

    async def leave_early() -> list[calls.Ran | BaseException]:
        async with strategy.open(calls.ready, call, options) as submit:
            waiting = [asyncio.create_task(submit(item)) for item in range(too_many)]
            async with asyncio.timeout(30):
                while calls.noted(tmp_path) < strategy.worker_count(options):  # noqa: ASYNC110 - other processes note it
                    await asyncio.sleep(0.02)
        assert threads_and_children(name) <= before
        ended: list[calls.Ran | BaseException] = await asyncio.gather(*waiting, return_exceptions=True)
        return ended

    ends = Counter(type(end) for end in asyncio.run(leave_early()))
    assert ends[calls.Ran] >= strategy.worker_count(options)
    if name == "inline":  # nothing ever waits but the whole loop
        assert ends[calls.Ran] == too_many
    else:
        assert ends[asyncio.CancelledError] == too_many - ends[calls.Ran] > 0


@pytest.mark.timed
@pytest.mark.parametrize(
    "name", [name for name in strategies.available() if name != "inline"]
)  # which never leaves it
def test_the_event_loop_keeps_running_while_a_strategy_closes(name: str) -> None:
    ticks = []

    async def tick() -> None:
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0.01)

    async def close_with_a_call_running() -> None:
        async with strategies.get(name).open(
            calls.ready, partial(calls.run_for, 0.3), options_for(name)
        ) as submit:
            running = asyncio.create_task(submit("long"))
            await asyncio.sleep(0.05)
            ticking = asyncio.create_task(tick())
        ticking.cancel()
        assert (await running).item == "long"

    asyncio.run(close_with_a_call_running())
    assert len(ticks) >= 5


def test_ctrl_c_does_not_kill_the_workers_of_process() -> None:
    async def interrupt() -> None:
        async with strategies.get("process").open(
            calls.ready, partial(calls.run_for, 0), Options()
        ) as submit:
            worker = (await submit("who")).pid
            os.kill(worker, signal.SIGINT)
            assert (await submit("still there")).pid == worker

    asyncio.run(interrupt())


def test_workers_of_process_do_not_outlive_a_parent_that_is_killed() -> None:
    program = """
import asyncio, functools, strategies, strategy_calls as calls

async def main():
    call = functools.partial(calls.run_for, 0)
    async with strategies.get("process").open(calls.ready, call, strategies.Options()) as submit:
        print((await submit("who")).pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
    path = os.pathsep.join([str(PACKAGE.parent), str(Path(__file__).parents[1])])
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        assert worker.ppid() == parent.pid
        parent.kill()
    worker.wait(timeout=5)
