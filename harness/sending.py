"""What is sent to a server of somebody else: header lines and bodies, from the words of flags and plans."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlsplit

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
HIDDEN = "(kept secret)"  # stands in run.json for what a secret header held
TEXT = "{text}"  # in a body: the place of a payload's text
USUAL_BODY = '{"text":{text}}'

Header = tuple[str, str]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_REFERENCE = re.compile(r"\$\{(\w+)\}")
_ONLY_REFERENCE = re.compile(r"([\w-]+ )?\$\{\w+\}")  # such as "Bearer ${TOKEN}": nothing in it is secret
_SECRET = re.compile(r"auth|cookie|key|token|secret|passw|session|credential|signature", re.IGNORECASE)
_OWN = ("content-length", "transfer-encoding", "connection")


# -- headers -------------------------------------------------------------------------------------------


def parse_header(line: str) -> Header:
    """`Name: value` → its two parts; ValueError that says what is wrong, without the value."""
    name, colon, value = line.partition(":")
    if not colon:
        raise ValueError("a header is a line as in 'X-Tenant: a', and one has no colon")
    return checked_header((name.strip(), value.strip()))


def checked_header(header: Header) -> Header:
    """The header again; ValueError, without the value, where it cannot be sent."""
    name, value = header
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a header")
    if not (value.isascii() and value.isprintable()):
        raise ValueError(f"the value of the header {name} is not plain ASCII")
    if name.lower() in _OWN:
        raise ValueError(f"the header {name} is the load generator's own")
    return header


def redacted(header: Header) -> Header:
    """As it may be written down: of a header whose name sounds secret only references to the environment."""
    name, value = header
    if not _SECRET.search(name) or _ONLY_REFERENCE.fullmatch(value):
        return header
    return name, HIDDEN


def expanded(headers: Iterable[Header], environment: Mapping[str, str] = os.environ) -> list[Header]:
    """With `${NAME}` replaced from the environment; KeyError with the name of what is not there.

    ValueError for a value that was not kept, and for one that cannot be sent.
    """
    return [checked_header((name, _filled(name, value, environment))) for name, value in headers]


def secrets(headers: Iterable[Header], filled: Iterable[Header]) -> list[str]:
    """What no page may show of the headers as they are sent (`filled`), the longest first.

    What was read from the environment, and the value of a header whose name sounds secret; of `Bearer abc`
    the last word as well, which a server may repeat alone.
    """
    hidden = [
        value
        for (name, template), (_, value) in zip(headers, filled, strict=False)  # what we add comes last
        if _SECRET.search(name) or _REFERENCE.search(template)
    ]
    last_words = [value.split()[-1] for value in hidden if value.split()]
    return sorted({*hidden, *last_words} - {""}, key=len, reverse=True)


def _filled(name: str, value: str, environment: Mapping[str, str]) -> str:
    if value == HIDDEN:
        raise ValueError(f"what the header {name} held was not kept")
    return _REFERENCE.sub(lambda found: environment[found[1]], value)


# -- bodies --------------------------------------------------------------------------------------------


def checked_method(method: str) -> str:
    """In capitals; ValueError for one that there is not."""
    if method.upper() not in METHODS:
        near = difflib.get_close_matches(method.upper(), METHODS, n=1)
        raise ValueError(
            f"there is no method {method!r}; " + (f"did you mean {near[0]}?" if near else _KNOWN)
        )
    return method.upper()


_KNOWN = f"known are {', '.join(METHODS)}"


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


def filler(template: str, called: str = "") -> Callable[[str], bytes]:
    """Text → the body with the text at `{text}`: within JSON's quotes escaped, without them quoted as well.

    A body that is no JSON, or is `called` something else, takes the text as it is.
    """
    ways = (_inside, _whole) if not called or "json" in called else ()
    put = next((way for way in ways if _fits(template, way)), str)
    parts = template.split(TEXT)
    return lambda text: put(text).join(parts).encode()


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


# -- addresses -----------------------------------------------------------------------------------------


def checked_url(url: str) -> str:
    """The address again; ValueError where it is no http address, or holds a password."""
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not match, a port that is none
        fine = False
    if not fine:
        raise ValueError(f"{url!r} is not an http address")
    if parts.username is not None:
        raise ValueError(
            "an address with a user's name in it would be written down; say who asks in a header"
        )
    return url
