"""Rows are read in pieces, in any order, and kept packed; a load that was killed shows what it measured."""

import gzip
import re
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import pandas as pd
import pytest
from made_up import Point

from harness.errors import HarnessError
from harness.report import report
from harness.results import csv_text, cut_load, store
from harness.results.columns import Gathered
from harness.wire.records import CUT, Sample, Trial, header

WORLD: made_up.World = {
    ("inline", 2): Point(io_ms=40.1),
    ("batch", 2): Point(queue_ms=1 / 3, failed=3),  # not whole microseconds
}
LOAD: dict[str, Any] = {"plan": None, "load": {"url": "http://127.0.0.1:1/"}, "state": "running"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of three blocks, with texts that are quoted, long and of several lines."""
    requests, trials = made_up.run(WORLD, blocks=3)
    texts = ['no answer, "late"', "line\nend", "x" * 300, "a,b,c"]
    failed = requests.index[requests["error"] != ""]
    requests.loc[failed, "error"] = [texts[place % len(texts)] for place in range(len(failed))]
    requests.loc[failed, "status"] = np.nan
    writer = store.Writer(tmp_path / "run")
    writer.write_record({"plan": None, "state": "finished"})
    writer.close()
    requests.to_csv(writer.folder / "requests.csv", index=False)
    trials.to_csv(writer.folder / "trials.csv", index=False)
    return writer.folder


def in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_text, "PIECE_BYTES", 900)
    monkeypatch.setattr(csv_text, "BLOCK_BYTES", 64)


@pytest.mark.parametrize("saved_as", ["utf-16", "gzip", "CRLF"])
def test_rows_read_in_pieces_are_those_read_at_once(
    folder: Path, saved_as: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = store.read(folder)
    path = folder / "requests.csv"
    text = path.read_text()
    if saved_as == "gzip":
        path.with_name("requests.csv.gz").write_bytes(gzip.compress(text.encode()))
        path.unlink()
    elif saved_as == "CRLF":
        path.write_bytes(text.replace("\n", "\r\n").encode())
    else:
        path.write_bytes(text.encode(saved_as))
    in_small_pieces(monkeypatch)
    assert len(list(csv_text.Lines(csv_text.plain_or_compressed(path)))) > 5
    again = store.read(folder)
    expected = whole.requests
    if saved_as == "CRLF":  # also inside the text of several lines
        expected["error"] = expected["error"].cat.rename_categories({"line␊end": "line␍␊end"})
    pd.testing.assert_frame_equal(again.requests, expected, check_exact=True)
    assert again.warnings == []


def test_damage_in_a_late_piece_is_reported_with_its_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_small_pieces(monkeypatch)
    path = folder / "requests.csv"
    lines = path.read_text().splitlines(keepends=True)
    lines[-2] = lines[-2].replace(",measure,", ",measure,x", 1).replace(",cooldown,", ",cooldown,x", 1)
    path.write_text("".join(lines))
    with pytest.raises(HarnessError, match=f"column due_ms: line {len(lines) - 1} is not a number: 'x"):
        store.read(folder)


def test_a_quote_in_the_middle_of_a_text_and_an_unfinished_line_in_pieces(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "requests.csv"
    path.write_text(re.sub(r",500?3?,status 503,", ',503,size 5" ,', path.read_text()))
    whole = store.read(folder)
    in_small_pieces(monkeypatch)
    with path.open("a") as stream:
        stream.write("batch,bat")
    again = store.read(folder)
    pd.testing.assert_frame_equal(again.requests, whole.requests)
    assert again.warnings == ["The last line of requests.csv was incomplete and was left out."]


def test_rows_in_order_of_completion_are_read_in_order_of_sending(folder: Path) -> None:
    requests, _ = made_up.run(WORLD, blocks=3)
    requests.to_csv(folder / "requests.csv", index=False)
    ordered = store.read(folder)
    shuffled = requests.sample(frac=1.0, random_state=1)
    shuffled.to_csv(folder / "requests.csv", index=False)
    pd.testing.assert_frame_equal(store.read(folder).requests, ordered.requests, check_exact=True)
    assert list(ordered.requests["seq"]) == list(requests["seq"])


def test_packed_numbers_are_the_doubles_of_the_file() -> None:
    random = np.random.default_rng(2)
    frame = made_up.requests_frame([made_up.sample(seq=seq) for seq in range(600)])
    frame["due_ms"] = [round(float(value), 3) for value in random.uniform(-1e9, 1e9, 600)]
    frame["queue_ms"] = random.uniform(0, 1, 600)  # not whole microseconds
    frame["io_ms"] = np.where(np.arange(600) % 3 == 0, np.nan, 0.1)
    frame["model_ms"] = np.nan
    frame = frame.assign(**dict.fromkeys(frame.columns[frame.isna().all()], np.nan))
    frame["status"] = np.where(np.arange(600) < 250, np.nan, 200.0)  # a part without any value, then some
    frame = frame.astype(dict.fromkeys(("arm", "strategy", "load", "phase", "error"), "category"))
    gathered = Gathered()
    for begin in range(0, 600, 200):
        gathered.add(frame.iloc[begin : begin + 200])
    found = gathered.columns().frame()
    for name in frame:
        assert list(found[name].astype(str)) == list(frame[name].astype(found[name].dtype).astype(str)), name


# -- a load that was killed ----------------------------------------------------------------------------


def killed_load(parent: Path, trial: Trial, samples: list[Sample], record: dict[str, Any] = LOAD) -> Path:
    """Return the folder of a load whose process was killed after its last request."""
    writer = store.Writer(parent / "run")
    writer.write_record(record)
    writer.append(trial, samples)
    writer.close()
    lines = (writer.folder / "trials.csv").read_text().splitlines(keepends=True)
    (writer.folder / "trials.csv").write_text(lines[0])
    return writer.folder


def loaded() -> tuple[Trial, list[Sample]]:
    """A load of two users for 30 s, with a request every 100 ms; the first two are warm-up."""
    place = {"arm": "server", "strategy": "", "load": "closed(2)"}
    samples = [
        made_up.sample(
            **place,
            seq=seq,
            phase="warmup" if seq < 2 else "measure",
            due_ms=100.0 * (seq // 2),
            sent_ms=100.0 * (seq // 2),
            done_ms=100.0 * (seq // 2 + 1),
            status=503 if seq == 9 else 200,
            error="status 503" if seq == 9 else "",
        )
        for seq in range(600)
    ]
    window = {"window_start_ms": 100.0, "window_end_ms": 30_000.0, "in_flight_max": 2}
    return made_up.trial(**place, concurrency=2, requests=600, measured=598, failed=1, **window), samples


def test_a_killed_load_is_read_with_a_trial_made_of_its_requests(tmp_path: Path) -> None:
    trial, samples = loaded()
    run = store.read(killed_load(tmp_path, trial, samples))
    (row,) = run.trials.to_dict("records")
    same = [*("trial", "block", "arm", "strategy", "load", "concurrency", "requests", "measured", "failed")]
    same += ["window_start_ms", "window_end_ms", "in_flight_max"]
    assert {name: row[name] for name in same} == {name: getattr(trial, name) for name in same}
    assert row["state"] == CUT
    assert list(run.trials.columns) == header(Trial)
    assert run.warnings == [cut_load.WARNING]


def test_the_figures_of_a_killed_load_are_those_of_a_finished_one(tmp_path: Path) -> None:
    trial, samples = loaded()
    cut = report.build(store.read(killed_load(tmp_path / "cut", trial, samples)))
    writer = store.Writer(tmp_path / "run")
    writer.write_record({**LOAD, "state": "finished"})
    writer.append(trial, samples)
    whole = report.build(store.read(writer.folder))
    pd.testing.assert_frame_equal(cut.summary, whole.summary)
    assert cut.finding == whole.finding
    assert cut_load.WARNING in cut.warnings
    assert cut_load.WARNING not in whole.warnings


def test_a_killed_open_load_keeps_its_rate(tmp_path: Path) -> None:
    trial, samples = loaded()
    for load, rate in (("poisson(20)", 20.0), ("replay(gone.txt)", 598 / 29.9)):
        its = [made_up.sample(**{**_fields(one), "load": load}) for one in samples]
        run = store.read(killed_load(tmp_path / load.partition("(")[0], trial, its))
        assert run.trials["rate_per_s"].iloc[0] == pytest.approx(rate)
        assert run.trials["concurrency"].isna().all()
        assert not report.build(run).summary["latency_p50_ms"].isna().any()


def _fields(sample: Sample) -> dict[str, Any]:
    return {name: getattr(sample, name) for name in header(Sample)}


@pytest.mark.parametrize("why", ["only warm-up", "a plan"])
def test_without_a_measured_request_or_with_a_plan_nothing_of_a_killed_trial_counts(
    tmp_path: Path, why: str
) -> None:
    trial, samples = loaded()
    if why == "only warm-up":
        folder = killed_load(tmp_path, trial, samples[:2])
    else:
        folder = killed_load(tmp_path, trial, samples, {"plan": {"arms": [{"name": "server"}]}})
    run = store.read(folder)
    assert run.trials.empty
    assert run.requests.empty
    assert run.warnings == [
        f"{2 if why == 'only warm-up' else 600} requests of an unfinished trial were left out."
    ]


def test_a_file_without_line_ends_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_text, "PIECE_BYTES", 900)
    monkeypatch.setattr(csv_text, "BLOCK_BYTES", 100)
    path = tmp_path / "requests.csv"
    path.write_bytes(b"x" * 100_000)
    with pytest.raises(HarnessError, match=r"no CSV of a run: a line of it is larger than 3,600 bytes"):
        list(csv_text.Lines(path))
