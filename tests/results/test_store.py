"""A run on disk: finished trials are kept, and damage is detected."""

import csv
import dataclasses
import gzip
import io
import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import pandas as pd
import pytest

from harness.errors import HarnessError
from harness.results import store
from harness.wire.records import NEW_COLUMNS, Identity, Sample, Trial, header, to_cells


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


def test_a_written_run_is_read_back_unchanged(folder: Path) -> None:
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


def test_requests_without_a_row_in_trials_are_dropped(folder: Path) -> None:
    trials = (folder / "trials.csv").read_text().splitlines(keepends=True)
    (folder / "trials.csv").write_text("".join(trials[:-1]))
    run = store.read(folder)
    assert set(run.requests["trial"]) == {1}
    assert run.warnings == ["3 requests of an unfinished trial were left out."]


@pytest.mark.parametrize("name", ["requests.csv", "trials.csv"])
def test_an_incomplete_last_line_is_dropped_with_a_warning(folder: Path, name: str) -> None:
    with (folder / name).open("a") as stream:
        stream.write("inline,inl")
    run = store.read(folder)
    assert len(run.trials) == 2
    assert len(run.requests) == 6
    assert run.warnings == [f"The last line of {name} was incomplete and was left out."]


def test_compressed_rows_are_read_unchanged(folder: Path) -> None:
    plain = store.read(folder).requests
    rows = folder / "requests.csv"
    (folder / "requests.csv.gz").write_bytes(gzip.compress(rows.read_bytes()))
    rows.unlink()
    pd.testing.assert_frame_equal(store.read(folder).requests, plain)
    (folder / "requests.csv.gz").write_bytes(b"not packed at all")
    with pytest.raises(HarnessError, match=r"requests\.csv\.gz cannot be read"):
        store.read(folder)


def test_missing_requests_of_a_finished_trial_are_damage(folder: Path) -> None:
    lines = (folder / "requests.csv").read_text().splitlines(keepends=True)
    (folder / "requests.csv").write_text("".join(lines[:-1]))
    with pytest.raises(HarnessError, match="trial 2 should have 3 rows but has 2"):
        store.read(folder)


def test_a_foreign_csv_is_refused_with_the_missing_columns(folder: Path) -> None:
    (folder / "requests.csv").write_text("time,latency\n1,2\n")
    with pytest.raises(HarnessError, match="it lacks arm, strategy"):
        store.read(folder)


def test_a_cell_that_is_not_a_number_is_refused_with_its_column(folder: Path) -> None:
    text = (folder / "trials.csv").read_text()
    (folder / "trials.csv").write_text(re.sub(r"^1,1,", "one,1,", text, flags=re.M))
    with pytest.raises(HarnessError, match="column trial"):
        store.read(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"plan": 1}'])
def test_a_folder_without_a_valid_run_json_is_not_a_run(folder: Path, text: str) -> None:
    (folder / "run.json").write_text(text)
    with pytest.raises(HarnessError, match="not a run of execbench"):
        store.read(folder)


def test_a_run_of_an_unknown_layout_is_refused(folder: Path) -> None:
    (folder / "run.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(HarnessError, match="layout 99"):
        store.read(folder)


@pytest.mark.parametrize(
    ("layout", "name", "added"),
    [
        (2, "requests", "io_server_ms"),
        (3, "trials", "throttled_share"),
        (4, "requests", "first_byte_ms"),
        (5, "trials", "server_rss_mb"),
    ],
)
def test_a_run_of_an_older_layout_is_read_with_missing_values(
    folder: Path, layout: int, name: str, added: str
) -> None:
    now = store.read(folder)
    unknown = {column for since, columns in NEW_COLUMNS.items() if since > layout for column in columns}
    for path in folder.glob("*.csv"):
        cells = pd.read_csv(path, dtype=str, keep_default_na=False)
        cells.drop(columns=list(unknown & set(cells))).to_csv(path, index=False)
    lacks = "throttled_share" if layout < 4 else "server_rss_mb"  # trials.csv is read first
    with pytest.raises(HarnessError, match=f"it lacks {lacks}"):
        store.read(folder)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "schema": layout}))
    older = store.read(folder)
    rows = getattr(older, name)
    assert rows[added].isna().all()
    pd.testing.assert_frame_equal(rows.drop(columns=added), getattr(now, name).drop(columns=added))
    assert list(older.requests.columns) == header(Sample)
    assert list(older.trials.columns) == header(Trial)


def test_a_folder_that_does_not_exist_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no run folder"):
        store.read(tmp_path / "nothing")


def test_an_existing_folder_is_never_overwritten(folder: Path) -> None:
    before = (folder / "requests.csv").read_bytes()
    with pytest.raises(HarnessError, match="already exists"):
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
    with pytest.raises(HarnessError, match="line 3 has 12 cells instead of 24"):
        store.read(folder)


def test_an_empty_cell_in_a_required_column_is_damage(folder: Path) -> None:
    text = (folder / "trials.csv").read_text()
    (folder / "trials.csv").write_text(re.sub(r"^2,1,", ",1,", text, flags=re.M))
    with pytest.raises(HarnessError, match="column trial: line 3 is empty"):
        store.read(folder)


def test_a_duplicate_trial_is_damage(folder: Path) -> None:
    lines = (folder / "trials.csv").read_text().splitlines(keepends=True)
    (folder / "trials.csv").write_text("".join([*lines, lines[-1]]))
    with pytest.raises(HarnessError, match="it has a duplicate trial"):
        store.read(folder)


def put(folder: Path, line: int, column: str, cell: str) -> None:
    """Replace one cell of requests.csv; the header is line 1."""
    path = folder / "requests.csv"
    lines = [text.split(",") for text in path.read_text().splitlines()]
    lines[line - 1][header(Sample).index(column)] = cell
    path.write_text("".join(",".join(cells) + "\n" for cells in lines))


@pytest.mark.parametrize(
    ("column", "cell", "said"),
    [
        ("io_ms", "fast", "column io_ms: line 4 is not a number: 'fast'"),
        ("due_ms", "", "column due_ms: line 4 is empty"),
        ("seq", "nan", "column seq: line 4 is not a number: 'nan'"),
        ("seq", "1.5", "column seq: line 4 is not a whole number: '1.5'"),
        ("status", "200.5", "column status: line 4 is not a whole number: '200.5'"),
        ("error", "a,b", "line 4 has 25 cells instead of 24"),
        ("error", '"never closed', "line 7 has 19 cells instead of 24"),
        ("generator", "1\n", "line 5 has 0 cells instead of 24"),
    ],
)
def test_damage_is_reported_with_its_line(folder: Path, column: str, cell: str, said: str) -> None:
    put(folder, 4, column, cell)
    with pytest.raises(HarnessError, match=re.escape(said)):
        store.read(folder)


def test_an_extra_cell_in_the_first_line_is_damage(folder: Path) -> None:
    put(folder, 2, "error", "a,b")
    with pytest.raises(HarnessError, match="line 2 has 25 cells"):
        store.read(folder)


def test_commas_in_a_text_do_not_hide_a_line_that_is_too_short(folder: Path) -> None:
    put(folder, 2, "error", '"a,b,c"')
    assert store.read(folder).requests["error"].iloc[0] == "a,b,c"
    lines = (folder / "requests.csv").read_text().splitlines()
    (folder / "requests.csv").write_text(
        "".join(f"{line}\n" for line in [*lines[:4], lines[4].rpartition(",")[0], *lines[5:]])
    )
    with pytest.raises(HarnessError, match="line 5 has 23 cells instead of 24"):
        store.read(folder)


def test_bytes_that_are_not_text_are_damage(folder: Path) -> None:
    with (folder / "requests.csv").open("ab") as stream:
        stream.write(b"\xff\xfe\n")
    with pytest.raises(HarnessError, match="damaged: 'utf-8' codec"):
        store.read(folder)


def test_an_empty_file_is_refused_with_the_missing_columns(folder: Path) -> None:
    (folder / "requests.csv").write_text("")
    with pytest.raises(HarnessError, match="it lacks arm, strategy"):
        store.read(folder)


@pytest.mark.parametrize("names", [("NA", "nan"), ("1", "01"), ("true", "True"), ("inf", "1e3")])
def test_a_text_that_looks_like_a_number_stays_a_text(tmp_path: Path, names: tuple[str, ...]) -> None:
    writer = store.Writer(tmp_path / "run")
    writer.write_record({})
    for number, name in enumerate(names):
        writer.append(
            made_up.trial(trial=number, arm=name, load=name),
            [made_up.sample(trial=number, arm=name, load=name)],
        )
    run = store.read(writer.folder)
    for column in (run.requests["arm"], run.requests["load"], run.trials["arm"]):
        assert tuple(column) == names


def test_a_text_with_a_line_end_is_read_on_one_line(tmp_path: Path) -> None:
    """It could look like a line of a report, such as `::error::` in GitHub's logs."""
    writer = store.Writer(tmp_path / "run")
    writer.write_record({})
    arm = "x\n::error::forged"
    writer.append(made_up.trial(arm=arm, error="a\r\nb"), [made_up.sample(arm=arm, error="a\nb")])
    run = store.read(writer.folder)
    assert list(run.requests["arm"]) == list(run.trials["arm"]) == ["x␊::error::forged"]
    assert (run.requests["error"][0], run.trials["error"][0]) == ("a␊b", "a␍␊b")


def test_whole_numbers_are_whole_unless_a_cell_is_empty(tmp_path: Path) -> None:
    writer = store.Writer(tmp_path / "run")
    writer.write_record({})
    lost = made_up.sample(seq=1, status=None, error="timeout")
    writer.append(made_up.trial(requests=2), [made_up.sample(), lost])
    run = store.read(writer.folder)
    kinds = run.requests.dtypes.astype(str)
    assert {kinds[name] for name in ("block", "trial", "seq", "batch_size", "worker_pid")} == {"int64"}
    assert kinds["status"] == "float64"
    assert run.trials["concurrency"].dtype == "int64"


def test_figures_are_read_exactly(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    figures = [round(float(value), 3) for value in random.uniform(0, 10.0 ** random.uniform(-2, 9, 2000))]
    writer = store.Writer(tmp_path / "run")
    writer.write_record({})
    rows = [made_up.sample(seq=seq, done_ms=value) for seq, value in enumerate(figures)]
    writer.append(made_up.trial(requests=len(rows)), rows)
    assert list(store.read(writer.folder).requests["done_ms"]) == figures


def test_a_figure_that_was_not_measured_is_missing_and_not_damage(tmp_path: Path) -> None:
    writer = store.Writer(tmp_path / "run")
    writer.write_record({})
    writer.append(made_up.trial(io_nominal_ms=float("nan")), [made_up.sample(model_ms=float("nan"))])
    run = store.read(writer.folder)
    assert run.requests["model_ms"].isna().all()
    assert run.trials["io_nominal_ms"].isna().all()


# -- folders that cannot be had, and those that go away ---------------------------------------------------


def written(folder: Path) -> store.Writer:
    """A run with its record and one trial."""
    writer = store.Writer(folder)
    writer.write_record({"state": "running"})
    writer.append(*rows(1))
    return writer


def test_each_folder_that_cannot_be_made_gives_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "at-all")
    for place, said in (
        ("file", "The file .* already exists"),
        ("folder", "The folder .* already exists"),
        ("file/run", "Not a directory"),
        ("file/deeper/run", "Not a directory"),
        ("x" * 300, "File name too long"),
        (f"{'x' * 300}/run", "File name too long"),
        ("dangling", "already exists"),
        ("dangling/run", "cannot be written"),
        ("nul\0/run", "null"),
    ):
        with pytest.raises(HarnessError, match=said):
            store.Writer(tmp_path / place)
    with pytest.raises(HarnessError, match="cannot be written"):
        store.Writer(Path("/proc/run"))  # read-only even for root


def test_a_full_disk_is_reported_and_finished_trials_are_kept(tmp_path: Path) -> None:
    writer = written(tmp_path / "run")
    (writer.folder / "requests.csv").rename(tmp_path / "kept.csv")
    (writer.folder / "requests.csv").symlink_to("/dev/full")
    with pytest.raises(HarnessError, match="No space left on device") as full:
        writer.append(*rows(2))
    assert "Free some space" in full.value.hint
    assert writer.trials == 1


def test_a_folder_removed_during_a_run_is_reported(tmp_path: Path) -> None:
    writer = written(tmp_path / "run")
    shutil.rmtree(writer.folder)
    writes: tuple[Callable[[], None], ...] = (
        lambda: writer.append(*rows(2)),
        lambda: writer.write_record({}),
    )
    for write in writes:
        with pytest.raises(HarnessError, match="was removed or renamed during the run"):
            write()
    assert not writer.folder.exists()


def test_a_table_removed_during_a_run_is_not_recreated_without_its_header(tmp_path: Path) -> None:
    writer = written(tmp_path / "run")
    (writer.folder / "requests.csv").unlink()
    with pytest.raises(HarnessError, match="cannot be written: No such file"):
        writer.append(*rows(2))
    assert not (writer.folder / "requests.csv").exists()


def test_discarding_a_run_keeps_another_run_in_the_same_new_parent(tmp_path: Path) -> None:
    first, second = store.Writer(tmp_path / "new" / "a"), store.Writer(tmp_path / "new" / "b")
    first.discard()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["b"]
    second.discard()
    second.discard()  # discarding it twice is no error
    store.Writer(tmp_path / "newer" / "still" / "a").discard()
    assert not (tmp_path / "newer").exists()


def test_discarding_a_run_keeps_foreign_files(tmp_path: Path) -> None:
    writer = store.Writer(tmp_path / "run")
    (writer.folder / "notes.txt").write_text("mine")
    writer.discard()
    assert [path.name for path in writer.folder.iterdir()] == ["notes.txt"]


def test_ctrl_c_while_a_trial_is_saved_waits_until_it_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = store.Writer(tmp_path / "run")
    writer.write_record({})
    sync = store._sync

    def interrupted(stream: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        sync(stream)

    monkeypatch.setattr(store, "_sync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        writer.append(*rows(1))
    monkeypatch.undo()
    assert len(store.read(writer.folder).requests) == 3


OPENED = ["logs/inline.log", "run.json.new", "trials.csv.new", "requests.csv.new"]


@pytest.mark.parametrize("name", ["logs", *OPENED])
@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_a_resumed_run_writes_only_inside_its_folder(
    folder: Path, tmp_path: Path, name: str, link: Any
) -> None:
    outside = tmp_path / "outside"
    outside.write_text("kept")
    shutil.rmtree(folder / "logs") if name == "logs" else None
    link(folder / name, outside)
    with pytest.raises(HarnessError):
        store.Writer.reopen(folder, {1, 2})
    assert outside.read_text() == "kept"


@pytest.mark.parametrize("name", OPENED)
def test_a_resumed_run_does_not_wait_for_a_fifo(folder: Path, name: str) -> None:
    os.mkfifo(folder / name)
    with pytest.raises(HarnessError, match=f"{name} is a link or not a regular file"):
        store.Writer.reopen(folder, {1, 2})


# -- rows that are streamed while a trial runs --------------------------------------------------------------


def lines(trial: Trial, samples: list[Sample]) -> tuple[Identity, str]:
    """What the load generator and the run know of these rows."""
    named = {field.name: getattr(trial, field.name) for field in dataclasses.fields(Identity)}
    cells = io.StringIO()
    csv.writer(cells, lineterminator="\n").writerows(to_cells(sample)[5:] for sample in samples)
    return Identity(**named), cells.getvalue()


def test_a_streamed_trial_reads_as_one_that_was_saved_at_its_end(folder: Path, tmp_path: Path) -> None:
    writer = store.Writer(tmp_path / "streamed")
    writer.write_record({"state": "finished", "plan": None})
    for number in (1, 2):
        trial, samples = rows(number)
        for sample in samples:
            writer.stream(*lines(trial, [sample]))
        assert writer.uncommitted == trial.measured
        writer.finish(trial)
    assert (writer.trials, writer.measured, writer.uncommitted) == (2, 6, 0)
    for name in ("requests.csv", "trials.csv"):
        assert (writer.folder / name).read_bytes() == (folder / name).read_bytes()


def test_a_resumed_run_drops_the_rows_of_the_trial_in_which_it_was_killed(folder: Path) -> None:
    whole = (folder / "requests.csv").read_bytes()
    writer = store.Writer.reopen(folder, {1, 2})
    writer.stream(*lines(*rows(3)))
    writer.close()
    assert store.Writer.reopen(folder, {1, 2}).uncommitted == 0
    assert (folder / "requests.csv").read_bytes() == whole
