"""What a server that runs already is sent: headers and bodies, from the words of flags and plans."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

from harness.system import text_files
from harness.wire.addresses import TEXT

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
HIDDEN = "(kept secret)"  # stands in run.json for what a secret header held
USUAL_BODY = '{"text":{text}}'

Header = tuple[str, str]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_REFERENCE = re.compile(r"\$\{(\w+)\}")
# nothing in such a value is secret: "${TOKEN}", "Bearer ${TOKEN}"
_ONLY_REFERENCE = re.compile(r"((bearer|basic|digest|token|api-?key) +)?\$\{\w+\}", re.IGNORECASE)
_TEXT_ALONE = re.compile(r"(?<!\$)\{text\}")  # and not a reference to the variable `text`
_HARMLESS = frozenset(
    {
        "accept",
        "accept-charset",
        "accept-encoding",
        "accept-language",
        "cache-control",
        "content-encoding",
        "content-language",
        "content-type",
        "host",
        "origin",
        "pragma",
        "user-agent",
        "x-request-id",
        "x-tenant",
    }
)  # only what these hold is written down
_SHORTEST_SECRET = 4  # characters; less is found in every text
_PARTS = re.compile(r"[^\s;,=:\"]{8,}")  # of a value, between its separators
_CHARSET = re.compile(r"charset=[\"']?([\w-]+)")
_OWN = ("content-length", "transfer-encoding", "connection", "expect")


# -- headers -------------------------------------------------------------------------------------------


def parse_header(line: str) -> Header:
    """`Name: value` → its two parts; ValueError that says what is wrong, without the value."""
    name, colon, value = line.partition(":")
    if not colon:
        raise ValueError("a header is a line as in 'X-Tenant: a', and one has no colon")
    return checked_header((name.strip(" \t"), value.strip(" \t")))


def checked_header(header: Header) -> Header:
    """The header again; ValueError, without the value, where it cannot be sent."""
    name, value = header
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a header")
    if fault := _fault_of(value):
        raise ValueError(f"the value of the header {name} holds {fault}")
    if _TEXT_ALONE.search(value):
        raise ValueError(f"the value of the header {name} holds {TEXT}, which is replaced in bodies only")
    if name.lower() in _OWN:
        raise ValueError(f"the header {name} is the load generator's own")
    return header


def _fault_of(value: str) -> str:
    """What a value holds that no header can; "" for a good one. Does not name the value: it may be secret."""
    if "\r" in value or "\n" in value:
        return "a line break"
    if not value.isprintable():
        return "a character that cannot be printed"
    return "" if value.isascii() else "a character that is not ASCII"


def redacted(header: Header) -> Header:
    """As it may be written down: known harmless headers, and of others only references to the environment."""
    name, value = header
    if name.lower() in _HARMLESS or _ONLY_REFERENCE.fullmatch(value):
        return header
    return name, HIDDEN


def asked_again(header: Header) -> Header:
    """As a command may say it: a value that is not written down is read from the environment."""
    name, value = redacted(header)
    if value != HIDDEN:
        return name, value
    variable = re.sub(r"[^A-Z0-9]", "_", f"HEADER_{name.upper()}")
    return name, f"${{{variable}}}"


def expanded(headers: Iterable[Header], environment: Mapping[str, str] = os.environ) -> list[Header]:
    """With `${NAME}` replaced from the environment; KeyError with the name of what is not there.

    ValueError for a value that was not kept, and for one that cannot be sent.
    """
    return [checked_header((name, _filled(name, value, environment))) for name, value in headers]


def secrets(
    headers: Iterable[Header],
    filled: Iterable[Header],
    environment: Mapping[str, str] = os.environ,
) -> list[str]:
    """What no page may show of the headers as they are sent (`filled`), the longest first.

    Each value that was read from the environment, and each value of a header that is not known to be
    harmless. Of the latter also the parts that a server may repeat alone: the last word of `Bearer abc`, and
    those of `session=abcdefgh; user=…` that have some length.
    """
    found: set[str] = set()
    for (name, template), (_, value) in zip(headers, filled, strict=False):  # what we add comes last
        if name.lower() not in _HARMLESS or _REFERENCE.search(template):
            found |= {value, *value.split()[-1:], *_PARTS.findall(value)}
        found |= {environment.get(variable, "") for variable in _REFERENCE.findall(template)}
    return sorted((text for text in found if len(text) >= _SHORTEST_SECRET), key=len, reverse=True)


def _filled(name: str, value: str, environment: Mapping[str, str]) -> str:
    if value == HIDDEN:
        raise ValueError(f"what the header {name} held was not kept")
    return _REFERENCE.sub(lambda found: environment[found[1]], value)


# -- bodies --------------------------------------------------------------------------------------------


def checked_method(method: str) -> str:
    """In capitals; ValueError for one that there is not."""
    if method.upper() not in METHODS:
        near = difflib.get_close_matches(method.upper(), METHODS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(METHODS)}"
        raise ValueError(f"there is no method {method!r}; {hint}")
    return method.upper()


def content_type(headers: Iterable[Header]) -> str:
    """What the headers call the body; "" when they say nothing."""
    return next((value.lower() for name, value in headers if name.lower() == "content-type"), "")


def is_json(template: str) -> bool:
    """Whether a body is JSON once its texts stand in it."""
    return _fits(template, _inside) or _fits(template, _whole)


def check_body(template: str, called: str) -> None:
    """ValueError for what is to be JSON, by what it is `called` or else by how it begins, and is none."""
    begins_so = not called and template.lstrip().startswith(("{", "[")) and not template.startswith(TEXT)
    if ("json" in called or begins_so) and not is_json(template):
        raise ValueError("the body is no JSON (what else it is, a header Content-Type can say)")
    if TEXT in template and "multipart/" in called:
        raise ValueError(
            f"a multipart body has no place for {TEXT}; send JSON or a form (x-www-form-urlencoded)"
        )
    if not text_files.is_utf8(template):
        raise ValueError("the body holds bytes that are not UTF-8")
    charset = _CHARSET.search(called)
    if charset and charset[1] not in ("utf-8", "utf8"):
        raise ValueError(f"a body is sent in UTF-8, and its Content-Type says {charset[1]}")


def filler(template: str, called: str = "") -> Callable[[str], bytes]:
    """Text → the body with the text at `{text}`: within JSON's quotes escaped, without them quoted as well.

    A form takes it percent-encoded, XML escaped. Any other body takes the text as it is.
    """
    ways = (_inside, _whole) if not called or "json" in called else ()
    put = next((way for way in ways if _fits(template, way)), _as_called(called))
    parts = template.split(TEXT)
    return lambda text: put(text).join(parts).encode()


def _as_called(called: str) -> Callable[[str], str]:
    """How a text is written into a body that is no JSON."""
    if "x-www-form-urlencoded" in called:
        return quote_plus
    return _in_xml if "xml" in called else str


def _in_xml(text: str) -> str:
    return escape(text, {'"': "&quot;", "'": "&apos;"})


def _inside(text: str) -> str:
    return _whole(text)[1:-1]


def _whole(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _fits(template: str, put: Callable[[str], str]) -> bool:
    try:
        json.loads(template.replace(TEXT, put('a "text"')))
    except (ValueError, RecursionError):
        return False
    return True
