"""The split of a request's time for any ASGI app (FastAPI, Starlette), in a `Server-Timing` header.

One file of the standard library alone: copy it into a service, which then needs nothing of executor-bench.

    app.add_middleware(ServerTiming)

    with stage("model") as model:
        vector = model.take(await loop.run_in_executor(pool, timed(predict), text))
    with stage("io"):
        rows = await search(vector)

Answers then carry, in milliseconds: `queue` (until a worker began), `model` (in the worker), `resume` (the
way back), `io`, any other stage under its own name, and `handler`, from the middleware's entry to the
answer's beginning. Without `take`, `model` is all of its stage, and there is no `queue` and no `resume`.
Stamps are of the host's monotonic clock, which its processes share.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import Any, NamedTuple

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_MARK = "executor_bench.timing"  # in the scope of a request that is being timed
_NAME = re.compile(r"[A-Za-z0-9_.-]+")  # of the characters that a header's token may have, the plain ones
_MODEL, _WHOLE = "model", "handler"


class Done(NamedTuple):
    """What a call came to, and when and where: stamps in ms on the host's monotonic clock."""

    value: Any
    started_ms: float
    ended_ms: float
    cpu_ms: float  # of the thread that ran it
    pid: int


class timed:
    """`func` as an executor may be given it: it returns a `Done`, which `stage.take` unpacks.

    Can be pickled if `func` can. What `func` raises is raised.
    """

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func

    def __call__(self, *args: Any, **kwargs: Any) -> Done:
        started, cpu_ns = _now_ms(), time.thread_time_ns()
        value = self.func(*args, **kwargs)
        cpu_ms = (time.thread_time_ns() - cpu_ns) / 1e6
        return Done(value, started, _now_ms(), cpu_ms, os.getpid())


class stage:
    """Context manager around a stretch of a request: `with stage("io"): …`, also around an `await`.

    Works in `async def` and in `def` routes; outside of a request it does nothing. Stretches of one name add
    up. ValueError for a name that no header can hold.
    """

    def __init__(self, name: str) -> None:
        if not _NAME.fullmatch(name) or name == _WHOLE:
            raise ValueError(f"{name!r} cannot be a stage's name: letters, digits, _ . - and not {_WHOLE!r}")
        self.name = name
        self._taken: list[tuple[Done, float, int]] = []

    def __enter__(self) -> stage:
        self._entered_ms = _now_ms()
        return self

    def take(self, done: Done, batch: int = 1) -> Any:
        """The value in what `timed(func)` returned; its stamps split a stage called "model".

        `batch`: requests that shared the call.
        """
        if not isinstance(done, Done):
            raise TypeError(f"take() unpacks what timed(func) returns, not {type(done).__name__}")
        self._taken.append((done, _now_ms(), batch))
        return done.value

    def __exit__(self, *_: object) -> None:
        request = _current.get()
        if request is None:
            return
        if self._taken and self.name == _MODEL:
            request.add_split(self._entered_ms, self._taken)
        else:
            request.add(self.name, _now_ms() - self._entered_ms)


class ServerTiming:
    """ASGI middleware that adds the header to every HTTP answer; it keeps back and changes nothing else.

    The header leaves with the answer's first byte: of a streamed answer it tells what came before.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _MARK in scope:  # a mounted app may have this middleware too
            await self.app(scope, receive, send)
            return
        scope[_MARK] = True
        request = _Request()

        async def send_timed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (b"server-timing", request.header())]
                message = {**message, "headers": headers}
            await send(message)

        token = _current.set(request)
        try:
            await self.app(scope, receive, send_timed)
        finally:
            _current.reset(token)


class _Request:
    """What is known of one request. Threads may add to it: appending is atomic, sums are made at the end."""

    def __init__(self) -> None:
        self._entered_ms = _now_ms()
        self._spans: list[tuple[str, float]] = []
        self._calls: list[tuple[Done, int]] = []

    def add(self, name: str, duration_ms: float) -> None:
        self._spans.append((name, duration_ms))

    def add_split(self, entered_ms: float, taken: list[tuple[Done, float, int]]) -> None:
        """Several calls in one stage count from the first one's start to the last one's end."""
        started = min(done.started_ms for done, _, _ in taken)
        ended = max(done.ended_ms for done, _, _ in taken)
        self.add("queue", started - entered_ms)
        self.add(_MODEL, ended - started)
        self.add("resume", max(at_ms for _, at_ms, _ in taken) - ended)
        self._calls += [(done, batch) for done, _, batch in taken]

    def header(self) -> bytes:
        """The header's value so far."""
        total_ms: dict[str, float] = {}
        for name, duration_ms in list(self._spans):
            total_ms[name] = total_ms.get(name, 0.0) + duration_ms
        notes = {_MODEL: self._worker(), _WHOLE: f"entered={self._entered_ms:.3f}"}
        total_ms[_WHOLE] = _now_ms() - self._entered_ms
        return ", ".join(
            f"{name};dur={duration_ms:.3f}" + (f';desc="{notes[name]}"' if notes.get(name) else "")
            for name, duration_ms in total_ms.items()
        ).encode()

    def _worker(self) -> str:
        if not self._calls:
            return ""
        last, batch = self._calls[-1]
        cpu_ms = sum(done.cpu_ms for done, _ in self._calls)
        return f"cpu={cpu_ms:.3f} batch={batch} pid={last.pid}"


_current: ContextVar[_Request | None] = ContextVar("request being timed", default=None)


def _now_ms() -> float:
    return time.perf_counter_ns() / 1e6
