"""The load generator: walks a closed loop of users, sends with httpx, makes a Sample of every request.

`python -m harness.load` runs trials one after another, each ordered by a line of JSON on stdin; it is a
process of its own so that neither a terminal's redraw nor a CSV's fsync can delay a request.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import ipaddress
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from harness import workloads
from harness.clock import now_ms
from harness.options import LoadOptions, Texts
from harness.records import COOLDOWN, MEASURE, WARMUP, Outcome, Shot, Timings
from harness.server_timing import HEADER, decode

PROGRESS_EVERY_S = 0.5
PAUSE_WITHOUT_ANSWER_S = 0.05  # a user who got no answer does not hammer; a dead server costs no CPU
_LONGEST_ERROR = 200


class Window:
    """Says which phase the next request belongs to, and when the users may go home.

    Warm-up lasts for `warmup_requests` and `settle_s`, whichever ends later. Then either `requests` are
    measured, or all that are sent within `duration_s`. Until the last measured one is answered the users go
    on (cooldown), so that it meets the same load as the first.
    """

    def __init__(self, options: LoadOptions) -> None:
        self._options = options
        self._warmups = 0
        self._measured = 0
        self._answered = 0
        self._closed = False  # no more requests are measured
        self.start_ms: float | None = None
        self.end_ms: float | None = None

    @property
    def over(self) -> bool:
        return self._closed and self._answered >= self._measured

    def next_phase(self, at_ms: float) -> str:
        """The phase of a request sent `at_ms` after the trial's start."""
        if self.start_ms is None and not self._warm(at_ms):
            self._warmups += 1
            return WARMUP
        if self.start_ms is None:
            self.start_ms = at_ms
        self._close_when_due(at_ms)
        if self._closed:
            return COOLDOWN
        self._measured += 1
        return MEASURE

    def answered(self, phase: str, at_ms: float) -> None:
        """Note that a request of `phase` was answered, or given up, `at_ms` after the trial's start."""
        if phase == MEASURE:
            self._answered += 1
        if self.start_ms is not None:
            self._close_when_due(at_ms)
        if self._options.requests is not None and self.over and self.end_ms is None:
            self.end_ms = at_ms

    def _warm(self, at_ms: float) -> bool:
        return self._warmups >= self._options.warmup_requests and at_ms >= self._options.settle_s * 1e3

    def _close_when_due(self, at_ms: float) -> None:
        assert self.start_ms is not None
        if self._options.requests is not None:
            self._closed = self._measured >= self._options.requests
        elif self._options.duration_s is not None:
            self.end_ms = self.start_ms + self._options.duration_s * 1e3
            self._closed = at_ms >= self.end_ms


async def run_trial(options: LoadOptions, on_progress: Callable[[int, float], None]) -> Outcome:
    """Run one closed-loop trial; call `on_progress(requests answered, their median latency in ms)` at times.

    Every request becomes a Shot, also one without an answer. Raises nothing on account of the server.
    """
    trial = _Trial(options)
    cpu = time.process_time()
    gc.collect()
    gc.disable()
    try:
        async with open_client(options) as client:
            reporting = asyncio.create_task(trial.report(on_progress))
            await asyncio.gather(*(trial.user(client) for _ in range(options.concurrency)))
            reporting.cancel()
    finally:
        gc.enable()
    return trial.outcome((time.process_time() - cpu) * 1e3)


class _Trial:
    def __init__(self, options: LoadOptions) -> None:
        self._options = options
        self._window = Window(options)
        self._texts = _texts(options.texts)
        self._same_host = is_loopback(options.url)
        self._shots: list[Shot] = []
        self._sent = 0
        self._origin = now_ms()

    async def user(self, client: httpx.AsyncClient) -> None:
        """One user of the closed loop: the next request is due when the last answer is done."""
        due = now_ms() - self._origin
        while not self._window.over:
            seq, self._sent = self._sent, self._sent + 1
            sent = now_ms() - self._origin
            phase = self._window.next_phase(sent)
            status, error, timings = await _ask(client, self._options, next(self._texts))
            done = now_ms() - self._origin
            self._shots.append(Shot(seq, phase, due, sent, done, self._localise(timings), status, error))
            self._window.answered(phase, done)
            if status is None:
                await asyncio.sleep(PAUSE_WITHOUT_ANSWER_S)
                done = now_ms() - self._origin
            due = done

    async def report(self, on_progress: Callable[[int, float], None]) -> None:
        while True:
            await asyncio.sleep(PROGRESS_EVERY_S)
            if self._shots:
                latest = self._shots[-200:]
                median = statistics.median(shot.done_ms - shot.due_ms for shot in latest)
                on_progress(len(self._shots), median)

    def outcome(self, cpu_ms: float) -> Outcome:
        window = self._window
        assert window.start_ms is not None
        assert window.end_ms is not None
        shots = sorted(self._shots, key=lambda shot: shot.seq)
        return Outcome(shots, window.start_ms, window.end_ms, cpu_ms)

    def _localise(self, timings: Timings) -> Timings:
        """The server's stamp counted from the trial's start; without meaning when the clocks differ."""
        if timings.entered_ms is None:
            return timings
        entered = timings.entered_ms - self._origin if self._same_host else None
        return dataclasses.replace(timings, entered_ms=entered)


def open_client(options: LoadOptions) -> httpx.AsyncClient:
    """An httpx client that holds `concurrency` connections, over the transport asked for.

    Neither retries, redirects, proxies nor cookies: a request is sent once, to the address given. Timeouts
    are set around the whole request by the caller, as the aiohttp transport knows only some of httpx's.
    """
    limits = httpx.Limits(max_connections=options.concurrency, max_keepalive_connections=options.concurrency)
    transport: httpx.AsyncBaseTransport
    if options.transport == "aiohttp":
        # verify concerns a session that the transport would make itself; ours verifies by aiohttp's default
        transport = AiohttpTransport(client=lambda: _session(options.concurrency), verify=False)
    else:
        verify = urlsplit(options.url).scheme == "https"  # a TLS context takes 20 ms to make
        transport = httpx.AsyncHTTPTransport(limits=limits, verify=verify)
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))  # users would share them
    return httpx.AsyncClient(transport=transport, timeout=None, trust_env=False, cookies=no_cookies)  # noqa: S113


class ConnectionDropped(aiohttp.ClientError):
    """The server closed the connection instead of answering."""


async def _no_retry(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from silently sending an idempotent request again on a dropped connection.

    It retries on these two errors; a different one reaches the caller, and becomes a row.
    """
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise  # never connected: aiohttp does not retry that
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise ConnectionDropped(str(error)) from error


def _session(connections: int) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        cookie_jar=aiohttp.DummyCookieJar(),
        middlewares=(_no_retry,),
    )


async def _ask(
    client: httpx.AsyncClient, options: LoadOptions, text: str | None
) -> tuple[int | None, str, Timings]:
    """Send one request and read its whole answer: status (None without one), error, server's timings."""
    body = None if text is None else {"text": text}
    try:
        async with asyncio.timeout(options.timeout_s):
            answer = await client.request(options.method, options.url, json=body)
    except TimeoutError:
        return None, f"timeout after {options.timeout_s:g} s", Timings()
    except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
        return None, _reason(error), Timings()
    timings = decode(answer.headers.get(HEADER, ""))
    if answer.status_code != options.expected_status:
        return answer.status_code, f"HTTP {answer.status_code}", timings
    return answer.status_code, "", timings


def _reason(error: BaseException) -> str:
    """The error's root cause in one line: httpx's own names are too coarse (a drop reads "connect")."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text.removesuffix(":")[:_LONGEST_ERROR]


def _texts(texts: Texts | None) -> Iterator[str | None]:
    if texts is None:
        return iter(lambda: None, ...)
    return workloads.create(texts.workload).payloads(texts.seed)


def is_loopback(url: str) -> bool:
    """Whether `url` names this very host, so that its clock is ours."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def main() -> None:
    """For each line of JSON on stdin (LoadOptions) run a trial; answer with lines of JSON on stdout."""
    for line in sys.stdin:
        options = LoadOptions.model_validate_json(line)
        outcome = asyncio.run(run_trial(options, lambda done, p50: _say({"done": done, "p50_ms": p50})))
        _say({"outcome": _as_json(outcome)})


def _as_json(outcome: Outcome) -> dict[str, Any]:
    shots = [{**shot._asdict(), "timings": dataclasses.asdict(shot.timings)} for shot in outcome.shots]
    return {**outcome._asdict(), "shots": shots}


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
