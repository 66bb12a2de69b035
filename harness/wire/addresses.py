"""URLs: checked when they are given, and sent byte for byte as they were given.

httpx and aiohttp both rewrite a URL, each in its own way. So they get only the origin, and the target
separately.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from harness.system import text_files

PLACEHOLDER = "{text}"  # replaced by the text of a payload
MAX_URL_CHARS = 8_000  # uvicorn and nginx accept no longer ones

_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.IGNORECASE)
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*", re.IGNORECASE)
_ENCODED_TEXT = re.compile("%7btext%7d", re.IGNORECASE)


class Address(NamedTuple):
    """A URL in the two parts that are sent separately."""

    origin: str  # http://host:port, the host in ASCII
    target: str  # path and query as given, including {text}; never empty


def checked(url: str) -> str:
    """Return the URL. Raises ValueError, in one line, if it cannot be sent or contains a user name."""
    parse(url)
    return url


def checked_without_text(url: str) -> str:
    """Return the URL like `checked`. Raises ValueError too if it holds the placeholder for a text."""
    if PLACEHOLDER in url:
        raise ValueError(f"{shown(url)} contains {PLACEHOLDER}, but no text is sent to it")
    return checked(url)


def parse(url: str) -> Address:
    """Split a URL into its two parts. Raises ValueError if it cannot be sent."""
    _refuse_characters(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:  # unmatched brackets, an invalid port
        why = str(error)
        why = why[:1].lower() + why[1:].removesuffix(".")
        raise ValueError(f"{shown(url)} is not an HTTP URL: {why}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{shown(url)} is not an HTTP URL")
    if port == 0:
        raise ValueError(f"{shown(url)} is not an HTTP URL: port 0 cannot be used")
    if parts.username is not None:
        raise ValueError(
            "a user name in a URL would be saved with the run; send credentials in a header instead"
        )
    _refuse_braces(url)
    host = _sendable_host(parts.hostname, url)
    # take what follows the host from `url`, as `urlsplit` drops a `?` without a query
    rest = url.partition("#")[0].partition("//")[2][len(parts.netloc) :]
    target = rest if rest.startswith("/") else f"/{rest}"
    return Address(f"{parts.scheme}://{host}{'' if port is None else f':{port}'}", target)


def checked_path(path: str) -> str:
    """Return a path on a known server. Raises ValueError if it may name another server or cannot be sent."""
    _refuse_characters(path)
    if not path.startswith("/"):
        raise ValueError(f"a path must start with /, and {shown(path)} does not")
    if path[1:2] in ("/", "\\"):
        raise ValueError(f"{shown(path)} would name another server: a path must start with a single /")
    if PLACEHOLDER in path:
        raise ValueError(f"{shown(path)} contains {PLACEHOLDER}, but no text is sent to it")
    _refuse_braces(path)
    return path


def filler(target: str) -> Callable[[str], bytes]:
    """Return a function from a text to the target as sent: `{text}` becomes the percent-encoded text."""
    # percent-encode spaces and non-ASCII characters as UTF-8; leave all others as they are, also encoded ones
    parts = [quote(part, safe=_PRINTABLE) for part in target.split(PLACEHOLDER)]
    return lambda text: quote(text, safe="").join(parts).encode()


def shown(url: str) -> str:
    """Return the URL as messages quote it: at most 100 characters, with control characters escaped."""
    return repr(url) if len(url) <= 100 else f"{url[:80]!r}… ({len(url):,} characters)"


def _refuse_characters(url: str) -> None:
    if len(url) > MAX_URL_CHARS:
        raise ValueError(f"{shown(url)} is too long: the maximum is {MAX_URL_CHARS:,} characters")
    if not text_files.is_utf8(url):
        raise ValueError(f"{shown(url)} contains bytes that are not UTF-8")
    bad = next((char for char in url if not char.isprintable()), None)
    if bad is not None:
        names = {"\n": "a line break", "\r": "a carriage return", "\t": "a tab", "\0": "a NUL"}
        raise ValueError(f"{shown(url)} contains {names.get(bad, 'a character that cannot be printed')}")
    if url != url.strip():
        raise ValueError(f"{shown(url)} starts or ends with a space")


def _refuse_braces(url: str) -> None:
    if _ENCODED_TEXT.search(url):
        raise ValueError(f"{shown(url)} contains {PLACEHOLDER} percent-encoded; write it as {PLACEHOLDER}")
    if {"{", "}"} & set(url.replace(PLACEHOLDER, "")):
        raise ValueError(
            f"{shown(url)} contains a brace: only {PLACEHOLDER} is replaced; write others as %7B and %7D"
        )


def _sendable_host(host: str, url: str) -> str:
    """Return the host in ASCII, with brackets if it is IPv6. Raises ValueError if it is not a valid host."""
    written = url.partition("//")[2].partition("/")[0]
    if "\\" in written:
        raise ValueError(f"{shown(url)} is not an HTTP URL: write / instead of a backslash")
    if "[" in written:
        return f"[{_ipv6(host, url)}]"
    is_plain = host.isascii() and "xn--" not in host
    name = host if is_plain else _in_ascii(host, url)
    labels = name.removesuffix(".").split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _ipv4(name, url)
    if len(name) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError(f"{shown(url)} has no valid host name: {shown(host)}")
    return name


def _in_ascii(host: str, url: str) -> str:
    import idna

    try:
        return idna.encode(host, uts46=True).decode()
    except UnicodeError:
        raise ValueError(f"{shown(url)} has no valid host name: {shown(host)}") from None


def _ipv4(name: str, url: str) -> str:
    """Return the IPv4 address that a name ending in a number stands for. Raises ValueError if it is invalid.

    Hexadecimal forms like 0x7f000001 stay as they are. Short forms like 127.1 are refused, as aiohttp does
    not accept them.
    """
    try:
        return name if socket.inet_aton(name) and "x" in name.lower() else str(ipaddress.IPv4Address(name))
    except (OSError, ValueError):
        raise ValueError(f"{shown(url)} has no valid IP address: {shown(name)}") from None


def _ipv6(host: str, url: str) -> str:
    if "%" in host:
        raise ValueError(f"{shown(url)} names an IPv6 zone, which cannot be sent")
    try:
        return str(ipaddress.IPv6Address(host))
    except ValueError:
        raise ValueError(f"{shown(url)} has no valid IP address: {shown(host)}") from None
