"""Write the tables, texts and charts of a report: all of them or none, and never through a link."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.system.printable import visible

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@contextmanager
def replacing(folder: Path, *, stage: str = "results") -> Iterator[Path]:
    """Yield an empty folder to write to. At the end its files replace those of the same names in `folder`.

    Replaces links in `folder`, including hard links, and not the files that they lead to. Raises
    HarnessError if a file cannot be written; `folder` then stays as it was.
    """
    with (
        _os_errors_explained(folder, stage),
        TemporaryDirectory(prefix=".new-", dir=folder, ignore_cleanup_errors=True) as name,
    ):
        new = Path(name)
        yield new
        files = [(file, folder / file.relative_to(new)) for file in new.rglob("*") if file.is_file()]
        for _, place in files:
            _make_room(folder, place)
        for file, place in files:
            file.replace(place)


@contextmanager
def making(folder: Path, *, stage: str) -> Iterator[Path]:
    """As `replacing`, but create `folder` if it does not exist."""
    with _os_errors_explained(folder, stage):
        folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder, stage=stage) as new:
        yield new


def write_table(folder: Path, name: str, table: pd.DataFrame) -> None:
    """Write a CSV. NaN is an empty cell."""
    table.to_csv(folder / name, index=False, float_format="%.6g", encoding="utf-8", errors="replace")


def write_text(folder: Path, name: str, text: str) -> None:
    """Write a text file for people, with invisible and control characters made visible."""
    (folder / name).write_text(visible(text), encoding="utf-8")


def write_chart(folder: Path, name: str, figure: Figure) -> None:
    """Write charts/<name>.png. The same figure gives the same bytes."""
    charts = folder / "charts"
    charts.mkdir(exist_ok=True)
    figure.savefig(charts / f"{name}.png", dpi=110, metadata={"Software": None})


@contextmanager
def _os_errors_explained(folder: Path, stage: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HarnessError(
            f"Nothing was written to {folder}: {error.strerror or error}.",
            stage=stage,
            hint="Give a writable folder with --out.",
        ) from error


def _make_room(folder: Path, place: Path) -> None:
    """Make the parent of `place`. Raises OSError if no file can go there, before any file is moved."""
    place.parent.mkdir(exist_ok=True)
    if not place.parent.resolve().is_relative_to(folder.resolve()):
        raise OSError(errno.ENOTDIR, f"{place.parent} is a link that leads out of the folder")
    if place.is_dir() and not place.is_symlink():
        raise OSError(errno.EISDIR, f"{place} is a folder")
