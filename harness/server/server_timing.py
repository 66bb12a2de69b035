"""Send the split of each request's time in a `Server-Timing` header, for any ASGI app (FastAPI, Starlette).

Copy this file into your service. It needs only the standard library, and nothing else of executor-bench.

    app.add_middleware(ServerTiming)

    with stage("model") as model:
        vector = model.take(await loop.run_in_executor(pool, timed(predict), text))
    with stage("io"):
        rows = await search(vector)

The header of each answer then holds these durations in milliseconds:

* `queue`: from entering the stage "model" until a worker starts the call
* `model`: the call in the worker
* `resume`: the way back, from the end of the call in the worker until `take`
* `io` and any other stage: the time inside its `with` block
* `handler`: from the middleware's entry until the answer starts

Without `take`, `model` is the time of the whole stage, and `queue` and `resume` are missing.

All timestamps come from the host's monotonic clock, which all processes of the host share. If the call ran on
another host, the two clocks cannot be compared: `queue` and `resume` are missing, `model` is still exact.
"""

from __future__ import annotations

import functools
import inspect
import os
import platform
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Future
from contextvars import ContextVar
from pathlib import Path
from types import AsyncGeneratorType, GeneratorType
from typing import Any, NamedTuple

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_SCOPE_KEY = "executor_bench.timing"  # marks the scope of a request that is already being timed
_STAGE_NAME = re.compile(r"[A-Za-z0-9_.-]+")  # a subset of the characters that a header token may have
_MODEL, _HANDLER = "model", "handler"
_PENDING = (GeneratorType, AsyncGeneratorType, Awaitable, Future)  # returned before their work is done


class Done(NamedTuple):
    """The result of a call, with its times: timestamps in ms on the monotonic clock of its host."""

    value: Any  # what the function returned
    started_ms: float
    ended_ms: float
    cpu_ms: float  # CPU time of the thread that ran the call
    pid: int  # the process that ran the call
    batch: int = 1  # number of requests that shared the call
    clock: str = ""  # the name of the clock; "" for that of the process that calls `take`


class timed:
    """Wrap `func` for an executor: each call measures itself and returns a `Done`. `stage.take` unpacks it.

    `timed(func)` can be pickled if `func` can. Exceptions of `func` pass through unchanged.

    A stage inside `func` counts for the request in which `timed(func)` was created, even if `func` runs in a
    thread of an executor. In another process, such a stage does nothing.

    Raises TypeError if `func` returns before its work is done. This applies to async functions, to
    generators, and to functions that return an awaitable or a `concurrent.futures.Future`. For those, put
    `with stage("model"):` around the `await`.
    """

    def __init__(self, func: Callable[..., Any]) -> None:
        if _runs_later(func):
            raise _cannot_be_timed(func)
        self.func = func
        self._request = _current.get()

    def __reduce__(self) -> tuple[Any, ...]:
        return timed, (self.func,)  # the request stays in its process

    def __call__(self, *args: Any, **kwargs: Any) -> Done:
        token = _current.set(_current.get() or self._request)
        try:
            started, cpu_ns = _now_ms(), time.thread_time_ns()
            value = self.func(*args, **kwargs)
            cpu_ms = (time.thread_time_ns() - cpu_ns) / 1e6
            done = Done(value, started, _now_ms(), cpu_ms, os.getpid(), clock=CLOCK)
        finally:
            _current.reset(token)
        if isinstance(value, _PENDING):
            if inspect.iscoroutine(value):
                value.close()  # avoids the warning that it was never awaited
            raise _cannot_be_timed(self.func)
        return done


class stage:
    """Measure a part of a request: `with stage("io"): …`. The block may contain `await`.

    Use it in `async def` and in `def` routes. Outside of a request it does nothing. The times of stages with
    the same name add up.

    You may create one object and use it for many requests, also at the same time. Within one request, leave
    it before you enter it again; otherwise it raises RuntimeError.

    Raises ValueError if `name` cannot be sent in a header. Use letters, digits, "_", "." and "-". The name
    "handler" is reserved.
    """

    def __init__(self, name: str) -> None:
        if not _STAGE_NAME.fullmatch(name) or name == _HANDLER:
            raise ValueError(
                f"{name!r} cannot be a stage's name: use letters, digits, _ . - and not {_HANDLER!r}"
            )
        self.name = name

    def __enter__(self) -> stage:
        request = _current.get()
        if request is not None:
            request.enter(self)
        return self

    def take(self, done: Done, batch: int | None = None) -> Any:
        """Return the value in `done`, the result of `timed(func)`.

        In a stage called "model", the timestamps of `done` also split the stage into `queue`, `model` and
        `resume`. Call `take` inside the `with` block; before it, `take` only returns the value.

        `batch` is the number of requests that shared the call. If omitted, `done.batch` counts.
        """
        if not isinstance(done, Done):
            raise TypeError(f"take() unpacks what timed(func) returns, not {type(done).__name__}")
        request = _current.get()
        if request is not None:
            request.take(self, done if batch is None else done._replace(batch=batch))
        return done.value

    def note_server_ms(self, duration_ms: float | None) -> None:
        """Note the duration that the other side, such as a database, reports. Notes of one stage add up."""
        request = _current.get()
        if request is not None and duration_ms is not None:
            request.note_server_ms(self.name, duration_ms)

    def __exit__(self, *_: object) -> None:
        request = _current.get()
        if request is not None:
            request.leave(self)


class ServerTiming:
    """ASGI middleware that adds a `Server-Timing` header to every HTTP answer, and changes nothing else.

    It sends every message on without delay. The header leaves with the first byte of the answer. So for a
    streamed answer, it covers only the time before the stream starts.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _SCOPE_KEY in scope:  # the app that mounts this one times it
            await self.app(scope, receive, send)
            return
        scope[_SCOPE_KEY] = True

        async def send_timed(message: Message) -> None:
            if message["type"] == "http.response.start":
                header = (b"server-timing", request.header().encode())
                message = {**message, "headers": [*message.get("headers", ()), header]}
            await send(message)

        with Record() as request:
            await self.app(scope, receive, send_timed)


# when a stage was entered, and the calls taken since then, each with the time of `take`
_OpenStage = tuple[float, list[tuple[Done, float]]]


class Record:
    """The timings of one request. Stages inside `with Record() as record:` add to it.

    The middleware creates a record for each request. To measure only a part of a route, create one yourself
    and send `record.header()` as the value of a `Server-Timing` header.

    Several threads may add to a record: appending to a list is atomic, and sums are computed at the end.
    """

    def __init__(self) -> None:
        self._entered_ms = _now_ms()
        self._spans: list[tuple[str, float]] = []
        self._server_ms: list[tuple[str, float]] = []
        self._calls: dict[tuple[Any, ...], Done] = {}  # by timestamps and process, so that each counts once
        self._open: dict[stage, _OpenStage] = {}

    def __enter__(self) -> Record:
        self._token = _current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)

    def enter(self, which: stage) -> None:
        """Note that a stage begins. Raises RuntimeError if it is already open in this request."""
        entry: _OpenStage = (_now_ms(), [])
        if self._open.setdefault(which, entry) is not entry:
            raise RuntimeError(
                f"the stage {which.name!r} is already open in this request: "
                f"create a new one for each `with stage({which.name!r}):`"
            )

    def take(self, which: stage, done: Done) -> None:
        """Note the result of a call. Its timestamps count when the stage is left."""
        if which in self._open:
            self._open[which][1].append((done, _now_ms()))

    def note_server_ms(self, name: str, duration_ms: float) -> None:
        """Note the duration that the other side of a stage reports."""
        self._server_ms.append((name, duration_ms))

    def leave(self, which: stage) -> None:
        """Note that a stage ends. Add its duration, or the three parts of a stage "model" with a call."""
        left = _now_ms()
        entered, taken = self._open.pop(which, (None, []))
        if entered is None:  # the stage was entered outside of this request
            return
        calls = [one for one in taken if which.name == _MODEL and one[0][1:5] not in self._calls]
        if calls:
            self._add_split(entered, calls)
        else:
            self._spans.append((which.name, left - entered))

    def _add_split(self, entered: float, calls: list[tuple[Done, float]]) -> None:
        """Split a stage by its calls: from the start of the first one to the end of the last one.

        A call may have run before the stage was entered. Then there is no queue, and the way back begins when
        the stage is entered.

        The clock of another host starts at another moment, so that it gives the length of the calls only. Of
        calls on several hosts, nothing is known.
        """
        self._calls |= {done[1:5]: done for done, _ in calls}
        clocks = {done.clock or CLOCK for done, _ in calls}
        if len(clocks) > 1:
            return
        started = min([done.started_ms for done, _ in calls])
        ended = max([done.ended_ms for done, _ in calls])
        if clocks != {CLOCK}:
            self._spans.append((_MODEL, ended - started))
            return
        resumed = max([at for _, at in calls])
        self._spans += [
            ("queue", started - entered),
            (_MODEL, ended - started),
            ("resume", resumed - max(ended, entered)),
        ]

    def header(self) -> str:
        """Return the value of the header for all stages that have ended."""
        total_ms = _sums(self._spans)
        total_ms[_HANDLER] = _now_ms() - self._entered_ms
        notes = {name: f"server={server_ms:.3f}" for name, server_ms in _sums(self._server_ms).items()}
        notes[_HANDLER] = f"entered={self._entered_ms:.3f}"
        if self._calls:
            calls = list(self._calls.values())
            cpu_ms = sum([max(0.0, done.cpu_ms) for done in calls])
            notes[_MODEL] = f"cpu={cpu_ms:.3f} batch={calls[-1].batch} pid={calls[-1].pid}"
        entries = []
        for name, duration_ms in total_ms.items():
            note = f';desc="{notes[name]}"' if name in notes else ""
            entries.append(f"{name};dur={duration_ms:.3f}{note}")
        return ", ".join(entries)


def _sums(spans: list[tuple[str, float]]) -> dict[str, float]:
    """Return name → sum of its spans, ordered by first appearance. Negative spans count as 0."""
    total_ms: dict[str, float] = {}
    for name, duration_ms in list(spans):
        total_ms[name] = total_ms.get(name, 0.0) + (duration_ms if duration_ms > 0.0 else 0.0)
    return total_ms


def _runs_later(func: Callable[..., Any]) -> bool:
    """Return whether `func` returns before its work is done, as far as this is known without a call."""
    while isinstance(func, functools.partial):
        func = func.func
    return any(
        looks(candidate)
        for candidate in (func, getattr(type(func), "__call__", None))  # noqa: B004  a callable object
        for looks in (inspect.iscoroutinefunction, inspect.isasyncgenfunction, inspect.isgeneratorfunction)
    )


def _cannot_be_timed(func: Callable[..., Any]) -> TypeError:
    name = getattr(func, "__qualname__", type(func).__name__)
    return TypeError(
        f"timed() needs a function that returns when its work is done, but {name} is async or a generator: "
        f'use `with stage("model"):` around the await or the loop instead'
    )


def _name_of_the_clock() -> str:
    """Return a text that is the same in two processes only if they share the monotonic clock.

    On Linux it starts when the host boots, and a container may have shifted it (a time namespace).
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return platform.node()
    try:
        return f"{boot} {Path('/proc/self/ns/time').readlink()}"
    except OSError:  # a kernel without time namespaces
        return boot


CLOCK = _name_of_the_clock()

_current: ContextVar[Record | None] = ContextVar("request being timed", default=None)


def _now_ms() -> float:
    return time.perf_counter_ns() / 1e6
