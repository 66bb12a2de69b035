"""Why a server that should be measured does not answer: the way out that fits the cause. Pure."""

from __future__ import annotations

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


def way_out(error: str) -> str:
    """What to do about the error of a request that got no answer."""
    return next((hint for part, hint in _WAYS_OUT if part in error), _USUAL)
