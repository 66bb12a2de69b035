"""Run one trial: send a request at each due time of an arrival law and record a Shot of each."""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import itertools
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from harness.client import collector, http_client
from harness.client.http_client import PINGS_IN_FLIGHT, Answer, Request
from harness.client.link import Link
from harness.client.pauses import Pauses, next_sleep_ms
from harness.client.user_requests import UserRequests
from harness.client.window import Window
from harness.wire import early_end, reasons, sending, think_time
from harness.wire.arrivals import due_times_s
from harness.wire.clock import now_ms
from harness.wire.load_options import LoadOptions
from harness.wire.loop_lag import Lag, LoopLagProbe
from harness.wire.records import NO_TIMINGS, PING, WARMUP, Outcome, Shot, Timings, add_to
from harness.wire.tally import Tally
from harness.wire.timings import decode
from harness.wire.transports import Client

PROGRESS_EVERY_S = 0.5
PAUSE_WITHOUT_ANSWER_S = 0.05  # before a user sends again, so that a dead server costs no CPU
CONNECTION_GRACE_S = 0.1  # a connection that is still open this long after an answer counts as reusable
STAMP_ROUNDING_MS = 0.002  # timestamps have three decimals
LATEST = 200  # answers whose median latency is the progress


async def run_trial(
    options: LoadOptions,
    on_progress: Callable[[int, float], None],
    on_shot: Callable[[Shot], None],
    link: Link | None = None,
) -> Outcome:
    """Run one trial. Call `on_progress(requests answered, their median latency in ms)` now and then.

    A generator that sends only a share of the load agrees with the others through `link`: they all start at
    `start_at_ms`, measure the same window, and keep up the load until the last of them is done.

    Progress does not count pings. Every request becomes a Shot for `on_shot`, even if it gets no answer, in
    order of completion; none is kept here, so the outcome has no shots. Nothing that a server does raises an
    exception.
    """
    trial = _Trial(options, on_shot, link or Link.alone())
    probe = LoopLagProbe()
    cpu = time.process_time()
    with collector.frozen():
        transport = http_client.create_transport(options)
        async with Client(transport) as client:
            background = [
                asyncio.create_task(trial.report_progress(on_progress)),
                asyncio.create_task(trial.ping(client)),
            ]
            await trial.begin()
            if options.probe_loop:
                probe.start()
            await trial.load(client)
            lag = await probe.stop()
            await _cancel(background)
            await asyncio.gather(*trial.pings)  # wait for all, as the last to be answered are the slowest
            if options.watches_end:  # whether the server soon closes connections without announcing it
                await asyncio.sleep(CONNECTION_GRACE_S)
            ended = options.watches_end and transport.has_closed_connection()
    return trial.outcome((time.process_time() - cpu) * 1e3, lag, ended=ended)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel the tasks. Raises the exception of a task that had failed."""
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended


class _Trial:
    """Runs a trial of any arrival law: the law gives the due times, and `_send_one` sends each request."""

    def __init__(self, options: LoadOptions, on_shot: Callable[[Shot], None], link: Link) -> None:
        self._options = options
        self._share = options.share
        self._on_shot = on_shot
        self._tally = Tally()
        self._window = Window(options, link)
        link.attach(self._window)
        self._headers = http_client.headers_of(options)
        self._secrets = sending.secrets(options.headers, self._headers)
        self._bad_answers: dict[str, str] = {}
        self._same_host = is_loopback(options.url)
        # latencies in ms, without pings, which are not part of the load
        self._latest: deque[float] = deque(maxlen=LATEST)
        self._answered = 0  # without pings
        self._sent = 0
        self._in_flight = 0
        self._in_flight_max = 0
        self.pings: set[asyncio.Task[None]] = set()  # in flight
        self._capped = 0
        self._window_begun = asyncio.Event()
        self._origin = origin = now_ms() if options.start_at_ms is None else options.start_at_ms
        self._pauses = Pauses(self._window, lambda: now_ms() - origin)  # not `self._now`: no cycle

    async def begin(self) -> None:
        """Wait until the trial begins."""
        for _ in range(2):  # the second sleep is short, so it is exact
            await asyncio.sleep(next_sleep_ms(max(0.0, -self._now())) / 1e3)

    async def load(self, client: Client) -> None:
        """Send all requests of the arrival law; stop early if the parent asks for the results so far."""
        sending_all = asyncio.create_task(self._send_all(client))
        with early_end.cancel_on_signal(sending_all):
            try:
                await sending_all
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                self._window.interrupted(self._now())
                await _cancel([*self.pings])

    async def _send_all(self, client: Client) -> None:
        users = self._options.arrivals.users
        if users is None:
            await self._open_loop(client)
        else:
            await self._closed_loop(client, users)

    async def _closed_loop(self, client: Client, users: int) -> None:
        ours = range(self._share.index, users, self._share.of)
        requests = UserRequests(http_client.requests(self._options, self._headers), users, ours)
        watch = (
            []
            if self._options.think is None and self._share.is_whole
            else [asyncio.create_task(self._pauses.watch())]
        )
        try:
            await asyncio.gather(*(self._user(client, user, requests) for user in ours))
        finally:
            await _cancel(watch)

    def _think_times_ms(self, user: int) -> Iterator[float]:
        """Yield the user's pause before each request."""
        think, seed = self._options.think, self._options.seed
        if think is None:
            return itertools.repeat(0.0)
        return (pause_s * 1e3 for pause_s in think_time.pauses_s(think, seed, user))

    async def _user(self, client: Client, user: int, requests: UserRequests) -> None:
        """Act as one user of a closed loop.

        The next request is due when the last answer is complete and the user has paused.
        """
        think_times_ms = self._think_times_ms(user)
        due = self._now() + next(think_times_ms)
        while await self._pauses.until(due):
            request = requests.next_of(user)
            sent = self._now()
            shot = await self._send_one(client, due, self._window.next_phase(sent), request, sent)
            due = shot.done_ms + next(think_times_ms)
            if shot.status is None:
                await asyncio.sleep(PAUSE_WITHOUT_ANSWER_S)
                due = max(due, self._now())

    async def _open_loop(self, client: Client) -> None:
        """Send at the due times, independent of the answers, with at most `cap` requests in flight."""
        in_flight: set[asyncio.Task[Shot]] = set()
        try:
            await self._send_when_due(client, in_flight)
            await asyncio.gather(*in_flight)
        except asyncio.CancelledError:
            for task in in_flight:
                task.cancel()
            await asyncio.gather(*in_flight, return_exceptions=True)
            raise

    async def _send_when_due(self, client: Client, in_flight: set[asyncio.Task[Shot]]) -> None:
        free = asyncio.Semaphore(self._options.cap)
        give_up_at = self._options.give_up_in_flight
        held_until = -math.inf  # when the cap last held a request back; any that was due before is sent late
        requests = http_client.requests(self._options, self._headers)
        for number, due_s in enumerate(due_times_s(self._options.arrivals, self._options.seed)):
            due = due_s * 1e3
            phase, request = self._window.next_phase(due), next(requests)
            if number % self._share.of != self._share.index:
                self._window.answered(phase, due)  # another generator sends it
                continue
            if not await self._sleep_until(due):
                break
            if free.locked():
                await free.acquire()
                held_until = self._now()
            else:
                await free.acquire()
            self._capped += due < held_until
            task = asyncio.create_task(self._send_one(client, due, phase, request))
            in_flight.add(task)
            task.add_done_callback(in_flight.discard)
            task.add_done_callback(lambda _: free.release())
            # requests of the warm-up do not count, as they enter no figure
            if give_up_at is not None and self._window.unanswered >= give_up_at:
                self._window.schedule_ended(self._now())
                break
        else:
            self._window.schedule_ended(self._now())

    async def _sleep_until(self, due: float) -> bool:
        """Wait until `due` and return True, or return False as soon as the window is over."""
        while not self._window.over:
            left = due - self._now()
            if left <= 0:
                return True
            await asyncio.sleep(min(next_sleep_ms(left), 250) / 1e3)
        return False

    async def _send_one(
        self,
        client: Client,
        due: float,
        phase: str,
        request: Request,
        sent: float | None = None,
    ) -> Shot:
        """Send a request that was due at `due`; `sent` is the current time if the caller knows it."""
        seq = self._next_seq()
        if phase != WARMUP:
            self._window_begun.set()
        self._in_flight += 1
        self._in_flight_max = max(self._in_flight_max, self._in_flight)
        sent = self._now() if sent is None else sent
        answer = await self._answer(client, self._options, request)
        done = self._now()  # before decoding the header, which takes as long as the HTTP of a small request
        timings = decode(answer.header)
        self._in_flight -= 1
        # one body per error: bodies may differ, and there may be very many
        if answer.bad_body and answer.error not in self._bad_answers:
            self._bad_answers[answer.error] = reasons.excerpt(answer.bad_body, self._secrets)
        first_byte = None if answer.first_byte_ms is None else answer.first_byte_ms - self._origin
        timings = self._localized(timings, sent, done)
        index = self._share.index
        shot = Shot(seq, phase, due, sent, done, timings, answer.status, answer.error, first_byte, index)
        self._latest.append(done - due)
        self._answered += 1
        self._window.answered(phase, done)
        self._finished(shot)
        return shot

    def _next_seq(self) -> int:
        """The number of the next request: unique in the trial, whichever generator sends it."""
        number, self._sent = self._sent, self._sent + 1
        return number * self._share.of + self._share.index

    def _finished(self, shot: Shot) -> None:
        add_to(self._tally, shot)
        self._on_shot(shot)

    async def _answer(self, client: Client, options: LoadOptions, request: Request) -> Answer:
        answer = await http_client.send(client, options, request, self._headers)
        return answer._replace(error=reasons.hidden(answer.error, self._secrets)) if answer.error else answer

    async def ping(self, client: Client) -> None:
        """During the window, send pings at a steady rate, independent of their answers."""
        await self._window_begun.wait()
        start = self._now()
        for number, request in enumerate(http_client.pings(self._options)):
            due = start + number * 1e3 / self._options.ping_per_s
            if not await self._sleep_until(due) or self._window.end_ms is not None:
                return
            if len(self.pings) < PINGS_IN_FLIGHT:
                task = asyncio.create_task(self._ping_once(client, request, due))
                self.pings.add(task)
                task.add_done_callback(self.pings.discard)

    async def _ping_once(self, client: Client, request: Request, due: float) -> None:
        options = self._options.model_copy(update={"method": "GET", "expected_status": 200})
        seq = self._next_seq()
        sent = self._now()
        answer = await self._answer(client, options, request)
        self._finished(Shot(seq, PING, due, sent, self._now(), NO_TIMINGS, answer.status, answer.error))

    async def report_progress(self, on_progress: Callable[[int, float], None]) -> None:
        """Call `on_progress` regularly. Leave out pings: they run no model and would lower the median."""
        while True:
            await asyncio.sleep(PROGRESS_EVERY_S)
            if self._latest:
                on_progress(self._answered, statistics.median(self._latest))

    def outcome(self, cpu_ms: float, lag: Lag, *, ended: bool) -> Outcome:
        window = self._window
        assert window.start_ms is not None
        assert window.end_ms is not None
        return Outcome(
            [],
            round(window.start_ms, 3),  # as the stamps of its rows
            round(window.end_ms, 3),
            cpu_ms,
            in_flight_max=self._in_flight_max,
            capped=self._capped,
            client_lag_p99_ms=lag.p99_ms,
            client_lag_max_ms=lag.max_ms,
            bad_answers=self._bad_answers,
            ended=ended,
            tally=self._tally.counts(),
        )

    def _now(self) -> float:
        return now_ms() - self._origin

    def _localized(self, timings: Timings, sent: float, done: float) -> Timings:
        """Count the server's timestamp from the trial's start; drop it if it comes from another host's clock.

        A forwarded port has a local address but another host's clock. Its timestamp almost never falls
        between `sent` and `done`.
        """
        if timings.entered_ms is None:
            return timings
        entered = timings.entered_ms - self._origin
        if self._same_host and sent - STAMP_ROUNDING_MS <= entered <= done + STAMP_ROUNDING_MS:
            return dataclasses.replace(timings, entered_ms=min(max(entered, sent), done))
        return dataclasses.replace(timings, entered_ms=None)


def is_loopback(url: str) -> bool:
    """Return whether `url` is on this host, so that both sides share one clock."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
