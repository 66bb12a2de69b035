"""`report` and `compare` on modified run folders either work, or give the reason in one line."""

from __future__ import annotations

import copy
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import made_up
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import Point
from properties import examples
from typer.testing import CliRunner

from harness.capacity import chart
from harness.cli import app
from harness.report.charts import forest, io_distribution, published, split, sweep_chart, timeline
from harness.results import derived_files
from harness.wire.records import SCHEMA_VERSION

Record = dict[str, Any]

FINE, FAILURE, NOT_COMPARABLE = 0, 1, 4
PLAN = {
    "name": "tiny",
    "arms": [
        {"name": "inline", "strategy": "inline", "io_per_model": None, "options": {}, "workload": {}},
        {"name": "batch", "strategy": "batch", "io_per_model": None, "options": {"max_batch": 4}},
    ],
    "workload": {"name": "synthetic", "io": "sleep", "io_ms": 5.0, "payloads": None},
    "concurrency": [1, 2],
    "arrivals": [],
    "requests": 4,
    "requests_per_user": None,
    "duration_s": None,
    "blocks": 6,
    "cap": 500,
    "timeout_s": 30.0,
    "seed": 1,
    "transport": "aiohttp",
    "reference": "inline",
    "twin": False,
    "ranking": True,
    "delta_latency": 0.05,
    "exclude": {"foreign_cpu": 0.33, "dispatch_lag_p99_ms": 10.0},
    "notes": ["a note"],
    "claims": None,
    "sweep": None,
    "ask": {"method": None, "headers": [["X-Tenant", "a"]], "body": None, "expect_status": 200},
}
ABOUT = {"model": "synthetic sleep", "service_ms": 6.0, "own_io": None}
RECORD: Record = {
    "schema": SCHEMA_VERSION,
    "plan": PLAN,
    "state": "finished",
    "environment": {
        "cpu": "EPYC",
        "usable_cores": 2,
        "packages": {"numpy": "2.4.6", "torch": None},
        "thread_variables": {"OMP_NUM_THREADS": None},
        "revision": {"commit": "cee20e9a326b8b2054261806abc1314c11f4c9af", "modified": False},
        "code": "5aae290fd782",
    },
    "arms": {
        arm: {
            "options": {"workload": {"name": "synthetic", "io": "sleep", "io_ms": 5.0}},
            "about": ABOUT,
            "processes": [{"pid": 7, "command": "python server.py"}],
            "uss_bytes": 384778240,
            "ready_s": 2.5,
        }
        for arm in ("inline", "batch")
    },
    "schedules": {"poisson(5)": {"1": "abc"}},
    "own_per_s": {"inline": 75.5, "batch": 150.0},
    "self_check": {"requests_per_s": 3619.0, "dispatch_lag_p50_ms": 0.3, "dispatch_lag_p99_ms": 1.1},
    "idle": {"batch": {"cpu_ms": 6.5, "wall_ms": 4062.0}},
    "limits": [{"arms": ["inline", "batch"], "batches": {"1": 6.0, "4": 12.0}, "about": ABOUT}],
    "null_ms": 0.3,
    "resumed": [{"in_block": None, "after_trial": 3}],
    "stopped_at_block": 6,
    "looks": {
        "blocks": [4, 6],
        "levels": [{"overall": 0.95, "at_looks": [0.99, 0.96]}, {"overall": 0.9, "at_looks": [0.97, 0.92]}],
        "looked": [{"blocks": 4, "open": ["batch at c = 1"]}],
    },
    "bad_answers": {"status 503": "busy"},
    "downstream": {"requests": 1, "first": "pgvector: gone", "died": ["The database ended."]},
}
SWEEP = {
    "strategies": ["inline", "batch"],
    "axes": {"max_batch": [4, 8]},
    "settings": {"inline": {}, "batch": {"max_batch": 4}},
}
LOADED: Record = {
    "schema": SCHEMA_VERSION,
    "plan": None,
    "load": {"url": "http://127.0.0.1:1/", "method": "GET", "headers": [], "body": None, "texts": None},
    "state": "finished",
}
CAPACITY: Record = {
    **RECORD,
    "capacity": {
        "objectives": ["p50 latency < 100 ms"],
        "searched": 2,
        "window_s": 0.5,
        "search_s": 0.5,
        "blocks": 4,
        "seed": 1,
    },
}
WHOLE = {"arms": "sweep", "sweep": "arms", "load": "arms", "capacity": "arms"}  # kind → the other run
BASES: dict[str, Record] = {
    "arms": RECORD,
    "sweep": {**RECORD, "plan": {**PLAN, "sweep": SWEEP}},
    "load": LOADED,
    "capacity": CAPACITY,
}


# -- what is changed -----------------------------------------------------------------------------------


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        yield from _places(one, (*place, key))


def _deep(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


TEXTS = ["", "x", "inline", "nobody", "\x1b[31mred", "a\nb", "ü☃", "\ud800", "5", "closed(8)", "x" * 20_000]
NUMBERS = [0, 1, -1, 7, 10**6, 2**53, 10**30, 10**400, 0.5, -2.5, 1e-300, 1e308, -1e308]
OTHER = [None, True, False, [], {}, [1], ["a"], {"a": 1}, {"a": {"b": []}}, [None], _deep(50)]
JUNK = st.sampled_from([*TEXTS, *NUMBERS, *OTHER])
DELETE, REPLACE, ADD = "delete", "replace", "add"


def _edited(record: Record, place: tuple[Any, ...], how: str, junk: Any) -> Any:
    if not place:
        return junk
    changed = copy.deepcopy(record)
    holder: Any = changed
    for key in place[:-1]:
        holder = holder[key]
    if how == DELETE:
        del holder[place[-1]]
    elif how == REPLACE or not isinstance(holder, dict):
        holder[place[-1]] = junk
    else:
        holder["a key of tomorrow"] = junk
    return changed


@st.composite
def records(draw: st.DrawFn) -> tuple[str, str]:
    """The name of a base, and its run.json with one to three changes."""
    base = draw(st.sampled_from(sorted(BASES)))
    record: Any = BASES[base]
    for _ in range(draw(st.integers(1, 3))):
        if isinstance(record, dict):
            place = draw(st.sampled_from(list(_places(record))))
            record = _edited(record, place, draw(st.sampled_from([DELETE, REPLACE, ADD])), draw(JUNK))
    return base, json.dumps(record)


CELLS = ["", "0", "-1", "1", "7", "1e308", "-1e308", "1e400", "nan", "inf", "x", "1.5", "9" * 30, "9" * 5000]
CELLS += [
    "closed(1)",
    "closed(2)",
    "poisson(5)",
    "inline",
    "nobody",
    "ok",
    "failed",
    "measure",
    '"',
    "a,b",
    "ü",
]
Rows = list[list[str]]


def _cell(draw: st.DrawFn, rows: Rows) -> None:
    row = draw(st.sampled_from(rows[1:]))
    place = draw(st.integers(0, len(row)))
    row[place : place + 1] = [draw(st.sampled_from(CELLS))]


def _column(draw: st.DrawFn, rows: Rows) -> None:
    place, cell = draw(st.integers(0, len(rows[0]) - 1)), draw(st.sampled_from(CELLS))
    for row in rows[1:]:
        row[place : place + 1] = [cell]


def _columns(draw: st.DrawFn, rows: Rows) -> None:
    place, how = draw(st.integers(0, len(rows[0]) - 1)), draw(st.sampled_from(["drop", "swap", "add"]))
    for row in rows:
        if how == "drop":
            del row[place : place + 1]
        elif how == "swap":
            row[:] = [*row[place:], *row[:place]]
        else:
            row.append("more")


def _lines(draw: st.DrawFn, rows: Rows) -> None:
    place, how = (
        draw(st.integers(0, len(rows) - 1)),
        draw(st.sampled_from(["drop", "again", "short", "only"])),
    )
    if how == "drop":
        del rows[place]
    elif how == "again":
        rows.append(rows[place])
    elif how == "short":
        rows[place] = rows[place][:3]
    else:
        del rows[place + 1 :]


@st.composite
def tables(draw: st.DrawFn, text: str) -> bytes:
    """One of the two CSVs, with changes that people and programs make."""
    rows = list(csv.reader(io.StringIO(text)))
    for _ in range(draw(st.integers(1, 3))):
        if len(rows) > 1 and rows[0]:
            draw(st.sampled_from([_cell, _cell, _column, _columns, _lines]))(draw, rows)
    written = io.StringIO()
    quoting: Literal[0, 1] = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    ending = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    csv.writer(written, lineterminator=ending, quoting=quoting).writerows(rows)
    data = written.getvalue().encode(draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16"])))
    end = draw(st.sampled_from([len(data)] * 4 + [0, len(data) // 2, len(data) - 2]))
    return data[:end] + draw(st.sampled_from([b"", b"", b"", b"\xff\xfe", b"\0", b"\n\n"]))


# -- what comes of it ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a complete run of each kind."""
    parent = tmp_path_factory.mktemp("runs")
    worlds: dict[str, made_up.World] = {
        "arms": {
            ("inline", 2): Point(queue_ms=3.0),
            ("batch", 2): Point(model_ms=5.0, failed=1),
        },
        "load": {("server", 2): Point()},
    }
    worlds["sweep"] = worlds["arms"]
    worlds["capacity"] = {("inline", 2): Point(), ("batch", 2): Point(model_ms=5.0, failed=1)}
    for base, record in BASES.items():
        folder = parent / base
        folder.mkdir()
        requests, trials = made_up.run(worlds[base], blocks=6)
        if base == "capacity":
            trials = trials.assign(load="poisson(50)", concurrency=None, rate_per_s=50.0 + trials["block"])
            requests = requests.assign(load="poisson(50)")
        requests.to_csv(folder / "requests.csv", index=False)
        trials.to_csv(folder / "trials.csv", index=False)
        (folder / "run.json").write_text(json.dumps(record))
    return parent


@pytest.fixture
def no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no charts, which take most of a report's time."""
    for module in (timeline, split, io_distribution, published, forest, sweep_chart, chart):
        monkeypatch.setattr(module, "draw", lambda *_: None)
    monkeypatch.setattr(derived_files, "write_chart", lambda *_: None)


def answer(*words: str) -> None:
    """The command works, or ends with one message and its stage. Warnings count as errors."""
    ended = CliRunner().invoke(app, words)
    if not isinstance(ended.exception, SystemExit) and ended.exception is not None:
        raise ended.exception
    assert ended.exit_code in (FINE, FAILURE, 2, NOT_COMPARABLE), ended.output
    if ended.exit_code:
        assert ended.stderr.startswith("Error ("), ended.stderr
        assert "Traceback" not in ended.stderr


WAYS = [
    "report RUN",
    "report RUN",
    "report RUN --json",
    "compare RUN --all-pairs",
    "compare WHOLE RUN --force",
]


def run_command(way: str, run: Path, whole: Path) -> None:
    places = {"RUN": str(run), "WHOLE": str(whole)}
    answer(*(places.get(word, word) for word in way.split()))


def test_charts_can_show_figures_at_the_bounds(runs: Path) -> None:
    """The property tests below draw no charts."""
    path = runs / "arms" / "requests.csv"
    whole = path.read_text()
    try:
        path.write_text(whole.replace(",6.0,6.0,", ",1e12,0.0,").replace(",5.0,", ",0.0,"))
        answer("report", str(path.parent))
    finally:
        path.write_text(whole)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.usefixtures("no_charts")
def test_an_unchanged_run_is_shown(runs: Path, base: str) -> None:
    ended = CliRunner().invoke(app, ["report", str(runs / base)], catch_exceptions=False)
    assert ended.exit_code == FINE, ended.output


@pytest.mark.usefixtures("no_charts")
@examples(30, 1_000)
@given(changed=records(), way=st.sampled_from(WAYS))
def test_a_changed_record_is_shown_or_refused(runs: Path, changed: tuple[str, str], way: str) -> None:
    base, text = changed
    path = runs / base / "run.json"
    whole = path.read_bytes()
    try:
        path.write_text(text)
        run_command(way, runs / base, runs / WHOLE[base])
    finally:
        path.write_bytes(whole)


@pytest.mark.usefixtures("no_charts")
@examples(70, 1_000)
@given(data=st.data(), way=st.sampled_from(WAYS))
def test_changed_rows_are_shown_or_refused(runs: Path, data: st.DataObject, way: str) -> None:
    base = data.draw(st.sampled_from(sorted(BASES)))
    path = runs / base / data.draw(st.sampled_from(["trials.csv", "requests.csv"]))
    whole = path.read_bytes()
    try:
        path.write_bytes(data.draw(tables(whole.decode())))
        run_command(way, runs / base, runs / WHOLE[base])
    finally:
        path.write_bytes(whole)
