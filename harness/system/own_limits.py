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

from harness.errors import HarnessError

SPARE_FILES = 64  # for pipes, libraries and name lookups, in addition to one connection per request

_RAN_OUT = "the load generator ran out of "
_FILES = _RAN_OUT + "open files"
_FILES_OF_ALL = _RAN_OUT + "open files of the whole machine"
_PORTS = _RAN_OUT + "local ports"
_BUFFERS = _RAN_OUT + "memory for sockets"
_MEMORY = _RAN_OUT + "memory"
_THREADS = _RAN_OUT + "threads"  # name lookups run in threads
_LIMIT_BY_ERRNO = {
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES_OF_ALL,
    errno.EADDRNOTAVAIL: _PORTS,
    errno.ENOBUFS: _BUFFERS,
    errno.ENOMEM: _MEMORY,
}
_FEWER = "send fewer requests at the same time"
_HINT_BY_LIMIT = {
    _FILES: f"raise the limit (ulimit -n), or {_FEWER}",
    _FILES_OF_ALL: f"raise fs.file-max, or {_FEWER}",
    _PORTS: f"{_FEWER} (with --new-connections: per second), or widen net.ipv4.ip_local_port_range",
    _BUFFERS: _FEWER,
    _MEMORY: f"free memory on this machine, raise its limit (ulimit -v), or {_FEWER}",
    _THREADS: f"raise the limit (ulimit -u), or {_FEWER}",
}
_NO_THREAD = "can't start new thread"  # RuntimeError of `threading`


def make_room(connections: int) -> None:
    """Raise the limit of open files to what this number of connections needs, if the system allows it.

    Processes that are started later inherit it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if resource.RLIM_INFINITY != soft < wanted:
        with suppress(OSError, ValueError):  # a sandbox may forbid it; failed requests then name the limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def limit_in(error: BaseException) -> str:
    """Return which limit of our own caused a request's error, as text for its row; "" for any other error."""
    return next(filter(None, map(_limit_of, _causes(error))), "")


def _limit_of(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return _MEMORY
    if isinstance(error, RuntimeError) and _NO_THREAD in str(error):
        return _THREADS
    if isinstance(error, socket.gaierror) and _no_file_is_left():
        return _FILES
    return _LIMIT_BY_ERRNO.get(error.errno or 0, "") if isinstance(error, OSError) else ""


def why_invalid(errors: Iterable[str]) -> str:
    """Return why a trial with these errors is invalid; "" if no request reached a limit of our own."""
    reached = Counter(error for error in errors if error in _HINT_BY_LIMIT)
    if not reached:
        return ""
    worst = reached.most_common(1)[0][0]
    number = reached.total()
    were = "request was" if number == 1 else "requests were"
    return f"{worst}{_size_of(worst)}, so {number} {were} not sent: {_HINT_BY_LIMIT[worst]}"


def is_own(error: str) -> bool:
    """Return whether the error of a request or of a trial names a limit of our own."""
    return error.startswith(_RAN_OUT)


def hint_for(error: str) -> str:
    """Return what to do about the error of a request that reached a limit of our own; "" for others."""
    hint = _HINT_BY_LIMIT.get(error, "")
    return f"{hint[:1].upper()}{hint[1:]}." if hint else ""


def as_error(error: BaseException) -> BaseException:
    """Return a HarnessError for an error, outside of requests, from a limit of our own; else `error`."""
    limit = limit_in(error)
    return HarnessError(f"{limit.capitalize()}.", stage="load", hint=hint_for(limit)) if limit else error


def _size_of(limit: str) -> str:
    """Return the size of the limit in parentheses; "" if it is unknown. All our processes have the same."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return f" (at most {most})" if limit == _FILES and most != resource.RLIM_INFINITY else ""


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
