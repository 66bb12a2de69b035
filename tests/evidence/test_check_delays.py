"""`execbench check` can fail: it detects delays, queues and loop lags that are measured wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pretended import OUTSIDE_MS, World, later, rounded_to_10_ms

from harness.errors import HarnessError
from harness.evidence.check import quick
from harness.evidence.check.bench import Result
from harness.evidence.studies.queueing import step_errors_ms
from harness.wire.loop_lag import Lag
from harness.wire.records import Outcome, Shot

# -- known delays --------------------------------------------------------------------------------------


def delay(world: World) -> Result:
    return quick.known_delay(world.fire, world.serve)


def test_a_client_that_adds_little_to_a_known_delay_passes() -> None:
    assert delay(World()).passed


@pytest.mark.parametrize(
    "distort",
    [
        rounded_to_10_ms,
        later(1.5),
        lambda shot: later(0.0 if shot.seq % 50 else 9.0)(shot),
        later(-OUTSIDE_MS - 0.1),
    ],
    ids=["rounds to 10 ms", "always late", "sometimes very late", "sees answers before they come"],
)
def test_a_client_with_wrong_times_fails_the_check(distort: Callable[[Shot], Shot]) -> None:
    assert not delay(World(distort=distort)).passed


def test_a_server_with_short_time_stamps_fails_the_check() -> None:
    assert not delay(World(misplace=lambda parts: parts | {"model_ms": parts["model_ms"] - 0.1})).passed


def test_a_load_with_an_error_is_not_measured() -> None:
    world = World(distort=lambda shot: shot._replace(error="HTTP 500") if shot.seq == 50 else shot)
    with pytest.raises(HarnessError, match="HTTP 500"):
        delay(world)


def inject(world: World, takes_ms: float = 20.1) -> Result:
    return quick.injected(world.fire, world.serve, lambda asked_ms: takes_ms)


def test_a_delay_in_its_own_column_passes() -> None:
    assert inject(World()).passed


@pytest.mark.parametrize("source", quick.STRETCHES)
@pytest.mark.parametrize("share", [1.0, 0.1], ids=["all", "2 ms"])
def test_a_delay_in_another_column_fails_the_check(source: str, share: float) -> None:
    """All of the time measured in one part, or a tenth of it, goes to the next part."""
    to = quick.STRETCHES[(quick.STRETCHES.index(source) + 1) % len(quick.STRETCHES)]

    def misplace(parts: dict[str, float]) -> dict[str, float]:
        moved = parts[f"{source}_ms"] * share
        own = {f"{source}_ms": parts[f"{source}_ms"] - moved, f"{to}_ms": parts[f"{to}_ms"] + moved}
        return parts | own

    assert not inject(World(misplace=misplace)).passed


def test_times_rounded_to_10_ms_fail_the_check_of_injected_delays() -> None:
    world = World(misplace=lambda parts: {name: 15 * round(value / 15) for name, value in parts.items()})
    assert not inject(world).passed


def test_a_part_that_the_server_does_not_report_fails_the_check() -> None:
    assert not inject(World(misplace=lambda parts: parts | {"io_ms": None})).passed


def test_long_sleeps_of_this_machine_raise_only_the_upper_bound() -> None:
    """A kernel that sleeps 22 ms instead of 20 is not an error of the instrument; a delay too short is."""

    def stretched(factor: float) -> World:
        def misplace(parts: dict[str, float]) -> dict[str, float]:
            return {name: value * factor if value >= 20 else value for name, value in parts.items()}

        return World(misplace=misplace)

    assert inject(stretched(1.0), takes_ms=22.0).passed
    assert not inject(stretched(0.9), takes_ms=18.0).passed
    assert not inject(stretched(1.2), takes_ms=20.1).passed


# -- the queue -----------------------------------------------------------------------------------------


def queue_law(world: World) -> Result:
    return quick.lindley(world.fire, world.serve, seconds=20.0)


def test_a_queue_that_follows_lindley_passes() -> None:
    assert queue_law(World()).passed


@pytest.mark.parametrize(
    "misplace",
    [
        lambda parts: parts | {"queue_ms": 10 * round(parts["queue_ms"] / 10)},
        lambda parts: parts | {"queue_ms": 0.0},
        lambda parts: parts | {"queue_ms": parts["queue_ms"] * 0.9},
        lambda parts: parts | {"model_ms": parts["model_ms"] * 0.9},
    ],
    ids=["rounded", "no queue", "queue too short", "service too short"],
)
def test_a_queue_that_does_not_follow_lindley_fails_the_check(misplace: Any) -> None:
    assert not queue_law(World(misplace=misplace)).passed


def test_two_workers_instead_of_one_fail_the_check() -> None:
    assert not queue_law(World(workers=2)).passed


def test_missing_requests_fail_the_check() -> None:
    def dropping(url: str, **options: Any) -> Outcome:
        outcome = world.fire(url, **options)
        return outcome._replace(shots=[shot for shot in outcome.shots if shot.seq % 10])

    world = World()
    assert not quick.lindley(dropping, world.serve).passed


def test_a_request_without_server_times_fails_the_check() -> None:
    assert not queue_law(World(misplace=lambda parts: {})).passed


def test_the_recursion_step_by_hand() -> None:
    """Three requests: the second waits 15 ms, the third arrives at an idle worker."""
    errors = step_errors_ms([100.0, 0.0, 5.0], [0.5, 0.0, 15.25], [20.0, 20.0, 20.0])
    assert errors.tolist() == pytest.approx([0.25, 0.5])


# -- the probe -----------------------------------------------------------------------------------------


def probe(held: Lag | None, free: Lag | None) -> Result:
    world = World(lag=lambda options: held if options.workload.mode == "hold" else free)
    return quick.loop_probe(world.fire, world.serve)


def test_a_probe_that_shows_only_the_held_loop_passes() -> None:
    assert probe(Lag(300, 50.0, 51.0), Lag(300, 4.0, 30.0)).passed


@pytest.mark.parametrize(
    ("held", "free"),
    [
        (Lag(20, 1.0, 2.0), Lag(300, 4.0, 30.0)),
        (Lag(300, 50.0, 51.0), Lag(300, 21.0, 30.0)),
        (Lag(0, None, None), Lag(300, 4.0, 30.0)),
        (None, Lag(300, 4.0, 30.0)),
        (Lag(300, 50.0, 51.0), None),
    ],
    ids=["blind", "sees things", "no beats", "no answer", "no answer when free"],
)
def test_a_probe_with_false_or_missing_lag_fails_the_check(held: Lag | None, free: Lag | None) -> None:
    assert not probe(held, free).passed
