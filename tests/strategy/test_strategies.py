"""The contract of `strategies`: one test per clause, for every strategy."""

import ast
import asyncio
import os
import pickle
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import strategy_calls as calls
from strategy_contract import every_strategy, one_and_three_workers, options_for

import strategies
from strategies import Options

pytestmark = pytest.mark.integration

PACKAGE = Path(strategies.__file__).parent
BOUNDED = {name for name in strategies.NAMES if "max_queue" in strategies.get(name).TAKES}


def peak_overlap(ran: list[calls.Ran]) -> int:
    """Return the most calls that ran at the same time; a batch is one call."""
    ran = list({(one.pid, one.thread, one.start): one for one in ran}.values())
    return max(sum(other.start <= one.start < other.end for other in ran) for one in ran)


@every_strategy
@one_and_three_workers
def test_on_opening_every_worker_has_finished_setup_and_one_warm_up_call(
    name: str, workers: int, tmp_path: Path
) -> None:
    strategy, options = strategies.get(name), options_for(name, workers)

    async def notes_on_opening() -> list[str]:
        setup, call = partial(calls.noted_setup, tmp_path), partial(calls.noted_call, tmp_path)
        async with strategy.open(setup, call, options):
            return [file.read_text() for file in tmp_path.iterdir()]  # noqa: ASYNC240  # nothing else runs in this loop

    assert asyncio.run(notes_on_opening()) == ["setup\ncall\n"] * strategy.worker_count(options)


@every_strategy
@one_and_three_workers
def test_results_equal_those_of_a_direct_call(name: str, workers: int) -> None:
    items = list(range(10))

    async def results() -> list[int]:
        async with strategies.get(name).open(calls.ready, calls.double, options_for(name, workers)) as submit:
            return await asyncio.gather(*map(submit, items))

    assert asyncio.run(results()) == calls.double(items)


@every_strategy
def test_an_exception_of_the_call_reaches_the_caller_and_affects_no_later_call(name: str) -> None:
    async def submit_twice() -> None:
        async with strategies.get(name).open(calls.ready, calls.raise_on_item, options_for(name)) as submit:
            with pytest.raises(calls.Refused, match="cannot handle poison"):
                await submit("poison")
            assert await submit("warm-up") == "warm-up"

    asyncio.run(submit_twice())


@pytest.mark.parametrize(
    "error", [SystemExit("bye"), KeyboardInterrupt("bye"), StopIteration("bye")], ids=repr
)
def test_supervised_quotes_an_exception_that_would_stop_the_event_loop(
    error: BaseException,
) -> None:
    async def submit_in_tasks() -> None:
        async with strategies.get("supervised").open(calls.ready, calls.raise_it, Options()) as submit:
            with pytest.raises(RuntimeError, match=f"{type(error).__name__}: bye"):
                await asyncio.create_task(submit(error))
            assert await asyncio.create_task(submit("warm-up")) == "warm-up"

    asyncio.run(submit_in_tasks())


@pytest.mark.timed
@every_strategy
@one_and_three_workers
def test_it_runs_exactly_worker_count_calls_at_the_same_time(name: str, workers: int) -> None:
    strategy, options = strategies.get(name), options_for(name, workers)

    async def submit_more_than_fit() -> list[calls.Ran]:
        async with strategy.open(calls.ready, partial(calls.run_for, 0.1), options) as submit:
            return await asyncio.gather(*map(submit, range(2 * strategy.worker_count(options))))

    assert peak_overlap(asyncio.run(submit_more_than_fit())) == strategy.worker_count(options)


@every_strategy
def test_below_its_limit_nothing_is_refused_and_items_run_first_in_first_out(name: str) -> None:
    strategy, options = strategies.get(name), options_for(name, 1)
    is_bounded = "max_queue" in strategy.TAKES
    assert strategy.WHEN_FULL.startswith("nothing is refused") != is_bounded

    async def overload() -> list[calls.Ran]:
        async with strategy.open(calls.ready, partial(calls.run_for, 0.01), options) as submit:
            return await asyncio.gather(*map(submit, range(20)))

    ran = asyncio.run(overload())
    assert [one.item for one in ran] == list(range(20))
    if strategy.worker_count(options) == 1:  # among several workers, two may swap places as they start
        assert sorted(ran, key=lambda one: one.start) == ran


@pytest.mark.timed
@pytest.mark.parametrize("name", [name for name in strategies.available() if name in BOUNDED])
def test_beyond_its_limit_an_item_is_refused_immediately_with_a_time_to_retry_after(name: str) -> None:
    async def overload() -> list[calls.Ran | BaseException]:
        options = options_for(name, 1, max_queue=2)
        async with strategies.get(name).open(calls.ready, partial(calls.run_for, 0.1), options) as submit:
            await submit("how long it takes")
            return await asyncio.gather(*map(submit, range(5)), return_exceptions=True)

    answers = asyncio.run(overload())
    refused = [answer for answer in answers if isinstance(answer, strategies.Full)]
    assert [type(answer) for answer in answers] == [calls.Ran] * 3 + [strategies.Full] * 2
    assert all(0 < refusal.retry_after_s < 1 and refusal.waiting == 2 for refusal in refused)
    assert "2 items are already waiting; retry in 0." in str(refused[0])


@pytest.mark.timed
# items never wait in inline, and pebble gives all items to its workers immediately
@pytest.mark.parametrize("name", [n for n in strategies.available() if n not in {"inline", "pebble"}])
def test_an_item_that_is_cancelled_while_it_waits_is_not_run(name: str, tmp_path: Path) -> None:
    async def give_up_the_second() -> None:
        call = partial(calls.noted_slow_call, tmp_path)
        options = options_for(name, 1)
        async with strategies.get(name).open(calls.ready, call, options) as submit:
            busy = (
                strategies.get(name).worker_count(options) + 4
            )  # more, as some may already be too close to a worker
            running = [asyncio.create_task(submit(f"first {number}")) for number in range(busy)]
            await asyncio.sleep(0.05)
            waiting = asyncio.create_task(submit("second"))
            await asyncio.sleep(0.05)
            waiting.cancel()
            await asyncio.gather(*running)
            assert await submit("third") == "third"

    asyncio.run(give_up_the_second())
    noted = "".join(file.read_text() for file in tmp_path.iterdir())
    assert "third" in noted
    assert "second" not in noted


@every_strategy
def test_an_open_strategy_is_able_to_serve(name: str) -> None:
    async def ask() -> bool:
        async with strategies.get(name).open(calls.ready, calls.double, options_for(name)) as submit:
            return submit.is_able()

    assert asyncio.run(ask())


@pytest.mark.quick
def test_the_error_for_a_strategy_without_its_package_says_how_to_install_it() -> None:
    reasons = {name: strategies.get(name).why_not() for name in strategies.NAMES}
    for name, reason in reasons.items():
        assert (reason is None) == (name in strategies.available())
        assert reason is None or ("\n" not in reason and len(reason) > 20)


@pytest.mark.quick
@pytest.mark.parametrize(
    "wrong",
    [
        {"workers": 0},
        {"max_batch": 0},
        {"max_queue": 0},
        {"spares": -1},
        {"timeout_s": 0},
        {"switch_interval_ms": float("inf")},
        {"max_wait_ms": -1},
        {"start_method": "fork"},
        {"over": "batch"},
        {"over": "nothing"},
    ],
)
def test_options_out_of_range_are_refused_by_name(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        Options(**wrong)


@every_strategy
def test_the_call_runs_where_the_strategys_name_suggests(name: str) -> None:
    async def place() -> calls.Ran:
        async with strategies.get(name).open(
            calls.ready, partial(calls.run_for, 0), options_for(name)
        ) as submit:
            ran: calls.Ran = await submit("where")
            return ran

    ran = asyncio.run(place())
    is_here = (ran.pid == os.getpid(), ran.thread == threading.get_native_id())
    in_threads = {"thread", "default_pool", "anyio_limiter", "batch"}
    assert is_here == (name == "inline" or name in in_threads, name == "inline")


def test_workers_of_a_fork_server_share_what_it_has_imported() -> None:
    async def imported_already() -> bool:
        options = Options(start_method="forkserver", preload=("wave",))
        call = partial(calls.was_imported_before, "wave")
        async with strategies.get("process").open(calls.ready, call, options) as submit:
            return bool(await submit("x"))

    assert asyncio.run(imported_already())


@pytest.mark.quick
def test_the_switch_interval_is_set_while_threads_run_and_restored_afterwards() -> None:
    before = sys.getswitchinterval()

    async def interval() -> float:
        async with strategies.get("thread").open(calls.ready, calls.double, Options(switch_interval_ms=0.5)):
            return sys.getswitchinterval()

    assert asyncio.run(interval()) == pytest.approx(0.0005)
    assert sys.getswitchinterval() == before


@pytest.mark.quick
def test_an_executor_that_cannot_be_created_is_a_clear_error() -> None:
    async def fail(factory: str) -> None:
        options = Options(factory=factory)
        async with strategies.get("executor").open(calls.ready, calls.double, options):
            pytest.fail("opened")

    for factory in ("nonsense", "no.such.module:make", "concurrent.futures:NoSuchPool"):
        with pytest.raises(ValueError, match=r"executor needs a factory|cannot be imported"):
            asyncio.run(fail(factory))


@pytest.mark.quick
@every_strategy
def test_each_strategy_describes_itself_in_one_line_and_names_the_options_it_takes(name: str) -> None:
    strategy = strategies.get(name)
    for text in (strategy.SUMMARY, strategy.WHEN_FULL, strategy.WHEN_WORKER_DIES):
        assert text
        assert text == text.strip()
        assert "\n" not in text
    asked_for = strategy.worker_count(Options(workers=77))
    assert (asked_for == 77) == ("workers" in strategy.TAKES)
    assert set(Options.__dataclass_fields__) >= strategy.TAKES


@pytest.mark.quick
def test_names_are_unique_and_each_is_a_file() -> None:
    assert len(set(strategies.NAMES)) == len(strategies.NAMES)
    assert set(strategies.NAMES) == {
        file.stem for file in PACKAGE.glob("*.py") if not file.stem.startswith("_")
    }


@pytest.mark.quick
@pytest.mark.parametrize(
    ("unknown", "nearest"), [("proces", "process"), ("threads", "thread"), ("quantum", None)]
)
def test_an_unknown_name_is_refused_with_the_nearest_one(unknown: str, nearest: str | None) -> None:
    with pytest.raises(strategies.UnknownStrategy, match=unknown) as refusal:
        strategies.get(unknown)
    assert refusal.value.nearest == nearest
    assert str(pickle.loads(pickle.dumps(refusal.value))) == str(refusal.value)


@pytest.mark.quick
@pytest.mark.parametrize("file", sorted(PACKAGE.glob("*.py")), ids=lambda file: file.name)
def test_strategies_import_only_themselves_the_standard_library_and_their_own_package(file: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    of_its_own = {
        "__init__": {"pydantic"},  # declares the options; fastapi needs it anyway
        "anyio_limiter": {"anyio"},
        "loky": {"loky"},
        "pebble": {"pebble"},
        "ray": {"ray"},
        "dask": {"dask", "distributed"},
    }.get(file.stem, set())
    assert imported <= sys.stdlib_module_names | {"strategies"} | of_its_own
