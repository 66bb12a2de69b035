"""The choice is one arm with one ratio for any figures, never an arm that the same report calls slower."""

from __future__ import annotations

import dataclasses
import math
import random
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_reports import closed
from made_up import Point, World

from harness.analysis import stats
from harness.analysis.stats import Verdict
from harness.numbers import times
from harness.report import advice, choice, ranking, report
from harness.report.choice import Choice, Inputs, Why
from harness.verdicts import best_arm, session_noise
from harness.verdicts.metrics import Metric, Rules
from harness.verdicts.sides import Side

LOADS = {"closed(1)": 1, "closed(8)": 8}
RULES = Rules()


@dataclasses.dataclass(frozen=True)
class Arm:
    """What a made-up run saw of an arm: requests/s of each block under each load, and what went wrong."""

    rates: Mapping[str, np.ndarray[Any, Any]]
    io_ms: float  # under the heavier load; 5 for a lone user
    failed: int
    lost: int
    limited: bool


@dataclasses.dataclass(frozen=True)
class Cell:
    """As `Side.cell` gives it, as far as a choice looks at it."""

    by_rate: pd.Series[float]
    users: int
    lost: str
    invalid: str = ""

    @property
    def blocks(self) -> frozenset[int]:
        return frozenset(self.by_rate.index)

    def by_block(self, metric: Metric) -> pd.Series[float]:
        return self.users / self.by_rate * 1e3 if metric.lower_is_better else self.by_rate


class MadeUp(Side):
    """A side whose figures are given."""

    made_up: Mapping[str, Arm]  # set by `use`

    def use(self, arms: Mapping[str, Arm]) -> MadeUp:
        object.__setattr__(self, "made_up", arms)  # a Side is frozen
        return self

    def cell(self, arm: str, load: str) -> Any:
        known: Arm = self.made_up[arm]
        rates = pd.Series(known.rates[load], index=range(1, len(known.rates[load]) + 1))
        return Cell(rates, LOADS[load], "trials do not count" if known.lost else "")

    @property
    def counted(self) -> float:
        return 1.0


def drawn(seed: int) -> dict[str, Arm]:
    """Arms of any kind: alike, far apart, noisy, failing, stalling, limited by the client."""
    rng, luck = np.random.default_rng(seed), random.Random(seed)
    blocks, spread = luck.choice([6, 8, 10]), luck.choice([0.01, 0.05, 0.2])
    levels = [100 * luck.choice([1.0, 1.0, 1.02, 1.1, 1.5, 4.0]) for _ in range(luck.choice([2, 3, 5]))]
    return {
        f"arm-{number}": Arm(
            rates={load: level * np.exp(rng.normal(0, spread, blocks)) for load in LOADS},
            io_ms=luck.choice([5.0, 5.0, 5.0, 40.0]),
            failed=luck.choice([0, 0, 0, 0, 3, 50]),
            lost=luck.choice([0, 0, 0, 0, 0, 2]),
            limited=luck.random() < 0.15,
        )
        for number, level in enumerate(levels)
    }


def inputs(arms: Mapping[str, Arm], reference: str) -> Inputs:
    trials = pd.DataFrame({"arm": list(arms), "io_nominal_ms": 5.0, "block": 1})
    limited = {(arm, load): "it was busy" for arm, one in arms.items() if one.limited for load in LOADS}
    side = MadeUp(pd.DataFrame(), trials, limited=limited).use(arms)
    summary = pd.DataFrame([_summary(arm, one, load) for arm, one in arms.items() for load in LOADS])
    pings = [30.0 if arms[arm].limited else 1.0 for arm in summary["arm"]]  # they wait for the client
    costs = summary[["arm", "load"]].assign(ping_p50_ms=pings, memory_uss_mb=100.0, cpu_ms_per_request=1.0)
    tables = ranking.Tables(
        pd.DataFrame({"arm": [], "load": [], "phase": [], "ok": [], "batch_size": []}).astype({"ok": bool}),
        summary,
        pd.DataFrame([row for load in LOADS for row in _compared(arms, reference, load)]),
        costs,
        pd.DataFrame({"arm": [], "load": []}),
    )
    return Inputs(tables, {}, reference, side, RULES, "")


def _summary(arm: str, one: Arm, load: str) -> dict[str, Any]:
    rate, users = float(np.median(one.rates[load])), LOADS[load]
    parts = {"io": one.io_ms if users > 1 else 5.0, "model": 3.0, "queue": 1.0, "resume": 0.1, "outside": 1.0}
    return {
        "arm": arm,
        "load": load,
        "concurrency": users,
        "rate_per_s": math.nan,
        "throughput_per_s": rate,
        "latency_p50_ms": users / rate * 1e3,
        "blocks": 24,
        "latency_mean_ms": users / rate * 1e3,
        "requests": 1000,
        "failed": one.failed,
        "failed_trials": one.lost,
        **{f"{name}_mean_ms": ms for name, ms in parts.items()},
        "io_p50_ms": parts["io"],
    }


def _compared(arms: Mapping[str, Arm], reference: str, load: str) -> list[dict[str, Any]]:
    """Throughput and latency against the reference, with the verdicts of `comparison`."""
    rows = []
    for arm, one in arms.items():
        logs = np.log(one.rates[load]) - np.log(arms[reference].rates[load])
        for metric, sign in ((best_arm.RATES, 1.0), (best_arm.LATENCIES, -1.0)):
            effect = stats.effect(sign * logs)
            delta, lower = RULES.delta(metric.name), metric.lower_is_better
            verdict = stats.verdict(effect, delta, lower_is_better=lower)
            if (one.limited or arms[reference].limited) and verdict != Verdict.FASTER:
                verdict = Verdict.CLIENT_LIMITED
            figures = {"ratio": effect.ratio, "low": effect.low, "high": effect.high, "verdict": verdict}
            row = {"arm": arm, "load": load, "metric": metric.name, "stat": metric.stat, **figures}
            rows.append({**row, "primary": metric.primary})
    return [row for row in rows if row["arm"] != reference]


# -- over many runs ------------------------------------------------------------------------------------


@pytest.mark.integration  # takes long
@pytest.mark.parametrize("seed", range(0, 500, 50))
def test_each_of_fifty_runs_names_one_arm_with_one_ratio_and_never_one_that_is_slower(seed: int) -> None:
    for number in range(seed, seed + 50):
        arms = drawn(number)
        found = inputs(arms, "arm-0")
        chosen = choice.choose(found)
        said = advice.advise(found, chosen)
        if chosen.why is Why.CHOSEN:
            _agrees(arms, found, chosen, said)
        else:
            assert (said.take, said.headline) == ("", "")
            assert chosen.why is Why.NONE_WHOLE


def _agrees(arms: Mapping[str, Arm], found: Inputs, chosen: Choice, said: advice.Advice) -> None:
    take, text = chosen.take, "\n".join(advice.printed_lines(said))
    assert f"take {take}: " in said.headline or f"stay with {take}: " in said.headline
    assert said.lines[0].startswith((f"Take {take}: ", f"Stay with {take}: "))
    assert advice.as_json(said)["take"] == take

    sound = [arm for arm, one in arms.items() if one.failed <= 10 and not one.lost]
    free = [arm for arm in sound if arms[arm].io_ms < 40.0 or arms[arm].limited] or sound
    assert take in free
    assert all(arm in chosen.judged for arm in sound if arms[arm].limited)  # not dropped for being too fast

    rows = found.tables.comparisons
    here = rows[(rows["load"] == "closed(8)") & (rows["metric"] == "throughput_per_s")].set_index("arm")
    if take != "arm-0" and "arm-0" in free:
        assert here.loc[take, "verdict"] not in stats.SLOWER
    if take == "arm-0":
        assert not any(here.loc[arm, "verdict"] in stats.FASTER for arm in free if arm != take)
    elif "arm-0" in sound:
        _ratio_is_reported_once(
            here.loc[[take]].iloc[0], said, ranking.rank(found.tables, {}, "arm-0", "", {}, {}), take
        )

    if not chosen.unsettled:
        assert "would need" not in text
    assert not set(chosen.equivalent) & set(chosen.unsettled)


def _ratio_is_reported_once(
    row: pd.Series[Any], said: advice.Advice, ranked: pd.DataFrame, take: str
) -> None:
    """First line, advice, ranking and `--json` have the ratio of the comparisons, with its interval."""
    words = times(row["ratio"], row["low"], row["high"])
    sentence = ranking.sentence(ranked, "arm-0", take)
    for one in (said.headline, said.lines[0], sentence):
        assert re.findall(r"\d+\.\d+ times \[[^\]]+\]", one)[0] == words
    assert (said.ratio, said.low, said.high) == pytest.approx((row["ratio"], row["low"], row["high"]))


@pytest.mark.integration  # takes long
def test_whole_reports_agree_too() -> None:
    for seed in range(12):
        luck = random.Random(seed)
        world = {
            (arm, users): _jittered(luck, luck.choice([5.0, 6.0, 9.0])) for arm in "abc" for users in (1, 4)
        }
        built = report.build(closed(world, blocks=8, ranking=True))
        take = built.advised.take
        assert f" {take}: " in built.finding
        assert built.conclusion.startswith(f"{take} answers ")
        rates = built.comparisons[built.comparisons["metric"] == "throughput_per_s"]
        row = rates[(rates["arm"] == take) & (rates["load"] == "closed(4)")]
        if len(row):
            words = times(*(float(row[name].iloc[0]) for name in ("ratio", "low", "high")))
            assert all(words in one for one in (built.finding, built.advised.lines[0], built.conclusion))


def _jittered(luck: random.Random, model_ms: float) -> Any:
    factors = [luck.gauss(1.0, 0.03) for _ in range(9)]
    return lambda block: Point(model_ms=model_ms * factors[block], requests=2)


# -- single rules --------------------------------------------------------------------------------------


def steady(**levels: float) -> dict[str, Arm]:
    """Arms whose blocks hardly differ."""
    wobble = np.exp(np.random.default_rng(1).normal(0, 0.002, (len(levels), 8)))
    return {
        arm: Arm(dict.fromkeys(LOADS, level * wobble[number]), 5.0, 0, 0, limited=False)
        for number, (arm, level) in enumerate(levels.items())
    }


def chosen_of(arms: Mapping[str, Arm], reference: str = "a") -> Choice:
    return choice.choose(inputs(arms, reference))


def test_an_arm_is_not_dropped_for_being_too_fast_for_the_client() -> None:
    arms = steady(a=100, b=405, c=400)
    fast = {name: dataclasses.replace(arms[name], limited=True) for name in "bc"}
    found = chosen_of(arms | fast)
    assert found.take in ("b", "c")
    assert set(found.judged) == {"a", "b", "c"}


def test_an_equivalent_arm_does_not_replace_the_reference() -> None:
    found = chosen_of(steady(a=100, b=101.5))
    assert (found.take, found.equivalent, found.unsettled) == ("a", ("b",), ())


def test_the_reference_does_not_stay_where_the_comparisons_call_an_arm_faster() -> None:
    assert chosen_of(steady(a=100, b=110)).take == "b"


def test_a_reference_that_stalls_gives_way_to_a_slower_arm_that_leaves_the_loop_free() -> None:
    arms = steady(a=100, b=88, c=80)
    found = chosen_of(arms | {"a": dataclasses.replace(arms["a"], io_ms=40.0)})
    assert (found.take, found.fastest) == ("b", "a")


def test_the_ratio_of_a_pair_is_the_mean_of_its_blocks_log_ratios() -> None:
    found = chosen_of(steady(a=100, b=200))
    effect = found.over("b", "a")
    assert effect is not None
    logs = found.logs["b"] - found.logs["a"]
    assert effect.ratio == pytest.approx(math.exp(logs.mean()))
    assert found.over("b", "nobody") is None


def test_the_comparisons_ratio_is_the_same() -> None:
    world: World = {("a", 8): Point(model_ms=9.0), ("b", 8): lambda block: Point(model_ms=5.0 + block / 10)}
    built = report.build(closed(world))
    rates = built.comparisons[built.comparisons["metric"] == "throughput_per_s"]
    assert built.advised.ratio == pytest.approx(float(rates["ratio"].iloc[0]), rel=1e-12)
    assert session_noise.noisy(built.comparisons) == ""


# -- what a reviewer found -----------------------------------------------------------------------------


def test_an_arm_that_never_answered_was_run_all_the_same() -> None:
    built = report.build(closed({("a", 8): Point(failed=32), ("b", 8): Point()}, blocks=8))
    assert built.advised.take == "b"
    assert "Only" not in built.advised.lines[0]
    assert any(
        line.startswith("Not considered: 100 % of the requests to a failed") for line in built.advised.lines
    )


def test_a_run_killed_early_gives_no_choice_if_one_arm_has_an_extra_block() -> None:
    run = closed({("a", 8): Point(), ("b", 8): Point(model_ms=3.0)}, blocks=3)
    last = (run.trials["arm"] == "b") & (run.trials["block"] == 3)
    numbers = run.trials.loc[last, "trial"]
    killed = run._replace(trials=run.trials[~last], rows=run.requests[~run.requests["trial"].isin(numbers)])
    assert report.build(killed).advised.take == ""


def test_of_arms_that_may_be_the_best_one_that_the_comparisons_call_faster_is_taken() -> None:
    arms = steady(a=100, b=106, c=104)
    wild = np.exp(np.array([0.12, -0.1, 0.1, -0.12, 0.14, -0.1, 0.08, -0.08]))
    lone = {"closed(1)": 300.0, "closed(8)": 103.0}
    arms["c"] = dataclasses.replace(arms["c"], rates={load: level * wild for load, level in lone.items()})
    found = chosen_of(arms)
    assert (found.take, found.unsettled) == ("b", ("c",))


def test_nothing_is_equivalent_to_an_arm_that_the_client_limits() -> None:
    arms = steady(a=100, b=99.5)
    found = chosen_of(arms | {"a": dataclasses.replace(arms["a"], limited=True)})
    assert (found.take, found.equivalent, found.unsettled) == ("a", (), ("b",))


def test_an_arm_that_the_client_limits_loses_under_no_load() -> None:
    arms = steady(a=100, b=300)
    limited = dataclasses.replace(arms["b"], limited=True)
    text = "\n".join(_advice(arms | {"b": limited}).lines)
    assert "Another load changes this" not in text
    assert "By the median alone" not in text


def _advice(arms: Mapping[str, Arm]) -> advice.Advice:
    found = inputs(arms, "a")
    return advice.advise(found, choice.choose(found))


def test_if_the_heaviest_load_got_no_answers_the_heaviest_answered_one_decides() -> None:
    world = {(arm, users): Point(failed=4 * users if users == 8 else 0) for arm in "ab" for users in (1, 8)}
    built = report.build(closed(world, blocks=8, ranking=True))
    assert built.finding.startswith("No arm is faster at c = 1, so stay with a: ")
    assert "nan" not in f"{built.conclusion} {built.finding}"
