"""Arrival laws: how they are written, and when requests are due."""

import itertools
import statistics
from pathlib import Path

import pytest

from harness.wire import arrivals, recordings
from harness.wire.arrivals import Law, closed, digest, due_times_s, parse


@pytest.mark.parametrize("text", ["closed(8)", "constant(50)", "poisson(0.5)", "burst(10, 0.25)"])
def test_a_law_is_read_as_it_is_written(text: str) -> None:
    assert str(parse(text)) == text


def test_spaces_and_a_trailing_zero_do_not_make_another_law() -> None:
    assert parse(" poisson( 50.0 ) ") == parse("poisson(50)")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("poisson", "is not an arrival law; examples: closed"),
        ("uniform(5)", "is not an arrival law; examples: closed"),
        ("poisson(many)", "the rate must be a number, not 'many'"),
        ("poisson(0)", "the rate must be from 0.001"),
        ("poisson(nan)", "the rate must be from 0.001"),
        ("poisson(inf)", "the rate must be from 0.001"),
        ("closed(2.5)", "the number of users must be a whole number"),
        ("burst(5)", "the seconds between bursts must be a number, not ''"),
        ("burst(0, 1)", "the size of a burst must be from 1"),
        ("replay(no such file)", "No such file"),
    ],
)
def test_a_text_that_is_not_a_law_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


def first(law: str, count: int, seed: int = 1) -> list[float]:
    return list(itertools.islice(due_times_s(parse(law), seed), count))


def test_constant_arrivals_do_not_drift() -> None:
    """Due times are multiples of the interval, not sums, so the ten-millionth is exact."""
    times = due_times_s(parse("constant(30)"), 1)
    assert next(itertools.islice(times, 300_000, None)) == 10_000.0


def test_all_requests_of_a_burst_are_due_at_the_same_time() -> None:
    assert first("burst(3, 0.5)", 7) == [0, 0, 0, 0.5, 0.5, 0.5, 1.0]


def test_poisson_gaps_have_the_mean_and_spread_of_an_exponential() -> None:
    times = first("poisson(50)", 10_001)
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert statistics.mean(gaps) == pytest.approx(1 / 50, rel=0.02)
    assert statistics.stdev(gaps) / statistics.mean(gaps) == pytest.approx(1.0, abs=0.03)


def test_the_same_seed_gives_the_same_schedule_and_another_seed_another() -> None:
    law = parse("poisson(50)")
    assert first("poisson(50)", 100, seed=3) == first("poisson(50)", 100, seed=3)
    assert digest(law, 3, 10) == digest(law, 3, 10) != digest(law, 4, 10)
    assert digest(law, 3, 10) != digest(parse("poisson(51)"), 3, 10)


def test_a_replay_is_due_at_the_times_in_its_file(tmp_path: Path) -> None:
    file = tmp_path / "trace"
    file.write_text("# seconds\n0.5\n0.1\n\n1.1\n")
    law = parse(f"replay({file})")
    assert list(due_times_s(law, 1)) == [0.1, 0.5, 1.1]
    assert law.rate_per_s == pytest.approx(2.0)
    assert parse(str(law)) == law


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.5\nsoon\n", "line 2 of .* must be a number, not 'soon'"),
        ("0.5\n", "fewer than two"),
        ("1\n-1\n", "from 0 to"),
    ],
)
def test_a_replay_that_cannot_be_used_is_refused_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "trace"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        parse(f"replay({file})")


def test_only_open_laws_have_a_rate_and_only_the_closed_one_users() -> None:
    assert (closed(8).users, closed(8).rate_per_s, closed(8).is_open) == (8, None, False)
    assert (parse("burst(10, 0.5)").users, parse("burst(10, 0.5)").rate_per_s) == (None, 20.0)


def test_a_share_of_the_arms_throughput_becomes_a_poisson_law_once_that_is_known() -> None:
    own = parse("own(0.8)")
    assert (str(own), own.is_open, own.is_own, own.rate_per_s) == ("own(0.8)", True, True, None)
    assert own.for_arm(50.0) == parse("poisson(40)")
    assert parse("poisson(7)").for_arm(50.0) == parse("poisson(7)")
    with pytest.raises(ValueError, match="share"):
        parse("own(0)")


def test_every_example_that_is_shown_is_a_law() -> None:
    assert {parse(text).name for text in arrivals.EXAMPLES if "FILE" not in text} == {
        "closed",
        "constant",
        "poisson",
        "burst",
        "own",
    }
    assert Law("constant", 50).is_open


def test_a_replay_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    for number, encoding in enumerate(("utf-8-sig", "utf-16")):
        path = tmp_path / f"{number}.txt"
        path.write_text("0.0\r\n0.1\r\n0.2\r\n", encoding=encoding)
        assert recordings.times_s(str(path)) == [0.0, 0.1, 0.2]
