"""`execbench check` can fail: each check is handed something broken, and is seen to go red.

The checks measure with what they are given, so a pretended client and server stand in for the real ones here:
nothing waits, and the truth is exact. No test says that a check of time passes on the real machine.
"""

from __future__ import annotations

import itertools
import json
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import Here, wait_for

from harness.analysis import summaries
from harness.errors import HarnessError
from harness.evidence.check import Bench, Check, Result, carry_out, numbers, quick, recount
from harness.evidence.check.lindley import step_errors_ms
from harness.evidence.check.silent import silent_server
from harness.run import client_limit
from harness.wire import arrivals
from harness.wire.arrivals import Law
from harness.wire.loop_lag import Lag
from harness.wire.options import LoadOptions, ServerOptions
from harness.wire.records import MEASURE, WARMUP, Outcome, Shot, Timings

OUTSIDE_MS = 1.2  # of which half on the way there


class World:
    """A client and servers of one worker each, without time: `fire` and `serve` as a Bench has them.

    What a test breaks: `distort` changes what the client notes of a request, `misplace` what the server says.
    """

    def __init__(
        self,
        *,
        distort: Callable[[Shot], Shot] = lambda shot: shot,
        misplace: Callable[[dict[str, float]], dict[str, float]] = lambda parts: parts,
        lag: Callable[[ServerOptions], Lag | None] = lambda options: None,
        workers: int = 1,
    ) -> None:
        self._servers: dict[str, ServerOptions] = {}
        self._distort, self._misplace, self._lag, self._workers = distort, misplace, lag, workers

    @contextmanager
    def serve(self, strategy: str = "thread", **options: Any) -> Iterator[Any]:
        chosen = ServerOptions(strategy=strategy, **options)
        url = f"http://127.0.0.1/{len(self._servers)}"
        self._servers[url] = chosen
        yield SimpleNamespace(url=url, watch=lambda: None, unwatch=lambda: self._lag(chosen))

    def fire(self, url: str, **options: Any) -> Outcome:
        load = LoadOptions.model_validate({"url": url, **options})
        shots = [self._distort(shot) for shot in self._shots(load)]
        begin = load.settle_s * 1e3
        return Outcome(shots, begin, begin + (load.duration_s or 1.0) * 1e3, 1.0)

    def _shots(self, load: LoadOptions) -> Iterator[Shot]:
        free = [0.0] * self._workers  # when each is
        server = self._servers.get(load.url, ServerOptions(strategy="thread", workload=quick.synthetic(0.0)))
        done = 0.0
        for seq, due in enumerate(self._due_times_ms(load)):
            due = done if due is None else due
            place = free.index(min(free))
            parts = self._parts(server, due + OUTSIDE_MS / 2, free[place])
            free[place] = due + OUTSIDE_MS / 2 + parts["queue_ms"] + parts["model_ms"]
            handler = sum(parts.values())
            done = due + OUTSIDE_MS + handler
            timings = Timings(due + OUTSIDE_MS / 2, handler_ms=handler, **self._misplace(parts))
            phase = WARMUP if seq < load.warmup_requests or due < load.settle_s * 1e3 else MEASURE
            yield Shot(seq, phase, due, due, done, timings, 200, "")

    def _due_times_ms(self, load: LoadOptions) -> Iterator[float | None]:
        if not load.arrivals.is_open:
            yield from itertools.repeat(None, load.warmup_requests + (load.requests or 100))
            return
        end = load.settle_s + (load.duration_s or 0.0)
        for due in itertools.takewhile(lambda due: due < end, arrivals.due_times_s(load.arrivals, load.seed)):
            yield due * 1e3

    def _parts(self, server: ServerOptions, entered: float, free: float) -> dict[str, float]:
        workload, inject = server.workload, server.inject
        return {
            "queue_ms": inject.queue_ms + max(0.0, free - entered),
            "model_ms": workload.service_ms + inject.model_ms,
            "resume_ms": inject.resume_ms,
            "io_ms": workload.io_ms + inject.io_ms,
        }


def rounded_to_10_ms(shot: Shot) -> Shot:
    return shot._replace(
        due_ms=10 * round(shot.due_ms / 10),
        sent_ms=10 * round(shot.sent_ms / 10),
        done_ms=10 * round(shot.done_ms / 10),
    )


def later(milliseconds: float) -> Callable[[Shot], Shot]:
    """A client that takes so long before it notes that an answer has come."""
    return lambda shot: shot._replace(done_ms=shot.done_ms + milliseconds)


# -- figures -------------------------------------------------------------------------------------------


def test_our_percentile_is_that_of_numpy_and_scipy() -> None:
    assert numbers.quantiles().passed


def test_a_pool_that_is_a_little_off_is_found_beside_a_percentile_that_is_right() -> None:
    def off(values: Any, percent: float) -> float:
        return numbers.pooled(values, percent) * (1 + 1e-8)

    assert not numbers.quantiles(summaries.percentile, off).passed


def one_rank_off(values: Any, percent: float) -> float:
    place = round((len(values) - 1) * percent / 100)
    return float(np.sort(values)[min(place + 1, len(values) - 1)])


@pytest.mark.parametrize(
    "broken",
    [
        one_rank_off,
        lambda values, percent: float(np.sort(values)[int((len(values) - 1) * percent / 100)]),
        lambda values, percent: summaries.percentile(values[np.isfinite(values)], percent),
        lambda values, percent: summaries.percentile(values, percent) * (1 + 1e-8),
    ],
    ids=["one rank off", "not interpolated", "failures left out", "inexact"],
)
def test_a_percentile_that_is_a_little_off_is_found(broken: Any) -> None:
    assert not numbers.quantiles(broken).passed


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numbers.small_run(tmp_path_factory.mktemp("check") / "run")


@pytest.mark.integration
def test_the_numbers_of_a_real_run_are_those_of_its_csv(small_run: Path) -> None:
    found = numbers.reported_numbers(small_run, numbers.report_of)
    assert found.passed, found
    assert int(found.measured.split()[0]) > 200


@pytest.mark.integration
def test_every_single_reported_number_is_compared(small_run: Path) -> None:
    """Each of them changed by a millionth turns the check red."""
    sound = numbers.report_of(small_run)
    for cell, name in [(cell, name) for cell, figures in sound.items() for name in figures]:
        if np.isfinite(sound[cell][name]):
            changed = {**sound, cell: {**sound[cell], name: sound[cell][name] * (1 + 1e-6) + 1e-6}}
            found = numbers.reported_numbers(small_run, lambda folder, changed=changed: changed)
            assert not found.passed, (cell, name)
            assert name in found.note


@pytest.mark.integration
@pytest.mark.parametrize(
    "change",
    [
        lambda figures: figures | {"latency_p42_ms": 1.0},
        lambda figures: figures | {"latency_p50_ms": float("nan")},
        lambda figures: figures | {"latency_p99_ms": 1.0},  # below the floor of 662 requests: not shown
    ],
    ids=["a number that nobody counts again", "a number that is missing", "a number that must be missing"],
)
def test_a_number_too_many_or_too_few_is_found(small_run: Path, change: Any) -> None:
    reported = {cell: change(figures) for cell, figures in numbers.report_of(small_run).items()}
    assert not numbers.reported_numbers(small_run, lambda folder: reported).passed


@pytest.mark.integration
def test_a_cell_that_is_not_reported_is_found(small_run: Path) -> None:
    reported = numbers.report_of(small_run)
    reported.popitem()
    assert not numbers.reported_numbers(small_run, lambda folder: reported).passed
    assert not numbers.reported_numbers(small_run, lambda folder: {}).passed


@pytest.mark.integration
def test_a_csv_that_was_changed_after_the_report_is_found(small_run: Path, tmp_path: Path) -> None:
    reported = numbers.report_of(small_run)
    lines = (small_run / "requests.csv").read_text().splitlines(keepends=True)
    place = lines[0].split(",").index("done_ms")
    number = next(number for number, line in enumerate(lines) if f",{MEASURE}," in line and ",200," in line)
    cells = lines[number].split(",")
    cells[place] = str(float(cells[place]) + 0.001)
    for name in ("trials.csv", "run.json"):
        (tmp_path / name).write_text((small_run / name).read_text())
    (tmp_path / "requests.csv").write_text("".join([*lines[:number], ",".join(cells), *lines[number + 1 :]]))
    assert not numbers.reported_numbers(tmp_path, lambda folder: reported).passed


def test_not_a_number_equals_only_itself() -> None:
    assert recount.relative_error(float("nan"), float("nan")) == 0
    assert recount.relative_error(float("inf"), float("inf")) == 0
    assert recount.relative_error(1.0, float("nan")) == float("inf")
    assert recount.relative_error(float("inf"), 1.0) == float("inf")


# -- arrivals ------------------------------------------------------------------------------------------


def test_our_arrivals_are_what_their_names_say() -> None:
    assert quick.poisson().passed
    assert quick.schedules().passed


def slow(law: Law, seed: int) -> Iterator[float]:
    return (due * 1.01 for due in arrivals.due_times_s(law, seed))


def slower(law: Law, seed: int) -> Iterator[float]:
    return (due * 1.03 for due in arrivals.due_times_s(law, seed))


def in_whole_milliseconds(law: Law, seed: int) -> Iterator[float]:
    return (round(due, 2) for due in arrivals.due_times_s(law, seed))


def regular(law: Law, seed: int) -> Iterator[float]:
    return arrivals.due_times_s(law._replace(name="constant"), seed)


def in_a_narrow_band(law: Law, seed: int) -> Iterator[float]:
    """The mean and the variation of a Poisson process, but not its law."""
    draw = random.Random(seed)
    gaps = (draw.choice((0.0, 2.0)) / law.first for _ in itertools.count())
    return itertools.accumulate(gaps)


@pytest.mark.parametrize("broken", [slower, in_whole_milliseconds, regular, in_a_narrow_band])
def test_arrivals_that_are_no_poisson_process_are_found(broken: quick.Schedule) -> None:
    assert not quick.poisson(broken).passed


def test_a_schedule_that_drifts_by_one_percent_is_found() -> None:
    assert not quick.schedules(slow).passed


@pytest.mark.parametrize(
    "digest",
    [
        lambda law, seed, until_s: "always the same",
        lambda law, seed, until_s: random.random(),
        lambda law, seed, until_s: f"{law}{seed}",
    ],
    ids=["no seed", "no memory", "a seed where there is none"],
)
def test_a_hash_that_does_not_follow_the_seed_is_found(digest: Any) -> None:
    assert not quick.schedules(digest=digest).passed


# -- the load generator --------------------------------------------------------------------------------


class Late:
    """A loader whose requests are sent late, each by what `lag` says of its number."""

    def __init__(self, lag: Callable[[int], float]) -> None:
        self._lag = lag

    def run(self, options: LoadOptions, on_progress: object) -> Outcome:
        outcome = World().fire(**dict(options))
        shots = [shot._replace(sent_ms=shot.due_ms + self._lag(shot.seq)) for shot in outcome.shots]
        return outcome._replace(shots=shots)


def lag_of(loader: Late) -> Result:
    with Bench() as bench:
        return quick.dispatch_lag(lambda: client_limit.quick(bench.supervisor, loader, "aiohttp"))


@pytest.mark.integration
def test_requests_that_are_sent_late_are_found() -> None:
    assert lag_of(Late(lambda number: 0.5)).passed
    assert not lag_of(Late(lambda number: 1.5)).passed
    assert not lag_of(Late(lambda number: 0.5 if number % 20 else 9.0)).passed


def test_a_rate_that_is_not_delivered_is_found() -> None:
    assert quick.delivered_rate(World().fire, "null").passed
    drifts = World(distort=lambda shot: shot._replace(done_ms=shot.done_ms * 1.02))
    assert not quick.delivered_rate(drifts.fire, "null").passed
    fails = World(distort=lambda shot: shot._replace(error="" if shot.seq % 50 else "timeout"))
    assert not quick.delivered_rate(fails.fire, "null").passed


def test_the_minute_long_form_finds_a_drift_of_one_percent() -> None:
    drifts = World(distort=lambda shot: shot._replace(done_ms=shot.done_ms * 1.01))
    assert not quick.delivered_rate(drifts.fire, "null", seconds=60.0, within=0.005).passed


def test_a_generator_that_costs_too_much_is_found() -> None:
    cheap = client_limit.Roofline("aiohttp", 32, 6000, 1500.0, 0.6)
    assert quick.generator(lambda: cheap).passed
    assert not quick.generator(lambda: cheap._replace(cpu_ms_per_request=0.81)).passed


class Quiet:
    """Stands in for `silent.Silent`: it was asked 100 times and kept 10 waiting."""

    url, asked, kept_waiting = "http://127.0.0.1/silent", 100, 10


@contextmanager
def quiet(late_s: float) -> Iterator[Any]:
    yield Quiet


def after_a_timeout(shot: Shot) -> Shot:
    if shot.seq % 10:
        return shot
    return shot._replace(done_ms=shot.due_ms + 400.2, status=None, error="timeout after 0.4 s")


def one_is_short(shot: Shot) -> Shot:
    late = after_a_timeout(shot)
    return late._replace(done_ms=late.due_ms + 399.0) if shot.seq == 50 else late


def one_is_called_good(shot: Shot) -> Shot:
    return shot if shot.seq == 50 else after_a_timeout(shot)


def one_more_fails(shot: Shot) -> Shot:
    return shot._replace(error="HTTP 500") if shot.seq == 51 else after_a_timeout(shot)


def test_every_timeout_is_a_row() -> None:
    assert quick.timeouts(World(distort=after_a_timeout).fire, quiet).passed


@pytest.mark.parametrize("broken", [one_is_short, one_is_called_good, one_more_fails])
def test_a_timeout_that_is_not_told_is_found(broken: Callable[[Shot], Shot]) -> None:
    assert not quick.timeouts(World(distort=broken).fire, quiet).passed


def test_a_client_that_drops_its_timeouts_is_found() -> None:
    def dropping(url: str, **options: Any) -> Outcome:
        outcome = World(distort=after_a_timeout).fire(url, **options)
        return outcome._replace(shots=[shot for shot in outcome.shots if not shot.error])

    assert not quick.timeouts(dropping, quiet).passed


@pytest.mark.integration
def test_the_silent_server_counts_whom_it_keeps_waiting() -> None:
    with Bench() as bench, silent_server(late_s=0.01) as server:
        outcome = bench.fire(server.url, arrivals="closed(1)", requests=30)
    assert (len(outcome.shots), server.asked, server.kept_waiting) == (30, 30, 3)
    assert not any(shot.error for shot in outcome.shots)


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
def test_a_client_whose_times_are_wrong_is_found(distort: Callable[[Shot], Shot]) -> None:
    assert not delay(World(distort=distort)).passed


def test_a_server_whose_own_stamps_are_short_is_found() -> None:
    assert not delay(World(misplace=lambda parts: parts | {"model_ms": parts["model_ms"] - 0.1})).passed


def inject(world: World, takes_ms: float = 20.1) -> Result:
    return quick.injected(world.fire, world.serve, lambda asked_ms: takes_ms)


def test_a_delay_in_its_own_column_passes() -> None:
    assert inject(World()).passed


@pytest.mark.parametrize("source", quick.STRETCHES)
@pytest.mark.parametrize("share", [1.0, 0.1], ids=["all", "2 ms"])
def test_a_delay_that_turns_up_in_another_column_is_found(source: str, share: float) -> None:
    """All of what is measured in one stretch, or a tenth of it, goes to the next one."""
    to = quick.STRETCHES[(quick.STRETCHES.index(source) + 1) % len(quick.STRETCHES)]

    def misplace(parts: dict[str, float]) -> dict[str, float]:
        moved = parts[f"{source}_ms"] * share
        own = {f"{source}_ms": parts[f"{source}_ms"] - moved, f"{to}_ms": parts[f"{to}_ms"] + moved}
        return parts | own

    assert not inject(World(misplace=misplace)).passed


def test_times_rounded_to_10_ms_are_found_by_the_injected_delays() -> None:
    world = World(misplace=lambda parts: {name: 15 * round(value / 15) for name, value in parts.items()})
    assert not inject(world).passed


def test_a_stretch_that_the_server_does_not_tell_is_found() -> None:
    assert not inject(World(misplace=lambda parts: parts | {"io_ms": None})).passed


def test_what_a_sleep_takes_here_widens_what_may_be_measured_above_only() -> None:
    """A kernel that makes 22 ms of 20 is no fault of the instrument; a delay that is too short is."""

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
def test_a_queue_that_does_not_follow_lindley_is_found(misplace: Any) -> None:
    assert not queue_law(World(misplace=misplace)).passed


def test_two_workers_that_are_called_one_are_found() -> None:
    assert not queue_law(World(workers=2)).passed


def test_requests_that_are_left_out_are_found() -> None:
    def dropping(url: str, **options: Any) -> Outcome:
        outcome = world.fire(url, **options)
        return outcome._replace(shots=[shot for shot in outcome.shots if shot.seq % 10])

    world = World()
    assert not quick.lindley(dropping, world.serve).passed


def test_a_request_without_the_servers_times_fails_the_law() -> None:
    assert not queue_law(World(misplace=lambda parts: {})).passed


def test_the_recursion_step_by_hand() -> None:
    """Three requests: the second waits 15 ms, the third comes when nobody is there any more."""
    errors = step_errors_ms([100.0, 0.0, 5.0], [0.5, 0.0, 15.25], [20.0, 20.0, 20.0])
    assert errors.tolist() == pytest.approx([0.25, 0.5])


# -- the probe -----------------------------------------------------------------------------------------


def probe(held: Lag | None, free: Lag | None) -> Result:
    world = World(lag=lambda options: held if options.workload.mode == "hold" else free)
    return quick.loop_probe(world.fire, world.serve)


def test_a_probe_that_sees_the_held_loop_and_nothing_else_passes() -> None:
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
def test_a_probe_that_is_blind_or_sees_things_is_found(held: Lag | None, free: Lag | None) -> None:
    assert not probe(held, free).passed


# -- all of them ---------------------------------------------------------------------------------------


def test_a_check_that_cannot_be_measured_has_failed_and_the_others_go_on() -> None:
    def broken(bench: Bench) -> Result:
        raise HarnessError("The server did not start.", stage="server", hint="Look at the log.")

    fine = Result("fine", "goal", "measured", True)
    stages: list[str] = []
    bench = Bench(SimpleNamespace(stage=stages.append))
    checks = [Check("broken", "is broken", 1, broken), Check("both", "two", 1, lambda bench: [fine, fine])]
    found = list(carry_out(checks, bench))
    assert [result.passed for result in found] == [False, True, True]
    assert "The server did not start." in found[0].measured
    assert found[0].note == "Look at the log."
    assert len(stages) == 2


def test_a_load_with_an_error_is_not_measured() -> None:
    world = World(distort=lambda shot: shot._replace(error="HTTP 500") if shot.seq == 50 else shot)
    with pytest.raises(HarnessError, match="HTTP 500"):
        delay(world)


def test_the_quick_checks_take_less_than_three_minutes_and_have_names_of_their_own() -> None:
    assert sum(check.seconds for check in quick.CHECKS) < 180
    assert len({check.name for check in quick.CHECKS}) == len(quick.CHECKS)


@pytest.mark.integration
def test_the_command_prints_a_table_of_what_it_measured(here: Here) -> None:
    done = here("check", "--only", "quantiles", "--only", "arrivals")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("pass") == 3
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "check 2/2" in done.stderr


@pytest.mark.integration
def test_a_failed_check_is_exit_code_1_and_stands_in_the_table(
    tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrk that does not work was there to be compared with, which is no pass."""
    broken = tmp_path / "bin" / "wrk"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(broken.parent))
    done = here("check", "--only", "peers", "--only", "quantiles")
    assert done.returncode == 1
    assert "FAIL" in done.stdout
    assert "pass" in done.stdout
    assert "1 of 2 checks failed" in done.stderr


@pytest.mark.integration
def test_an_interrupted_check_prints_what_it_has_measured(execbench: Any) -> None:
    process = execbench.start("check", "--only", "quantiles", "--only", "rate")
    said = ""
    while "check 2/2" not in said:
        said = process.stderr.readline()
        assert said, "it ended too early"
    wait_for(lambda: execbench.processes("harness.client"))
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "quantiles" in printed
    assert "pass" in printed


@pytest.mark.integration
def test_json_is_one_document(here: Here) -> None:
    done = here("check", "--only", "arrivals", "--json")
    assert [found["passed"] for found in json.loads(done.stdout)["checks"]] == [True, True]


def test_the_list_shows_names_for_only(here: Here) -> None:
    done = here("check", "--list", "--json")
    assert {check.name for check in quick.CHECKS} <= {row["name"] for row in json.loads(done.stdout)}


def test_an_unknown_check_is_refused_with_those_there_are(here: Here) -> None:
    done = here("check", "--only", "karma")
    assert done.returncode == 2
    assert "lindley" in done.stderr


def test_a_program_to_compare_with_must_be_known_and_there(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "There are: wrk, hey" in here("check", "--with", "ab").stderr
    assert "Add --full" in here("check", "--with", "wrk").stderr
    monkeypatch.setenv("PATH", "")
    absent = here("check", "--full", "--with", "hey")
    assert absent.returncode == 2
    assert "apt-get install hey" in absent.stderr
