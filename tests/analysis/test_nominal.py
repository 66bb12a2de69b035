"""I/O that takes its nominal duration, and I/O that takes longer."""

import pandas as pd
from made_up import requests_frame, sample, trial, trials_frame

from harness.analysis import nominal, summaries
from harness.wire.records import Sample, Trial


def cell(number: int, arm: str, load: str, io_ms: list[float]) -> tuple[Trial, list[Sample]]:
    users = 1 if load == "closed(1)" else None
    rows = [sample(trial=number, arm=arm, load=load, seq=seq, io_ms=io) for seq, io in enumerate(io_ms)]
    return trial(trial=number, arm=arm, load=load, concurrency=users, requests=len(rows)), rows


def table(*cells: tuple[Trial, list[Sample]]) -> pd.DataFrame:
    samples = [row for _, rows in cells for row in rows]
    derived = summaries.derive(requests_frame(samples), trials_frame([its for its, _ in cells]))
    return nominal.table(derived)


def test_an_arm_is_compared_with_its_own_io_for_a_single_user() -> None:
    """20 of 1,000 requests wait 4 ms longer, which is more than 2 ms above nominal at p99."""
    found = table(
        cell(1, "calm", "closed(1)", [5.2] * 10),
        cell(2, "calm", "own(0.8)", [5.5] * 1000),
        cell(3, "stalled", "closed(1)", [5.0] * 10),
        cell(4, "stalled", "own(0.8)", [5.0] * 980 + [9.0] * 20),
    )
    assert found.set_index("arm")["stays"].to_dict() == {"calm": True, "stalled": False}
    assert found.set_index("arm")["nominal_ms"].to_dict() == {"calm": 5.2, "stalled": 5.0}
    assert nominal.sentence(found).endswith("in: stalled at own(0.8) (+4.0).")
    assert "every arm" in nominal.sentence(found[found["arm"] == "calm"])


def test_too_few_requests_for_a_p99_give_no_judgement() -> None:
    found = table(cell(1, "a", "closed(1)", [5.0] * 10), cell(2, "a", "own(0.8)", [9.0] * 100))
    assert found["stays"].isna().all()
    assert nominal.sentence(found) == ""


def test_without_a_single_user_load_nominal_io_is_unknown() -> None:
    assert table(cell(1, "a", "own(0.8)", [9.0] * 1000)).empty
