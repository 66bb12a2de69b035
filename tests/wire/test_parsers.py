"""Every parser returns a value or one refusal in bounded time, and reads what its `str` prints."""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from server_timing_headers import written

from harness.analysis import slo
from harness.errors import UsageError
from harness.plans import from_flags, grid, settings
from harness.system import toml
from harness.wire import addresses, arrivals, sending, timings
from harness.wire.options import WorkloadOptions, checked_options
from harness.wire.records import Timings
from harness.wire.spelling import parse_io

PARSERS: dict[str, Callable[[str], Any]] = {
    "arrivals": arrivals.parse,
    "slo": lambda text: slo.parse([text]),
    "axis": lambda text: grid.axes([text]),
    "option": lambda text: checked_options(settings.pairs([text], "--option")),
    "strategy": from_flags.arm_of,
    "header": sending.parse_header,
    "body": lambda text: sending.check_body(text, ""),
    "filled body": lambda text: sending.filler(text)('a "text"'),
    "json body": lambda text: sending.check_body(text, "application/json"),
    "address": addresses.checked,
    "path": addresses.checked_path,
    "target": lambda text: addresses.filler(addresses.parse(f"http://127.0.0.1/{text}").target)("a & b"),
    "method": sending.checked_method,
    "share": settings.find("precision", "plan").parse,
    "delay": lambda text: settings.find("inject", "arm").parse([text]),
    "io": parse_io,
    "workload with io": lambda text: WorkloadOptions.model_validate({"io": text}),
    "payloads": lambda text: WorkloadOptions.model_validate({"payloads": text}),
    "server timing": timings.decode,
    "longest of server timing": timings.longest_ms,
    "toml": lambda text: toml.parse(text, "the plan", "plan"),
}
WORDS = [
    *["closed(", "poisson(", "burst(", "own(", "replay(", ")", "50", "0.5", "1e308", "nan", "inf", "9" * 400],
    *["p99", "p99.9", "mean", "latency", "io", "errors", "<", "100", "ms", "s", "%", " ", "\t", "\n", ","],
    *["workers", "max_batch", "torch_threads", "io_ms", "over", "=", "batch", "process", ":", "-", "_"],
    *["X-Tenant", "Content-Length", "${TOKEN}", "{text}", '{"a": ', "}", '"', "'", "[", "]", "\\", "\0"],
    *["http://", "https://", "a..b", "127.0.0.1", ":80", "/", "@", "?", "#", "\r", "☃", "\ud800", "~", "٣"],
    *[
        "sleep",
        "socket",
        "pgvector",
        "5ms",
        "queue",
        "dur=",
        "desc=",
        ";",
        "model",
        "a.",
        "\ufeff",
        "#",
        "GET",
    ],
]
LONGEST = 2_000
TEXTS = (
    st.text(max_size=40)
    | st.lists(st.sampled_from(WORDS), max_size=12).map("".join)
    | st.builds(
        lambda part, end: (part * LONGEST)[:LONGEST] + end, st.sampled_from(WORDS), st.sampled_from(WORDS)
    )
    | st.builds(
        lambda start, part: start + (part * LONGEST)[:LONGEST], st.sampled_from(WORDS), st.sampled_from(WORDS)
    )
)


def parsed(parse: Callable[[str], Any], text: str) -> Any:
    """Return the value; None for a refusal that the command line turns into one message."""
    try:
        return parse(text)
    except (UsageError, ValueError):  # includes pydantic's ValidationError
        return None


@examples(500, 20_000)
@given(text=TEXTS)
def test_every_parser_returns_a_value_or_one_refusal_for_any_text(text: str) -> None:
    for parse in PARSERS.values():
        parsed(parse, text)


# -- what is printed is read back ------------------------------------------------------------------------

NUMBERS = st.floats(0.001, 20_000.0).map(lambda number: float(f"{number:.15g}"))
USERS = st.integers(1, 10_000).map(float)
LAWS = (
    st.tuples(st.sampled_from(["constant", "poisson"]), NUMBERS)
    | st.tuples(st.just("closed"), USERS)
    | st.tuples(st.just("own"), st.floats(0.01, 10.0).map(lambda share: round(share, 9)))
    | st.tuples(st.just("burst"), USERS, st.floats(0.5, 1e6).map(lambda every: float(f"{every:.15g}")))
)


@examples(500, 20_000)
@given(parts=LAWS)
def test_a_law_is_read_as_it_is_printed(parts: tuple[Any, ...]) -> None:
    law = arrivals.Law(*parts)
    assert arrivals.parse(str(law)) == law


@st.composite
def objectives(draw: st.DrawFn) -> str:
    number = draw(st.integers(1, 999_999_999)) / draw(st.sampled_from([1, 10, 1_000, 100_000]))
    limit = f"{number:.6f}".rstrip("0").rstrip(".")
    what = draw(st.sampled_from(["p50", "p99 latency", "p99.9 io", "mean latency", "mean io", "errors"]))
    return f"{what} < {limit} {'%' if what == 'errors' else draw(st.sampled_from(['ms', 's']))}"


@examples(500, 20_000)
@given(text=objectives())
def test_an_objective_is_read_as_it_is_printed(text: str) -> None:
    found = parsed(PARSERS["slo"], text)
    if found:
        (again,) = slo.parse([str(found[0])])
        assert (again.metric, again.percent) == (found[0].metric, found[0].percent)
        assert again.limit == pytest.approx(found[0].limit, rel=1e-12)


@examples(500, 20_000)
@given(
    values=st.lists(st.integers(1, 1_000), min_size=1, max_size=6, unique=True),
    name=st.sampled_from(["workers", "max_batch", "torch_threads", "max-queue"]),
)
def test_an_axis_is_read_as_it_is_written(values: list[int], name: str) -> None:
    found = grid.axes([f"{name}={','.join(map(str, values))}"])
    assert found == {name.replace("-", "_"): tuple(values)}


TOKENS = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=20)
VALUES = st.text(string.ascii_letters + string.digits + " :;=,/\"'{}$", max_size=40).map(str.strip)


@examples(500, 20_000)
@given(name=TOKENS, value=VALUES)
def test_a_header_is_read_as_it_is_written(name: str, value: str) -> None:
    found = parsed(sending.parse_header, f"{name}: {value}")
    assert found in ((name, value), None)


@examples(500, 20_000)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_a_text_is_unchanged_in_a_json_body(text: str) -> None:
    assert json.loads(sending.filler('{"query": "{text}"}')(text)) == {"query": text}
    assert json.loads(sending.filler('{"query": {text}}')(text)) == {"query": text}


DURATIONS = st.floats(0, 1e6).map(lambda number: round(number, 3))


@examples(500, 20_000)
@given(
    stretches=st.tuples(*[DURATIONS] * 7), server_ms=DURATIONS | st.none(), batch_size=st.integers(1, 1_000)
)
def test_timings_are_read_as_they_are_sent(
    stretches: tuple[float, ...], server_ms: float | None, batch_size: int
) -> None:
    entered, queue, model, cpu, resume, io, handler = stretches
    sent = Timings(entered, queue, model, cpu, resume, io, server_ms, handler, batch_size, worker_pid=7)
    assert timings.decode(written(sent)) == sent


@examples(500, 20_000)
@given(took_ms=st.integers(0, 10**8), kind=st.sampled_from(["sleep", "socket"]))
def test_an_io_is_read_as_it_is_written(took_ms: int, kind: str) -> None:
    assert parse_io(f"{kind}:{took_ms}ms") == {"io": kind, "io_ms": float(took_ms)}


# -- long ones ------------------------------------------------------------------------------------------


STARTS = ["", "poisson(", "p99", "workers=", "X: ", '{"a', "http://", "model;", "a="]
PARTS = [" ", "(", "a", "9", "a.", '"', "\\", "{", "[", ";", ",", "p99 ", "http://", "${"]


@pytest.mark.parametrize("name", PARSERS)
def test_a_text_of_thirty_thousand_characters_is_parsed_in_time(name: str) -> None:
    """A parser with quadratic time would need a minute."""
    for start in STARTS:
        for part in PARTS:
            parsed(PARSERS[name], start + part * (30_000 // len(part)))
