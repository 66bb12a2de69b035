"""The `Server-Timing` header: ours is read back, and no header of another server can harm the client."""

import dataclasses
import random
import re
import time

import pytest
from server_timing_headers import written

from harness.wire.records import Timings
from harness.wire.timings import MAX_DURATION_MS, MAX_HEADER_CHARS, MAX_WHOLE, decode, longest_ms

NOTHING = Timings()
DURATIONS = (
    *("entered_ms", "queue_ms", "model_ms", "model_cpu_ms", "resume_ms"),
    *("io_ms", "io_server_ms", "handler_ms"),
)
LONG = 50_000
GARBAGE = (
    *("", " ", ",", ";", "=", '"', "\\", ";;;", "===", '""', '"""', ";dur=5", "=;=", "model", "model;"),
    *("model;dur", "model;=5", 'model;desc="pid=', 'model;desc="pid=\\', "\x00\xff", "módel;dur=1", "{}"),
)


def drawn(draw: random.Random) -> Timings:
    """Return random Timings as a server may send them, each of its own magnitude."""
    stamps = {name: draw.uniform(0, 10 ** draw.randint(0, 6)) for name in DURATIONS}
    return Timings(**stamps, batch_size=draw.randint(1, 64), worker_pid=draw.randint(1, 4_194_304))


def test_every_part_is_read_back_to_the_microsecond() -> None:
    draw = random.Random(1)
    for _ in range(500):
        sent = drawn(draw)
        got = decode(written(sent))
        for name in DURATIONS:
            assert getattr(got, name) == pytest.approx(getattr(sent, name), abs=0.00051), name
        assert (got.batch_size, got.worker_pid) == (sent.batch_size, sent.worker_pid)


@pytest.mark.parametrize("value", [0.0, 0.0004, 1.0, MAX_DURATION_MS])
def test_a_duration_from_zero_to_an_hour_survives(value: float) -> None:
    """A clock that is read twice within a microsecond gives zero."""
    sent = dataclasses.replace(drawn(random.Random(4)), queue_ms=value)
    assert decode(written(sent)).queue_ms == pytest.approx(value, abs=0.00051)


@pytest.mark.parametrize("text", ["-0.25", "-5", "3600000.1", "1e12", "1e308", "9" * 400, "-1e308"])
def test_a_duration_below_zero_or_over_an_hour_is_left_out(text: str) -> None:
    header = f'queue;dur={text}, model;dur=8;desc="cpu={text}", io;dur=5;desc="server={text}"'
    assert decode(header) == Timings(model_ms=8.0, io_ms=5.0)
    assert longest_ms(f"db;dur={text}, total;dur=7") == 7.0


def test_minus_zero_is_zero() -> None:
    assert str(decode("queue;dur=-0.0").queue_ms) == "0.0"


@pytest.mark.parametrize(
    ("header", "model_ms"),
    [
        ("model;dur=5;dur=9", 5.0),
        ("model;DUR=5;dur=9", 5.0),
        ("model;dur=;dur=9", None),
        ("model;dur;dur=9", None),
        ("model;dur=fast;dur=9", None),
        ('model;dur="5"9;dur=9', 5.0),
        (r'model;dur="\5";desc="x"', 5.0),
    ],
)
def test_the_first_dur_of_an_entry_counts_whatever_it_holds(header: str, model_ms: float | None) -> None:
    assert decode(header).model_ms == model_ms


def test_entries_of_one_name_add_up() -> None:
    header = 'io;dur=4;desc="a", IO;dur=5;desc="b", io;desc="no dur", model;dur=1, handler;dur=12'
    assert decode(header) == Timings(io_ms=9.0, model_ms=1.0, handler_ms=12.0)
    assert longest_ms("db;dur=4, cache;dur=6, db;dur=5") == 9.0


def test_values_in_descriptions_of_one_name_add_up_and_the_last_call_names_the_worker() -> None:
    header = 'model;dur=4;desc="cpu=3 batch=2 pid=7", model;dur=5;desc="cpu=4 batch=8 pid=9"'
    assert decode(header) == Timings(model_ms=9.0, model_cpu_ms=7.0, batch_size=8, worker_pid=9)


def test_a_sum_that_would_lack_a_part_is_left_out() -> None:
    assert decode("io;dur=4, io;dur=-5, model;dur=1") == Timings(model_ms=1.0)
    assert decode('io;dur=4;desc="server=3", io;dur=5') == Timings(io_ms=9.0)
    assert decode("io;dur=3000000, io;dur=3000000") == NOTHING


@pytest.mark.parametrize(
    "text", ["0", "-1", "2.5", str(MAX_WHOLE + 1), "1e300", "9" * 400, "nan", "0x10", "1_0"]
)
def test_an_impossible_batch_size_or_process_id_is_left_out(text: str) -> None:
    assert decode(f'model;dur=8;desc="batch={text} pid={text}"') == Timings(model_ms=8.0)


def test_a_header_that_is_too_long_is_ignored() -> None:
    padding = "x;dur=1," * (MAX_HEADER_CHARS // 8)
    assert decode(padding[:-16] + "model;dur=8").model_ms == 8.0
    assert decode(padding + "model;dur=8") == NOTHING
    assert longest_ms(padding + "model;dur=8") is None


PARTS = {
    "queue_ms": r"queue;[^,]*, ",
    "model_cpu_ms": r"cpu=\S* ",
    "batch_size": r"batch=\S* ",
    "io_ms": r"io;[^,]*, ",
    "io_server_ms": r';desc="server=[^"]*"',
    "entered_ms": r';desc="entered=[^"]*"',
}


@pytest.mark.parametrize("missing", PARTS)
def test_an_omitted_part_is_none(missing: str) -> None:
    header, found = re.subn(PARTS[missing], "", written(drawn(random.Random(2))))
    assert found == 1
    got = decode(header)
    assert getattr(got, missing) is None
    described = {"io_ms": "io_server_ms"}.get(missing)  # it is part of that entry
    present = [name for name in DURATIONS if name not in (missing, described)]
    assert all(getattr(got, name) is not None for name in present)


@pytest.mark.parametrize(
    "header",
    [
        "miss, db;dur=53, app;dur=47.2",
        "customView, dc;desc=atl",
        'cache;desc="Cache Read";dur=23.2',
        "total;dur=123.4",
        'cdn-cache; desc="HIT, from edge; pid=7"; dur=1, origin; dur=0',
    ],
)
def test_metrics_of_other_servers_are_ignored(header: str) -> None:
    assert decode(header) == NOTHING


def test_other_servers_may_send_some_of_our_durations_among_their_own() -> None:
    header = 'miss, db;dur=53, model;dur=47.2;desc="gpt, the small; one", cache;desc="Cache Read";dur=23.2'
    assert decode(header) == Timings(model_ms=47.2)


def test_commas_and_semicolons_in_a_description_separate_nothing() -> None:
    header = 'model;desc="a, queue;dur=1; handler;dur=2";dur=8, io;dur=5'
    assert decode(header) == Timings(model_ms=8.0, io_ms=5.0)


def test_an_escaped_quote_does_not_end_a_description() -> None:
    header = r'model;desc="say \"a, queue;dur=1\" twice";dur=8, io;dur=5'
    assert decode(header) == Timings(model_ms=8.0, io_ms=5.0)


@pytest.mark.parametrize(
    "header",
    [
        'MODEL;DUR=8.5;DESC="cpu=8 batch=2 pid=9"',
        ' Model ;\tdur = 8.5 ; desc = "cpu=8 batch=2 pid=9" ',
        'model;desc="cpu=8 batch=2 pid=9";dur="8.5"',
        'model;other;dur=8.5;another=;desc="  cpu=8   fast batch=2 pid=9 "',
        ',, ,model;dur=8.5;desc="cpu=8 batch=2 pid=9",;,',
    ],
)
def test_case_spaces_order_and_quotes_do_not_matter(header: str) -> None:
    assert decode(header) == Timings(model_ms=8.5, model_cpu_ms=8.0, batch_size=2, worker_pid=9)


@pytest.mark.parametrize(
    "number",
    [
        "fast",
        "",
        "12ms",
        "0x10",
        "1.2.3",
        "nan",
        "inf",
        "-inf",
        "1e999",
        "1_000",
        "\u0661",
        "infinity",
        "- 1",
    ],
)
def test_a_value_that_is_not_a_finite_number_is_none(number: str) -> None:
    header = f'queue;dur={number}, model;dur=8;desc="cpu={number} batch={number} pid={number}", io;dur=5'
    assert decode(header) == Timings(model_ms=8.0, io_ms=5.0)


@pytest.mark.parametrize("header", GARBAGE)
def test_garbage_gives_empty_timings_and_no_error(header: str) -> None:
    assert decode(header) == NOTHING


def test_no_string_of_header_characters_raises() -> None:
    draw = random.Random(3)
    pieces = ["model", "queue", ";", ",", "=", '"', "\\", " ", "dur", "desc", "pid=1", "5", "inf", "é", "\t"]
    for _ in range(5000):
        decode("".join(draw.choices(pieces, k=draw.randint(0, 30))))


@pytest.mark.timeout(10)
@pytest.mark.parametrize("end", ["", '"', "(", "\\"])
@pytest.mark.parametrize(
    "unit", ["a", " ", '"', ";", ",", "\\", '\\"', '"\\', "a;b=  ", ";b=  ", 'a;b="', '"a"', ',"', "=", "x,"]
)
def test_a_hostile_header_costs_no_more_than_its_length(unit: str, end: str) -> None:
    """A backtracking pattern took 45 s for fifty characters of this kind and blocked the client."""
    began = time.process_time()
    decode("model;dur=8;desc=" + unit * (LONG // len(unit)) + end)
    assert time.process_time() - began < 0.5


def test_the_longest_duration_in_any_servers_header_is_the_total() -> None:
    assert longest_ms('miss, db;dur=53, total;dur=120.5;desc="all, of it", app;dur=47.2') == 120.5
    assert longest_ms("") is longest_ms("miss, db;desc=x") is None
