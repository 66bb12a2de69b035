"""What bounded queues and supervised workers guarantee beyond the contract: the service keeps running."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import strategy_calls as calls

import strategies
from strategies import Full, Options

pytestmark = pytest.mark.integration


def serving(setup: Any, call: Any, *, name: str = "supervised", **options: Any) -> Any:
    return strategies.get(name).open(setup, call, Options(**options))


async def until_able(submit: Any, within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not submit.is_able():
        assert time.monotonic() < deadline, "no worker is warm again"
        await asyncio.sleep(0.02)


def test_a_replacement_worker_whose_set_up_raises_is_started_again(tmp_path: Path) -> None:
    """The first worker is warm, the second raises, the third is warm: as if a model file were restored."""

    async def scenario() -> None:
        setup = partial(calls.setup_that_raises, tmp_path, 2)
        async with serving(setup, partial(calls.run_for, 0.0)) as submit:
            before = (await submit("x")).pid
            os.kill(before, signal.SIGKILL)
            answer = asyncio.create_task(submit("y"))
            after = (await asyncio.wait_for(answer, 15)).pid
            await until_able(submit)
        assert after != before

    asyncio.run(scenario())
    assert len(list(tmp_path.iterdir())) == 3  # set-ups


@pytest.mark.timed
def test_leaving_does_not_wait_for_a_worker_that_is_being_set_up(tmp_path: Path) -> None:
    """Setting up a replacement may take long and is no longer needed."""

    async def scenario() -> float:
        setup = partial(calls.setup_that_lasts, tmp_path, 2, 4.0)
        async with serving(setup, partial(calls.run_for, 0.0)) as submit:
            os.kill((await submit("x")).pid, signal.SIGKILL)
            await asyncio.sleep(1.0)
            began = time.monotonic()
        return time.monotonic() - began

    assert asyncio.run(scenario()) < 1.0
    assert len(list(tmp_path.iterdir())) == 2  # set-ups begun


@pytest.mark.timed
@pytest.mark.parametrize("name", ["supervised", "batch"])
def test_items_whose_clients_have_left_do_not_fill_the_queue(name: str) -> None:
    async def scenario() -> None:
        async with serving(calls.ready, partial(calls.run_for, 0.5), name=name, max_queue=2) as submit:
            running = asyncio.create_task(submit("runs"))
            await asyncio.sleep(0.1)
            leaving = [asyncio.create_task(submit(f"leaves {number}")) for number in range(2)]
            await asyncio.sleep(0.05)
            with pytest.raises(Full):
                await submit("one too many")
            for task in leaving:
                task.cancel()
            await asyncio.sleep(0)
            assert (await submit("innocent")).item == "innocent"
            await running

    asyncio.run(scenario())
