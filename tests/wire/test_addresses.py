"""URLs: which are refused when given, and that all others are sent byte for byte."""

from __future__ import annotations

import re

import pytest
from conftest import Invoke
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.plans import plan_files
from harness.wire import addresses
from harness.wire.load_options import LoadOptions, Request
from harness.wire.options import WorkloadOptions

BAD = {
    "http://h/\r": "a carriage return",
    "http://h/a\tb": "a tab",
    "http://h/\n": "a line break",
    "http://h/\0": "a NUL",
    "http://h/\x1b[31m": "cannot be printed",
    "http://h/\udcff": "not UTF-8",
    " http://h/": "starts or ends with a space",
    "http://a..b/": "no valid host name",
    "http://-a/": "no valid host name",
    "http://a b/": "no valid host name",
    "http://a%20b/": "no valid host name",
    "http://☃.localhost/": "no valid host name",
    f"http://{'a' * 64}/": "no valid host name",
    f"http://{'a.' * 130}b/": "no valid host name",
    "http://{text}/": "no valid host name",
    "http://h\\x/": "a backslash",
    "http://xn--a/": "no valid host name",
    "http://[v1.x]/": "no valid IP address",
    "http://256.1.1.1/": "no valid IP address",
    "http://127.1/": "no valid IP address",
    "http://0x7f.0.0.1.0x1/": "no valid IP address",
    "http://2130706433/": "no valid IP address",
    "http://[::1": "not an HTTP URL",
    "http://[::g]/": "not an HTTP URL",
    "http://[fe80::1%25eth0]/": "names an IPv6 zone",
    f"http://h/{'a' * 70_000}": "too long",
    "http://h:0/": "port 0",
    "http://h:99999/": "ort out of range",
    "http://h:-1/": "not an HTTP URL",
    "http://h:abc/": "not an HTTP URL",
    "http:///x": "not an HTTP URL",
    "ftp://h/": "not an HTTP URL",
    "h:80": "not an HTTP URL",
    "": "not an HTTP URL",
    "http://me@h/": "send credentials in a header",
    "http://me:secret@h/": "send credentials in a header",
    "http://h/{id}": r"only {text} is replaced",
    "http://h/?q=%7Btext%7d": "percent-encoded",
}


@pytest.mark.parametrize("url", BAD)
def test_an_address_that_cannot_be_sent_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(ValueError, match=re.escape(BAD[url])) as caught:
        addresses.checked(url)
    said = str(caught.value)
    assert said.isprintable()
    assert len(said) < 400
    assert "secret" not in said


@pytest.mark.parametrize(
    "words",
    [
        ("load", "http://a..b:8000/", "-c", "1"),
        ("load", "http://127.0.0.1:1/ok\r"),
        ("run", "--url", "a=http://127.0.0.1:1/ok\r", "--blocks", "1"),
        ("run", "--io", "http://a..b/"),
        ("run", "--io", "http:http://h/{text}"),
        ("run", "--url", "a=http://h/", "--ping-path", "//other.example/x"),
        ("run", "--url", "a=http://h/", "--ping-path", "/\\other.example/x"),
        ("run", "--url", "a=http://h/", "--ping-path", "/x\r\nHost: y"),
    ],
)
def test_the_command_line_refuses_it_before_anything_starts(invoke: Invoke, words: tuple[str, ...]) -> None:
    done = invoke(*words)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("Error (")


@pytest.mark.parametrize("path", ["//h/x", "/\\h/x", "x", "", "\\\\h", "/{text}", "/\t/h", "http://h/"])
def test_a_path_that_may_name_another_server_is_refused_in_plans_too(path: str) -> None:
    plan = {
        "name": "p",
        "concurrency": [1],
        "requests": 1,
        "arms": [{"name": "a", "url": "http://x/"}],
        "ask": {"ping_path": path},
    }
    with pytest.raises(UsageError, match="ping_path"):
        plan_files.make(plan, source="plan")


def test_a_ping_stays_on_the_arms_server() -> None:
    load = LoadOptions(url="", arrivals="closed(1)", requests=1, ping_url="/a//b?c").at("http://h:8/deep/x?q")
    assert (load.url, load.ping_url) == ("http://h:8/deep/x?q", "http://h:8/a//b?c")


AS_GIVEN = (
    "/x/%2E%2E/y",
    "/x/../y",
    "//a//b",
    "/?sig=ab%2Fcd%2Bef%3D",
    "/?next=http%3A%2F%2Fh%2F%3Fa%3D1%26b%3D2",
    "/a;b=c?d;e+f&&=%zz",
    "/x?",
    "/%7Euser?q=%27x%27%28%29",
    "/[1]|^`\"<>\\'~",
)


@pytest.mark.parametrize("target", AS_GIVEN)
def test_a_target_is_sent_as_it_was_given(target: str) -> None:
    assert sent(f"http://h:8{target}#fragment") == target


def sent(url: str, text: str = "") -> str:
    return addresses.filler(addresses.parse(url).target)(text).decode()


def test_characters_that_a_target_cannot_hold_are_percent_encoded_once() -> None:
    assert sent("http://h/ä b?q=ö%C3") == "/%C3%A4%20b?q=%C3%B6%C3"
    assert sent("http://h?x") == "/?x"
    assert sent("http://h") == "/"


def test_a_text_is_percent_encoded_in_path_and_query() -> None:
    assert sent("http://h/{text}?q={text}", "a/b &ü") == "/a%2Fb%20%26%C3%BC?q=a%2Fb%20%26%C3%BC"


def test_a_host_name_that_is_not_ascii_is_sent_in_its_dns_form() -> None:
    assert addresses.parse("https://bücher.example:8/").origin == "https://xn--bcher-kva.example:8"
    assert addresses.parse("http://[0:0::1]:8/").origin == "http://[::1]:8"


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.text(max_size=80), st.text(max_size=60).map("http://".__add__)))
def test_any_text_is_an_address_or_refused(url: str) -> None:
    try:
        origin, target = addresses.parse(url)
    except ValueError:
        return
    assert origin.isascii()
    assert target.startswith("/")
    assert addresses.filler(target)("ü").isascii()


def test_texts_need_a_place_in_each_address() -> None:
    workload = WorkloadOptions()
    asked = Request().load(workload, 1, ["http://h/?q={text}"])
    assert (asked["method"], asked["body"], asked["texts"].seed) == ("GET", None, 1)
    with pytest.raises(ValueError, match="one of the addresses has no"):
        Request().load(workload, 1, ["http://h/?q={text}", "http://h/"])
    both = Request(body='{"q": "{text}"}').load(workload, 1, ["http://h/{text}", "http://h/"])
    assert both["method"] == "POST"
