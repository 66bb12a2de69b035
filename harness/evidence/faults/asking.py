"""The requests to a server that is a command, as `execbench run` sends them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from multidict import CIMultiDict
from yarl import URL

from harness import workloads
from harness.wire import addresses, sending
from harness.wire.load_options import LoadOptions, Texts


@dataclass(frozen=True)
class Asking:
    """How to ask one server: everything but the text."""

    method: str
    expected_status: int
    _origin: URL
    _target: Callable[[str], bytes]
    _headers: CIMultiDict[str]
    _body: Callable[[str], bytes] | None
    texts: Iterator[str]  # without end

    def request(self, text: str) -> tuple[URL, dict[str, Any]]:
        """Return the address, and the options of aiohttp, of a request with this text."""
        # path and query together as the path, which yarl leaves unchanged
        url = self._origin.with_path(self._target(text).decode(), encoded=True)
        body = None if self._body is None else self._body(text)
        return url, {"data": body, "headers": self._headers, "allow_redirects": False}


def of(load: LoadOptions) -> Asking:
    """How to send the requests of this load, whose URL is complete."""
    address = addresses.parse(load.url)
    template = _template(load)
    headers = sending.expanded(load.headers)
    if template is not None and not sending.content_type(headers) and sending.is_json(template):
        headers.append(("Content-Type", "application/json"))
    return Asking(
        load.method,
        load.expected_status,
        URL(address.origin),
        addresses.filler(address.target),
        CIMultiDict(headers),
        None if template is None else sending.filler(template, sending.content_type(headers)),
        _texts(load.texts),
    )


def _template(load: LoadOptions) -> str | None:
    """Return the body, with a place for the text if it is sent there; None if requests have none."""
    if load.body is not None or load.texts is None:
        return load.body
    return None if addresses.PLACEHOLDER in load.url else sending.DEFAULT_BODY


def _texts(given: Texts | None) -> Iterator[str]:
    return itertools.repeat("") if given is None else workloads.texts(given.workload, given.seed)
