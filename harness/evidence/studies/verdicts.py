"""Simulate false verdicts and power of the tests that could decide a verdict with few blocks.

A session compares one arm with its reference in `ROWS` figures that are not primary (metrics and loads), each
by one log ratio per block, with Holm's correction. In the null sessions no figure differs; in the others one
differs by `RATIOS`. Two tests are compared: Student's t over blocks, and sign flips, whose p cannot be below
2/2^n. The primary figure is judged by its t interval alone, without a correction.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd

from harness.analysis import stats
from harness.analysis.arrays import Floats
from harness.analysis.stats import ALPHA
from harness.evidence.check.bench import Result
from harness.evidence.frames import by_blocks, exact_bounds
from harness.evidence.studies.coverage import MEANS, simulated
from harness.numbers import percent
from harness.report import markdown
from harness.run.listener import Listener

SYMMETRIC = (
    "normal",
    "t, 3 degrees of freedom",
)  # as are log ratios of identical arms, whatever their latencies

BLOCKS = (6, 8, 12, 24)
ROWS = 12
SPREAD = 0.05  # of a block's log ratio
RATIOS = (1.0, 1.05, 1.10, 1.50)
FLIPS = 4096  # all choices of signs for 12 blocks; for more blocks, a random sample of this size
DELTA = 0.05
# share of sessions without a difference: 5 %, plus the noise of 2,000 sessions
FALSE_AT_MOST = 0.06


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One generator, number of blocks, rule and true ratio."""

    generator: str
    blocks: int
    rule: str
    ratio: float  # true, of the one figure that differs
    sessions: int
    # share of sessions with a verdict faster or slower: for any figure at ratio 1, else for the different one
    called: float
    called_low: float  # exact binomial 95 % bounds
    called_high: float
    beyond: float  # share in which the interval is also beyond the margin of 5 %


def each(
    sessions: int = 2000, listener: Listener | None = None, blocks: Sequence[int] = BLOCKS, seed: int = 1
) -> list[Row]:
    """One `Row` per generator, number of blocks, ratio and rule; the same arguments give the same rows."""
    cells = [
        functools.partial(_cell, name, count, ratio, sessions)
        for name in MEANS
        for count in blocks
        for ratio in RATIOS
    ]
    return simulated(cells, seed, listener)


def _cell(
    generator: str, blocks: int, ratio: float, sessions: int, rng: np.random.Generator
) -> Iterator[Row]:
    shape = (sessions * ROWS, blocks)
    logs = SPREAD * MEANS[generator](rng, shape).reshape(sessions, ROWS, blocks)
    logs[:, 0] += math.log(ratio)
    low, high = stats.mean_interval(logs)
    excludes = (low > 0) | (high < 0)
    beyond = (low > math.log1p(DELTA)) | (high < -math.log1p(DELTA))
    for rule, test in RULES.items():
        called = excludes
        if test is not None:
            called = excludes & (np.apply_along_axis(stats.holm, -1, test(logs)) < ALPHA)
        judged = slice(0, 1) if ratio != 1 or rule == PRIMARY else slice(None)
        sessions_called = called[:, judged].any(axis=1)
        called_low, called_high = exact_bounds(sessions_called)
        yield Row(
            generator=generator,
            blocks=blocks,
            rule=rule,
            ratio=ratio,
            sessions=sessions,
            called=float(sessions_called.mean()),
            called_low=called_low,
            called_high=called_high,
            beyond=float((called & beyond)[:, judged].any(axis=1).mean()),
        )


# -- the rules -------------------------------------------------------------------------------------------


def _sign_flip_p(logs: Floats) -> Floats:
    """Two-sided p: the share of choices of signs whose sum is at least as large as the observed one."""
    signs = _signs(logs.shape[-1])
    observed = np.abs(logs.sum(axis=-1)) * (1 - 1e-12)
    chunks = [
        np.mean(np.abs(chunk @ signs) >= at_least[..., None], axis=-1)
        for chunk, at_least in zip(np.array_split(logs, 50), np.array_split(observed, 50), strict=True)
    ]
    return np.concatenate(chunks)


@functools.lru_cache(maxsize=1)
def _signs(blocks: int) -> Floats:
    """A column for each choice of signs: all of them, or `FLIPS` drawn; the first is the observed one."""
    if 2**blocks <= FLIPS:
        return np.asarray(1.0 - 2.0 * (np.arange(2**blocks) >> np.arange(blocks)[:, None] & 1))
    drawn = 1.0 - 2.0 * np.random.default_rng(1).integers(2, size=(blocks, FLIPS))
    drawn[:, 0] = 1.0
    return np.asarray(drawn)


PRIMARY = "interval alone (primary)"
IN_USE = "t, Holm"
# a rule needs an interval that excludes 1 and, if it has a test, a small p after Holm's correction
RULES: dict[str, Callable[[Floats], Floats] | None] = {
    PRIMARY: None,
    IN_USE: stats.t_test_p,
    "sign flips, Holm": _sign_flip_p,
}


# -- showing and judging ---------------------------------------------------------------------------------


def table(frame: pd.DataFrame) -> str:
    """One line per generator, number of blocks and rule; one column per true ratio."""
    heads = ["block log ratios", "blocks", "rule", "false (ratio 1)", *(f"finds {r:g}" for r in RATIOS[1:])]
    called = (
        frame.set_index(["generator", "blocks", "rule", "ratio"])["called"].map(percent).unstack(sort=False)
    )
    return markdown.table(heads, called[list(RATIOS)].reset_index().to_numpy().tolist())


def describe(frame: pd.DataFrame) -> str:
    """Describe the finding in words."""
    calm = frame[frame["generator"].isin(SYMMETRIC)]
    false, found = calm[calm["ratio"] == 1.0], calm[calm["ratio"] == RATIOS[-1]]
    least = min(frame["blocks"])
    worst = false.groupby("rule")["called"].max()
    least_found = found[found["blocks"] == least].groupby("rule")["called"].min()
    rules = "; ".join(
        f"{rule}: a false verdict in at most {percent(worst[rule])} of sessions, and a ratio of "
        f"{RATIOS[-1]:g} found in at least {percent(least_found[rule])} with {least} blocks"
        for rule in RULES
        if rule != PRIMARY
    )
    return (
        f"For {ROWS} figures that are not primary, with independent and symmetric blocks: {rules}. With "
        "skewed or drifting blocks, every rule gives too many false verdicts; a run warns of drift."
    )


def judge(frame: pd.DataFrame) -> list[Result]:
    """Judge the false verdicts of the rule in use, for symmetric blocks, at every number of blocks."""
    rows = frame[frame["generator"].isin(SYMMETRIC) & (frame["rule"] == IN_USE) & (frame["ratio"] == 1.0)]
    return [
        Result(
            "false verdicts",
            f"{IN_USE}: in at most {FALSE_AT_MOST:.0%} of sessions without a difference",
            by_blocks(rows, "called"),
            len(rows) > 0 and bool((rows["called"] <= FALSE_AT_MOST).all()),
        )
    ]
