"""The load generator's own limits: raised before a trial, and named where a request met one of them.

A request that could not be sent says nothing about the server, so its trial is invalid.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress

SPARE_FILES = 64  # beside a connection for each request: pipes, libraries, lookups of names

_RAN_OUT = "the load generator ran out of "
_FILES = _RAN_OUT + "open files"
_PORTS = _RAN_OUT + "local ports"
_BUFFERS = _RAN_OUT + "memory for sockets"
_BY_NUMBER = {
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.EADDRNOTAVAIL: _PORTS,
    errno.ENOBUFS: _BUFFERS,
}
_WAYS_OUT = {
    _FILES: "raise the limit (ulimit -n), or ask for fewer requests at once",
    _PORTS: "ask for fewer requests at once, or widen net.ipv4.ip_local_port_range",
    _BUFFERS: "ask for fewer requests at once",
}


def make_room(connections: int) -> None:
    """Raise this process's limit of open files as far as so many connections need and the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if resource.RLIM_INFINITY != soft < wanted:
        with suppress(OSError, ValueError):  # a sandbox may forbid it; requests then say what is missing
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def met_by(error: BaseException) -> str:
    """Which limit of our own a request met, as its row says it; "" for an error of another kind."""
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror) and _no_file_is_left():
            return _FILES
        if isinstance(cause, OSError) and cause.errno in _BY_NUMBER:
            return _BY_NUMBER[cause.errno]
    return ""


def why_invalid(errors: Iterable[str]) -> str:
    """Why a trial whose requests had these errors is invalid; "" where no limit of our own was met."""
    met = Counter(error for error in errors if error in _WAYS_OUT)
    if not met:
        return ""
    worst = met.most_common(1)[0][0]
    return f"{worst}, so {met.total()} requests were not sent: {_WAYS_OUT[worst]}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for one in error.exceptions:
                yield from _causes(one)
        error = error.__cause__ or error.__context__  # httpcore cuts off the cause


def _no_file_is_left() -> bool:
    """A lookup that could not open its files does not say so."""
    try:
        os.close(os.dup(2))
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    return False
