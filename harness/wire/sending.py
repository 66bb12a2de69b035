"""Headers and bodies for servers that are not ours, from the texts of flags and plans."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

from harness.system import text_files
from harness.wire.addresses import PLACEHOLDER

WITH_BODY = ("POST", "PUT", "PATCH")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
REDACTED = "(kept secret)"  # replaces the value of a secret header in run.json
DEFAULT_BODY = '{"text":{text}}'

Header = tuple[str, str]

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VARIABLE = re.compile(r"\$\{(\w+)\}")
# a value without anything secret: "${TOKEN}", "Bearer ${TOKEN}"
_ONLY_VARIABLE = re.compile(r"((bearer|basic|digest|token|api-?key) +)?\$\{\w+\}", re.IGNORECASE)
_TEXT_NOT_VARIABLE = re.compile(r"(?<!\$)\{text\}")  # {text}, but not ${text}
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
)  # only their values are saved
_MIN_SECRET_CHARS = 4  # shorter strings occur in almost any text
_LONG_PARTS = re.compile(r"[^\s;,=:\"]{8,}")  # parts of a value between separators
_CHARSET = re.compile(r"charset=[\"']?([\w-]+)")
_SET_BY_CLIENT = ("content-length", "transfer-encoding", "connection", "expect")


# -- headers -------------------------------------------------------------------------------------------


def parse_header(line: str) -> Header:
    """Parse `Name: value`. Raises ValueError, without the value in its text, if that cannot be sent."""
    name, colon, value = line.partition(":")
    if not colon:
        raise ValueError("a header must look like 'X-Tenant: a'; one has no colon")
    return checked_header((name.strip(" \t"), value.strip(" \t")))


def checked_header(header: Header) -> Header:
    """Return the header. Raises ValueError, without the value in its text, if it cannot be sent."""
    name, value = header
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a valid header name")
    if invalid := _invalid_part(value):
        raise ValueError(f"the value of the header {name} contains {invalid}")
    if _TEXT_NOT_VARIABLE.search(value):
        raise ValueError(
            f"the value of the header {name} contains {PLACEHOLDER}, which is replaced in bodies only"
        )
    if name.lower() in _SET_BY_CLIENT:
        raise ValueError(f"the header {name} is set by the load generator itself")
    return header


def _invalid_part(value: str) -> str:
    """Describe what is invalid in a header value, without quoting it, as it may be secret; "" if valid."""
    if "\r" in value or "\n" in value:
        return "a line break"
    if not value.isprintable():
        return "a character that cannot be printed"
    return "" if value.isascii() else "a character that is not ASCII"


def redacted(header: Header) -> Header:
    """Return the header as it may be saved: with harmless values and references to the environment only."""
    name, value = header
    if name.lower() in _HARMLESS or _ONLY_VARIABLE.fullmatch(value):
        return header
    return name, REDACTED


def for_command(header: Header) -> Header:
    """Return the header as a command may show it: a redacted value becomes a reference to the environment."""
    name, value = redacted(header)
    if value != REDACTED:
        return name, value
    variable = re.sub(r"[^A-Z0-9]", "_", f"HEADER_{name.upper()}")
    return name, f"${{{variable}}}"


def expanded(headers: Iterable[Header], environment: Mapping[str, str] = os.environ) -> list[Header]:
    """Replace `${NAME}` in the headers by variables of the environment.

    Raises KeyError with the name of a variable that is not set. Raises ValueError for a value that is
    redacted or that cannot be sent.
    """
    return [checked_header((name, _filled(name, value, environment))) for name, value in headers]


def secrets(
    headers: Iterable[Header],
    filled: Iterable[Header],
    environment: Mapping[str, str] = os.environ,
) -> list[str]:
    """Return all strings that must not appear in any output, the longest first.

    These are the values that come from the environment and, in the headers as sent (`filled`), the values of
    all headers that are not known to be harmless. Of the latter, also return parts that a server may repeat
    alone: the last word of `Bearer abc`, and the long parts of `session=abcdefgh; user=…`.
    """
    found: set[str] = set()
    for (name, template), (_, value) in zip(
        headers, filled, strict=False
    ):  # `filled` may end with added headers
        if name.lower() not in _HARMLESS or _VARIABLE.search(template):
            found |= {value, *value.split()[-1:], *_LONG_PARTS.findall(value)}
        found |= {environment.get(variable, "") for variable in _VARIABLE.findall(template)}
    return sorted((text for text in found if len(text) >= _MIN_SECRET_CHARS), key=len, reverse=True)


def _filled(name: str, value: str, environment: Mapping[str, str]) -> str:
    if value == REDACTED:
        raise ValueError(f"the value of the header {name} was not saved")
    return _VARIABLE.sub(lambda found: environment[found[1]], value)


# -- bodies --------------------------------------------------------------------------------------------


def checked_method(method: str) -> str:
    """Return the method in capitals. Raises ValueError if it is unknown."""
    if method.upper() not in METHODS:
        near = difflib.get_close_matches(method.upper(), METHODS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"use one of: {', '.join(METHODS)}"
        raise ValueError(f"{method!r} is not an HTTP method; {hint}")
    return method.upper()


def content_type(headers: Iterable[Header]) -> str:
    """Return the Content-Type among the headers, in lower case; "" if there is none."""
    return next((value.lower() for name, value in headers if name.lower() == "content-type"), "")


def is_json(template: str) -> bool:
    """Return whether a body is JSON once a text is filled in."""
    return _gives_json(template, _json_escaped) or _gives_json(template, _json_quoted)


def check_body(template: str, content_type: str) -> None:
    """Raise ValueError if a body cannot be sent, or should be JSON and is not.

    It should be JSON if its Content-Type says so, or if it has none and starts like JSON.
    """
    looks_like_json = (
        not content_type and template.lstrip().startswith(("{", "[")) and not template.startswith(PLACEHOLDER)
    )
    if ("json" in content_type or looks_like_json) and not is_json(template):
        raise ValueError("the body is not JSON (if it should not be, set its type in a Content-Type header)")
    if PLACEHOLDER in template and "multipart/" in content_type:
        raise ValueError(
            f"{PLACEHOLDER} is not supported in a multipart body; send JSON or a form (x-www-form-urlencoded)"
        )
    if not text_files.is_utf8(template):
        raise ValueError("the body contains bytes that are not UTF-8")
    charset = _CHARSET.search(content_type)
    if charset and charset[1] not in ("utf-8", "utf8"):
        raise ValueError(f"a body is sent in UTF-8, but its Content-Type says {charset[1]}")


def filler(template: str, content_type: str = "") -> Callable[[str], bytes]:
    """Return a function from a text to the body with the text in place of `{text}`.

    In JSON, escape the text inside quotes; quote it too outside of quotes. Percent-encode it in a form, and
    escape it in XML. In any other body, insert it unchanged.
    """
    json_encoders = (_json_escaped, _json_quoted) if not content_type or "json" in content_type else ()
    fitting = (encode for encode in json_encoders if _gives_json(template, encode))
    encode = next(fitting, _encoder(content_type))
    parts = template.split(PLACEHOLDER)
    return lambda text: encode(text).join(parts).encode()


def _encoder(content_type: str) -> Callable[[str], str]:
    """Return how to encode a text in a body that is not JSON."""
    if "x-www-form-urlencoded" in content_type:
        return quote_plus
    return _xml_escaped if "xml" in content_type else str


def _xml_escaped(text: str) -> str:
    return escape(text, {'"': "&quot;", "'": "&apos;"})


def _json_escaped(text: str) -> str:
    return _json_quoted(text)[1:-1]


def _json_quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _gives_json(template: str, encode: Callable[[str], str]) -> bool:
    try:
        json.loads(template.replace(PLACEHOLDER, encode('a "text"')))
    except (ValueError, RecursionError):
        return False
    return True
