"""The load generator's own limits: raise them before a trial, and recognize a request that reached one.

A request that could not be sent shows nothing about the server, so its trial is invalid.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress

SPARE_FILES = 64  # for pipes, libraries and name lookups, in addition to one connection per request

_RAN_OUT = "the load generator ran out of "
_FILES = _RAN_OUT + "open files"
_PORTS = _RAN_OUT + "local ports"
_BUFFERS = _RAN_OUT + "memory for sockets"
_LIMIT_BY_ERRNO = {
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.EADDRNOTAVAIL: _PORTS,
    errno.ENOBUFS: _BUFFERS,
}
_HINT_BY_LIMIT = {
    _FILES: "raise the limit (ulimit -n), or send fewer requests at the same time",
    _PORTS: "send fewer requests at the same time, or widen net.ipv4.ip_local_port_range",
    _BUFFERS: "send fewer requests at the same time",
}


def make_room(connections: int) -> None:
    """Raise the limit of open files to what this number of connections needs, if the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if resource.RLIM_INFINITY != soft < wanted:
        with suppress(OSError, ValueError):  # a sandbox may forbid it; failed requests then name the limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def limit_in(error: BaseException) -> str:
    """Return which limit of our own caused a request's error, as text for its row; "" for any other error."""
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror) and _no_file_is_left():
            return _FILES
        if isinstance(cause, OSError) and cause.errno in _LIMIT_BY_ERRNO:
            return _LIMIT_BY_ERRNO[cause.errno]
    return ""


def why_invalid(errors: Iterable[str]) -> str:
    """Return why a trial with these errors is invalid; "" if no request reached a limit of our own."""
    reached = Counter(error for error in errors if error in _HINT_BY_LIMIT)
    if not reached:
        return ""
    worst = reached.most_common(1)[0][0]
    return f"{worst}, so {reached.total()} requests were not sent: {_HINT_BY_LIMIT[worst]}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for one in error.exceptions:
                yield from _causes(one)
        error = error.__cause__ or error.__context__  # httpcore suppresses the cause


def _no_file_is_left() -> bool:
    """Return whether no more files can be opened. A failed name lookup does not report this reason."""
    try:
        os.close(os.dup(2))
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    return False
