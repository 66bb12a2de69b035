"""A server that somebody else started, as a run sees it: never started, probed or stopped."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

import psutil

from harness.errors import HarnessError
from harness.wire.loop_lag import Lag

_PORTS = {"http": 80, "https": 443}


class Standing:
    """As `server.Server`, for what a trial asks of one; what only ours can be asked is not known."""

    def __init__(self, url: str, *, keeps_connections: bool = True) -> None:
        self.url = url
        self.keeps_connections = keeps_connections  # after an answer, for the next request
        self.is_here = is_here(url)
        self._pid: int | None = None

    @property
    def pid(self) -> int | None:
        """The process that listens there, looked for again when it has ended; None where nobody tells."""
        if self.is_here and (self._pid is None or not psutil.pid_exists(self._pid)):
            self._pid = listener(urlsplit(self.url).port or _PORTS[urlsplit(self.url).scheme])
        return self._pid

    def check_alive(self, stage: str) -> None:
        """Whether it answers is seen in each request."""

    def watch(self) -> None:
        """Its loop is its own."""

    def unwatch(self) -> Lag | None:
        return None


def check_processes(arm: str, pids: Iterable[int]) -> None:
    """HarnessError when a process that the user named for this arm does not run."""
    for pid in pids:
        if not psutil.pid_exists(pid):
            raise HarnessError(
                f"There is no process {pid}, which --url-pid names for arm {arm!r}.",
                stage="load",
                hint="A server that was started anew has other processes: name those that run now.",
            )


def is_here(url: str) -> bool:
    """Whether the address is one of this host's, so that what the server burns is burnt here."""
    try:
        found = socket.getaddrinfo(urlsplit(url).hostname, None)
    except OSError:
        return False
    own = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
    return any(str(where[0]).startswith("127.") or where[0] in own for *_, where in found)


def listener(port: int) -> int | None:
    """The process that listens on a port, of a family of them the eldest; None when nobody tells."""
    try:
        found = psutil.net_connections(kind="tcp")
    except psutil.Error:
        return None  # macOS tells root only
    pids = {
        one.pid
        for one in found
        if one.pid and one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port
    }
    return next((pid for pid in sorted(pids) if not pids & _ancestors(pid)), None)


def _ancestors(pid: int) -> set[int]:
    try:
        return {parent.pid for parent in psutil.Process(pid).parents()}
    except psutil.Error:
        return set()
