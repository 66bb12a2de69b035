"""A server with known behaviour over raw sockets, and loads for it."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import socket
import struct
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from harness.client.engine import run_trial
from harness.run.load_generator import Loader
from harness.wire.arrivals import closed
from harness.wire.clock import now_ms
from harness.wire.load_options import LoadOptions
from harness.wire.records import Outcome, Shot

TRANSPORTS = ("aiohttp", "httpx")
both_transports = pytest.mark.parametrize("transport", TRANSPORTS)


@dataclasses.dataclass
class Arrival:
    """One request as the server received it."""

    number: int  # in order of arrival, from 0
    nth: int  # on its connection, from 1
    head: str
    body: bytes
    arrived_ms: float
    left_ms: float = 0.0  # when its answer was handed to the socket


Answer = Callable[[Arrival], Awaitable[bytes | None]]


def reply(status: int = 200, headers: str = "", body: bytes = b"ok") -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def after(delay_ms: float, answer: bytes | None = None) -> Answer:
    """Give every request the same answer after `delay_ms`."""

    async def answer_later(arrival: Arrival) -> bytes | None:
        await asyncio.sleep(delay_ms / 1e3)
        return reply() if answer is None else answer

    return answer_later


async def uneven(arrival: Arrival) -> bytes:
    """Answer after 10 to 50 ms, so that users are not in step, with the time of arrival in the header."""
    await asyncio.sleep((10 + 10 * (arrival.number % 5)) / 1e3)
    return reply(headers=f'Server-Timing: handler;dur=1;desc="entered={arrival.arrived_ms:.3f}"\r\n')


class KnownServer:
    """A server over raw sockets in a thread that records requests, connections and requests in flight.

    An answer of None closes the connection without an answer. "Connection: close" closes it after the answer.
    """

    def __init__(self, answer: Answer, *, reset: bool = False) -> None:
        self._answer = answer
        self._reset = reset
        self._loop = asyncio.new_event_loop()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self.arrivals: list[Arrival] = []
        self.connections = 0
        self.in_flight = 0
        self.levels: list[tuple[float, int]] = []  # (moment, in flight from then on)
        self._stopped = asyncio.Event()

    def serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)

    @property
    def most_at_once(self) -> int:
        return max(level for _, level in self.levels)

    def mean_in_flight(self, start_ms: float, end_ms: float) -> float:
        """Return the time-weighted mean of requests in flight between two moments."""
        total = 0.0
        for (moment, level), (following, _) in itertools.pairwise([*self.levels, (end_ms, 0)]):
            total += level * max(0.0, min(following, end_ms) - max(moment, start_ms))
        return total / (end_ms - start_ms)

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, sock=self._listening)
        await self._stopped.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            for nth in itertools.count(1):
                arrival = await self._receive(reader, nth)
                self._now(+1)
                try:
                    answer = await self._answer(arrival)
                finally:
                    self._now(-1)
                if answer is None:
                    break
                arrival.left_ms = now_ms()
                writer.write(answer)
                await writer.drain()
                if b"connection: close" in answer.lower():
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        self._hang_up(writer)

    async def _receive(self, reader: asyncio.StreamReader, nth: int) -> Arrival:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lengths = [line for line in head.lower().splitlines() if line.startswith("content-length:")]
        body = await reader.readexactly(int(lengths[0].split(":")[1])) if lengths else b""
        self.arrivals.append(Arrival(len(self.arrivals), nth, head, body, now_ms()))
        return self.arrivals[-1]

    def _now(self, change: int) -> None:
        self.in_flight += change
        self.levels.append((now_ms(), self.in_flight))

    def _hang_up(self, writer: asyncio.StreamWriter) -> None:
        if self._reset:
            no_farewell = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_farewell)
        writer.close()


@contextmanager
def answering(
    answer: Answer, *, reset: bool = False, kind: type[KnownServer] = KnownServer
) -> Iterator[KnownServer]:
    server = kind(answer, reset=reset)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join()


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


# -- the load ------


def fire(loader: Loader, url: str, **options: Any) -> Outcome:
    return loader.run(load_options(url, **options), lambda answered, median_ms: None)


async def fire_here(options: LoadOptions) -> Outcome:
    """Run one trial in this process."""
    shots: list[Shot] = []
    outcome = await run_trial(options, lambda answered, median_ms: None, shots.append)
    return outcome._replace(shots=sorted(shots, key=lambda shot: shot.seq))


def load_options(url: str, *, concurrency: int | None = None, **options: Any) -> LoadOptions:
    """Return the options of a load; `concurrency` is a shortcut for a closed loop."""
    if concurrency is not None:
        options["arrivals"] = closed(concurrency)
    return LoadOptions(url=url, **options)


def phases(outcome: Outcome) -> Counter[str]:
    return Counter(shot.phase for shot in outcome.shots)


def service_ms(shot: Shot) -> float:
    return shot.done_ms - shot.sent_ms
