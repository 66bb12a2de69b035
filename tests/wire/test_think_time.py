"""Think times: how they are written, and how long users pause."""

import itertools
import statistics

import pytest

from harness.wire import think_time
from harness.wire.load_options import LoadOptions
from harness.wire.think_time import parse


@pytest.mark.parametrize("text", ["fixed(0.5)", "exponential(0.5)", "uniform(0, 1.5)"])
def test_a_think_time_is_read_as_it_is_written(text: str) -> None:
    assert str(parse(text)) == text
    options = {"url": "http://x/", "arrivals": "closed(2)", "requests": 1}
    load = LoadOptions.model_validate({**options, "think": text})
    assert LoadOptions.model_validate_json(load.model_dump_json()).think == parse(text)


def test_a_number_alone_is_a_fixed_time() -> None:
    assert parse(" 0.5 ") == parse("fixed(0.5)")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("soon", "'soon' is not a think time: the think time must be a number, not 'soon'"),
        ("0", "the think time must be from 0.001"),
        ("nan", "the think time must be from 0.001"),
        ("normal(1)", "'normal.1.' is not a think time; examples: 0.5, exponential"),
        ("fixed(1", "is not a think time; examples"),
        ("exponential(x)", "the mean of the think times must be a number"),
        ("uniform(1)", "the longest think time must be a number, not ''"),
        ("uniform(2, 1)", "the longest think time must be above the shortest"),
        ("uniform(-1, 1)", "the shortest think time must be from 0"),
    ],
)
def test_a_text_that_is_not_a_think_time_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


def pauses_s(text: str, seed: int = 1, user: int = 0, count: int = 20_001) -> list[float]:
    return list(itertools.islice(think_time.pauses_s(parse(text), seed, user), count))


def test_the_first_pause_is_a_share_and_the_others_follow_the_law() -> None:
    first, *fixed = pauses_s("0.5", count=100)
    assert 0 < first < 0.5
    assert set(fixed) == {0.5}
    _, *drawn = pauses_s("exponential(0.5)")
    assert statistics.mean(drawn) == pytest.approx(0.5, rel=0.03)
    assert statistics.stdev(drawn) == pytest.approx(0.5, rel=0.03)
    _, *even = pauses_s("uniform(0.2, 1)")
    assert statistics.quantiles(even, n=4) == pytest.approx([0.4, 0.6, 0.8], rel=0.03)
    for text, values in (("exponential(0.5)", drawn), ("uniform(0.2, 1)", even)):
        assert statistics.mean(values) == pytest.approx(parse(text).mean_s, rel=0.03)


def test_the_same_seed_gives_the_same_pauses_and_users_and_seeds_differ() -> None:
    one = pauses_s("uniform(0, 1)", count=5)
    assert one == pauses_s("uniform(0, 1)", count=5)
    assert one != pauses_s("uniform(0, 1)", user=1, count=5)
    assert one != pauses_s("uniform(0, 1)", seed=2, count=5)


def test_only_the_users_of_a_closed_loop_think() -> None:
    with pytest.raises(ValueError, match="think: only the users of a closed loop"):
        LoadOptions.model_validate(
            {"url": "http://x/", "arrivals": "constant(5)", "duration_s": 1, "think": 0.5}
        )
