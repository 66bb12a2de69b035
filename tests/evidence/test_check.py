"""`execbench check` can fail: each check gets a broken client or server and must fail.

The checks measure with what they are given, so a pretended client and server stand in for the real ones here:
nothing waits, and the truth is exact. No test says that a check of time passes on the real machine.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from conftest import Invoke, wait_for
from pretended import World

from harness.errors import HarnessError
from harness.evidence.check import quick
from harness.evidence.check.bench import Bench, Check, Result, carry_out
from harness.evidence.check.silent import silent_server
from harness.run import client_limit
from harness.run.load_generator import Loader
from harness.wire.load_options import LoadOptions
from harness.wire.records import Outcome, Shot

# -- the load generator --------------------------------------------------------------------------------


class Late:
    """A loader that sends each request late, by `lag` of its number."""

    def __init__(self, lag: Callable[[int], float]) -> None:
        self._lag = lag

    def run(self, options: LoadOptions, **_: bool) -> Outcome:
        outcome = World().fire(**dict(options))
        shots = [shot._replace(sent_ms=shot.due_ms + self._lag(shot.seq)) for shot in outcome.shots]
        return outcome._replace(shots=shots)


def lag_of(loader: Late) -> Result:
    with Bench() as bench:
        as_loader = cast("Loader", loader)  # only its `run` is called
        return quick.dispatch_lag(client_limit.quick(bench.supervisor, as_loader, "aiohttp"))


@pytest.mark.integration
def test_requests_sent_late_fail_the_check() -> None:
    assert lag_of(Late(lambda number: 0.5)).passed
    assert not lag_of(Late(lambda number: 1.5)).passed
    assert not lag_of(Late(lambda number: 0.5 if number % 20 else 9.0)).passed


def test_a_rate_that_is_not_delivered_fails_the_check() -> None:
    assert quick.delivered_rate(World().fire, "null").passed
    drifts = World(distort=lambda shot: shot._replace(done_ms=shot.done_ms * 1.02))
    assert not quick.delivered_rate(drifts.fire, "null").passed
    fails = World(distort=lambda shot: shot._replace(error="" if shot.seq % 50 else "timeout"))
    assert not quick.delivered_rate(fails.fire, "null").passed


def test_the_minute_long_form_finds_a_drift_of_one_percent() -> None:
    drifts = World(distort=lambda shot: shot._replace(done_ms=shot.done_ms * 1.01))
    assert not quick.delivered_rate(drifts.fire, "null", seconds=60.0, within=0.005).passed


def test_an_expensive_generator_fails_the_check() -> None:
    cheap = client_limit.Roofline("aiohttp", 32, 6000, 1500.0, 0.6)
    assert quick.generator(cheap).passed
    assert not quick.generator(cheap._replace(cpu_ms_per_request=0.81)).passed


class Quiet:
    """A fake `silent.Silent` that received 100 requests and kept 10 waiting."""

    url, received, kept_waiting = "http://127.0.0.1/silent", 100, 10


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
def test_a_timeout_without_its_error_fails_the_check(broken: Callable[[Shot], Shot]) -> None:
    assert not quick.timeouts(World(distort=broken).fire, quiet).passed


def test_a_client_that_drops_its_timeouts_fails_the_check() -> None:
    def dropping(url: str, **options: Any) -> Outcome:
        outcome = World(distort=after_a_timeout).fire(url, **options)
        return outcome._replace(shots=[shot for shot in outcome.shots if not shot.error])

    assert not quick.timeouts(dropping, quiet).passed


@pytest.mark.integration
def test_the_silent_server_counts_late_requests() -> None:
    with Bench() as bench, silent_server(late_s=0.01) as server:
        outcome = bench.fire(server.url, arrivals="closed(1)", requests=30)
    assert (len(outcome.shots), server.received, server.kept_waiting) == (30, 30, 3)
    assert not any(shot.error for shot in outcome.shots)


# -- all of them ---------------------------------------------------------------------------------------


def test_a_check_that_cannot_be_measured_fails_and_the_others_continue() -> None:
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


def test_the_quick_checks_take_less_than_three_minutes_and_have_distinct_names() -> None:
    assert sum(check.seconds for check in quick.CHECKS) < 180
    assert len({check.name for check in quick.CHECKS}) == len(quick.CHECKS)


@pytest.mark.integration
def test_the_command_prints_a_table_of_its_results(invoke: Invoke) -> None:
    done = invoke("check", "--only", "quantiles", "--only", "arrivals")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("pass") == 3
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "check 2/2" in done.stderr


@pytest.mark.integration
def test_a_failed_check_gives_exit_code_1_and_is_in_the_table(
    tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken wrk is installed, so the comparison fails instead of being skipped."""
    broken = tmp_path / "bin" / "wrk"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(broken.parent))
    done = invoke("check", "--only", "peers", "--only", "quantiles")
    assert done.returncode == 1
    assert "FAIL" in done.stdout
    assert "pass" in done.stdout
    assert "1 of 2 checks failed" in done.stderr


@pytest.mark.integration
def test_an_interrupted_check_prints_its_results_so_far(execbench: Any) -> None:
    process = execbench.start("check", "--only", "quantiles", "--only", "rate")
    line = ""
    while "check 2/2" not in line:
        line = process.stderr.readline()
        assert line, "it ended too early"
    wait_for(lambda: execbench.processes("harness.client"))
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "quantiles" in printed
    assert "pass" in printed


@pytest.mark.integration
def test_json_is_one_document(invoke: Invoke) -> None:
    done = invoke("check", "--only", "arrivals", "--json")
    assert [found["passed"] for found in json.loads(done.stdout)["checks"]] == [True, True]


def test_the_list_shows_the_names_that_only_takes(invoke: Invoke) -> None:
    done = invoke("check", "--list", "--json")
    assert {check.name for check in quick.CHECKS} <= {row["name"] for row in json.loads(done.stdout)}


def test_an_unknown_check_is_refused_with_the_known_names(invoke: Invoke) -> None:
    done = invoke("check", "--only", "karma")
    assert done.returncode == 2
    assert "lindley" in done.stderr


def test_a_program_to_compare_with_must_be_known_and_installed(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "There are: wrk, hey" in invoke("check", "--with", "ab").stderr
    assert "Add --full" in invoke("check", "--with", "wrk").stderr
    monkeypatch.setenv("PATH", "")
    absent = invoke("check", "--full", "--with", "hey")
    assert absent.returncode == 2
    assert "apt-get install hey" in absent.stderr
