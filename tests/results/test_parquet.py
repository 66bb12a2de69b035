"""A long run's rows are also written as Parquet, with the same values as the CSV."""

import gzip
import importlib.util
import os
from pathlib import Path
from typing import Any

import made_up
import pytest
from made_up import Point

from harness.report import report
from harness.results import parquet, store
from harness.wire.records import SCHEMA_VERSION, Sample, header

duckdb = pytest.importorskip("duckdb")  # of the extra `parquet`
ROWS = 16


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that counts as long, in a folder whose name needs quoting."""
    monkeypatch.setattr(parquet, "FEWEST_ROWS", ROWS)
    requests, trials = made_up.run({("inline", 2): Point(failed=3)}, blocks=2)
    writer = store.Writer(tmp_path / "it's a run")
    writer.write_record({"plan": None, "state": "finished"})
    writer.close()
    requests.to_csv(writer.folder / "requests.csv", index=False)
    trials.to_csv(writer.folder / "trials.csv", index=False)
    return writer.folder


def written(folder: Path) -> list[tuple[Any, ...]]:
    run = store.read(folder)
    (folder / "new").mkdir(exist_ok=True)
    parquet.write(folder / "new", folder, len(run.rows), SCHEMA_VERSION)
    path = folder / "new" / parquet.NAME
    rows: list[tuple[Any, ...]] = duckdb.from_parquet(str(path)).fetchall() if path.exists() else []
    return rows


@pytest.mark.parametrize("saved_as", ["csv", "gzip", "cut"])
def test_parquet_has_the_rows_of_the_csv(folder: Path, saved_as: str) -> None:
    requests = store.read(folder).requests
    path = folder / "requests.csv"
    if saved_as == "gzip":
        path.with_name("requests.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    elif saved_as == "cut":
        with path.open("a") as stream:
            stream.write("inline,inl")
    rows = written(folder)
    assert len(rows) == len(requests) == 24
    for row, expected in zip(rows, requests.to_dict("records"), strict=True):
        found = dict(zip(header(Sample), row, strict=True))
        assert {name: value for name, value in found.items() if value is not None} == {
            str(name): value for name, value in expected.items() if value == value
        }


def test_it_is_not_written_for_few_rows_or_again_or_without_duckdb(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / parquet.NAME).touch()
    assert written(folder) == []
    os.utime(folder / parquet.NAME, (0, 0))
    assert len(written(folder)) == 24
    (folder / "new" / parquet.NAME).unlink()
    assert report.build(store.read(folder)).notes == ()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert written(folder) == []
    (note,) = report.build(store.read(folder)).notes
    assert "pip install executor-bench[parquet]" in note
    monkeypatch.setattr(parquet, "FEWEST_ROWS", 25)
    assert report.build(store.read(folder)).notes == ()
