"""A run on disk: nothing finished is lost, nothing damaged is believed."""

import json
import re
from pathlib import Path

import made_up
import pytest

from harness import store
from harness.errors import HarnessError
from harness.records import Sample, Trial, header


def rows(number: int, count: int = 3) -> tuple[Trial, list[Sample]]:
    trial = made_up.trial(trial=number, requests=count, measured=count)
    return trial, [made_up.sample(trial=number, seq=seq) for seq in range(count)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of two finished trials of three requests each."""
    writer = store.Writer(tmp_path / "run")
    writer.write_record({"state": "finished", "plan": None})
    for number in (1, 2):
        writer.append(*rows(number))
    return writer.folder


def test_what_was_written_is_read_back_value_by_value(folder: Path) -> None:
    run = store.read(folder)
    trial, samples = rows(1)
    assert list(run.requests.columns) == header(Sample)
    assert list(run.trials.columns) == header(Trial)
    first = run.requests.iloc[0]
    for name in ("due_ms", "sent_ms", "done_ms", "queue_ms", "model_ms", "io_ms", "status"):
        assert first[name] == pytest.approx(getattr(samples[0], name), abs=5e-4)
    assert run.trials["started_at"].iloc[0] == trial.started_at
    assert run.warnings == []


def test_a_failed_request_comes_back_with_its_error_and_empty_timings(tmp_path: Path) -> None:
    writer = store.Writer(tmp_path / "run")
    writer.write_record({})
    lost = made_up.sample(trial=1, status=None, error='timeout, "after" 5 s', queue_ms=None, model_ms=None)
    writer.append(made_up.trial(trial=1, requests=1, measured=1, failed=1), [lost])
    row = store.read(writer.folder).requests.iloc[0]
    assert row["error"] == 'timeout, "after" 5 s'
    assert row[["status", "queue_ms", "model_ms"]].isna().all()


def test_a_run_killed_between_the_requests_and_the_trials_row_reads_without_them(folder: Path) -> None:
    trials = (folder / "trials.csv").read_text().splitlines(keepends=True)
    (folder / "trials.csv").write_text("".join(trials[:-1]))
    run = store.read(folder)
    assert set(run.requests["trial"]) == {1}
    assert run.warnings == ["3 requests of an unfinished trial were left out."]


@pytest.mark.parametrize("name", ["requests.csv", "trials.csv"])
def test_a_last_line_torn_in_mid_write_is_dropped_with_a_warning(folder: Path, name: str) -> None:
    with (folder / name).open("a") as stream:
        stream.write("inline,inl")
    run = store.read(folder)
    assert len(run.trials) == 2
    assert len(run.requests) == 6
    assert run.warnings == [f"The last line of {name} was torn off in mid-write and was left out."]


def test_requests_missing_from_a_finished_trial_are_damage_not_a_torn_tail(folder: Path) -> None:
    lines = (folder / "requests.csv").read_text().splitlines(keepends=True)
    (folder / "requests.csv").write_text("".join(lines[:-1]))
    with pytest.raises(HarnessError, match="trial 2 should have 3 rows and has 2"):
        store.read(folder)


def test_a_foreign_csv_is_refused_by_the_columns_it_lacks(folder: Path) -> None:
    (folder / "requests.csv").write_text("time,latency\n1,2\n")
    with pytest.raises(HarnessError, match="it lacks arm, strategy"):
        store.read(folder)


def test_a_cell_that_is_no_number_is_refused_with_its_column(folder: Path) -> None:
    text = (folder / "trials.csv").read_text()
    (folder / "trials.csv").write_text(re.sub(r"^1,1,", "one,1,", text, flags=re.M))
    with pytest.raises(HarnessError, match="column trial"):
        store.read(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"plan": 1}'])
def test_a_folder_without_a_sound_run_json_is_no_run(folder: Path, text: str) -> None:
    (folder / "run.json").write_text(text)
    with pytest.raises(HarnessError, match="not a run of execbench"):
        store.read(folder)


def test_a_run_of_another_layout_is_refused(folder: Path) -> None:
    (folder / "run.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(HarnessError, match="layout 99"):
        store.read(folder)


def test_a_folder_that_does_not_exist_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no run folder"):
        store.read(tmp_path / "nothing")


def test_an_existing_folder_is_never_overwritten(folder: Path) -> None:
    before = (folder / "requests.csv").read_bytes()
    with pytest.raises(HarnessError, match="exists already"):
        store.Writer(folder)
    assert (folder / "requests.csv").read_bytes() == before


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HarnessError, match="cannot be written"):
        store.Writer(tmp_path / "file" / "run")


def test_a_line_cut_short_in_the_middle_of_a_file_is_damage(folder: Path) -> None:
    lines = (folder / "requests.csv").read_text().splitlines(keepends=True)
    lines[2] = ",".join(lines[2].split(",")[:12]) + "\n"
    (folder / "requests.csv").write_text("".join(lines))
    with pytest.raises(HarnessError, match="line 3 has 12 cells in place of 21"):
        store.read(folder)


def test_an_empty_cell_where_there_must_be_a_number_is_damage(folder: Path) -> None:
    text = (folder / "trials.csv").read_text()
    (folder / "trials.csv").write_text(re.sub(r"^2,1,", ",1,", text, flags=re.M))
    with pytest.raises(HarnessError, match="column trial: line 3 is empty"):
        store.read(folder)


def test_a_trial_that_stands_there_twice_is_damage(folder: Path) -> None:
    lines = (folder / "trials.csv").read_text().splitlines(keepends=True)
    (folder / "trials.csv").write_text("".join([*lines, lines[-1]]))
    with pytest.raises(HarnessError, match="a trial stands there twice"):
        store.read(folder)
