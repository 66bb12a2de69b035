"""In every strategy, what a call raises or returns reaches its caller and affects no other call."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import clusters
import naughty_calls as naughty
import psutil
import pytest
from conftest import wait_for

import strategies
from strategies import Options

AT_ONCE_S = 20.0  # the calls compute nothing, so only a request that hangs takes that long
WRAPPED = ("process", "supervised", "loky", "pebble", "ray", "dask")  # other processes
VARIANTS = [
    *((name, {}) for name in strategies.available()),
    *(("batch", {"over": over}) for over in WRAPPED),
    ("executor", {"factory": "concurrent.futures:ThreadPoolExecutor"}),
]
every_variant = pytest.mark.parametrize(("name", "more"), VARIANTS, ids=lambda value: str(value))
IN_WORDS = {  # no task may raise these
    "stop": "StopIteration: bye",
    "stop-async": "StopAsyncIteration: bye",
    "generator-exit": "GeneratorExit: bye",
    "ctrl-c": "KeyboardInterrupt: bye",
    "exit": "SystemExit: bye",
    "cancelled": "CancelledError: bye",
    "own-base": "OwnBaseException: bye",
    "base-group": "BaseExceptionGroup: bye",
}
AS_RAISED = {
    "memory": MemoryError,
    "recursion": RecursionError,
    "chain": ValueError,
    "surrogate": ValueError,
    "future-cancelled": Exception,
    "mute": naughty.Unprintable,
}
AS_RAISED_IN_A_THREAD: dict[str, tuple[type[Exception], str]] = {
    "keywords": (naughty.WithKeywords, "WithKeywords: code 7"),
    "lock": (naughty.WithLock, "WithLock: bye"),
    "group": (ExceptionGroup, "ExceptionGroup: bye"),
    "another-thing": (naughty.BecomesAnotherThing, "BecomesAnotherThing: bye"),
}


def opened(name: str, more: dict[str, Any], call: Any, setup: Any = naughty.ready, **options: Any) -> Any:
    factory = {"executor": "strategy_calls:spawned_pool"}.get(name)
    engine = more.get("over", name)
    address = clusters.address(engine) if engine in clusters.PROGRAMS else None
    chosen = {"factory": factory, "workers": 1, "address": address, **more, **options}
    return strategies.get(name).open(setup, call, Options(**chosen))


def in_this_process(name: str, more: dict[str, Any]) -> bool:
    place = more.get("over", name)
    return place in {"inline", "thread", "default_pool", "anyio_limiter", "batch"} or "Thread" in str(more)


async def submit_in_task(submit: Any, item: str) -> Any:
    """Submit in a task: without one, a cancellation would look like a client that left."""
    task = asyncio.create_task(submit(item))
    done, _ = await asyncio.wait([task], timeout=AT_ONCE_S)
    assert done, f"{item} hangs"
    assert not task.cancelled(), item
    return task.exception() or task.result()


@pytest.mark.integration
@every_variant
def test_whatever_a_call_raises_or_returns_reaches_its_caller_and_affects_no_other_call(
    name: str, more: dict[str, Any]
) -> None:
    async def ask_for_all() -> dict[str, Any]:
        wanted = [*naughty.RAISED, *naughty.MORE, *naughty.RETURNED]
        async with opened(name, more, naughty.misbehave) as submit:
            found = {item: await submit_in_task(submit, item) for item in wanted}
            among = await asyncio.gather(
                *(submit_in_task(submit, item) for item in ("a", "stop", "b", "lock", "c"))
            )
            assert (among[0], among[2], among[4]) == ("a", "b", "c")
            assert submit.is_able()
            return found

    found = asyncio.run(ask_for_all())
    for item, words in IN_WORDS.items():
        assert type(found[item]) is RuntimeError, item
        assert words in str(found[item])
    for item, kind in AS_RAISED.items():
        assert isinstance(found[item], kind), item
        assert not isinstance(found[item], RuntimeError) or kind is RecursionError
    here = in_this_process(name, more)
    for item, (kind, words) in AS_RAISED_IN_A_THREAD.items():
        assert isinstance(found[item], kind if here else RuntimeError), item
        assert here or words in str(found[item])
    for item in naughty.RETURNED:
        assert isinstance(found[item], strategies.Lost) != here, item
    if not here:
        assert "unpickled" in str(found["raises-when-unpickled"])
        assert "ModuleNotFoundError: No module named 'their_types'" in str(found["raises-when-unpickled"])
        assert "naughty_calls.py" in str(found["recursion"].__cause__)


@pytest.mark.integration
@pytest.mark.parametrize("name", ["inline", "thread", "supervised", "batch"])
def test_a_wrong_number_of_results_is_an_error_of_that_item_only(name: str) -> None:
    async def ask() -> None:
        async with opened(name, {}, naughty.return_too_few) as submit:
            lost, kept = await asyncio.gather(submit_in_task(submit, "lost"), submit_in_task(submit, "kept"))
            assert "returned 0 results for 1 items" in str(lost)
            assert kept == "kept"

    asyncio.run(ask())


@pytest.mark.integration
@pytest.mark.parametrize("name", WRAPPED)
def test_a_result_that_cannot_be_transferred_fails_the_opening(name: str) -> None:
    async def fail_to_open() -> None:
        with pytest.raises(strategies.Lost, match="No module named 'their_types'"):
            async with opened(name, {}, naughty.misbehave, naughty.ready_with_what_is_lost):
                pytest.fail("opened")

    asyncio.run(fail_to_open())


@pytest.mark.integration
@pytest.mark.parametrize("name", ["thread", "default_pool", "inline", "process", "supervised"])
def test_opening_quotes_an_exception_of_the_set_up_that_cannot_be_raised_or_pickled(name: str) -> None:
    async def fail_to_open(raised: str, words: str) -> None:
        with pytest.raises(RuntimeError, match=words):
            async with opened(name, {}, naughty.misbehave, partial(naughty.raise_on_setup, raised)):
                pytest.fail("opened")

    asyncio.run(fail_to_open("exit", "SystemExit: bye"))
    if name in WRAPPED:
        asyncio.run(fail_to_open("keywords", "WithKeywords: code 7"))


# -- processes that a call starts ----------------------------------------------------------------------


@pytest.mark.integration
@pytest.mark.parametrize("name", WRAPPED)
def test_a_call_may_start_processes_and_leaving_ends_them(name: str) -> None:
    async def use() -> tuple[int, int, int]:
        alone = {"address": None} if name == "dask" else {}  # the workers of a cluster that exists go on
        call = naughty.with_commands if name == "ray" else naughty.with_children
        async with opened(name, alone, call) as submit:
            found: tuple[int, int, int] = await submit("x")
            assert psutil.pid_exists(found[1])
            return found

    total, sleeper, worker = asyncio.run(use())
    assert total == 14
    wait_for(lambda: not is_running(sleeper) and not is_running(worker), 5)


@pytest.mark.integration
def test_processes_of_a_call_are_killed_with_its_worker_when_it_takes_too_long(tmp_path: Path) -> None:
    async def hang() -> None:
        async with opened("supervised", {}, naughty.hang_with_a_child, timeout_s=0.5) as submit:
            assert isinstance(await submit_in_task(submit, str(tmp_path / "pid")), strategies.TimedOut)

    asyncio.run(hang())
    wait_for(lambda: not is_running(int((tmp_path / "pid").read_text())), 5)


PROGRAM = """
import asyncio, sys, strategies, strategy_calls as calls
from functools import partial

async def main():
    options = strategies.Options()
    opening = strategies.get("supervised").open(calls.ready, partial(calls.run_for, 600), options)
    submit = await opening.__aenter__()
    asyncio.ensure_future(submit("hangs"))
    await asyncio.sleep(0.1)
    return opening

if __name__ == "__main__":
    kept = asyncio.new_event_loop().run_until_complete(main())
"""


@pytest.mark.integration
def test_an_exit_without_leaving_does_not_wait_for_a_worker_that_hangs(tmp_path: Path) -> None:
    """At exit, multiprocessing joins its children, so it must end them first."""
    (tmp_path / "program.py").write_text(PROGRAM)
    path = os.pathsep.join([str(Path(strategies.__file__).parent.parent), str(Path(__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, str(tmp_path / "program.py")]
    subprocess.run(command, env=environment, timeout=AT_ONCE_S, stderr=subprocess.DEVNULL)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
