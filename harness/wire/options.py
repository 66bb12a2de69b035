"""The frozen objects that travel whole from the edge (flags, plan files) into the child processes."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    SerializationInfo,
    TypeAdapter,
    WithJsonSchema,
    model_validator,
)

import strategies
from harness.errors import shortened
from harness.wire import addresses, arrivals, bounds, sending
from harness.wire.panel import Panel
from harness.wire.setting import (
    BlockSeed,
    Frozen,
    Milliseconds,
    PerSecond,
    Processes,
    Requests,
    Seconds,
    SecondsOrZero,
    Setting,
    Threads,
    Users,
    settings_of,
)
from harness.wire.spelling import Dsn, File, Io, WorkloadName, is_own, with_io_split

DEFAULT_MODEL = "all-MiniLM-L6-v2"
ARTICLE_SENTENCE = "How big is London"

# the server's, pinned ("auto" would take what happens to be installed) and recorded
EVENT_LOOP: Final = "asyncio"
HTTP_PARSER: Final = "httptools"
UVICORN: Final[dict[str, Any]] = {
    "loop": EVENT_LOOP,
    "http": HTTP_PARSER,
    "ws": "none",
    "access_log": False,
    "log_level": "warning",
}

IN_FLIGHT_CAP = 500  # a socket each: stays below the usual 1,024 open files

Transport = Literal["aiohttp", "httpx"]
Mode = Literal["sleep", "hold", "spin", "release"]
Backend = Literal["torch", "onnx"]
Route = Literal["GET /", "POST /predict"]


class WorkloadOptions(Frozen):
    """A workload by name with its options. Travels to spawned workers as data, never as an object."""

    name: Annotated[
        WorkloadName,
        Setting(
            "Run this model: embed, synthetic or your own FILE.py.",
            Panel.MODEL,
            flag="--workload",
            metavar="NAME",
        ),
    ] = "embed"  # or package.module:attribute
    payloads: Annotated[
        File | None,
        Setting("Send the texts of a .txt, .jsonl, .json or .csv file.", Panel.MODEL, metavar="FILE"),
    ] = None  # in place of the workload's own texts
    model: Annotated[
        str,
        Setting(
            "Use this sentence-transformers model, by name or folder.",
            Panel.MODEL,
            obeyed_by=("embed",),
            shown_default="",
        ),
    ] = DEFAULT_MODEL
    backend: Annotated[
        Backend,
        Setting("Run the model in torch or ONNX Runtime.", Panel.MODEL, obeyed_by=("embed",)),
    ] = "torch"
    device: Annotated[str, Setting("Run torch on cpu, cuda or mps.", Panel.MODEL, obeyed_by=("embed",))] = (
        "cpu"
    )
    torch_threads: Annotated[
        Threads | None,
        Setting("Threads of torch in each worker.", Panel.MODEL, obeyed_by=("embed", "own")),
    ] = None  # None: torch's own choice, which is recorded
    onnx_threads: Annotated[
        Threads | None,
        Setting("Threads of ONNX Runtime in each worker.", Panel.MODEL, obeyed_by=("embed",)),
    ] = None  # None: as many as torch has
    online: Annotated[
        bool, Setting("Allow downloads from the model hub.", Panel.MODEL, obeyed_by=("embed",))
    ] = False
    service_ms: Annotated[
        Milliseconds, Setting("Let a model call take this long.", Panel.MODEL, obeyed_by=("synthetic",))
    ] = 20.0
    mode: Annotated[
        Mode,
        Setting("Let a call wait or compute (see `list`).", Panel.MODEL, obeyed_by=("synthetic",)),
    ] = "sleep"
    setup_ms: Annotated[
        Milliseconds,
        Setting("Let loading the model take this long.", Panel.MODEL, flag=None, obeyed_by=("synthetic",)),
    ] = 0.0
    dimensions: Annotated[
        Annotated[int, Field(gt=0, le=bounds.DIMENSIONS)] | None,
        Setting("Return vectors of this size.", Panel.MODEL, flag=None, obeyed_by=("synthetic",)),
    ] = None  # None: the text in capitals
    io: Annotated[
        Io,
        Setting(
            "After the model await sleep:5ms, socket:5ms, pgvector or http:URL.", Panel.IO, metavar="KIND"
        ),
    ] = "sleep"  # a kind of I/O or an address; see `parse_io`
    io_ms: Annotated[
        Milliseconds, Setting("Let the I/O take this long.", Panel.IO, obeyed_by=("sleep", "socket"))
    ] = 5.0  # of a user's own workload: 0; see `_awaits_no_io_by_default`
    io_dsn: Annotated[
        Dsn | None,
        Setting(
            "Use this database (postgresql://…).",
            Panel.IO,
            obeyed_by=("pgvector",),
            metavar="DSN",
            is_secret=True,
        ),
    ] = None  # None: start one
    io_rows: Annotated[
        Annotated[int, Field(ge=10, le=1_000_000)],
        Setting("Put this many texts into the table.", Panel.IO, obeyed_by=("pgvector",)),
    ] = 10_000
    io_timeout_s: Annotated[
        Seconds,
        Setting("Fail an I/O that takes longer.", Panel.IO, obeyed_by=("socket", "pgvector", "http")),
    ] = 10.0
    io_address: str | None = None  # set by the run: where it has started the service that the I/O asks
    faulty_setup: Annotated[
        Literal["raise", "exit"] | None,
        Setting("Fail to load in this way.", Panel.MODEL, obeyed_by=("synthetic",), hidden=True),
    ] = None
    faulty_setup_file: Annotated[
        str | None,
        Setting("Fail to load while this file exists.", Panel.MODEL, obeyed_by=("synthetic",), hidden=True),
    ] = None
    faults: Annotated[
        bool,
        Setting("Let items like fault:exit misbehave.", Panel.MODEL, obeyed_by=("synthetic",), hidden=True),
    ] = False  # see `workloads.faulty`

    @model_validator(mode="before")
    @classmethod
    def _split_io(cls, data: Any) -> Any:
        return with_io_split(data) if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _awaits_no_io_by_default(self) -> Self:
        """Await no I/O after a user's own workload unless asked to; built-in ones have the article's 5 ms."""
        if is_own(self.name) and not self.model_fields_set & {"io", "io_ms"}:
            self.__dict__["io_ms"] = 0.0  # the model is frozen; the field still counts as a default
        return self


_SETTINGS = settings_of(WorkloadOptions.model_fields)
IO_OPTIONS = frozenset(name for name, setting in _SETTINGS.items() if setting.panel is Panel.IO)
EVERY_WORKLOAD_TAKES = IO_OPTIONS | {
    name for name, setting in _SETTINGS.items() if not setting.obeyed_by and setting.panel is Panel.MODEL
}


def obeyed_by(user: str) -> frozenset[str]:
    """Return the options that the workload, or the kind of I/O, of this name obeys and others do not."""
    return frozenset(name for name, setting in _SETTINGS.items() if user in setting.obeyed_by)


class Inject(Frozen):
    """Known delays added to one part of every request: how the instrument is checked against truth."""

    queue_ms: Milliseconds = 0.0
    model_ms: Milliseconds = 0.0
    resume_ms: Milliseconds = 0.0
    io_ms: Milliseconds = 0.0

    @model_validator(mode="before")
    @classmethod
    def _read_pairs(cls, data: Any) -> Any:
        """Accept queue=20 … of the command line, for queue_ms = 20 … of a plan file."""
        if not isinstance(data, list | tuple):
            return data
        pairs = [str(one).partition("=") for one in data]
        return {f"{part}_ms": value for part, _, value in pairs}


_as_law = PlainValidator(
    lambda value: value if isinstance(value, arrivals.Law) else arrivals.parse(str(value))
)
_LAW_SCHEMA = WithJsonSchema({"type": "string", "examples": list(arrivals.EXAMPLES)})
Law = Annotated[arrivals.Law, _as_law, PlainSerializer(str), _LAW_SCHEMA]

STRATEGY_OPTIONS = frozenset(field.name for field in dataclasses.fields(strategies.Options))
_STRATEGY_OPTIONS = TypeAdapter(strategies.Options)


def checked_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the given options of a strategy with their types; raise ValueError for an unknown one."""
    for name in sorted(options.keys() - STRATEGY_OPTIONS):
        near = difflib.get_close_matches(name, STRATEGY_OPTIONS, n=1)
        raise ValueError(
            f"there is no option {shortened(name)!r}" + (f"; did you mean {near[0]!r}?" if near else "")
        )
    checked = _STRATEGY_OPTIONS.validate_python(options)
    return {name: getattr(checked, name) for name in options}


StrategyOptions = Annotated[
    dict[str, Any], AfterValidator(checked_options), WithJsonSchema(_STRATEGY_OPTIONS.json_schema())
]


def _with_direct_options(schema: dict[str, Any]) -> None:
    """Allow in the JSON Schema what `_gather_options` accepts."""
    schema["properties"] |= _STRATEGY_OPTIONS.json_schema()["properties"]
    schema["required"].remove("strategy")  # a server that already runs has none


class ServerSettings(Frozen):
    """What an arm and its server have in common."""

    model_config = ConfigDict(json_schema_extra=_with_direct_options)

    strategy: Annotated[
        str, Setting("Run the model with this strategy (see `list`).", Panel.COMPARE, flag=None)
    ]
    options: Annotated[
        StrategyOptions, Setting("Set these options of the strategy (see `list`).", Panel.COMPARE, flag=None)
    ] = Field(default_factory=dict)  # fields of `strategies.Options`
    server_processes: Annotated[
        Processes, Setting("Run this many copies of the server on one port.", Panel.COMPARE)
    ] = 1  # uvicorn's --workers
    inject: Annotated[
        Inject,
        Setting(
            "Add a delay to queue, model, resume or io. Repeatable.",
            Panel.COMPARE,
            metavar="PART=MS",
            is_repeatable=True,
        ),
    ] = Inject()
    instrumented: Annotated[
        bool, Setting("Stamp every request and send Server-Timing.", Panel.COMPARE, flag=None)
    ] = True  # False: to measure what the stamps cost

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, data: Any) -> Any:
        """Accept `workers = 1` for `options = { workers = 1 }`; so for each option of a strategy."""
        if not isinstance(data, dict) or not isinstance(options := data.get("options", {}), dict):
            return data
        direct = {name: value for name, value in data.items() if name in STRATEGY_OPTIONS}
        if twice := sorted(direct.keys() & options.keys()):
            raise ValueError(f"{twice[0]} is set twice, directly and in options")
        given = {name: value for name, value in direct.items() if value is not None}
        rest = {name: value for name, value in data.items() if name not in direct}
        return rest | {"options": {**given, **options}} if direct else data


class ServerOptions(ServerSettings):
    """Everything that one server needs to know."""

    workload: WorkloadOptions = WorkloadOptions()


class Texts(Frozen):
    """Which texts the load generator sends: those of a workload, drawn by a seed."""

    workload: WorkloadOptions
    seed: BlockSeed


REVEALED = {"headers": "revealed"}  # serialised with this as context, headers keep what is secret


def _written(headers: tuple[sending.Header, ...], info: SerializationInfo) -> list[sending.Header]:
    return list(headers if info.context == REVEALED else map(sending.redacted, headers))


def _as_pairs(value: Any) -> Any:
    """Read a table of a plan file, or lines like 'X-Tenant: a' of the command line."""
    if isinstance(value, dict):
        return tuple(value.items())
    if isinstance(value, list | tuple):
        return tuple(sending.parse_header(one) if isinstance(one, str) else one for one in value)
    return value


Headers = Annotated[
    tuple[Annotated[sending.Header, AfterValidator(sending.checked_header)], ...],
    BeforeValidator(_as_pairs),
    PlainSerializer(_written),
]


class Request(Frozen):
    """The request that is sent to a server that already runs. By default GET, or POST with a body."""

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

    def load(self, workload: WorkloadOptions, seed: int, urls: Iterable[str]) -> dict[str, Any]:
        """What `LoadOptions` has to say of it. Texts, where they are asked, are the workload's, by `seed`.

        `urls`: where it is sent. ValueError for texts that have no place in an address or the body.
        """
        in_urls = {addresses.PLACEHOLDER in url for url in urls}
        in_body = addresses.PLACEHOLDER in (self.body or "")
        asks_texts = workload.payloads is not None or in_body or True in in_urls
        usual_body = self.body is None and True not in in_urls
        if asks_texts and not in_body and not usual_body and in_urls != {True}:
            where = "one of the addresses" if True in in_urls else "the body"
            raise ValueError(f"{where} has no {addresses.PLACEHOLDER}, the place of a payload's text")
        posts = self.body is not None or (asks_texts and usual_body)
        return {
            "method": self.method or ("POST" if posts else "GET"),
            "headers": self.headers,
            "body": self.body,
            "texts": Texts(workload=workload, seed=seed) if asks_texts else None,
            "expected_status": self.expect_status,
        }


class LoadSettings(Frozen):
    """What a plan and one trial's load have in common. A window lasts until both of its ends are reached."""

    requests: Annotated[Requests | None, Setting("Measure this many requests.", Panel.PRECISION)] = None
    duration_s: Annotated[Seconds | None, Setting("Measure for this long.", Panel.PRECISION)] = None
    cap: Annotated[Users, Setting("Open loop: have at most this many requests in flight.", Panel.LOAD)] = (
        IN_FLIGHT_CAP  # later ones are sent late
    )
    timeout_s: Annotated[Seconds, Setting("Fail a request that takes longer.", Panel.LOAD)] = 30.0
    transport: Annotated[Transport, Setting("HTTP transport; aiohttp costs less CPU.", Panel.LOAD)] = (
        "aiohttp"
    )


class LoadOptions(LoadSettings):
    """One trial's load."""

    url: str
    method: str = "GET"
    headers: Headers = ()
    texts: Texts | None = None  # None: the same is asked each time
    # `{text}` in it is where the text stands; None: {"text": …}, or no body without texts
    body: str | None = None
    arrivals: Law
    seed: BlockSeed = 1  # of the arrivals; not of the texts
    give_up_in_flight: Requests | None = None  # open loop: once so many are in flight, nothing more is sent
    warmup_requests: Annotated[int, Field(ge=0, le=bounds.REQUESTS)] = 0
    settle_s: SecondsOrZero = 0.0  # warm up at least this long
    expected_status: int = 200
    ping_url: str | None = None  # asked beside the load, at a steady rate
    ping_per_s: PerSecond = 10.0
    beat: bool = True  # watch the client's own event loop
    keep_alive: bool = True  # False: each request has a connection of its own
    watches_end: bool = False  # see afterwards whether the server has ended a connection

    @model_validator(mode="after")
    def _has_an_end(self) -> Self:
        if self.requests is None and self.duration_s is None:
            raise ValueError("give requests or duration_s: how long is measured?")
        return self

    def at(self, server: str) -> Self:
        """The same load on the server at this address; `url` and `ping_url` are paths so far.

        An address may have a path, to which `url` is added; the ping's is counted from the root.
        """
        ping = None if self.ping_url is None else addresses.parse(server).origin + self.ping_url
        return self.model_copy(update={"url": server + self.url, "ping_url": ping})

    @property
    def connections(self) -> int:
        """How many requests can be in flight at once, pings left out."""
        return self.arrivals.users or self.cap

    @property
    def schedule(self) -> str:
        """Hash of the open loop's due times in warm-up and window; empty where answers make the schedule."""
        if not self.arrivals.is_open:
            return ""
        if self.requests is not None and self.duration_s is None:
            return arrivals.digest(self.arrivals, self.seed, count=self.requests)
        return arrivals.digest(self.arrivals, self.seed, self.settle_s + (self.duration_s or 0.0))
