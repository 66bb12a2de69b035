"""What the load generator is given: requests, arrivals, and the options of one trial's load."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    SerializationInfo,
    WithJsonSchema,
    model_validator,
)

from harness.wire import addresses, arrivals, bounds, sending, think_time
from harness.wire.options import WorkloadOptions
from harness.wire.panel import Panel
from harness.wire.setting import (
    BlockSeed,
    Frozen,
    PerSecond,
    Requests,
    Seconds,
    SecondsOrZero,
    Setting,
    Users,
)

IN_FLIGHT_CAP = 500  # a socket each: stays below the usual 1,024 open files

Transport = Literal["aiohttp", "httpx"]
Route = Literal["GET /", "POST /predict"]


def _checked_generators(text: str) -> str:
    if not re.fullmatch(_GENERATORS, text):
        raise ValueError("give a number of processes, such as 4, or the address of a Dask scheduler: tcp://…")
    return text


_as_law = PlainValidator(
    lambda value: value if isinstance(value, arrivals.Law) else arrivals.parse(str(value))
)
_LAW_SCHEMA = WithJsonSchema(
    {"type": "string", "pattern": arrivals.PATTERN, "examples": list(arrivals.OPEN_EXAMPLES)}
)
Law = Annotated[arrivals.Law, _as_law, PlainSerializer(str), _LAW_SCHEMA]

_as_think_time = PlainValidator(
    lambda value: value if isinstance(value, think_time.ThinkTime) else think_time.parse(str(value))
)
_THINK_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"type": "number", "minimum": think_time.LEAST_S, "maximum": bounds.A_DAY_S},
            {"type": "string", "pattern": think_time.PATTERN},
        ],
        "examples": list(think_time.EXAMPLES),
    }
)
ThinkTime = Annotated[think_time.ThinkTime, _as_think_time, PlainSerializer(str), _THINK_SCHEMA]


class Texts(Frozen):
    """The texts that the load generator sends: those of a recording, or of a workload, drawn by a seed."""

    workload: WorkloadOptions
    seed: BlockSeed
    recording: str | None = None  # the file whose texts are sent in its order


REVEALED = {"headers": "revealed"}  # the context in which secret headers are serialised


def _written(headers: tuple[sending.Header, ...], info: SerializationInfo) -> list[sending.Header]:
    return list(headers if info.context == REVEALED else map(sending.redacted, headers))


def _as_pairs(value: Any) -> Any:
    """Read a table of a plan file, or lines like 'X-Tenant: a' of the command line."""
    if isinstance(value, dict):
        return tuple(value.items())
    if isinstance(value, list | tuple):
        return tuple(sending.parse_header(one) if isinstance(one, str) else one for one in value)
    return value


_PAIR_SCHEMA = {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}
Headers = Annotated[
    tuple[Annotated[sending.Header, AfterValidator(sending.checked_header)], ...],
    BeforeValidator(_as_pairs),
    PlainSerializer(_written),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "object", "additionalProperties": {"type": "string"}},
                {"type": "array", "items": {"anyOf": [{"type": "string", "pattern": ":"}, _PAIR_SCHEMA]}},
            ]
        }
    ),
]


class Request(Frozen):
    """The request that is sent to a server that is not ours. By default GET, or POST with a body."""

    headers: Annotated[
        Headers,
        Setting(
            "Send this header; ${VARIABLE} is replaced. Repeatable.",
            Panel.RUNNING,
            flag="--header",
            metavar="'NAME: VALUE'",
            is_secret=True,
        ),
    ] = ()
    method: Annotated[
        Annotated[str, AfterValidator(sending.checked_method)] | None,
        Setting("Use this HTTP method.", Panel.RUNNING, shown_default="GET; with a body POST"),
    ] = None
    body: Annotated[
        str | None, Setting("Send this body; {text} in it is replaced by a text.", Panel.RUNNING)
    ] = None
    expect_status: Annotated[
        Annotated[int, Field(ge=100, le=599)], Setting("Expect this status code.", Panel.RUNNING)
    ] = 200
    ping_path: Annotated[
        Annotated[str, AfterValidator(addresses.checked_path)] | None,
        Setting("During the load, ping this route, which runs no model.", Panel.RUNNING, metavar="PATH"),
    ] = None

    @model_validator(mode="after")
    def _has_a_body_that_can_be_sent(self) -> Self:
        if self.body is not None:
            sending.check_body(self.body, sending.content_type(self.headers))
        return self

    def load(
        self,
        workload: WorkloadOptions,
        seed: int,
        urls: Iterable[str],
        law: arrivals.Law | None = None,
        *,
        posts_texts: bool = False,
    ) -> dict[str, Any]:
        """Return the fields of `LoadOptions` about this request to `urls`.

        The texts are those that `law` replays, or else drawn by `seed`. With `posts_texts`, a request that
        may have a body, and is given none, has one with a text. Raises ValueError if there are texts, but no
        place for them in an address or the body.
        """
        recording = None if law is None else law.recorded_texts
        in_urls = {addresses.PLACEHOLDER in url for url in urls}
        in_body = addresses.PLACEHOLDER in (self.body or "")
        given = workload.payloads is not None or recording is not None
        default_body = self.body is None and True not in in_urls
        by_default = posts_texts and default_body and self.method in sending.WITH_BODY
        sends_texts = given or in_body or True in in_urls or by_default
        if sends_texts and not in_body and not default_body and in_urls != {True}:
            where = "one of the addresses" if True in in_urls else "the body"
            whose = "a payload's text" if recording is None else "a recorded text"
            raise ValueError(f"{where} has no {addresses.PLACEHOLDER}, the place of {whose}")
        posts = self.body is not None or (sends_texts and default_body)
        return {
            "method": self.method or ("POST" if posts else "GET"),
            "headers": self.headers,
            "body": self.body,
            "texts": Texts(workload=workload, seed=seed, recording=recording) if sends_texts else None,
            "expected_status": self.expect_status,
        }


_GENERATORS = r"^([1-9][0-9]{0,2}|(tcp|tls)://\S+)$"
Generators = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if isinstance(value, int) else value),
    AfterValidator(_checked_generators),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": bounds.GENERATORS},
                {"type": "string", "pattern": _GENERATORS},
            ]
        }
    ),
]


class Share(Frozen):
    """The part of a trial's load that one of several generators sends.

    Of an open loop: every request whose number in the schedule is `index` modulo `of`. Of a closed loop:
    every such user.
    """

    index: Annotated[int, Field(ge=0)] = 0
    of: Annotated[int, Field(ge=1, le=bounds.GENERATORS)] = 1

    @property
    def is_whole(self) -> bool:
        return self.of == 1

    def size(self, whole: int) -> int:
        """Return how many of `whole` numbers from 0 fall into this share."""
        return len(range(self.index, whole, self.of))


class LoadSettings(Frozen):
    """What a plan and one trial's load have in common. A window lasts until both of its ends are reached."""

    requests: Annotated[
        Requests | None, Setting("Measure this many requests in each trial.", Panel.PRECISION)
    ] = None
    duration_s: Annotated[
        Seconds | None, Setting("Measure for this long in each trial.", Panel.PRECISION)
    ] = None
    cap: Annotated[Users, Setting("Open loop: have at most this many requests in flight.", Panel.LOAD)] = (
        IN_FLIGHT_CAP  # later ones are sent late
    )
    think: Annotated[
        ThinkTime | None,
        Setting(
            "Closed loop: pause before each request: 2, exponential(2).",
            Panel.LOAD,
            metavar="SECONDS",
        ),
    ] = None
    new_connections: Annotated[
        bool,
        Setting("Open a new connection for each request.", Panel.LOAD, flag="--new-connections/--reuse"),
    ] = False
    timeout_s: Annotated[Seconds, Setting("Fail a request that takes longer.", Panel.LOAD)] = 30.0
    transport: Annotated[Transport, Setting("Send with this client; aiohttp costs less CPU.", Panel.LOAD)] = (
        "aiohttp"
    )
    generators: Annotated[
        Generators,
        Setting(
            "Send from N processes, or a Dask cluster (tcp://HOST:8786).",
            Panel.LOAD,
            metavar="N|ADDRESS",
        ),
    ] = "1"


class LoadOptions(LoadSettings):
    """One trial's load."""

    url: str
    method: str = "GET"
    headers: Headers = ()
    texts: Texts | None = None  # None: every request is the same
    # a text replaces `{text}` in it; None: {"text": …}, or no body without texts
    body: str | None = None
    arrivals: Law
    seed: BlockSeed = 1  # of the arrivals, not of the texts
    give_up_in_flight: Requests | None = None  # open loop: stop sending once this many are in flight
    warmup_requests: Annotated[int, Field(ge=0, le=bounds.REQUESTS)] = 0
    settle_s: SecondsOrZero = 0.0  # warm up at least this long
    expected_status: int = 200
    ping_url: str | None = None  # pinged at a steady rate during the load
    ping_per_s: PerSecond = 10.0
    probe_loop: bool = True  # measure the lag of the client's event loop
    keep_alive: bool = True  # False: each request opens a connection, as the server closes it
    watches_end: bool = False  # check afterwards whether the server has closed a connection
    most_generators: Annotated[int | None, Field(ge=1)] = None  # use only this many of the run's generators
    share: Share = Share()  # of a generator
    start_at_ms: float | None = None  # on the generator's monotonic clock; None: at once

    @model_validator(mode="after")
    def _has_an_end(self) -> Self:
        if self.requests is None and self.duration_s is None:
            raise ValueError("give requests or duration_s, which end the window")
        if self.think is not None and self.arrivals.is_open:
            raise ValueError("think: only the users of a closed loop (-c) pause")
        return self

    def at(self, server: str) -> Self:
        """Return the same load on the server at this address; `url` and `ping_url` are only paths before.

        An address may have a path, to which `url` is added; the path of the ping starts at the root.
        """
        ping = None if self.ping_url is None else addresses.parse(server).origin + self.ping_url
        return self.model_copy(update={"url": server + self.url, "ping_url": ping})

    @property
    def connections(self) -> int:
        """The most requests that can be in flight at the same time, without pings."""
        return self.arrivals.users or self.cap

    @property
    def schedule(self) -> str:
        """Hash of the open loop's due times (and replayed texts) in warm-up and window; "" if closed."""
        if not self.arrivals.is_open:
            return ""
        if self.requests is not None and self.duration_s is None:
            return arrivals.digest(self.arrivals, self.seed, count=self.requests)
        return arrivals.digest(self.arrivals, self.seed, self.settle_s + (self.duration_s or 0.0))
