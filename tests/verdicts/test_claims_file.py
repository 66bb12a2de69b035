"""A file of claims: a wrong key is named."""

from __future__ import annotations

import importlib.resources

import pytest

from harness.errors import UsageError
from harness.verdicts import claims_file

TEXT = (importlib.resources.files("harness") / "data/claims/article.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("right", "wrong", "named"),
    [
        ("at_least = 0.8", "at_leest = 0.8", "claims.0.checks.0.at_leest"),
        ("at_least = 0.8", "at_least = -0.8", "claims.0.checks.0.at_least"),
        ('metric = "model_plus_io_share"', 'metric = "vibes"', "claims.0.checks.0.metric"),
        ('stat = "p95"', 'stat = "p96"', "'p96' is unknown; known are mean, median"),
        ('metric = "model_plus_io_share"', 'metric = "throughput_per_s"\nstat = "p95"', "has no p95"),
        ('stat = "median", concurrencies', 'stat = "mean", concurrencies', "not with a mean"),
        ("at_least = 0.8", "", "a check needs at_least or at_most"),
        ('id = "C2"', 'id = "C1"', "duplicate id: C1"),
        ('lone = { table = "T1"', 'lone = { table = "T9"', "lone.table: unknown table 'T9'"),
        ("[[claims]]", "[[claims]", "article.toml is not TOML"),
    ],
)
def test_a_wrong_key_is_named(right: str, wrong: str, named: str) -> None:
    with pytest.raises(UsageError) as caught:
        claims_file.parse(TEXT.replace(right, wrong, 1), origin="article.toml")
    assert named in caught.value.what
    assert caught.value.what.startswith("article.toml")


def test_a_claim_needs_a_check_that_decides_it() -> None:
    text = TEXT.replace("published = 1.0\n", "published = 1.0\ndecides = false\n")
    with pytest.raises(UsageError, match="no check decides"):
        claims_file.parse(text, origin="article.toml")


def test_an_unknown_file_is_answered_with_those_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        claims_file.load("hearsay")
    assert "article" in caught.value.hint
