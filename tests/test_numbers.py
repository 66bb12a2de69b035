"""Numbers for people: significant digits only."""

import math

import numpy as np
import pandas as pd
import pytest

from harness import numbers


@pytest.mark.parametrize(
    ("value", "bounds", "text"),
    [
        (9.4612, (100, 10), "9.46"),
        (10.0, (100, 10), "10.0"),
        (1234.5, (100, 10), "1234"),
        (-12.3, (100, 10), "-12.3"),
        (-0.001, (10,), "0.0"),
        (math.inf, (math.inf, 10), "inf"),
        (math.nan, (10,), "nan"),
    ],
)
def test_a_number_below_a_bound_gets_one_more_decimal(
    value: float, bounds: tuple[float, ...], text: str
) -> None:
    assert numbers.rounded(value, *bounds) == text


def test_a_sign_is_shown_on_request() -> None:
    assert numbers.rounded(2.5, 10, sign="+") == "+2.5"


@pytest.mark.parametrize(
    ("value", "text"), [(0.996, "1.00"), (9.99, "9.99"), (9.996, "10.0"), (123.4, "123.4")]
)
def test_a_ratio_has_three_digits(value: float, text: str) -> None:
    assert numbers.ratio(value) == text


def test_a_rate_is_shown_with_three_digits() -> None:
    shown = [numbers.three_digits(value) for value in (4.634, 46.34, 463.4, 4634.0, math.inf)]
    assert shown == ["4.63", "46.3", "463", "4634", "inf"]


def test_milliseconds_in_a_chart_have_a_thousands_separator() -> None:
    shown = [numbers.milliseconds(value) for value in (46.34, 463.4, 4634.0, math.nan)]
    assert shown == ["46.3", "463", "4,634", "nan"]


def test_an_unknown_interval_is_left_out() -> None:
    assert numbers.times(1.594, 1.56, 1.63) == "1.59 times [1.56, 1.63]"
    assert numbers.ratio_interval(1.5, math.nan, math.nan) == "1.50"
    assert numbers.ratio_interval(math.nan, math.nan, math.nan) == "-"
    assert numbers.interval(1.0, 200.4, numbers.rate) == " [1.0, 200]"
    assert numbers.or_missing(math.nan, numbers.short) == "-"


@pytest.mark.parametrize(
    ("load", "text"),
    [("closed(32)", "c = 32"), ("poisson(50)", "poisson(50)"), ("closed(x)", "closed(x)"), (7, "7")],
)
def test_a_closed_loop_is_named_by_its_users(load: object, text: str) -> None:
    assert numbers.users(load) == text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (math.nan, 1, "-"),
        (7, 1, "7"),
        ("own", 1, "own"),
        (1.254, 2, "1.25"),
        (999.9, 1, "999.9"),
        (1e3, 2, "1000"),
    ],
)
def test_a_cell_shows_text_and_whole_numbers_unchanged(value: object, digits: int, text: str) -> None:
    assert numbers.cell(value, digits) == text


def test_a_share_is_a_whole_percentage_or_missing() -> None:
    assert (numbers.share(0.382), numbers.share(math.nan)) == ("38 %", "-")


def test_the_noun_after_one_is_singular() -> None:
    assert (numbers.counted(1, "block"), numbers.counted(2, "block")) == ("1 block", "2 blocks")


def test_json_has_null_for_nan() -> None:
    table = pd.DataFrame({"a": [1.5, math.nan, math.inf], "n": np.array([1, 2, 3])})
    assert numbers.plain_rows(table) == [{"a": 1.5, "n": 1}, {"a": None, "n": 2}, {"a": None, "n": 3}]
    nested = {"some": [{"a": np.float64("inf")}, (1, math.nan)], 2: "two"}
    assert numbers.plain(nested) == {"some": [{"a": None}, [1, None]], "2": "two"}
