"""Send requests during a fault and keep every answer, including bad and missing ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import aiohttp
from yarl import URL

from harness.evidence.faults.records import Tally
from harness.wire.timings import HEADER, decode

REFUSALS = (503, 429)
_LONGEST_TEXT = 120


class Answer(NamedTuple):
    """The answer to one request. Times are in seconds on the host's monotonic clock."""

    status: int | None  # None: no answer
    text: str  # of the answer, or why there is none
    sent_s: float
    done_s: float
    in_time: bool = True  # False: the client gave up
    worker_pid: int | None = None  # the process in which the model ran
    retry_after: str | None = None
    expected_status: int = 200

    @property
    def is_good(self) -> bool:
        return self.status == self.expected_status

    @property
    def took_ms(self) -> float:
        return (self.done_s - self.sent_s) * 1e3

    def __str__(self) -> str:
        if not self.in_time:
            return "no answer"
        return f"{self.status or 'dropped'}: {self.text}"[:_LONGEST_TEXT]


def session(url: str) -> aiohttp.ClientSession:
    """A client session without a connection limit; each request opens a new connection.

    A kept connection could be one that a fault is about to close.
    """
    return aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0, force_close=True))


async def send(
    session: aiohttp.ClientSession,
    method: str,
    path: str | URL,
    within_s: float,
    body: dict[str, str] | None = None,
    *,
    expected_status: int = 200,
    **options: Any,
) -> Answer:
    """Send one request; `options` are those of aiohttp.

    Cancelling it closes the connection, as a client that leaves does.
    """
    sent = time.monotonic()
    try:
        async with asyncio.timeout(within_s), session.request(method, path, json=body, **options) as response:
            text, status, headers = await response.text(errors="replace"), response.status, response.headers
    except TimeoutError:
        return Answer(None, "", sent, time.monotonic(), in_time=False)
    except (aiohttp.ClientError, OSError) as error:
        return Answer(None, type(error).__name__, sent, time.monotonic())
    pid = decode(headers.get(HEADER, "")).worker_pid
    retry_after = headers.get("Retry-After")
    return Answer(status, text, sent, time.monotonic(), True, pid, retry_after, expected_status)


def tally(answers: Iterable[Answer]) -> Tally:
    """Count the answers by kind."""
    kinds = [_kind(answer) for answer in answers]
    return Tally(*(kinds.count(kind) for kind in Tally._fields))


def _kind(answer: Answer) -> str:
    if not answer.in_time:
        return "unanswered"
    if answer.is_good:
        return "answered"
    return "refused" if answer.status in REFUSALS else "failed"
