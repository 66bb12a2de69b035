"""The frozen objects that travel whole from the edge (flags, plan files) into the child processes."""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    SerializationInfo,
    TypeAdapter,
    ValidationError,
    model_validator,
)

import strategies
from harness.errors import shortened
from harness.wire import addresses, arrivals, bounds, sending

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

Seconds = Annotated[float, Field(gt=0, le=bounds.A_DAY_S)]
SecondsOrNone = Annotated[float, Field(ge=0, le=bounds.A_DAY_S)]  # 0: there is none
Milliseconds = Annotated[float, Field(ge=0, le=bounds.A_DAY_MS)]
Users = Annotated[int, Field(gt=0, le=bounds.USERS)]
Requests = Annotated[int, Field(gt=0, le=bounds.REQUESTS)]
PerSecond = Annotated[float, Field(gt=0, le=bounds.PER_S)]
Seed = Annotated[int, Field(ge=0, le=bounds.SEED)]
BlockSeed = Annotated[int, Field(ge=0, le=bounds.BLOCK_SEED)]
Workers = Annotated[int, Field(gt=0, le=strategies.MAX_WORKERS)]
Processes = Annotated[int, Field(gt=0, le=bounds.PROCESSES)]
Threads = Annotated[int, Field(gt=0, le=bounds.THREADS)]


LONGEST_TEXT = 16 * 2**20  # characters


class Frozen(BaseModel):
    """Immutable. An unknown key is an error (a typo in a plan must not be ignored); so is an infinite number.

    Infinity, NaN and half a surrogate pair (a byte of an argument that is not UTF-8) do not survive JSON,
    through which these objects reach the child processes.
    """

    model_config = ConfigDict(  # with a bound, pydantic looks into texts, and refuses the surrogates
        frozen=True, extra="forbid", allow_inf_nan=False, str_max_length=LONGEST_TEXT
    )


PROBLEMS_TOLD = 5


def explain(error: ValidationError) -> str:
    """What is wrong with which key, in one line."""
    problems = [
        problem
        for problem in error.errors(include_url=False, include_input=False)
        if problem["type"] != "too_short" or error.error_count() == 1  # what has a wrong item counts as empty
    ]
    told = [
        f"{'.'.join(shortened(str(part)) for part in problem['loc']) or 'as a whole'}: {_plain(problem)}"
        for problem in problems[:PROBLEMS_TOLD]
    ]
    more = len(problems) - len(told)
    return "; ".join([*told, *([f"and {more} more"] if more else [])])


def _plain(problem: Any) -> str:
    if problem["type"] == "extra_forbidden":
        return "there is no such key"
    if problem["type"] == "string_unicode":
        return "it holds bytes that are not UTF-8"
    return str(problem["msg"]).removeprefix("Value error, ")


def _absolute(path: str) -> str:
    """As every process finds it, whatever folder it runs in."""
    try:
        found = str(Path(path).expanduser().absolute())
        os.fsencode(found)
    except RuntimeError as error:  # ~nobody
        raise ValueError(f"{shortened(path)!r} begins with ~ and no user of this machine") from error
    except UnicodeEncodeError as error:
        raise ValueError(f"{shortened(path)!r} cannot be the path of a file") from error
    if "\0" in found:
        raise ValueError(f"{shortened(path)!r} cannot be the path of a file: it holds a NUL")
    return found


_FILE_OF_WORKLOAD = re.compile(r"(?P<path>.+\.py)(?P<attribute>:[\w.]*)?")


def is_own(name: str) -> bool:
    """Whether this names a workload of the user's own rather than one that is built in."""
    return any(sign in name for sign in ":/.")


def _located(name: str) -> str:
    """The name of a workload; where it is a file of the user's own, with an absolute path."""
    file = _FILE_OF_WORKLOAD.fullmatch(name)
    return name if file is None else _absolute(file["path"]) + (file["attribute"] or "")


File = Annotated[str, AfterValidator(_absolute)]
WorkloadName = Annotated[str, AfterValidator(_located)]


_PASSWORD = re.compile(r"password\s*=", re.IGNORECASE)  # also sslpassword, PGPASSWORD
_DATABASE = re.compile(r"postgres(ql)?://[^/?#]*(/[^@#]*|\?[^@#]*)?")


def _without_password(dsn: str) -> str:
    """The address again; ValueError, without it, where it holds a password or is not understood.

    Its parameters may be percent-encoded. In an address of another form nobody knows where a password is:
    one with a / in it ends the host's part, for example.
    """
    plain = dsn
    while (once := unquote(plain)) != plain:
        plain = once
    passwords = (urlsplit(dsn).password, urlsplit(plain).password)
    if passwords != (None, None) or _PASSWORD.search(plain):
        raise ValueError("it holds a password, which would be kept with the results; set PGPASSWORD instead")
    if not _DATABASE.fullmatch(dsn):
        raise ValueError(
            "it is not of the form postgresql://user@host:5432/database; percent-encode @, / and # in names"
        )
    return dsn


Dsn = Annotated[str, AfterValidator(_without_password)]


TIMED_IO = ("sleep", "socket")  # can be told how long to take
_IO_TOOK = re.compile(r"(\d+(?:\.\d+)?)(ms)?", re.ASCII)
_IO_EXAMPLES = "sleep:5ms, socket:5ms, pgvector, http://127.0.0.1:9000/search"


def parse_io(text: str) -> dict[str, Any]:
    """What a request awaits, in a word, as workload options: `io`, and `io_ms` where it says how long."""
    name, colon, rest = text.partition(":")
    if name in ("http", "https"):
        return {"io": rest if rest.startswith(("http:", "https:")) else text}
    if not colon:
        return {"io": text}
    took = _IO_TOOK.fullmatch(rest)
    if name not in TIMED_IO or took is None:
        raise ValueError(f"{shortened(text)!r} is not understood; there are {_IO_EXAMPLES}")
    return {"io": name, "io_ms": float(took[1])}


def with_io_spelt_out(options: dict[str, Any]) -> dict[str, Any]:
    """Workload options whose `io` is a kind or an address alone; ValueError where two keys say how long."""
    said = options.get("io")
    if not isinstance(said, str):
        return options
    parsed = parse_io(said)
    if "io_ms" in parsed and "io_ms" in options:
        raise ValueError(f"io {said!r} and io_ms both say how long the I/O takes: give one")
    return options | parsed


def io_kind(io: str) -> str:
    """The kind of an I/O that is spelt out."""
    return "http" if io.startswith(("http:", "https:")) else io


class WorkloadOptions(Frozen):
    """A workload by name with its options. Travels to spawned workers as data, never as an object."""

    name: WorkloadName = "embed"  # or the user's own: package.module:attribute, path/to/file.py
    io: str = "sleep"  # awaited after the model: a kind of I/O or an address; see `parse_io`
    io_ms: Milliseconds = 5.0  # sleep, socket: how long it takes; see `_awaits_nothing_unasked`
    io_dsn: Dsn | None = None  # pgvector: a database that exists; None: one of our own
    io_rows: Annotated[int, Field(ge=10, le=1_000_000)] = 10_000  # pgvector: texts in the table
    io_timeout_s: Seconds = 10.0  # all but sleep: a call that takes longer has failed
    io_address: str | None = None  # where the run has started what is asked; not for people
    payloads: File | None = None  # a file of texts to ask, in place of the workload's own
    # embed
    model: str = DEFAULT_MODEL  # a name or the path of a sentence-transformers folder
    backend: Backend = "torch"  # what computes the transformer; onnx: ONNX Runtime
    device: str = "cpu"
    torch_threads: Threads | None = None  # None: torch's own choice, which is recorded
    onnx_threads: Threads | None = None  # backend onnx; None: as many as torch has
    online: bool = False  # may a model hub be asked?
    # synthetic
    service_ms: Milliseconds = 20.0
    mode: Mode = "sleep"
    setup_ms: Milliseconds = 0.0  # what loading takes
    faulty_setup: Literal["raise", "exit"] | None = None  # what loading comes to
    faulty_setup_file: str | None = None  # a path: faulty only while a file is there
    # results are vectors of so many numbers; None: the text in capitals
    dimensions: Annotated[int, Field(gt=0, le=bounds.DIMENSIONS)] | None = None
    faults: bool = False  # items like fault:exit misbehave (`workloads.faulty`)

    @model_validator(mode="before")
    @classmethod
    def _spells_out_its_io(cls, data: Any) -> Any:
        return with_io_spelt_out(data) if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _awaits_nothing_unasked(self) -> Self:
        """One of the user's own gets no I/O that nobody asked for; the built-in ones have the article's."""
        if is_own(self.name) and not self.model_fields_set & {"io", "io_ms"}:
            self.__dict__["io_ms"] = 0.0  # frozen; and it stays unsaid, as any default
        return self


class Inject(Frozen):
    """Known delays added to one stretch of every request: how the instrument is checked against truth."""

    queue_ms: Milliseconds = 0.0
    model_ms: Milliseconds = 0.0
    resume_ms: Milliseconds = 0.0
    io_ms: Milliseconds = 0.0


_as_law = PlainValidator(
    lambda value: value if isinstance(value, arrivals.Law) else arrivals.parse(str(value))
)
Law = Annotated[arrivals.Law, _as_law, PlainSerializer(str)]


STRATEGY_OPTIONS = frozenset(field.name for field in dataclasses.fields(strategies.Options)) - {"workers"}


def checked_options(options: dict[str, Any]) -> dict[str, Any]:
    """Those that were given, with their types; ValueError for what `strategies.Options` does not take."""
    for name in sorted(options.keys() - STRATEGY_OPTIONS):
        near = difflib.get_close_matches(name, STRATEGY_OPTIONS, n=1)
        raise ValueError(
            f"there is no option {shortened(name)!r}" + (f"; did you mean {near[0]!r}?" if near else "")
        )
    checked = TypeAdapter(strategies.Options).validate_python(options)
    return {name: getattr(checked, name) for name in options}


StrategyOptions = Annotated[dict[str, Any], AfterValidator(checked_options)]


class ServerOptions(Frozen):
    """Everything one child server needs to know."""

    strategy: str
    workers: Workers | None = None  # None: the strategy's own default
    options: StrategyOptions = Field(default_factory=dict)  # further fields of `strategies.Options`
    server_processes: Processes = 1  # uvicorn's own: so many copies of all this behind one port
    workload: WorkloadOptions = WorkloadOptions()
    inject: Inject = Inject()
    instrumented: bool = True  # False: no stamps, no Server-Timing: to see what those cost


class Texts(Frozen):
    """Which texts the load generator sends: those of a workload, drawn by a seed."""

    workload: WorkloadOptions
    seed: BlockSeed


REVEALED = {"headers": "revealed"}  # serialised with this as context, headers keep what is secret


def _written(headers: tuple[sending.Header, ...], info: SerializationInfo) -> list[sending.Header]:
    return list(headers if info.context == REVEALED else map(sending.redacted, headers))


Headers = Annotated[
    tuple[Annotated[sending.Header, AfterValidator(sending.checked_header)], ...],
    BeforeValidator(lambda value: tuple(value.items()) if isinstance(value, dict) else value),
    PlainSerializer(_written),
]


class Request(Frozen):
    """What a server that runs already is asked. What is not said is the usual: GET, or POST with a body."""

    method: Annotated[str, AfterValidator(sending.checked_method)] | None = None
    headers: Headers = ()  # `${NAME}` in a value is read from the environment when it is sent
    body: str | None = None  # `{text}` in it is where a text stands
    expect_status: Annotated[int, Field(ge=100, le=599)] = 200
    # a route without model: asked beside the load
    ping_path: Annotated[str, AfterValidator(addresses.checked_path)] | None = None

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


class LoadOptions(Frozen):
    """One trial's load. `requests` and `duration_s` say how long is measured: until both are reached."""

    url: str
    method: str = "GET"
    headers: Headers = ()
    texts: Texts | None = None  # None: the same is asked each time
    # `{text}` in it is where the text stands; None: {"text": …}, or no body without texts
    body: str | None = None
    arrivals: Law
    seed: BlockSeed = 1  # of the arrivals; not of the texts
    cap: Users = IN_FLIGHT_CAP  # open loop: at most so many in flight, later ones are sent late
    give_up_in_flight: Requests | None = None  # open loop: once so many are in flight, nothing more is sent
    requests: Requests | None = None
    duration_s: Seconds | None = None
    warmup_requests: Annotated[int, Field(ge=0, le=bounds.REQUESTS)] = 0
    settle_s: SecondsOrNone = 0.0  # warm up at least this long
    timeout_s: Seconds = 30.0
    transport: Transport = "aiohttp"
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
