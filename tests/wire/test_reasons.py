"""The error of a bad answer: short, on one line, and the same for the same reason."""

from __future__ import annotations

import json

import pytest

from harness.wire import reasons, sending
from harness.wire.records import (
    DOWNSTREAM,
    MEASURE,
    Identity,
    Outcome,
    Shot,
    Timings,
    has_logs,
    judge,
    to_rows,
)

MISSING = {"type": "missing", "loc": ["body", "text"], "msg": "Field required", "input": {"question": "who?"}}


def body(said: object) -> bytes:
    return json.dumps(said).encode()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (body({"detail": [MISSING]}), "body.text: Field required"),
        (body({"detail": [MISSING, {"msg": "Too long"}, 3]}), "body.text: Field required; Too long; 3"),
        (body({"detail": "Not\nFound"}), "Not Found"),
        (body({"error": "no model"}), '{"error": "no model"}'),
        (body({"detail": {"code": 7}}), '{"detail": {"code": 7}}'),
        (b"<html>\r\n<title>502  Bad\tGateway</title>", "<html> <title>502 Bad Gateway</title>"),
        (b"[" * 5_000, "[" * 199 + "…"),
        (b"\xff\xfe no text", "\ufffd\ufffd no text"),
        (b"", ""),
    ],
)
def test_an_excerpt_is_the_text_of_an_answer_on_one_line(said: bytes, words: str) -> None:
    assert reasons.excerpt(said) == words


def test_an_excerpt_does_not_control_a_terminal_or_reverse_the_text() -> None:
    assert reasons.excerpt(b"\x1b[31mred\x00\x07 \xe2\x80\xaeback\n\n") == "[31mred back"
    assert reasons.excerpt(body({"detail": "a\x1b[2Jb"})) == "a [2Jb"


def test_an_excerpt_keeps_200_characters_and_reads_little_more() -> None:
    words = reasons.excerpt(b"word " * 1_000_000)
    assert len(words) == reasons.MAX_LINE_CHARS
    assert words.endswith("…")


def test_a_secret_that_a_server_repeats_is_hidden_in_an_excerpt() -> None:
    headers = [("Authorization", "Bearer s3cret"), ("X-Mine", "${MINE}"), ("X-Tenant", "acme")]
    filled = sending.expanded(headers, {"MINE": "hidden-too"})
    secrets = sending.secrets(headers, [*filled, ("Content-Type", "application/json")])
    said = reasons.excerpt(b"'Bearer s3cret' is no key, s3cret and hidden-too of acme neither", secrets)
    assert said == "'(kept secret)' is no key, (kept secret) and (kept secret) of acme neither"


def test_the_error_of_a_row_does_not_depend_on_the_body() -> None:
    said = {reasons.of_answer(422, body({"detail": f"item {number} is bad"})) for number in range(9)}
    assert said == {"HTTP 422"}


def test_the_error_names_the_failed_io_of_our_own_app() -> None:
    said = body({"detail": f"{DOWNSTREAM}pgvector: it is gone"})
    assert reasons.of_answer(502, said) == f"HTTP 502: {DOWNSTREAM}pgvector: it is gone"
    assert len(reasons.of_answer(502, body({"detail": DOWNSTREAM + "x" * 900}))) == reasons.MAX_LINE_CHARS


def test_the_error_of_an_exception_is_its_root_cause() -> None:
    outer = RuntimeError("wrapped")
    outer.__cause__ = ConnectionResetError(104, "reset\nby peer")
    assert reasons.of_exception(outer) == "ConnectionResetError: [Errno 104] reset by peer"
    assert reasons.of_exception(TimeoutError()) == "TimeoutError"


def test_a_trial_without_a_good_answer_quotes_the_most_common_bad_one() -> None:
    shots = [
        Shot(number, MEASURE, 0.0, 0.0, 1.0, Timings(), status, f"HTTP {status}")
        for number, status in enumerate([503, 422, 422])
    ]
    said = {"HTTP 503": "full", "HTTP 422": "body.text: Field required"}
    identity = Identity(1, 1, 0, "server", "", "closed(1)", 1, None, "", None)
    outcome = Outcome(shots, 0.0, 1.0, 0.0, bad_answers=said)
    trial, samples = to_rows(identity, outcome, started_at="2026-01-01T00:00:00Z", fault=judge(outcome))
    assert trial.error == "none of 3 requests got a good answer (HTTP 422: body.text: Field required)"
    assert [sample.error for sample in samples] == ["HTTP 503", "HTTP 422", "HTTP 422"]


@pytest.mark.parametrize("depth", [*range(880, 1000, 4), 3_000])
def test_no_depth_of_nested_json_is_an_error(depth: int) -> None:
    """At some depths, json can parse data that it cannot write."""
    for said in (b"[" * depth + b"]" * depth, b'{"msg": ' + b"[" * depth + b"]" * depth + b"}"):
        assert reasons.excerpt(b'{"detail": [' + said + b"]}")
    assert reasons.of_answer(502, DOWNSTREAM.encode() + b"[" * depth) == "HTTP 502"


@pytest.mark.parametrize(
    "said",
    [b'{"detail": "a\\ud800b"}', b'{"detail": [{"msg": "a", "loc": ["\\udc80", "b"]}]}', b"a\xed\xa0\x80b"],
)
def test_half_a_surrogate_pair_is_not_passed_on(said: bytes) -> None:
    words = reasons.excerpt(said)
    assert words.encode()
    assert words[0] in "a."
    assert words[-1] in "ab"


def test_a_body_is_decoded_as_utf_8_without_its_byte_order_mark() -> None:
    assert reasons.excerpt(b'\xef\xbb\xbf{"detail": "no"}') == "no"
    assert reasons.excerpt("{}".encode("utf-16-le")) == "{ }"


@pytest.mark.parametrize(
    ("plan", "has"),
    [(None, False), ({"arms": [{"url": "http://x/"}]}, False), ({"arms": [{"name": "thread"}]}, True)],
)
def test_only_servers_started_by_the_run_leave_a_log(plan: object, has: bool) -> None:
    assert has_logs({"plan": plan}) is has
