"""The frozen objects that travel whole from the edge (flags, plan files) into the child processes."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, WithJsonSchema, model_validator

import strategies
from harness.errors import shortened
from harness.wire import bounds
from harness.wire.panel import Panel
from harness.wire.setting import (
    Frozen,
    Milliseconds,
    Processes,
    Seconds,
    SetByRun,
    Setting,
    Threads,
    settings_of,
)
from harness.wire.spelling import Dsn, File, Io, WorkloadName, is_own, with_io_split

DEFAULT_MODEL = "all-MiniLM-L6-v2"
ARTICLE_SENTENCE = "How big is London"

EventLoop = Literal["asyncio", "uvloop"]
HttpParser = Literal["httptools", "h11"]
# the server's unless an arm sets others; pinned, as "auto" would take what happens to be installed
EVENT_LOOP: Final = "asyncio"
HTTP_PARSER: Final = "httptools"
UVICORN: Final[dict[str, Any]] = {
    "loop": EVENT_LOOP,
    "http": HTTP_PARSER,
    "ws": "none",
    "access_log": False,
    "log_level": "warning",
}


Mode = Literal["sleep", "hold", "spin", "release"]
Backend = Literal["torch", "onnx", "openvino", "openvino-bf16"]


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
        Setting(
            "Run in torch, onnx, openvino or openvino-bf16.",
            Panel.MODEL,
            obeyed_by=("embed",),
            metavar="RUNTIME",
        ),
    ] = "torch"
    device: Annotated[str, Setting("Run torch on cpu, cuda or mps.", Panel.MODEL, obeyed_by=("embed",))] = (
        "cpu"
    )
    torch_threads: Annotated[
        Threads | None,
        Setting("Give torch N threads in each worker.", Panel.MODEL, obeyed_by=("embed", "own")),
    ] = None  # None: torch's own choice, which is recorded
    omp_wait: Annotated[
        Literal["active", "passive"] | None,
        Setting(
            "Let threads of torch that wait for each other spin (active) or sleep (passive).",
            Panel.MODEL,
            flag=None,
            obeyed_by=("embed", "own"),
        ),
    ] = None  # None: they spin for a while, then sleep
    gc_freeze: Annotated[
        bool,
        Setting(
            "Exempt the loaded model and its libraries from garbage collection (gc.freeze).",
            Panel.MODEL,
            flag=None,
        ),
    ] = False
    onnx_threads: Annotated[
        Threads | None,
        Setting("Give ONNX Runtime N threads in each worker.", Panel.MODEL, obeyed_by=("embed",)),
    ] = None  # None: as many as torch has
    max_cosine_difference: Annotated[
        Annotated[float, Field(gt=0, le=2)] | None,
        Setting(
            "Let cosine similarities of openvino-bf16 differ from torch's by at most this.",
            Panel.MODEL,
            flag=None,
            obeyed_by=("embed",),
        ),
    ] = None  # None: 0.005, see `workloads.openvino_model`
    encode_batch: Annotated[
        Annotated[int, Field(gt=0, le=strategies.MAX_ITEMS)] | None,
        Setting(
            "Compute at most N texts in one pass of the model, those of similar length together.",
            Panel.MODEL,
            flag=None,
            obeyed_by=("embed",),
        ),
    ] = None  # None: 32, the default of sentence-transformers
    online: Annotated[
        bool, Setting("Allow downloads from the model hub.", Panel.MODEL, obeyed_by=("embed",))
    ] = False
    service_ms: Annotated[
        Milliseconds, Setting("Let a model call take this long.", Panel.MODEL, obeyed_by=("synthetic",))
    ] = 20.0
    per_item_ms: Annotated[
        Milliseconds,
        Setting(
            "Add this to a call for each of its items.", Panel.MODEL, flag=None, obeyed_by=("synthetic",)
        ),
    ] = 0.0
    mode: Annotated[
        Mode, Setting("Wait: sleep, hold. Compute: spin, release.", Panel.MODEL, obeyed_by=("synthetic",))
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
        Setting("Then await sleep:5ms, socket:5ms, pgvector or http:URL.", Panel.IO, metavar="KIND"),
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
        Seconds, Setting("Fail an I/O that takes longer.", Panel.IO, obeyed_by=("socket", "pgvector", "http"))
    ] = 10.0
    io_address: Annotated[str | None, SetByRun()] = None  # where it has started the service of the I/O
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
HIDDEN_OPTIONS = frozenset(name for name, setting in _SETTINGS.items() if setting.hidden)
EVERY_WORKLOAD_TAKES = IO_OPTIONS | {
    name for name, setting in _SETTINGS.items() if not setting.obeyed_by and setting.panel is Panel.MODEL
}


def obeyed_by(user: str) -> frozenset[str]:
    """Return the options that the workload, or the kind of I/O, of this name obeys and others do not."""
    return frozenset(name for name, setting in _SETTINGS.items() if user in setting.obeyed_by)


class Inject(Frozen):
    """Known delays added to one part of every request: how the instrument is checked against truth."""

    queue_ms: Annotated[Milliseconds, Field(description="Add this to the queue.")] = 0.0
    model_ms: Annotated[Milliseconds, Field(description="Add this to the worker time.")] = 0.0
    resume_ms: Annotated[Milliseconds, Field(description="Add this to the way back.")] = 0.0
    io_ms: Annotated[Milliseconds, Field(description="Add this to the I/O.")] = 0.0

    @model_validator(mode="before")
    @classmethod
    def _read_pairs(cls, data: Any) -> Any:
        """Accept queue=20 … of the command line, for queue_ms = 20 … of a plan file."""
        if not isinstance(data, list | tuple):
            return data
        pairs = [str(one).partition("=") for one in data]
        for part, _, value in pairs:
            if not value:
                raise ValueError("write PART=MS, like queue=5")
            if f"{part}_ms" not in cls.model_fields:
                raise ValueError(f"{shortened(part)!r} is not a part: choose queue, model, resume or io")
        return {f"{part}_ms": value for part, _, value in pairs}


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
    if "url" in schema["properties"]:  # a server that is not ours has no strategy
        schema["required"].remove("strategy")
        schema["anyOf"] = [{"required": [kind]} for kind in ("strategy", "url", "command")]


_STRATEGY_SCHEMA = WithJsonSchema(
    {"anyOf": [{"enum": list(strategies.NAMES)}, {"type": "string", "pattern": "^executor:"}]}
)


class ServerSettings(Frozen):
    """What an arm and its server have in common."""

    model_config = ConfigDict(json_schema_extra=_with_direct_options)

    strategy: Annotated[
        str,
        _STRATEGY_SCHEMA,
        Setting("Run the model with this strategy (see `list`).", Panel.COMPARE, flag=None),
    ]
    options: Annotated[
        StrategyOptions, Setting("Set these options of the strategy (see `list`).", Panel.COMPARE, flag=None)
    ] = Field(default_factory=dict)  # fields of `strategies.Options`
    server_processes: Annotated[
        Processes, Setting("Run this many copies of the server on one port.", Panel.COMPARE)
    ] = 1  # uvicorn's --workers
    event_loop: Annotated[EventLoop, Setting("Run the server in this event loop.", Panel.COMPARE)] = (
        EVENT_LOOP  # uvicorn's --loop
    )
    http_parser: Annotated[HttpParser, Setting("Parse HTTP with this library.", Panel.COMPARE)] = (
        HTTP_PARSER  # uvicorn's --http
    )
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


# how uvicorn runs the app; another server has settings of its own for them
OF_UVICORN = ("server_processes", "event_loop", "http_parser")
APP_VARIABLE = "EXECBENCH_SERVER"  # has the `ServerOptions` of `harness.server.asgi:app` as JSON
