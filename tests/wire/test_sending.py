"""Headers and bodies: what is refused, what is saved, and how a text is inserted into a body."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from urllib.parse import parse_qs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.wire import options, reasons, sending, setting
from harness.wire.options import WorkloadOptions

FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize("kept", ["abc\r", "abc\nX: y", "a\0c", "naïve-s3cret"])
def test_an_invalid_value_from_the_environment_is_refused_without_being_printed(kept: str) -> None:
    with pytest.raises(ValueError, match="Authorization contains a") as caught:
        sending.expanded([("Authorization", "Bearer ${T}")], {"T": kept})
    assert ("line break" in str(caught.value)) == ("\r" in kept or "\n" in kept)
    assert kept not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["X-Pwd", "X-Bearer", "X-JWT", "X-PAT", "Cookie", "Proxy-Authorization", "X-Anything"]
)
def test_only_values_of_harmless_headers_are_saved(name: str) -> None:
    assert sending.redacted((name, "s3cret")) == (name, sending.REDACTED)
    assert sending.redacted((name, "s3cret ${X}")) == (name, sending.REDACTED)
    assert sending.redacted((name, "Basic s3cret ${X}")) == (name, sending.REDACTED)
    assert sending.redacted((name, "Bearer ${X}")) == (name, "Bearer ${X}")
    assert sending.secrets([(name, "s3cret")], [(name, "s3cret")]) == ["s3cret"]
    assert sending.redacted(("Accept", "text/plain")) == ("Accept", "text/plain")


def test_a_command_reads_a_redacted_value_from_the_environment() -> None:
    for value in ("s3cret", sending.REDACTED):  # an older run.json may contain the plain value
        assert sending.for_command(("X-Pwd", value)) == ("X-Pwd", "${HEADER_X_PWD}")
    assert sending.for_command(("Accept", "a/b")) == ("Accept", "a/b")


def test_a_header_may_contain_a_variable_called_text_but_not_the_placeholder() -> None:
    with pytest.raises(ValueError, match="bodies"):
        sending.parse_header("X-Tenant: {text}")
    assert sending.parse_header("X-Tenant: ${text}") == ("X-Tenant", "${text}")


@pytest.mark.parametrize("name", ["Content-Length", "Transfer-Encoding", "connection", "Expect"])
def test_a_header_about_the_connection_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="set by the load generator itself"):
        sending.parse_header(f"{name}: 100-continue")


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_text_arrives_unchanged_in_a_form_and_in_json(text: str) -> None:
    form = sending.filler("text={text}&lang=en", FORM)(text)
    assert parse_qs(form.decode(), keep_blank_values=True) == {"text": [text], "lang": ["en"]}
    assert json.loads(sending.filler('{"q": ["{text}"]}')(text)) == {"q": [text]}


def test_a_text_arrives_unchanged_in_xml() -> None:
    body = sending.filler('<q a="{text}">{text}</q>', "application/soap+xml")("<a & 'b' \"c\">")
    found = ET.fromstring(body)
    assert (found.text, found.get("a")) == ("<a & 'b' \"c\">", "<a & 'b' \"c\">")


@pytest.mark.parametrize(
    ("called", "said"),
    [("multipart/form-data; boundary=x", "multipart"), ("text/plain; charset=iso-8859-1", "in UTF-8")],
)
def test_a_body_that_contradicts_its_content_type_is_refused(called: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        sending.check_body("a {text}", called)
    sending.check_body("a {text}", "text/plain; charset=UTF-8".lower())


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:p@h/db",
        "postgresql://h/db?password=x",
        "postgresql://h/db?pass%77ord=x",
        "postgresql://h/db?a=b&PASSWORD=x",
        "postgresql://h/db?pass%2577ord=x",
        "postgresql://h/db?sslpassword=x",
        "host=h password=x",
        "host=h password = x",
        "postgresql://u%3As3cret@h/db",
        "postgresql://h/db?PGPASSWORD=x",
    ],
)
def test_a_password_in_a_dsn_is_refused_in_every_form(dsn: str) -> None:
    with pytest.raises(ValueError, match="PGPASSWORD"):
        WorkloadOptions(io_dsn=dsn)
    assert options.WorkloadOptions(io_dsn="postgresql://h/passwords?passfile=/x").io_dsn


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:s3/cret@h/db",
        "postgresql://u:s3?cret@h/db",
        "postgresql://u:s3#cret@h/db",
        "u:s3cret@h/db",
        "//u:s3cret@h/db",
        "postgresql:/u:s3cret@h/db",
        "mysql://h/db",
    ],
)
def test_a_dsn_that_may_hide_a_password_is_refused_without_being_repeated(dsn: str) -> None:
    with pytest.raises(ValidationError) as caught:
        WorkloadOptions(io_dsn=dsn)
    assert "cret" not in setting.explain(caught.value)


def test_any_part_of_a_secret_that_a_server_repeats_is_hidden() -> None:
    known = {"SESSION": "s3ss10n", "KEY": "k3y/abc"}
    headers = [("Cookie", "session=${SESSION}; theme=dark"), ("Authorization", "Key id=me, key=${KEY}")]
    headers += [("X-Login", "user=me;pw=l1teral-s3cret"), ("Accept", "${KEY}")]
    found = sending.secrets(headers, sending.expanded(headers, known), known)
    for said in ("no session s3ss10n", "bad key: k3y/abc", "pw l1teral-s3cret"):
        hidden = reasons.hidden(said, found)
        assert hidden.endswith(sending.REDACTED), hidden
    assert reasons.hidden("dark", found) == "dark"


def test_a_body_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(ValueError, match="not UTF-8"):
        sending.check_body("caf\udce9", "text/plain")
    sending.check_body("café ☃", "text/plain")
