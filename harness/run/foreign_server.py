"""A server that already runs (`--url`). The run does not start, probe or stop it."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

import psutil

from harness.errors import HarnessError
from harness.run.generators import LoadGenerator
from harness.run.listener import Listener
from harness.run.load_generator import ONE_REQUEST
from harness.system import own_limits
from harness.wire.load_options import LoadOptions
from harness.wire.loop_lag import Lag
from harness.wire.records import Outcome

_PORTS = {"http": 80, "https": 443}

_NAME = "This host name has no address. Check its spelling; this machine is 127.0.0.1."
_NO_TLS = "The server does not speak TLS. Should the address begin with http://?"
_HUNG_UP = (
    "The server closed the connection. Does it speak HTTP on this port, or should the address begin with "
    "https://?"
)
_NO_HTTP = "The server does not speak HTTP. Is this the right port?"
_UNTRUSTED = "Its certificate is not trusted. Trust it with SSL_CERT_FILE=/path/to/certificate.pem"
# part of a request's error → hint; the first match counts
_HINTS = (
    ("self-signed certificate", _UNTRUSTED),
    ("self signed certificate", _UNTRUSTED),
    ("unable to get local issuer", _UNTRUSTED),
    ("certificate has expired", "Its certificate has expired. Renew it."),
    ("certificate is not yet valid", "Its certificate is not valid yet. Are the clocks right?"),
    ("ostname mismatch", "Use a host name that is in its certificate."),
    ("IP address mismatch", "Use a host name that is in its certificate."),
    ("CERTIFICATE_VERIFY_FAILED", _UNTRUSTED),
    ("WRONG_VERSION_NUMBER", _NO_TLS),
    ("record layer failure", _NO_TLS),
    ("gaierror", _NAME),
    ("Name or service not known", _NAME),
    ("name resolution", _NAME),
    (
        "local ports",
        "No address of this machine can reach it: is it an IPv6 address? Or the ports of closed connections "
        "are not free yet: wait a minute.",
    ),
    ("timeout after", "No answer arrived in time. Wait longer with --timeout."),
    ("unreachable", "There is no route to it. Is the network up?"),
    ("isconnected", _HUNG_UP),
    ("reset by peer", _HUNG_UP),
    ("BadStatusLine", _NO_HTTP),
    ("BadHttpMessage", _NO_HTTP),
    ("illegal", _NO_HTTP),
)
_USUAL_HINT = "Is the server running, and is this its port? `execbench serve STRATEGY` starts one."


class RunningServer:
    """A server that already runs, with the interface of `server_process.Server` that a trial uses.

    Methods that only servers of the run support do nothing.
    """

    def __init__(self, url: str, *, keeps_connections: bool = True) -> None:
        self.url = url
        self.keeps_connections = keeps_connections  # after an answer, for the next request
        self.is_here = is_here(url)
        self._pid: int | None = None

    @property
    def pid(self) -> int | None:
        """The process that listens on its port, looked up again if it has ended; None if unknown."""
        if self.is_here and (self._pid is None or not psutil.pid_exists(self._pid)):
            self._pid = listening_pid(urlsplit(self.url).port or _PORTS[urlsplit(self.url).scheme])
        return self._pid

    def check_alive(self, stage: str) -> None:
        """Do nothing: each request shows whether it answers."""

    def watch(self) -> None:
        """Do nothing: its event loop cannot be measured."""

    def unwatch(self) -> Lag | None:
        return None


def first_answer(loader: LoadGenerator, load: LoadOptions, listener: Listener, *, whose: str) -> Outcome:
    """Send one request to a server that already runs. Raises HarnessError if no answer arrives.

    `ended` of the outcome is true if the server closes its connection after a good answer. Give such a server
    a new connection for each request: requests on a connection that is about to close are lost.
    """
    load = load.model_copy(update=ONE_REQUEST | {"ping_url": None, "watches_end": True})
    first = loader.run(load, listener.progress)
    if first.shots[0].status is None:
        error = first.shots[0].error
        what = (
            f"No request could be sent to {whose}: {error}"
            if own_limits.is_own(error)
            else f"{whose} does not answer ({error})"
        )
        raise HarnessError(f"{what}.", stage="load", hint=hint_for(error))
    return first._replace(ended=first.ended and not first.shots[0].error)


def hint_for(error: str) -> str:
    """A hint for the error of a request that got no answer."""
    known = (hint for part, hint in _HINTS if part in error)
    return next(known, own_limits.hint_for(error) or _USUAL_HINT)


def check_processes(arm: str, pids: Iterable[int]) -> None:
    """Raise HarnessError if a process that the user gave for this arm does not exist."""
    for pid in pids:
        if not psutil.pid_exists(pid):
            raise HarnessError(
                f"There is no process {pid}, given by --url-pid for arm {arm!r}.",
                stage="load",
                hint="A restarted server has new process IDs: give the current ones.",
            )


def is_here(url: str) -> bool:
    """Whether the address belongs to this host, so that the server uses the CPU of this machine."""
    try:
        found = socket.getaddrinfo(urlsplit(url).hostname, None)
    except OSError:
        return False
    own = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
    return any(str(where[0]).startswith("127.") or where[0] in own for *_, where in found)


def listening_pid(port: int) -> int | None:
    """The process that listens on a port; the eldest if a family of processes does; None if unknown."""
    try:
        found = psutil.net_connections(kind="tcp")
    except psutil.Error:
        return None  # on macOS only root may see it
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
