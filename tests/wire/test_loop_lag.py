"""The loop lag probe shows a stall in full, even in the percentile, and has no samples if never started."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from harness.wire.loop_lag import SAMPLE_INTERVAL_MS, Lag, LoopLagProbe, lag_of

pytestmark = pytest.mark.timed

Life = Callable[[], Awaitable[object]]


def lag_during(life: Life) -> Lag:
    async def watched() -> Lag:
        probe = LoopLagProbe()
        probe.start()
        await life()
        return await probe.stop()

    return asyncio.run(watched())


def stall(seconds: float) -> None:
    """Block the event loop."""
    time.sleep(seconds)


async def quiet(seconds: float = 0.5) -> None:
    await asyncio.sleep(seconds)


async def stalled_then_quiet() -> None:
    await asyncio.sleep(0.05)
    stall(0.2)
    await asyncio.sleep(0.25)


def test_an_idle_loop_is_sampled_every_5_ms_and_hardly_late() -> None:
    """Take the best of three, as other programs may delay a loop at any time."""
    found = min((lag_during(quiet) for _ in range(3)), key=lambda lag: lag.max_ms or 0.0)
    assert found.samples == pytest.approx(100, abs=10)
    assert found.p99_ms is not None
    assert 0 <= found.p99_ms < 15


def test_a_stall_of_200_ms_shows_as_200_ms() -> None:
    lag = lag_during(stalled_then_quiet)
    assert lag.max_ms is not None
    assert 190 <= lag.max_ms < 300


def test_samples_skipped_by_a_stall_count() -> None:
    """Without them, 0.5 s would have about 60 samples, and the p99 would be the only late one."""
    lag = lag_during(stalled_then_quiet)
    assert lag.samples >= 90
    assert lag.p99_ms is not None
    assert lag.p99_ms > 150


def test_every_skipped_sample_is_5_ms_less_late_than_the_one_before() -> None:
    """So the samples of a stall fall linearly to zero, and p99 and maximum come from this line."""

    async def stalled() -> None:
        stall(1.0)

    lag = lag_during(stalled)
    assert lag.max_ms is not None
    assert lag.samples == pytest.approx(lag.max_ms / SAMPLE_INTERVAL_MS + 0.5, abs=0.51)
    assert lag.max_ms - (lag.p99_ms or 0.0) == pytest.approx(SAMPLE_INTERVAL_MS * (lag.samples // 100))


def test_a_stall_that_lasts_until_the_stop_counts() -> None:
    """Its timer had no chance to run, as the loop goes directly from the stall to the stop."""

    async def stalled() -> None:
        stall(0.2)

    lag = lag_during(stalled)
    assert lag.max_ms is not None
    assert lag.max_ms > 190


@pytest.mark.quick
def test_a_probe_that_was_never_started_can_be_stopped_and_has_no_samples() -> None:
    assert asyncio.run(LoopLagProbe().stop()) == Lag(0, None, None)


def test_a_second_start_discards_earlier_samples() -> None:
    async def twice() -> Lag:
        probe = LoopLagProbe()
        probe.start()
        stall(0.3)
        await asyncio.sleep(0.02)
        probe.start()
        await asyncio.sleep(0.05)
        return await probe.stop()

    lag = asyncio.run(twice())
    assert lag.samples < 30
    assert lag.max_ms is not None
    assert lag.max_ms < 200


def test_after_the_stop_sampling_ends_and_no_sample_is_returned_twice() -> None:
    async def stopped() -> tuple[Lag, Lag]:
        probe = LoopLagProbe()
        probe.start()
        await asyncio.sleep(0.05)
        first = await probe.stop()
        await asyncio.sleep(0.05)
        return first, await probe.stop()

    first, second = asyncio.run(stopped())
    assert first.samples >= 5
    assert second == Lag(0, None, None)


@pytest.mark.quick
def test_the_p99_of_200_samples_is_the_third_largest() -> None:
    """Nearest rank: 198 of 200 samples are at most this late."""
    assert lag_of([float(number) for number in range(1, 201)]) == Lag(200, 198.0, 200.0)
