"""The load generator: walks the due times of an arrival law, sends with httpx, makes a Shot of every request.

`python -m harness.client.load` runs trials one after another, each ordered by a line of JSON on stdin; it is
a process of its own so that neither a terminal's redraw nor a CSV's fsync can delay a request.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import gc
import ipaddress
import itertools
import json
import logging
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TextIO
from urllib.parse import urlsplit

import httpx

from harness import workloads
from harness.errors import HarnessError, to_parent
from harness.system import own_limits, pipes
from harness.wire import addresses, answers, handing_over, reasons, sending
from harness.wire.arrivals import due_times_s
from harness.wire.clock import now_ms
from harness.wire.loop_lag import Beat, Lag
from harness.wire.options import LoadOptions
from harness.wire.records import COOLDOWN, DOWNSTREAM, MEASURE, PING, WARMUP, Outcome, Shot, Timings
from harness.wire.timings import HEADER, decode
from harness.wire.transports import OverAiohttp, OverHttpx

PROGRESS_EVERY_S = 0.5
PAUSE_WITHOUT_ANSWER_S = 0.05  # a user who got no answer does not hammer; a dead server costs no CPU
SHORT_SLEEP_MS = 6.0
ENDS_WITHIN_S = 0.1  # a connection that is open so long after an answer is taken for one to use again
STAMP_ROUNDING_MS = 0.002  # a stamp has three decimals
PINGS_IN_FLIGHT = 100  # ten seconds of hanging at the usual rate, then pings stop: sockets are limited


class Window:
    """Says which phase the next request belongs to, and when the load may end.

    Warm-up lasts for `warmup_requests` and `settle_s`, whichever ends later. Then requests are measured until
    `requests` of them are under way and `duration_s` is over. Until the last measured one is answered the
    load goes on (cooldown), so that it meets the same load as the first. In open loop a request belongs to
    where it was *due*, however late it is sent; in closed loop to where it is sent.
    """

    def __init__(self, options: LoadOptions) -> None:
        self._options = options
        self._warmups = 0
        self._measured = 0
        self._answered = 0
        self._closed = False  # no more requests are measured
        self._full_at_ms: float | None = None  # when `requests` were under way
        self.start_ms: float | None = None
        self.end_ms: float | None = None

    @property
    def over(self) -> bool:
        return self._closed and self._answered >= self._measured

    @property
    def unanswered(self) -> int:
        """Measured requests that are under way; an overdue one counts as soon as its turn has come."""
        return self._measured - self._answered

    def next_phase(self, at_ms: float) -> str:
        """The phase of a request due (open loop) or sent (closed loop) `at_ms` after the trial's start."""
        if self.start_ms is None and not self._warm(at_ms):
            self._warmups += 1
            return WARMUP
        if self.start_ms is None:
            self.start_ms = self._begin(at_ms)
        self._close_when_done(at_ms)
        if self._closed:
            return COOLDOWN
        self._measured += 1
        if self._measured == self._options.requests:
            self._full_at_ms = at_ms
        return MEASURE

    def answered(self, phase: str, at_ms: float) -> None:
        """Note that a request of `phase` was answered, or given up, `at_ms` after the trial's start."""
        if phase == MEASURE:
            self._answered += 1
        if self.start_ms is not None and not self._options.arrivals.is_open:
            self._close_when_done(at_ms)
        self._end_when_over(at_ms)

    def nothing_more_is_due(self, at_ms: float) -> None:
        """The schedule has ended: what is under way is all there will be."""
        if self.start_ms is None:
            self.start_ms = at_ms
        self._closed = True
        self._end_when_over(at_ms)

    def interrupted(self, at_ms: float) -> None:
        """The load has ended early: what is under way is given up, and the window ends."""
        self._measured = self._answered
        self.nothing_more_is_due(at_ms)

    def _warm(self, at_ms: float) -> bool:
        return self._warmups >= self._options.warmup_requests and at_ms >= self._options.settle_s * 1e3

    def _begin(self, at_ms: float) -> float:
        """An open window begins by the clock: one that began with an arrival would hold one too many."""
        by_clock = self._options.arrivals.is_open and not self._options.warmup_requests
        return self._options.settle_s * 1e3 if by_clock else at_ms

    def _close_when_done(self, at_ms: float) -> None:
        enough = self._options.requests is None or self._measured >= self._options.requests
        clock_end = self._clock_end_ms()
        if enough and (clock_end is None or at_ms >= clock_end):
            self._closed = True
            if clock_end is not None and (self._full_at_ms is None or self._full_at_ms <= clock_end):
                self.end_ms = clock_end

    def _clock_end_ms(self) -> float | None:
        if self._options.duration_s is None or self.start_ms is None:
            return None
        return self.start_ms + self._options.duration_s * 1e3

    def _end_when_over(self, at_ms: float) -> None:
        if self.over and self.end_ms is None:
            self.end_ms = at_ms


async def run_trial(options: LoadOptions, on_progress: Callable[[int, float], None]) -> Outcome:
    """Run one trial; call `on_progress(requests answered, their median latency in ms)` at times.

    Pings are not counted there. Every request becomes a Shot, also one without an answer. Raises nothing on
    account of the server.
    """
    trial = _Trial(options)
    beat = Beat()
    cpu = time.process_time()
    gc.collect()
    gc.disable()
    try:
        transport = _transport(options)
        async with _client_over(transport) as client:
            beside = [asyncio.create_task(trial.report(on_progress)), asyncio.create_task(trial.ping(client))]
            if options.beat:
                beat.start()
            await _load(trial, client)
            lag = await beat.stop()
            await _end(beside)
            await asyncio.gather(*trial.pings)  # under way: the slowest are the last to answer
            ended = options.watches_end and await _is_ended(transport)
    finally:
        gc.enable()
    return trial.outcome((time.process_time() - cpu) * 1e3, lag)._replace(ended=ended)


async def _is_ended(transport: OverAiohttp | OverHttpx) -> bool:
    """Whether the server ends its connections soon after an answer, without saying so."""
    await asyncio.sleep(ENDS_WITHIN_S)
    return transport.has_ended_one()


async def _load(trial: _Trial, client: httpx.AsyncClient) -> None:
    """Send all that the arrival law asks for, or less when the parent asks for what there is."""
    sending_all = asyncio.create_task(trial.load(client))
    with handing_over.ends_when_asked(sending_all):
        try:
            await sending_all
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            trial.interrupted()
            await _end([*trial.pings])


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel them; raise what one of them had raised."""
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended


class _Trial:
    """One engine for all arrival laws: something says when a request is due, `_ask_at` does the rest."""

    def __init__(self, options: LoadOptions) -> None:
        self._options = options
        self._window = Window(options)
        self._headers = _headers(options)
        self._requests = _requests(options, self._headers)
        self._secrets = sending.secrets(options.headers, self._headers)
        self._bad_answers: dict[str, str] = {}
        self._same_host = is_loopback(options.url)
        self._shots: list[Shot] = []  # pings left out: they are no part of the load
        self._pinged: list[Shot] = []
        self._sent = 0
        self._in_flight = 0
        self._in_flight_max = 0
        self.pings: set[asyncio.Task[None]] = set()  # under way
        self._capped = 0
        self._begun = asyncio.Event()  # the window has
        self._origin = now_ms()

    async def load(self, client: httpx.AsyncClient) -> None:
        """Send all that the arrival law asks for."""
        users = self._options.arrivals.users
        if users is None:
            await self._walk(client)
        else:
            await asyncio.gather(*(self._user(client) for _ in range(users)))

    async def _user(self, client: httpx.AsyncClient) -> None:
        """One user of the closed loop: the next request is due when the last answer is done."""
        due = self._now()
        while not self._window.over:
            said = next(self._requests)
            sent = self._now()
            shot = await self._ask_at(client, due, self._window.next_phase(sent), said, sent)
            due = shot.done_ms
            if shot.status is None:
                await asyncio.sleep(PAUSE_WITHOUT_ANSWER_S)
                due = self._now()

    async def _walk(self, client: httpx.AsyncClient) -> None:
        """Open loop: send at the due times whatever the answers do, but never more than the cap at once."""
        under_way: set[asyncio.Task[Shot]] = set()
        try:
            await self._send_all(client, under_way)
            await asyncio.gather(*under_way)
        except asyncio.CancelledError:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
            raise

    async def _send_all(self, client: httpx.AsyncClient, under_way: set[asyncio.Task[Shot]]) -> None:
        free = asyncio.Semaphore(self._options.cap)
        held_until = -math.inf  # when the cap last gave way: what was due before it is sent late
        for due_s in due_times_s(self._options.arrivals, self._options.seed):
            due = due_s * 1e3
            phase = self._window.next_phase(due)
            if not await self._comes(due):
                break
            if free.locked():
                await free.acquire()
                held_until = self._now()
            else:
                await free.acquire()
            self._capped += due < held_until
            task = asyncio.create_task(self._ask_at(client, due, phase, next(self._requests)))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            task.add_done_callback(lambda _: free.release())
            if self._is_lost():
                self._window.nothing_more_is_due(self._now())
                break
        else:
            self._window.nothing_more_is_due(self._now())

    def interrupted(self) -> None:
        """Nothing more is sent; what is under way has been cancelled."""
        self._window.interrupted(self._now())

    def _is_lost(self) -> bool:
        """Whether so many of the window are in flight that the rest of it would be waste.

        Those of the warm-up do not count: they score nothing.
        """
        most = self._options.give_up_in_flight
        return most is not None and self._window.unanswered >= most

    async def _comes(self, due: float) -> bool:
        """Wait until `due`; False as soon as the window is over.

        A long sleep ends up to 2 ms late on some kernels, a short one less than 1: hence two.
        """
        while not self._window.over:
            left = due - self._now()
            if left <= 0:
                return True
            await asyncio.sleep(min(left - SHORT_SLEEP_MS if left > 2 * SHORT_SLEEP_MS else left, 250) / 1e3)
        return False

    async def _ask_at(
        self,
        client: httpx.AsyncClient,
        due: float,
        phase: str,
        said: _Request,
        sent: float | None = None,
    ) -> Shot:
        """Send one request now that was due then; `sent` is now, where the caller has looked already."""
        seq, self._sent = self._sent, self._sent + 1
        if phase != WARMUP:
            self._begun.set()
        self._in_flight += 1
        self._in_flight_max = max(self._in_flight_max, self._in_flight)
        sent = self._now() if sent is None else sent
        answer = await self._answer(client, self._options, said)
        done = self._now()  # before the header is read, which takes as long as a small request's HTTP
        timings = decode(answer.header)
        self._in_flight -= 1
        self._note_what_it_says(answer)
        shot = Shot(
            seq, phase, due, sent, done, self._localise(timings, sent, done), answer.status, answer.error
        )
        self._shots.append(shot)
        self._window.answered(phase, done)
        return shot

    async def _answer(self, client: httpx.AsyncClient, options: LoadOptions, said: _Request) -> _Answer:
        answer = await _ask(client, options, said, self._headers)
        return answer._replace(error=reasons.hidden(answer.error, self._secrets)) if answer.error else answer

    def _note_what_it_says(self, answer: _Answer) -> None:
        """Of a bad answer, once for each error: bodies may differ, and there may be very many."""
        if answer.bad_body and answer.error not in self._bad_answers and DOWNSTREAM not in answer.error:
            self._bad_answers[answer.error] = reasons.excerpt(answer.bad_body, self._secrets)

    async def ping(self, client: httpx.AsyncClient) -> None:
        """Within the window, ask the other route at a steady rate, whether or not it has answered."""
        await self._begun.wait()
        start = self._now()
        for number, said in enumerate(_ping(self._options)):
            due = start + number * 1e3 / self._options.ping_per_s
            if not await self._comes(due) or self._window.end_ms is not None:
                return
            if len(self.pings) < PINGS_IN_FLIGHT:
                task = asyncio.create_task(self._ping_once(client, said, due))
                self.pings.add(task)
                task.add_done_callback(self.pings.discard)

    async def _ping_once(self, client: httpx.AsyncClient, said: _Request, due: float) -> None:
        one = self._options.model_copy(update={"method": "GET", "expected_status": 200})
        seq, self._sent = self._sent, self._sent + 1
        sent = self._now()
        answer = await self._answer(client, one, said)
        shot = Shot(seq, PING, due, sent, self._now(), Timings(), answer.status, answer.error)
        self._pinged.append(shot)

    async def report(self, on_progress: Callable[[int, float], None]) -> None:
        """Tell how the load gets on, at times; a ping has no model, and would make it look quicker."""
        while True:
            await asyncio.sleep(PROGRESS_EVERY_S)
            if self._shots:
                latest = self._shots[-200:]
                median = statistics.median(shot.done_ms - shot.due_ms for shot in latest)
                on_progress(len(self._shots), median)

    def outcome(self, cpu_ms: float, lag: Lag) -> Outcome:
        window = self._window
        assert window.start_ms is not None
        assert window.end_ms is not None
        return Outcome(
            sorted([*self._shots, *self._pinged], key=lambda shot: shot.seq),
            window.start_ms,
            window.end_ms,
            cpu_ms,
            in_flight_max=self._in_flight_max,
            capped=self._capped,
            client_lag_p99_ms=lag.p99_ms,
            client_lag_max_ms=lag.max_ms,
            bad_answers=self._bad_answers,
        )

    def _now(self) -> float:
        return now_ms() - self._origin

    def _localise(self, timings: Timings, sent: float, done: float) -> Timings:
        """The server's stamp counted from the trial's start, where it can be of our clock.

        A forwarded port has a local address and another host's clock, which hardly ever falls into the time
        that the request was under way.
        """
        if timings.entered_ms is None:
            return timings
        entered = timings.entered_ms - self._origin
        if self._same_host and sent - STAMP_ROUNDING_MS <= entered <= done + STAMP_ROUNDING_MS:
            return dataclasses.replace(timings, entered_ms=min(max(entered, sent), done))
        return dataclasses.replace(timings, entered_ms=None)


def open_client(options: LoadOptions) -> httpx.AsyncClient:
    """An httpx client that holds a connection for each request in flight, over the transport asked for.

    Neither retries, redirects, proxies nor cookies: a request is sent once, to the address given. Timeouts
    are set around the whole request by the caller, as the aiohttp transport knows only some of httpx's.
    """
    return _client_over(_transport(options))


def _client_over(transport: httpx.AsyncBaseTransport) -> httpx.AsyncClient:
    client = httpx.AsyncClient(transport=transport, timeout=None, trust_env=False)  # noqa: S113
    client.cookies.jar = answers.NoCookies()
    client.event_hooks["response"].append(answers.stay)
    return client


def _transport(options: LoadOptions) -> OverAiohttp | OverHttpx:
    connections = options.connections + (PINGS_IN_FLIGHT if options.ping_url else 0)
    own_limits.make_room(connections)
    good = {options.expected_status, 200} if options.keep_alive else set()  # pings expect 200
    if options.transport == "aiohttp":
        return OverAiohttp(connections, good.__contains__)
    verify = urlsplit(options.url).scheme == "https"  # a TLS context takes 20 ms to make
    try:
        return OverHttpx(connections, good.__contains__, verify=verify)
    except OSError as error:
        raise HarnessError(
            f"The certificates to trust cannot be read: {error.strerror or error}.",
            stage="load",
            hint="Is SSL_CERT_FILE (or SSL_CERT_DIR) a path that is there?",
        ) from error


class _Request(NamedTuple):
    """What one request says beside its headers."""

    server: httpx.URL
    target: bytes  # path and query
    body: bytes | None


class _Answer(NamedTuple):
    """What came of one request."""

    status: int | None  # None: there was no answer
    error: str  # empty of a good one
    header: str = ""  # Server-Timing
    bad_body: bytes = b""  # its beginning, where the status is not the expected one


async def _ask(
    client: httpx.AsyncClient,
    options: LoadOptions,
    said: _Request,
    headers: list[sending.Header],
) -> _Answer:
    """Send one request and read its whole answer. Whatever a server does comes back as an `_Answer`."""
    try:
        request = client.build_request(
            options.method,
            said.server,
            content=said.body,
            headers=headers,
            extensions={"target": said.target},
        )
        async with asyncio.timeout(options.timeout_s):
            answer = await client.send(request, stream=True)
            good = answer.status_code == options.expected_status
            start = await answers.read(answer, 0 if good else reasons.LOOKED_AT)
    except TimeoutError:
        return _Answer(None, reasons.of_timeout(options.timeout_s))
    except Exception as error:  # noqa: BLE001 - a library may raise anything on account of a server
        return _Answer(None, own_limits.met_by(error) or answers.why_none(error))
    status, header = answer.status_code, answer.headers.get(HEADER, "")
    if good:
        return _Answer(status, "", header)
    start = answers.unpacked(start, answer.headers.get("content-encoding", ""), reasons.LOOKED_AT)
    return _Answer(status, reasons.of_answer(status, start), header, start)


def _requests(options: LoadOptions, headers: list[sending.Header]) -> Iterator[_Request]:
    """Endless: what is sent, one after the other."""
    address = addresses.parse(options.url)
    server, target = httpx.URL(address.origin), addresses.filler(address.target)
    template = _template(options)
    if options.texts is None:
        body = None if template is None else template.encode()
        return itertools.repeat(_Request(server, target(""), body))
    texts = workloads.texts(options.texts.workload, options.texts.seed)
    if template is None:
        return (_Request(server, target(text), None) for text in texts)
    fill = sending.filler(template, sending.content_type(headers))
    return (_Request(server, target(text), fill(text)) for text in texts)


def _ping(options: LoadOptions) -> Iterator[_Request]:
    """Endless: the other route; nothing where there is none."""
    if options.ping_url is None:
        return iter(())
    address = addresses.parse(options.ping_url)
    return itertools.repeat(_Request(httpx.URL(address.origin), addresses.filler(address.target)(""), None))


def _template(options: LoadOptions) -> str | None:
    """The body, with a place for the text where texts are sent in it; None: there is none."""
    if options.body is not None or options.texts is None:
        return options.body
    return None if addresses.TEXT in options.url else sending.USUAL_BODY


def _headers(options: LoadOptions) -> list[sending.Header]:
    """As they are sent: filled from the environment; a JSON body is called so unless they say what it is."""
    headers = sending.expanded(options.headers)
    body = _template(options)
    if body is None or sending.content_type(headers) or not sending.is_json(body):
        return headers
    return [*headers, ("Content-Type", "application/json")]


def is_loopback(url: str) -> bool:
    """Whether `url` names this very host, so that its clock is ours."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def main() -> None:
    """For each line of JSON on stdin (LoadOptions) run a trial; answer with lines of JSON on stdout."""
    handing_over.ignore()
    keep_quiet()
    say = functools.partial(_say, pipes.kept_for_answers())
    for line in sys.stdin:
        try:
            options = LoadOptions.model_validate_json(line)
            outcome = asyncio.run(run_trial(options, lambda done, p50: say({"done": done, "p50_ms": p50})))
        except Exception as error:  # noqa: BLE001 - the parent shows it; this child serves the next trial
            say({"error": to_parent(error)})
        else:
            say({"outcome": _as_json(outcome)})


def keep_quiet() -> None:
    """Log no request, whatever the user's code, which is imported here for its texts, does to `logging`."""
    for library in ("httpx", "httpcore", "aiohttp", "asyncio"):
        logging.getLogger(library).setLevel(logging.CRITICAL)


def _as_json(outcome: Outcome) -> dict[str, Any]:
    shots = [{**shot._asdict(), "timings": dataclasses.asdict(shot.timings)} for shot in outcome.shots]
    return {**outcome._asdict(), "shots": shots}


def _say(pipe: TextIO, message: dict[str, Any]) -> None:
    pipe.write(json.dumps(message) + "\n")
    pipe.flush()


if __name__ == "__main__":
    main()
