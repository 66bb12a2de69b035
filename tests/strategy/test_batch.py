"""Micro-batches: which items form a batch, which do not wait, and that a failing item affects no other."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import strategy_calls as calls

import strategies
from strategies import Options, Submit

pytestmark = pytest.mark.integration

Made = TypeVar("Made")


def serve(call: strategies.Call, user: Callable[[Submit], Awaitable[Made]], **options: Any) -> Made:
    """Open a batch strategy and return what `user` returns for it."""

    async def use() -> Made:
        async with strategies.get("batch").open(calls.ready, call, Options(**options)) as submit:
            return await user(submit)

    return asyncio.run(use())


def sizes(ran: list[calls.Ran]) -> list[int]:
    """The sizes of the batches, in the order of their start."""
    starts = sorted((one.start, one.pid, one.thread) for one in ran)
    return [starts.count(start) for start in dict.fromkeys(starts)]


async def ask_again_and_again(submit: Submit, users: int, times: int, think_s: float) -> list[calls.Ran]:
    """A closed loop: each user thinks, submits an item and waits for the result."""

    async def user(number: int) -> list[calls.Ran]:
        ran = []
        for _ in range(times):
            await asyncio.sleep(think_s + 0.0002 * number)
            ran.append(await submit(number))
        return ran

    answers = await asyncio.gather(*map(user, range(users)))
    return [one for of_user in answers for one in of_user]


@pytest.mark.timed
def test_eight_users_who_wait_for_their_answers_form_one_batch_of_eight() -> None:
    users = partial(ask_again_and_again, users=8, times=12, think_s=0.005)
    found = sizes(serve(partial(calls.run_for, 0.02), users))
    settled = found[len(found) // 2 :]
    assert settled.count(8) >= 0.7 * len(settled), found


@pytest.mark.timed
def test_a_free_worker_does_not_wait_if_a_larger_batch_saves_nothing() -> None:
    """A call takes as long as its items one by one, so the users form smaller batches that take turns."""
    users = partial(ask_again_and_again, users=8, times=16, think_s=0.006)
    found = sizes(serve(partial(calls.run_for_each, 0.003), users))
    settled = found[len(found) // 2 :]
    assert settled.count(8) <= 0.3 * len(settled), found


@pytest.mark.timed
def test_a_single_user_never_waits_for_more_items() -> None:
    users = partial(ask_again_and_again, users=1, times=20, think_s=0.005)
    began = time.monotonic()
    ran = serve(partial(calls.run_for, 0.005), users, max_wait_ms=1000.0)
    assert sizes(ran) == [1] * 20
    assert time.monotonic() - began < 0.8  # one wait would take a second


@pytest.mark.timed
def test_a_user_who_is_alone_after_large_batches_waits_at_most_once() -> None:
    async def crowd_then_one(submit: Submit) -> list[float]:
        await ask_again_and_again(submit, users=8, times=4, think_s=0.005)
        waits = []
        for _ in range(10):
            began = time.monotonic()
            ran = await submit("alone")
            waits.append(ran.start - began)
        return waits

    waits = serve(partial(calls.run_for, 0.01), crowd_then_one, max_wait_ms=200.0)
    assert sum(wait > 0.02 for wait in waits) <= 1, waits


@pytest.mark.timed
def test_waiting_for_more_items_stops_if_arrivals_do_not_depend_on_answers() -> None:
    """At half load, an item that finds the worker free starts immediately, with rare exceptions."""
    draw = random.Random(1)

    async def arrive(submit: Submit) -> list[tuple[float, calls.Ran]]:
        async def one() -> tuple[float, calls.Ran]:
            came = time.monotonic()
            return came, await submit("x")

        tasks = []
        for _ in range(150):
            await asyncio.sleep(draw.expovariate(1 / 0.02))
            tasks.append(asyncio.create_task(one()))
        return await asyncio.gather(*tasks)

    answered = serve(partial(calls.run_for, 0.01), arrive)
    ends = sorted({ran.end for _, ran in answered})
    found_free = [
        (came, ran) for came, ran in answered if not any(r.start < came < r.end for _, r in answered)
    ]
    waited = [ran.start - came for came, ran in found_free]
    assert ends
    assert len(waited) > 40
    assert sum(wait > 0.004 for wait in waited) < 0.35 * len(waited), sorted(waited)[-20:]


@pytest.mark.timed
@pytest.mark.parametrize(("workers", "max_batch"), [(1, 4), (2, 32), (3, 2)])
def test_no_batch_exceeds_the_maximum_or_a_workers_share(workers: int, max_batch: int) -> None:
    users = partial(ask_again_and_again, users=12, times=8, think_s=0.002)
    ran = serve(partial(calls.run_for, 0.02), users, workers=workers, max_batch=max_batch)
    share = -(-12 // workers)
    assert max(sizes(ran)) <= min(max_batch, share)
    assert len({(one.pid, one.thread) for one in ran}) == workers


@pytest.mark.timed
def test_an_item_that_fails_does_not_affect_others_in_its_batch() -> None:
    async def mixed(submit: Submit) -> list[object]:
        first = asyncio.create_task(submit("first"))  # so that the others wait and form one batch
        await asyncio.sleep(0.02)
        answers = await asyncio.gather(*map(submit, ["a", "poison", "b"]), return_exceptions=True)
        return [await first, *answers]

    first, a, poison, b = serve(calls.slow_but_for_poison, mixed)
    assert (first, a, b) == ("first", "a", "b")
    assert isinstance(poison, calls.Refused)


@pytest.mark.timed
def test_items_of_clients_that_left_are_not_in_the_batch(tmp_path: Path) -> None:
    async def leave_early(submit: Submit) -> None:
        busy = asyncio.create_task(submit("busy"))
        await asyncio.sleep(0.05)
        waiting = [asyncio.create_task(submit(item)) for item in ("stays", "leaves")]
        await asyncio.sleep(0.05)
        waiting[1].cancel()
        await asyncio.gather(busy, waiting[0])

    serve(partial(calls.noted_slow_call, tmp_path), leave_early)
    noted = "".join(file.read_text() for file in tmp_path.iterdir()).splitlines()
    assert "['stays']" in noted


@pytest.mark.parametrize("over", ["inline", "process", "supervised", "anyio_limiter"])
def test_batches_run_in_any_other_strategy(over: str) -> None:
    async def twenty(submit: Submit) -> list[int]:
        return await asyncio.gather(*map(submit, range(20)))

    assert serve(calls.double, twenty, over=over, workers=2) == calls.double(list(range(20)))


def test_batches_over_dead_workers_fail_and_is_able_becomes_false() -> None:
    async def kill(submit: Submit) -> bool:
        with pytest.raises(Exception, match="terminated abruptly"):
            await submit("exit")
        return submit.is_able()

    assert serve(calls.exit_on_item, kill, over="process") is False
