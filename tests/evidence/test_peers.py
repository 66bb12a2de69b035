"""The comparison with wrk and hey: their output is parsed correctly, and a wrong client fails."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import running

from harness.errors import HarnessError
from harness.evidence.check import peers
from harness.evidence.check.peers import Figures
from harness.wire.records import MEASURE, Outcome, Shot, Timings

TRUTH = Figures(104.0, 76.3, 77.4, 79.8)  # what 8 connections see of answers that take 75 ms

# -- what the programs print, as they did ----------------------------------------------------------------

WRK = """\
Running 1s test @ http://127.0.0.1:39423/
  1 threads and 2 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    21.11ms  563.26us  24.62ms   86.54%
    Req/Sec    94.82      9.53   101.00     72.73%
  Latency Distribution
     50%   20.97ms
     75%   21.18ms
     90%   21.46ms
     99%   23.59ms
  104 requests in 1.10s, 32.50KB read
Requests/sec:     94.54
Transfer/sec:     29.54KB
"""

WRK_FAST = """\
  Latency Distribution
     50%  249.00us
     75%  579.00us
     90%    1.13ms
     99%    2.50s
  5694 requests in 1.10s, 856.32KB read
Requests/sec:   5166.05
Transfer/sec:    776.93KB
"""

WRK_404 = WRK.replace("Requests/sec", "  Non-2xx or 3xx responses: 104\nRequests/sec")
WRK_ERRORS = WRK.replace(
    "Requests/sec", "  Socket errors: connect 0, read 3, write 0, timeout 0\nRequests/sec"
)

WRK_NOTHING = """\
  1 threads and 2 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     0.00us    0.00us   0.00us    -nan%
    Req/Sec     0.00      0.00     0.00      -nan%
  Latency Distribution
     50%    0.00us
     75%    0.00us
     90%    0.00us
     99%    0.00us
  0 requests in 3.01s, 0.00B read
Requests/sec:      0.00
Transfer/sec:       0.00B
"""

HEY_HEADER = "response-time,DNS+dialup,DNS,Request-write,Response-delay,Response-read,status-code,offset"
HEY = f"""\
{HEY_HEADER}
0.0220,0.0003,0.0000,0.0007,0.0207,0.0002,200,0.0154
0.0260,0.0016,0.0000,0.0005,0.0237,0.0002,200,0.0140
0.0231,0.0000,0.0000,0.0000,0.0228,0.0001,200,0.0374
0.0213,0.0000,0.0000,0.0000,0.0211,0.0002,200,0.0400
0.0214,0.0000,0.0000,0.0000,0.0211,0.0001,200,0.0604
"""


def test_the_output_of_wrk_is_parsed() -> None:
    assert peers.read_wrk(WRK) == Figures(94.54, 20.97, 21.46, 23.59)


def test_the_units_of_wrk_are_parsed() -> None:
    assert peers.read_wrk(WRK_FAST) == Figures(5166.05, 0.249, 1.13, 2500.0)


def test_the_output_of_hey_is_parsed() -> None:
    """The last answer came after 0.0818 s, so within 0.07 s there were four."""
    found = peers.read_hey(HEY, 0.07)
    assert found.requests_per_s == pytest.approx(4 / 0.07)
    assert found.p50_ms == pytest.approx(22.0)
    assert found.p90_ms == pytest.approx(24.84)
    assert found.p99_ms == pytest.approx(25.884)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (WRK_404, "Non-2xx"),
        (WRK_ERRORS, "read 3"),
        (WRK_NOTHING, "no request was answered"),
        (WRK.replace("     99%   23.59ms\n", ""), "it printed"),
        ("", "it printed"),
    ],
    ids=["404", "errors", "nothing", "without p99", "silent"],
)
def test_unusable_output_of_wrk_is_an_error(text: str, says: str) -> None:
    with pytest.raises(HarnessError, match=says):
        peers.read_wrk(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (HEY.replace(",200,0.0604", ",404,0.0604"), "1 of 5"),
        (HEY_HEADER + "\n", "no request was answered"),
        ("", "no request was answered"),
        ("Summary:\n  Total: 1.0 secs\n", "it printed"),
    ],
    ids=["404", "nothing", "silent", "another format"],
)
def test_unusable_output_of_hey_is_an_error(text: str, says: str) -> None:
    with pytest.raises(HarnessError, match=says):
        peers.read_hey(text, 1)


# -- judging -------------------------------------------------------------------------------------------


def judge(ours: Figures, theirs: Figures = TRUTH, rounds: int = 5) -> bool:
    return peers.judge("wrk", [(ours, theirs)] * rounds).passed


def test_two_clients_that_agree_pass() -> None:
    assert judge(TRUTH)


@pytest.mark.parametrize(
    ("figure", "within", "beyond"),
    [
        ("requests_per_s", 0.019, 0.021),
        ("p50_ms", 0.029, 0.031),
        ("p90_ms", 0.049, 0.051),
        ("p99_ms", 0.099, 0.101),
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_each_figure_alone_can_fail_in_both_directions(
    figure: str, within: float, beyond: float, sign: int
) -> None:
    def off(share: float) -> Figures:
        return TRUTH._replace(**{figure: getattr(TRUTH, figure) * (1 + sign * share)})

    assert judge(off(within))
    assert not judge(off(beyond))


def test_on_a_fast_route_the_goals_of_p50_and_p99_are_in_ms() -> None:
    fast = Figures(1000.0, 1.0, 1.2, 2.0)
    assert judge(fast._replace(p50_ms=1.49, p99_ms=2.99), fast)
    assert not judge(fast._replace(p50_ms=1.51), fast)
    assert not judge(fast._replace(p99_ms=3.01), fast)


def test_a_client_that_counts_in_10_ms_fails_the_check() -> None:
    """Rounded, its 76.3 ms are 80; cut off, 70."""
    rounded = [10 * round(value / 10) for value in TRUTH[1:]]
    assert not judge(Figures(TRUTH.requests_per_s, *rounded))
    assert not judge(Figures(TRUTH.requests_per_s, *(10 * (value // 10) for value in TRUTH[1:])))


def test_one_bad_round_in_five_passes_and_three_fail() -> None:
    bad = TRUTH._replace(requests_per_s=70.0, p99_ms=300.0)
    assert peers.judge("hey", [(bad, TRUTH)] + [(TRUTH, TRUTH)] * 4).passed
    assert not peers.judge("hey", [(bad, TRUTH)] * 3 + [(TRUTH, TRUTH)] * 2).passed


def test_drift_of_the_machine_affects_both_clients() -> None:
    rounds = [(Figures(*(f * drift for f in TRUTH)),) * 2 for drift in (1.0, 1.2, 1.5, 0.7, 1.1)]
    assert peers.judge("wrk", rounds).passed


# -- measuring -----------------------------------------------------------------------------------------


def outcome(latency_ms: float, *, error: str = "") -> Outcome:
    """100 requests one after another."""
    shots = [
        Shot(n, MEASURE, n * latency_ms, n * latency_ms, (n + 1) * latency_ms, Timings(), 200, "")
        for n in range(100)
    ]
    shots[-1] = shots[-1]._replace(error=error)
    return Outcome(shots, 0.0, 100 * latency_ms, 1.0)


def test_our_figures_are_those_of_a_run() -> None:
    found = peers.ours(lambda url, **load: outcome(20.0), "http://127.0.0.1/")
    assert found == pytest.approx((50.0, 20.0, 20.0, 20.0))


def test_a_failed_request_of_ours_is_an_error() -> None:
    with pytest.raises(HarnessError, match="timeout"):
        peers.ours(lambda url, **load: outcome(20.0, error="timeout after 30 s"), "http://127.0.0.1/")


def test_a_missing_program_is_an_error_with_the_command_to_install_it() -> None:
    with pytest.raises(HarnessError, match="hey is not installed") as missing:
        peers.ask("hey", "http://127.0.0.1/", installed=lambda name: None)
    assert missing.value.hint == "Install it: apt-get install hey"


@pytest.mark.integration
def test_a_program_that_fails_is_an_error(tmp_path: Path) -> None:
    broken = tmp_path / "wrk"
    broken.write_text("#!/bin/sh\necho unable to connect >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(HarnessError, match="unable to connect"):
        peers.ask("wrk", "http://127.0.0.1/", installed=lambda name: str(broken))


def nobody_measures(*_: object, **__: object) -> NoReturn:
    raise AssertionError("there is nothing to measure")


def test_without_any_program_the_check_is_skipped_with_a_hint_what_to_install() -> None:
    bench: Any = SimpleNamespace(programs=(), fire=nobody_measures, server=nobody_measures)
    (found,) = peers.peers(bench, installed=lambda name: None)
    assert found.passed
    assert found.measured == "skipped: neither wrk nor hey is installed"
    assert "apt-get install wrk hey" in found.note


def test_a_chosen_program_that_is_missing_does_not_pass() -> None:
    def missing(name: str, url: str) -> Figures:
        return peers.ask(name, url, installed=lambda program: None)

    with pytest.raises(HarnessError, match="wrk is not installed"):
        peers.compare(lambda url, **load: outcome(20.0), served, ("wrk",), missing)


@contextmanager
def served(*_: object, **options: Any) -> Iterator[Any]:
    assert options["workers"] == peers.CONNECTIONS  # no request waits for another one
    yield SimpleNamespace(url="http://127.0.0.1:1")


def test_a_client_of_ours_that_is_late_fails_with_its_difference_in_ms() -> None:
    """Ours measures 60 ms, the others 55 ms; the other two are right."""
    theirs = Figures(1000 / 55, 55.0, 55.0, 55.0)
    found = peers.compare(lambda url, **load: outcome(60.0), served, ("wrk", "hey"), lambda name, url: theirs)
    assert [result.name for result in found] == ["against wrk", "against hey"]
    assert not any(result.passed for result in found)
    assert all("p50 +9.1% (+5.00 ms)" in result.measured for result in found)


def test_a_client_of_ours_that_is_right_passes() -> None:
    theirs = Figures(20.0, 50.0, 50.0, 50.0)
    found = peers.compare(lambda url, **load: outcome(50.5), served, ("wrk",), lambda name, url: theirs)
    assert [result.passed for result in found] == [True]


@pytest.mark.integration
@pytest.mark.parametrize("program", peers.PROGRAMS)
@pytest.mark.timeout(60)
def test_the_output_of_the_real_programs_is_parsed(tmp_path: Path, program: str) -> None:
    """On a server of 20 ms, no client is faster than that.

    They are no Python packages, so a bare machine lacks them: there, what is read of them is held by the
    tests above, on outputs recorded from real runs.
    """
    if shutil.which(program) is None:
        # no Python package: a bare machine lacks it, and recorded outputs hold what is read of it
        pytest.skip(f"{program} is not installed")
    with running.serving(tmp_path / "log", workers=8, workload=running.synthetic(20, 0)) as server:
        found = peers.ask(program, f"{server.url}/", seconds=1)
    assert 20 <= found.p50_ms <= found.p90_ms <= found.p99_ms
    assert 0 < found.requests_per_s < 8 / 0.020
