"""The best of several arms: what it may be, and what choosing it gives, held against made-up truths."""

import math

import numpy as np
import pandas as pd
import pytest

from harness.analysis import stats
from harness.verdicts import best_arm

ARMS = [f"arm-{number}" for number in range(8)]
SPREAD = 0.05


def drawn(truth: list[float], blocks: int, rng: np.random.Generator) -> pd.DataFrame:
    """Logs of arms with these true means; what disturbs a block disturbs all arms in it."""
    shared = rng.normal(0, SPREAD, (blocks, 1))
    return pd.DataFrame(
        truth + shared + rng.normal(0, SPREAD, (blocks, len(truth))), columns=ARMS[: len(truth)]
    )


def flat(**logs: float) -> pd.DataFrame:
    return pd.DataFrame({arm: [value] * 8 for arm, value in logs.items()})


def test_a_clear_best_has_no_rivals_and_no_optimism() -> None:
    logs = flat(thread=0.0, process=math.log(2), inline=-1.0)
    found = best_arm.find(logs)
    assert found is not None
    assert (found.arm, found.rivals, found.judged) == ("process", (), ("thread", "process", "inline"))
    assert best_arm.optimism(logs) == pytest.approx(0.0)


def test_equal_arms_may_all_be_the_best() -> None:
    found = best_arm.find(flat(thread=0.0, process=0.0))
    assert found is not None
    assert found.rivals == ("process",)


def test_with_few_blocks_every_arm_may_be_the_best() -> None:
    found = best_arm.find(flat(thread=0.0, process=1.0).head(5))
    assert found is not None
    assert found.rivals == ("thread",)


def test_an_arm_without_figures_and_a_block_without_answers_do_not_count() -> None:
    logs = flat(thread=0.0, process=0.5).assign(dead=math.nan)
    logs.loc[0, "process"] = -math.inf
    found = best_arm.find(logs)
    assert found is not None
    assert (found.arm, found.blocks, found.judged) == ("process", 7, ("thread", "process"))
    assert best_arm.find(logs[["dead"]]) is None


def test_with_one_block_the_best_arm_has_rivals_and_no_optimism() -> None:
    logs = flat(thread=0.0, process=1.0).head(1)
    found = best_arm.find(logs)
    assert found is not None
    assert (found.arm, found.rivals, best_arm.optimism(logs)) == ("process", ("thread",), 0.0)


@pytest.mark.integration  # takes long
@pytest.mark.parametrize("blocks", [8, 16])
@pytest.mark.parametrize("truth", [[0.0] * 8, [-0.1, *[0.0] * 7], [0.0, 0.1, 0.09, *[0.0] * 5]])
def test_what_remains_holds_the_truly_best_and_the_optimism_makes_up_for_the_luck_of_the_choice(
    truth: list[float], blocks: int
) -> None:
    """At 95 %: of 120 sessions at least 107 (one in a thousand is below). The plain gain is too good."""
    rng, sessions = np.random.default_rng(blocks), 120
    truly = ARMS[int(np.argmax(truth))]
    held = covered = 0
    plain, corrected = [], []
    for _ in range(sessions):
        logs = drawn(truth, blocks, rng)
        found = best_arm.find(logs)
        assert found is not None
        held += truly in (found.arm, *found.rivals)
        gives = truth[ARMS.index(found.arm)] - truth[0]
        gain = (logs[found.arm] - logs[ARMS[0]]).to_numpy()
        low, high = stats.mean_interval(gain)
        luck = best_arm.optimism(logs)
        covered += bool(low - luck <= gives <= high)
        plain.append(gain.mean() - gives)
        corrected.append(gain.mean() - luck - gives)
    assert held >= 107
    assert covered >= 107
    assert abs(np.mean(corrected)) < 0.6 * np.mean(plain)


def test_an_arm_better_by_twice_its_spread_is_separated_from_seven_others() -> None:
    rng = np.random.default_rng(1)
    found = [best_arm.find(drawn([0.0] * 7 + [0.1], 24, rng)) for _ in range(20)]
    assert sum(one is not None and one.arm == ARMS[7] and not one.rivals for one in found) >= 18


def summary(**loads: tuple[float, float]) -> pd.DataFrame:
    rows = [{"load": load, "concurrency": users, "rate_per_s": rate} for load, (users, rate) in loads.items()]
    return pd.DataFrame(rows)


def test_arms_are_chosen_by_throughput_at_the_most_users_else_by_latency_at_the_highest_rate() -> None:
    some = {"poisson(50)": (math.nan, 50.0), "poisson(9)": (math.nan, 9.0), "own(0.8)": (math.nan, 99.0)}
    closed = {"closed(8)": (8.0, math.nan), "closed(16)": (16.0, math.nan)}
    assert best_arm.decisive(summary(**closed, **some)) == ("closed(16)", best_arm.RATES)
    assert best_arm.decisive(summary(**some)) == ("poisson(50)", best_arm.LATENCIES)
    own = {"own(0.5)": (math.nan, 2.0), "own(0.8)": (math.nan, 1.0)}
    assert best_arm.decisive(summary(**own)) == ("own(0.8)", best_arm.RATES)
