"""One trial: walks the due times of an arrival law, has requests sent, makes a Shot of every one."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import ipaddress
import math
import statistics
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import httpx

from harness.client import http_client
from harness.client.http_client import PINGS_IN_FLIGHT, Answer, Request
from harness.client.window import Window
from harness.wire import handing_over, reasons, sending
from harness.wire.arrivals import due_times_s
from harness.wire.clock import now_ms
from harness.wire.loop_lag import Beat, Lag
from harness.wire.options import LoadOptions
from harness.wire.records import PING, WARMUP, Outcome, Shot, Timings
from harness.wire.timings import decode
from harness.wire.transports import open_client

PROGRESS_EVERY_S = 0.5
PAUSE_WITHOUT_ANSWER_S = 0.05  # a user who got no answer does not hammer; a dead server costs no CPU
SHORT_SLEEP_MS = 6.0
ENDS_WITHIN_S = 0.1  # a connection that is open so long after an answer is taken for one to use again
STAMP_ROUNDING_MS = 0.002  # a stamp has three decimals


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
        transport = http_client.transport_of(options)
        async with open_client(transport) as client:
            beside = [asyncio.create_task(trial.report(on_progress)), asyncio.create_task(trial.ping(client))]
            if options.beat:
                beat.start()
            await trial.load(client)
            lag = await beat.stop()
            await _end(beside)
            await asyncio.gather(*trial.pings)  # under way: the slowest are the last to answer
            if options.watches_end:  # whether the server ends its connections soon, without saying so
                await asyncio.sleep(ENDS_WITHIN_S)
            ended = options.watches_end and transport.has_ended_one()
    finally:
        gc.enable()
    return trial.outcome((time.process_time() - cpu) * 1e3, lag, ended=ended)


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
        self._headers = http_client.headers_of(options)
        self._requests = http_client.requests(options, self._headers)
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
        """Send all that the arrival law asks for, or less when the parent asks for what there is."""
        sending_all = asyncio.create_task(self._send_all(client))
        with handing_over.ends_when_asked(sending_all):
            try:
                await sending_all
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                self._window.interrupted(self._now())
                await _end([*self.pings])

    async def _send_all(self, client: httpx.AsyncClient) -> None:
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
            await self._send_when_due(client, under_way)
            await asyncio.gather(*under_way)
        except asyncio.CancelledError:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
            raise

    async def _send_when_due(self, client: httpx.AsyncClient, under_way: set[asyncio.Task[Shot]]) -> None:
        free = asyncio.Semaphore(self._options.cap)
        give_up_at = self._options.give_up_in_flight
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
            # those of the warm-up do not count: they score nothing
            if give_up_at is not None and self._window.unanswered >= give_up_at:
                self._window.nothing_more_is_due(self._now())
                break
        else:
            self._window.nothing_more_is_due(self._now())

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
        said: Request,
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
        # once for each error: bodies may differ, and there may be very many
        if answer.bad_body and answer.error not in self._bad_answers:
            self._bad_answers[answer.error] = reasons.excerpt(answer.bad_body, self._secrets)
        shot = Shot(
            seq, phase, due, sent, done, self._localise(timings, sent, done), answer.status, answer.error
        )
        self._shots.append(shot)
        self._window.answered(phase, done)
        return shot

    async def _answer(self, client: httpx.AsyncClient, options: LoadOptions, said: Request) -> Answer:
        answer = await http_client.ask(client, options, said, self._headers)
        return answer._replace(error=reasons.hidden(answer.error, self._secrets)) if answer.error else answer

    async def ping(self, client: httpx.AsyncClient) -> None:
        """Within the window, ask the other route at a steady rate, whether or not it has answered."""
        await self._begun.wait()
        start = self._now()
        for number, said in enumerate(http_client.pings(self._options)):
            due = start + number * 1e3 / self._options.ping_per_s
            if not await self._comes(due) or self._window.end_ms is not None:
                return
            if len(self.pings) < PINGS_IN_FLIGHT:
                task = asyncio.create_task(self._ping_once(client, said, due))
                self.pings.add(task)
                task.add_done_callback(self.pings.discard)

    async def _ping_once(self, client: httpx.AsyncClient, said: Request, due: float) -> None:
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

    def outcome(self, cpu_ms: float, lag: Lag, *, ended: bool) -> Outcome:
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
            ended=ended,
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


def is_loopback(url: str) -> bool:
    """Whether `url` names this very host, so that its clock is ours."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
