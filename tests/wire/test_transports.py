"""What the load generator sends over both transports: targets, texts, connections, and its own limits."""

from __future__ import annotations

import asyncio
import errno
import json
import resource
import ssl
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from known_server import (
    Arrival,
    KnownServer,
    after,
    answering,
    both_transports,
    closed_port,
    fire_here,
    reply,
)
from wire.test_addresses import AS_GIVEN

from harness.client.http_client import create_transport
from harness.errors import HarnessError
from harness.run.foreign_server import hint_for
from harness.system import own_limits
from harness.wire import records
from harness.wire.arrivals import closed
from harness.wire.load_options import LoadOptions, Texts
from harness.wire.options import WorkloadOptions
from harness.wire.records import Outcome, Shot, Timings
from harness.wire.transports import Client

FORM = ("Content-Type", "application/x-www-form-urlencoded")


def fire(url: str, **options: Any) -> Outcome:
    """Run one trial in this process."""
    options = {"arrivals": closed(1), "requests": 1, "timeout_s": 5.0, "probe_loop": False} | options
    return asyncio.run(fire_here(LoadOptions(url=url, **options)))


def targets(server: KnownServer) -> list[str]:
    return [arrival.head.split(" ")[1] for arrival in server.arrivals]


@pytest.mark.integration
@both_transports
def test_the_server_receives_the_target_byte_for_byte(transport: str) -> None:
    with answering(after(0)) as server:
        for target in AS_GIVEN:
            outcome = fire(f"http://127.0.0.1:{server.port}{target}#no", transport=transport)
            assert {shot.error for shot in outcome.shots} == {""}
    assert targets(server) == list(AS_GIVEN)


@pytest.mark.integration
@both_transports
def test_texts_are_sent_in_url_and_form(
    transport: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "texts.txt").write_text("a & b=c+d%20\n")
    texts = Texts(workload=WorkloadOptions(name="synthetic", payloads=str(tmp_path / "texts.txt")), seed=1)
    with answering(after(0)) as server:
        fire(f"{server.url}s?q={{text}}", texts=texts, transport=transport)
        form = {"method": "POST", "headers": (FORM,), "body": "text={text}&lang=en"}
        fire(server.url, texts=texts, transport=transport, **form)
        monkeypatch.setenv("KIND", FORM[1])
        fire(
            server.url, texts=texts, transport=transport, **form | {"headers": (("Content-Type", "${KIND}"),)}
        )
    assert targets(server) == ["/s?q=a%20%26%20b%3Dc%2Bd%2520", "/", "/"]
    assert server.arrivals[0].body == b""
    for arrival in server.arrivals[1:]:
        assert arrival.body == b"text=a+%26+b%3Dc%2Bd%2520&lang=en"


class Abrupt(KnownServer):
    """Closes the connection some milliseconds after an error, without announcing it.

    So does uvicorn when an app raises: it logs the traceback between the answer and the end.
    """

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            answer = reply()
            while b" 500 " not in answer:
                answer = await self._answer(await self._receive(reader, 1)) or b""
                writer.write(answer)
            await asyncio.sleep(0.005)
        self._hang_up(writer)


async def each_tenth_fails(arrival: Arrival) -> bytes:
    return reply(500) if arrival.number % 10 == 9 else reply()


@pytest.mark.integration
@both_transports
@pytest.mark.parametrize("users", [1, 4])
def test_a_connection_that_ends_after_an_error_costs_no_other_request(transport: str, users: int) -> None:
    with answering(each_tenth_fails, kind=Abrupt) as server:
        outcome = fire(server.url, transport=transport, arrivals=closed(users), requests=100)
    statuses = Counter(shot.status for shot in outcome.shots)
    assert statuses.keys() == {200, 500}
    assert statuses[500] == len(outcome.shots) // 10
    assert len(server.arrivals) == len(outcome.shots)


@pytest.mark.integration
@both_transports
def test_a_connection_that_the_server_has_closed_is_not_reused(transport: str) -> None:
    """As after a server's keep-alive timeout, before the event loop has noticed it."""

    async def ask(server: KnownServer) -> list[int]:
        statuses = []
        load = LoadOptions(url=server.url, arrivals=closed(1), requests=1, transport=transport)
        async with Client(create_transport(load)) as client:
            for _ in range(5):
                statuses.append((await client.get(server.url)).status_code)
                time.sleep(0.01)  # noqa: ASYNC251 - nothing may run meanwhile
        return statuses

    with answering(after(0), kind=Brief) as server:
        assert asyncio.run(ask(server)) == [200] * 5
    assert len(server.arrivals) == server.connections == 5


@pytest.mark.integration
@both_transports
def test_a_server_that_closes_every_connection_is_detected_after_one_request(transport: str) -> None:
    def asked_once(server: KnownServer) -> bool:
        return fire(server.url, transport=transport, watches_end=True).ended

    with answering(after(0)) as server:
        assert not asked_once(server)
    with answering(after(0), kind=Brief) as server:
        assert asked_once(server)
        options = {"arrivals": closed(4), "requests": 60, "keep_alive": False}
        outcome = fire(server.url, transport=transport, **options)
        assert {shot.error for shot in outcome.shots} == {""}
        assert len(server.arrivals) == server.connections == len(outcome.shots) + 1


class Brief(KnownServer):
    """Closes each connection after one answer without announcing it."""

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.write(await self._answer(await self._receive(reader, 1)) or b"")
        writer.close()


@pytest.mark.integration
@both_transports
def test_a_body_of_unknown_type_has_no_content_type(transport: str) -> None:
    with answering(after(0)) as server:
        fire(server.url, transport=transport, method="POST", body="hello")
    assert server.arrivals[0].body == b"hello"
    assert "content-type" not in server.arrivals[0].head.lower()


@pytest.mark.integration
@both_transports
def test_a_large_header_is_sent(transport: str) -> None:
    with answering(after(0)) as server:
        outcome = fire(server.url, transport=transport, headers=(("Accept", "a" * 20_000),))
    assert [shot.status for shot in outcome.shots] == [200]


@pytest.mark.integration
@both_transports
def test_no_proxy_from_the_environment_is_used(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    with answering(after(0)) as server:
        assert [shot.status for shot in fire(server.url, transport=transport).shots] == [200]


# -- who does not answer -------------------------------------------------------------------------------

CERTIFICATE = Path(__file__).parents[1] / "cases" / "21_self_signed_tls" / "certificate.pem"


class Secure(KnownServer):
    async def _serve(self) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(CERTIFICATE, CERTIFICATE.with_name("key.pem"))
        server = await asyncio.start_server(self._connected, sock=self._listening, ssl=context)
        await self._stopped.wait()
        server.close()


@pytest.mark.integration
@both_transports
def test_the_hint_fits_the_cause(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def hint(url: str) -> str:
        return hint_for(fire(url, transport=transport).shots[0].error)

    with answering(after(0), kind=Secure) as server:
        secure = server.url.replace("http:", "https:")
        assert "SSL_CERT_FILE" in hint(secure)
        assert "https://" in hint(server.url)
        if transport == "httpx":  # aiohttp reads the variable when it is imported
            monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
            assert [shot.status for shot in fire(secure, transport=transport).shots] == [200]
    assert "Is the server running" in hint(f"http://127.0.0.1:{closed_port()}/")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("SSLError: [SSL: WRONG_VERSION_NUMBER] wrong version number", "http://"),
        ("ConnectError: [Errno -2] Name or service not known", "has no address"),
        ("certificate verify failed: Hostname mismatch, certificate is not valid for 'x'", "Use a host name"),
        ("certificate verify failed: certificate has expired", "Renew it"),
        ("timeout after 30 s", "--timeout"),
        ("RemoteProtocolError: illegal status line: bytearray(b'SSH-2.0')", "does not speak HTTP"),
        ("ReadError", "Is the server running"),
    ],
)
def test_each_cause_has_its_hint(error: str, said: str) -> None:
    assert said in hint_for(error)


@pytest.mark.integration
def test_missing_certificates_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere.pem")
    with pytest.raises(HarnessError, match="certificates to trust") as caught:
        fire("https://127.0.0.1:1/", transport="httpx")
    assert "SSL_CERT_FILE" in caught.value.hint


# -- our own limits ------------------------------------------------------------------------------------

FEW_FILES = """
import asyncio, json, resource, sys
from harness.wire.arrivals import closed
from harness.errors import HarnessError
from harness.client.engine import run_trial
from harness.wire.load_options import LoadOptions

def errors(transport):
    load = LoadOptions(
        url=sys.argv[1],
        arrivals=closed(100),
        requests=100,
        transport=transport,
        timeout_s=60,
        probe_loop=False,
    )
    seen = set()
    asyncio.run(run_trial(load, lambda *told: None, lambda shot: seen.add(shot.error)))
    return sorted(seen)

resource.setrlimit(resource.RLIMIT_NOFILE, (60, 1000))
found = {"raised": errors("aiohttp")}
resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
print(json.dumps(found | {name: errors(name) for name in ("aiohttp", "httpx")}))
"""


@pytest.mark.integration
def test_the_limit_of_open_files_is_raised_or_reported_as_our_own() -> None:
    with answering(after(100)) as server:
        command = [sys.executable, "-c", FEW_FILES, server.url]
        found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    ours = "the load generator ran out of open files"
    assert found["raised"] == [""]
    for transport in ("aiohttp", "httpx"):
        assert set(found[transport]) <= {"", ours}
        assert ours in found[transport]


@pytest.mark.parametrize("good", [0, 5])
def test_a_trial_that_reached_our_own_limit_is_invalid_in_any_case(good: int) -> None:
    def shot(error: str) -> Shot:
        return Shot(0, records.MEASURE, 0.0, 0.0, 1.0, Timings(), None if error else 200, error)

    error = own_limits.limit_in(OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"))
    shots = [shot("") for _ in range(good)] + [shot(error) for _ in range(3)]
    identity = records.Identity(1, 1, 0, "a", "", "closed(1)", 1, None, "", None)
    outcome = Outcome(shots, 0.0, 1.0, 0.0)
    trial, _ = records.to_rows(identity, outcome, started_at="", fault=records.judge(outcome))
    assert trial.state == records.INVALID
    assert trial.error.startswith("the load generator ran out of local ports, so 3 requests were not sent: ")


def test_a_limit_is_found_below_other_errors_and_a_servers_error_is_not_our_own_limit() -> None:
    lookup = ExceptionGroup("all", [OSError(errno.ECONNREFUSED, "x"), OSError(errno.EMFILE, "y")])
    outer = RuntimeError("connect")
    outer.__context__ = lookup  # suppressed by `raise … from None`
    assert "open files" in own_limits.limit_in(outer)
    assert own_limits.limit_in(OSError(errno.ECONNREFUSED, "x")) == ""
    assert own_limits.why_invalid(["HTTP 500", ""]) == ""


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (OSError(errno.ENOMEM, "x"), "memory"),
        (MemoryError(), "memory"),
        (OSError(errno.ENOBUFS, "x"), "memory for sockets"),
        (OSError(errno.ENFILE, "x"), "open files of the whole machine"),
        (RuntimeError("can't start new thread"), "threads"),
    ],
)
def test_what_our_own_process_lacks_is_named_with_a_way_out(error: Exception, what: str) -> None:
    limit = own_limits.limit_in(error)
    assert limit == f"the load generator ran out of {what}"
    assert own_limits.is_own(limit)
    why = own_limits.why_invalid([limit, "HTTP 500", "HTTP 500"])
    assert why.startswith(f"{limit}, so 1 request was not sent: ")
    shown = own_limits.as_error(error)
    assert isinstance(shown, HarnessError)
    assert shown.hint == own_limits.hint_for(limit)


def test_the_size_of_the_limit_of_open_files_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (60, 60))
    error = own_limits.limit_in(OSError(errno.EMFILE, "x"))
    assert own_limits.why_invalid([error] * 2).startswith(
        "the load generator ran out of open files (at most 60), so 2 requests were not sent: raise the limit"
    )
