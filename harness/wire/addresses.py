"""Web addresses: checked where they enter, and sent byte for byte as they were given.

Neither httpx nor aiohttp does the latter: both write an address anew, and each in its own way. So they get
the origin alone, and the target beside it.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from harness.system import text_files

TEXT = "{text}"  # the place of a payload's text
LONGEST = 8_000  # characters; uvicorn and nginx take no longer ones

_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.IGNORECASE)
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*", re.IGNORECASE)
_ENCODED_TEXT = re.compile("%7btext%7d", re.IGNORECASE)


class Address(NamedTuple):
    """An address in the two parts that are sent apart."""

    origin: str  # http://host:port, the host in ASCII
    target: str  # path and query as they were given, {text} included; never empty


def checked(url: str) -> str:
    """The address again; ValueError, in one line, where it cannot be sent or holds a password."""
    parse(url)
    return url


def checked_without_text(url: str) -> str:
    """As `checked`, where there is no text to put in."""
    if TEXT in url:
        raise ValueError(f"{shown(url)} has {TEXT} in it, and no text is sent there")
    return checked(url)


def parse(url: str) -> Address:
    """The two parts of a checked address; ValueError where it cannot be sent."""
    _refuse_characters(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:  # brackets that do not match, a port that is none
        why = str(error)
        why = why[:1].lower() + why[1:].removesuffix(".")
        raise ValueError(f"{shown(url)} is not an http address: {why}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{shown(url)} is not an http address")
    if port == 0:
        raise ValueError(f"{shown(url)} is not an http address: port 0 cannot be asked")
    if parts.username is not None:
        raise ValueError(
            "an address with a user's name in it would be written down; say who asks in a header"
        )
    _refuse_braces(url)
    host = _sendable_host(parts.hostname, url)
    # what follows the host is cut out of `url`, since `urlsplit` forgets a `?` without a query
    rest = url.partition("#")[0].partition("//")[2][len(parts.netloc) :]
    target = rest if rest.startswith("/") else f"/{rest}"
    return Address(f"{parts.scheme}://{host}{'' if port is None else f':{port}'}", target)


def checked_path(path: str) -> str:
    """A path on a server that is known; ValueError for one that might name another server."""
    _refuse_characters(path)
    if not path.startswith("/"):
        raise ValueError(f"a path begins with /, and {shown(path)} does not")
    if path[1:2] in ("/", "\\"):
        raise ValueError(f"{shown(path)} would name another server: a path begins with one /")
    if TEXT in path:
        raise ValueError(f"{shown(path)} has {TEXT} in it, and no text is sent there")
    _refuse_braces(path)
    return path


def filler(target: str) -> Callable[[str], bytes]:
    """Text → the target as it is sent, the text percent-encoded at `{text}`."""
    # a space and what is not ASCII as percent-encoded UTF-8; all else as it is, also what is so already
    parts = [quote(part, safe=_PRINTABLE) for part in target.split(TEXT)]
    return lambda text: quote(text, safe="").join(parts).encode()


def shown(url: str) -> str:
    """The address as messages quote it: at most 100 characters, those of control escaped."""
    return repr(url) if len(url) <= 100 else f"{url[:80]!r}… ({len(url):,} characters)"


def _refuse_characters(url: str) -> None:
    if len(url) > LONGEST:
        raise ValueError(f"{shown(url)} is too long: {LONGEST:,} characters are the most")
    if not text_files.is_utf8(url):
        raise ValueError(f"{shown(url)} holds bytes that are not UTF-8")
    bad = next((char for char in url if not char.isprintable()), None)
    if bad is not None:
        names = {"\n": "a line break", "\r": "a carriage return", "\t": "a tab", "\0": "a NUL"}
        raise ValueError(f"{shown(url)} holds {names.get(bad, 'a character that cannot be printed')}")
    if url != url.strip():
        raise ValueError(f"{shown(url)} begins or ends with a space")


def _refuse_braces(url: str) -> None:
    if _ENCODED_TEXT.search(url):
        raise ValueError(f"{shown(url)} holds {TEXT} percent-encoded: write it as {TEXT}")
    if {"{", "}"} & set(url.replace(TEXT, "")):
        raise ValueError(f"{shown(url)} holds a brace: only {TEXT} is replaced; write others as %7B and %7D")


def _sendable_host(host: str, url: str) -> str:
    """In ASCII, with brackets where it is IPv6; ValueError for a name that no client can look up."""
    written = url.partition("//")[2].partition("/")[0]
    if "\\" in written:
        raise ValueError(f"{shown(url)} is not an http address: a backslash is no /")
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
    """A name that ends in a number is an address. Of short forms aiohttp takes 0x7f000001, but not 127.1."""
    try:
        return name if socket.inet_aton(name) and "x" in name.lower() else str(ipaddress.IPv4Address(name))
    except (OSError, ValueError):
        raise ValueError(f"{shown(url)} has no valid IP address: {shown(name)}") from None


def _ipv6(host: str, url: str) -> str:
    if "%" in host:
        raise ValueError(f"{shown(url)} names a zone, which cannot be sent")
    try:
        return str(ipaddress.IPv6Address(host))
    except ValueError:
        raise ValueError(f"{shown(url)} has no valid IP address: {shown(host)}") from None
