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

import functools
import inspect
import os
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Future
from contextvars import ContextVar
from types import AsyncGeneratorType, GeneratorType
from typing import Any, NamedTuple

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_MARK = "executor_bench.timing"  # in the scope of a request that is being timed
_NAME = re.compile(r"[A-Za-z0-9_.-]+")  # of the characters that a header's token may have, the plain ones
_MODEL, _WHOLE = "model", "handler"
_PENDING = (GeneratorType, AsyncGeneratorType, Awaitable, Future)  # what is returned before its work is done


class Done(NamedTuple):
    """What a call came to, and when and where: stamps in ms on the host's monotonic clock."""

    value: Any
    started_ms: float
    ended_ms: float
    cpu_ms: float  # of the thread that ran it
    pid: int
    batch: int = 1  # requests that shared the call


class timed:
    """`func` as an executor may be given it: it returns a `Done`, which `stage.take` unpacks.

    Can be pickled if `func` can. What `func` raises is raised. Stages inside of `func` count for the request
    in which `timed(func)` was made, also in an executor's thread; in another process they do nothing.

    TypeError for what has not run yet when it returns: async functions, generators, and functions that return
    an awaitable or a `concurrent.futures.Future`. Put `with stage("model"):` around the `await` of those.
    """

    def __init__(self, func: Callable[..., Any]) -> None:
        if _runs_later(func):
            raise _cannot_be_timed(func)
        self.func = func
        self._request = _current.get()

    def __reduce__(self) -> tuple[Any, ...]:
        return timed, (self.func,)  # a request cannot travel

    def __call__(self, *args: Any, **kwargs: Any) -> Done:
        token = _current.set(_current.get() or self._request)
        try:
            started, cpu_ns = _now_ms(), time.thread_time_ns()
            value = self.func(*args, **kwargs)
            cpu_ms = (time.thread_time_ns() - cpu_ns) / 1e6
            done = Done(value, started, _now_ms(), cpu_ms, os.getpid())
        finally:
            _current.reset(token)
        if isinstance(value, _PENDING):
            if inspect.iscoroutine(value):
                value.close()  # nobody will await it
            raise _cannot_be_timed(self.func)
        return done


class stage:
    """Context manager around a stretch of a request: `with stage("io"): …`, also around an `await`.

    Works in `async def` and in `def` routes; outside of a request it does nothing. Stretches of one name add
    up. One object may serve many requests, but within a request it cannot be entered again before it is
    left: RuntimeError. ValueError for a name that no header can hold.
    """

    def __init__(self, name: str) -> None:
        if not _NAME.fullmatch(name) or name == _WHOLE:
            raise ValueError(f"{name!r} cannot be a stage's name: letters, digits, _ . - and not {_WHOLE!r}")
        self.name = name

    def __enter__(self) -> stage:
        request = _current.get()
        if request is not None:
            request.enter(self)
        return self

    def take(self, done: Done, batch: int | None = None) -> Any:
        """The value in what `timed(func)` returned; its stamps split a stage called "model".

        `batch`: requests that shared the call, if `done` does not say it. Before the stage is entered this
        only unpacks.
        """
        if not isinstance(done, Done):
            raise TypeError(f"take() unpacks what timed(func) returns, not {type(done).__name__}")
        request = _current.get()
        if request is not None:
            request.take(self, done if batch is None else done._replace(batch=batch))
        return done.value

    def note_server_ms(self, duration_ms: float | None) -> None:
        """What the other side, such as a database, says it took itself. Notes of one stage add up."""
        request = _current.get()
        if request is not None and duration_ms is not None:
            request.note_server_ms(self.name, duration_ms)

    def __exit__(self, *_: object) -> None:
        request = _current.get()
        if request is not None:
            request.leave(self)


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

        async def send_timed(message: Message) -> None:
            if message["type"] == "http.response.start":
                header = (b"server-timing", request.header().encode())
                message = {**message, "headers": [*message.get("headers", ()), header]}
            await send(message)

        with Record() as request:
            await self.app(scope, receive, send_timed)


# a stage's entry, and the calls taken since, each with its time
_Use = tuple[float, list[tuple[Done, float]]]


class Record:
    """What is known of one request: stages count in it within `with Record() as record:`.

    The middleware makes one of each request. Make it yourself where only a part of a route is to be timed,
    and send `record.header()`. Threads may add to it: appending is atomic, sums are made at the end.
    """

    def __init__(self) -> None:
        self._entered_ms = _now_ms()
        self._spans: list[tuple[str, float]] = []
        self._server_ms: list[tuple[str, float]] = []
        self._calls: dict[tuple[Any, ...], Done] = {}  # by stamps and process: a call counts once
        self._open: dict[stage, _Use] = {}

    def __enter__(self) -> Record:
        self._token = _current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)

    def enter(self, which: stage) -> None:
        """RuntimeError for a stage that is open: its two stretches could not be told apart."""
        use: _Use = (_now_ms(), [])
        if self._open.setdefault(which, use) is not use:
            raise RuntimeError(
                f"the stage {which.name!r} is open already in this request: "
                f"make another for each `with stage({which.name!r}):`"
            )

    def take(self, which: stage, done: Done) -> None:
        """The stage has a call's result: its stamps count when the stage is left."""
        if which in self._open:
            self._open[which][1].append((done, _now_ms()))

    def note_server_ms(self, name: str, duration_ms: float) -> None:
        """What the other side of a stage says it took."""
        self._server_ms.append((name, duration_ms))

    def leave(self, which: stage) -> None:
        """The stretch since `enter` counts; of a model with a call, its three parts."""
        left = _now_ms()
        entered, taken = self._open.pop(which, (None, []))
        if entered is None:  # it was entered outside of this request
            return
        calls = [one for one in taken if which.name == _MODEL and one[0][1:5] not in self._calls]
        if calls:
            self._add_split(entered, calls)
        else:
            self._spans.append((which.name, left - entered))

    def _add_split(self, entered: float, calls: list[tuple[Done, float]]) -> None:
        """Several calls in one stage count from the first one's start to the last one's end.

        A call may have run before the stage was entered: then there was no queue, and the way back begins
        with the stage.
        """
        started = min([done.started_ms for done, _ in calls])
        ended = max([done.ended_ms for done, _ in calls])
        resumed = max([at for _, at in calls])
        self._spans += [
            ("queue", started - entered),
            (_MODEL, ended - started),
            ("resume", resumed - max(ended, entered)),
        ]
        self._calls |= {done[1:5]: done for done, _ in calls}

    def header(self) -> str:
        """The header's value so far."""
        total_ms = _sums(self._spans)
        total_ms[_WHOLE] = _now_ms() - self._entered_ms
        notes = {name: f"server={server_ms:.3f}" for name, server_ms in _sums(self._server_ms).items()}
        notes[_WHOLE] = f"entered={self._entered_ms:.3f}"
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
    """Name → the sum of its spans, in the order of the names' first ones."""
    total_ms: dict[str, float] = {}
    for name, duration_ms in list(spans):
        total_ms[name] = total_ms.get(name, 0.0) + (duration_ms if duration_ms > 0.0 else 0.0)
    return total_ms


def _runs_later(func: Callable[..., Any]) -> bool:
    """Whether a call of it returns before its work is done, as far as can be seen without calling it."""
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
        f"timed() measures a call that returns when its work is done, and {name} is async or a generator: "
        f'use `with stage("model"):` around the await or the loop instead'
    )


_current: ContextVar[Record | None] = ContextVar("request being timed", default=None)


def _now_ms() -> float:
    return time.perf_counter_ns() / 1e6
