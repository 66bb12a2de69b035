"""A server that runs already. The run neither starts nor probes nor stops it."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

import psutil

from harness.errors import HarnessError
from harness.run.listener import Listener
from harness.run.load_generator import ONE_REQUEST, Loader
from harness.wire.loop_lag import Lag
from harness.wire.options import LoadOptions
from harness.wire.records import Outcome

_PORTS = {"http": 80, "https": 443}

_NAME = "This name has no address: is it spelt right? This machine is 127.0.0.1."
_NO_TLS = "What listens there speaks no TLS: does the address begin with http://?"
_HUNG_UP = "It closed the connection: is it HTTP that listens there, or does the address begin with https://?"
_NO_HTTP = "What listens there speaks no HTTP: is that the port?"
_UNTRUSTED = "Its certificate is not trusted. Say which is: SSL_CERT_FILE=/path/to/certificate.pem"
# part of the error of a request → what to do; the first that fits counts
_WAYS_OUT = (
    ("self-signed certificate", _UNTRUSTED),
    ("self signed certificate", _UNTRUSTED),
    ("unable to get local issuer", _UNTRUSTED),
    ("certificate has expired", "Its certificate has expired: renew it."),
    ("certificate is not yet valid", "Its certificate is not valid yet: are the clocks right?"),
    ("ostname mismatch", "Ask for it by a name that is in its certificate."),
    ("IP address mismatch", "Ask for it by a name that is in its certificate."),
    ("CERTIFICATE_VERIFY_FAILED", _UNTRUSTED),
    ("WRONG_VERSION_NUMBER", _NO_TLS),
    ("record layer failure", _NO_TLS),
    ("gaierror", _NAME),
    ("Name or service not known", _NAME),
    ("name resolution", _NAME),
    ("open files", "Raise the limit of open files: ulimit -n 1024"),
    ("local ports", "No address of this machine reaches that one: is it IPv6?"),
    ("timeout after", "Nothing came in time; --timeout waits longer."),
    ("unreachable", "No route leads there: is the network up?"),
    ("isconnected", _HUNG_UP),
    ("reset by peer", _HUNG_UP),
    ("BadStatusLine", _NO_HTTP),
    ("BadHttpMessage", _NO_HTTP),
    ("illegal", _NO_HTTP),
)
_USUAL = "Is the server running, and is that its port? `execbench serve STRATEGY` starts one."


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


def first_answer(loader: Loader, load: LoadOptions, listener: Listener, *, whose: str) -> Outcome:
    """Ask a server that runs already once; HarnessError when there is no answer at all.

    `ended` of the outcome says whether the server ends its connection after a good answer. Such a server
    should get a connection for each request: on one that is about to end, requests are lost.
    """
    load = load.model_copy(update=ONE_REQUEST | {"ping_url": None, "watches_end": True})
    first = loader.run(load, listener.progress)
    if first.shots[0].status is None:
        raise HarnessError(
            f"{whose} does not answer ({first.shots[0].error}).",
            stage="load",
            hint=way_out(first.shots[0].error),
        )
    return first._replace(ended=first.ended and not first.shots[0].error)


def way_out(error: str) -> str:
    """What to do about the error of a request that got no answer."""
    return next((hint for part, hint in _WAYS_OUT if part in error), _USUAL)


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
