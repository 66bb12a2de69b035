"""requests.csv as Parquet too, if a run has many rows: other programs read that in a fraction of the time.

DuckDB converts the file as a stream, in bounded memory. It comes with the extra `parquet`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from harness.results import csv_text
from harness.results.rows import Layout
from harness.wire.records import Sample

NAME = "requests.parquet"
FEWEST_ROWS = 2_000_000
MEMORY = "400MB"
_TYPES = {str: "VARCHAR", int: "BIGINT", float: "DOUBLE"}


def notes(folder: Path, rows: int) -> Iterator[str]:
    """A sentence on how to get the file, if it is wanted and cannot be written."""
    if rows >= FEWEST_ROWS and not _is_installed():
        yield f"`pip install executor-bench[parquet]` makes report also write {folder / NAME}."


def write(new: Path, folder: Path, rows: int, version: int) -> None:
    """Write the first `rows` rows of the run in `folder`, of this layout, as Parquet into the folder `new`.

    Writes nothing for few rows, without DuckDB, or if the file is as new as the CSV.
    """
    path = csv_text.plain_or_compressed(folder / "requests.csv")
    if rows < FEWEST_ROWS or not _is_installed() or _is_up_to_date(folder / NAME, path):
        return
    import duckdb

    kinds = Layout.of(Sample, version).kinds
    columns = ", ".join(f"'{name}': '{_TYPES[kind]}'" for name, kind in kinds.items())
    texts = ", ".join(f"'{name}'" for name, kind in kinds.items() if kind is str)
    with duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": str(new)}) as database:
        options = f"header = true, columns = {{{columns}}}, force_not_null = [{texts}], ignore_errors = true"
        query = f"SELECT * FROM read_csv({_quoted(path)}, {options}) LIMIT {rows}"  # noqa: S608 – not from users
        database.execute(f"COPY ({query}) TO {_quoted(new / NAME)} (FORMAT parquet, COMPRESSION zstd)")


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _is_installed() -> bool:
    return importlib.util.find_spec("duckdb") is not None


def _is_up_to_date(file: Path, source: Path) -> bool:
    return file.exists() and file.stat().st_mtime >= source.stat().st_mtime
