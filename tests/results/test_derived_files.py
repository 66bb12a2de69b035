"""The files of a report: all are written or none, and never through a link."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from harness.errors import HarnessError
from harness.results import derived_files


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file outside the run's folder."""
    found = tmp_path / "victim"
    found.write_text("precious")
    return found


@pytest.fixture
def run(tmp_path: Path) -> Path:
    found = tmp_path / "run"
    found.mkdir()
    return found


def write(run: Path, *names: str, fails: OSError | None = None) -> None:
    with derived_files.replacing(run) as new:
        for name in names or ("report.txt",):
            (new / name).parent.mkdir(exist_ok=True)
            derived_files.write_text(new, name, "new")
        if fails:
            raise fails


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to], ids=["symbolic", "hard"])
def test_a_link_is_replaced_and_its_target_is_kept(
    run: Path, victim: Path, link: Callable[[Path, Path], None]
) -> None:
    link(run / "report.txt", victim)
    write(run)
    assert victim.read_text() == "precious"
    assert (run / "report.txt").read_text() == "new"
    assert not (run / "report.txt").is_symlink()


def test_a_dangling_link_creates_no_file(run: Path, tmp_path: Path) -> None:
    (run / "report.txt").symlink_to(tmp_path / "made")
    write(run)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("place", ["link", "folder"])
def test_if_one_file_cannot_be_replaced_no_file_is_written(run: Path, tmp_path: Path, place: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    if place == "link":
        (run / "charts").symlink_to(outside)
    else:
        (run / "charts" / "a.svg").mkdir(parents=True)
    with pytest.raises(HarnessError, match="Nothing was written to"):
        write(run, "a.txt", "charts/a.svg")
    assert [path.name for path in run.iterdir()] == ["charts"]
    assert not [*outside.iterdir()]


def test_charts_may_be_behind_a_link_inside_the_folder(run: Path) -> None:
    (run / "pictures").mkdir()
    (run / "charts").symlink_to("pictures")
    write(run, "charts/a.svg")
    assert (run / "pictures" / "a.svg").read_text() == "new"


def test_a_full_disk_leaves_older_files_as_they_were(run: Path) -> None:
    (run / "a.txt").write_text("old")
    with pytest.raises(HarnessError, match=r"Nothing was written to .*No space left"):
        write(run, "a.txt", fails=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert {path.name: path.read_text() for path in run.iterdir()} == {"a.txt": "old"}


def test_a_file_in_place_of_a_folder_is_reported(victim: Path) -> None:
    with pytest.raises(HarnessError, match="Not a directory"):
        write(victim)
    with pytest.raises(HarnessError, match="File exists"), derived_files.making(victim, stage="study"):
        pass


def test_texts_and_tables_are_utf_8_whatever_is_in_them(run: Path) -> None:
    with derived_files.replacing(run) as new:
        derived_files.write_text(new, "a.txt", "≥ \ud800 \x1b[31m\n")
        derived_files.write_table(new, "a.csv", pd.DataFrame({"arm": ["≥", "\ud800"]}))
    assert (run / "a.txt").read_bytes().decode() == "≥ \ufffd ␛[31m\n"
    assert (run / "a.csv").read_bytes().decode() == "arm\n≥\n?\n"


def test_written_files_keep_the_usual_permissions(run: Path) -> None:
    (run / "plain").write_text("")
    write(run)
    assert (run / "report.txt").stat().st_mode == (run / "plain").stat().st_mode
