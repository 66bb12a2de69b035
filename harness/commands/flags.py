"""Flags that several commands share, and how their words become plain data."""

from __future__ import annotations

import functools
import inspect
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_type_hints

import typer

from harness.errors import UsageError, shortened
from harness.system import streams
from harness.wire import bounds

Strategies = Annotated[
    list[str] | None,
    typer.Option(
        "--strategy",
        help="NAME or NAME:key=value,…; repeatable; see `execbench list`. With PLAN: keep the arms of these.",
    ),
]
Urls = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=URL", help="A server that runs already, as an arm; repeatable."),
]
UrlPids = Annotated[
    list[str] | None,
    typer.Option(
        "--url-pid",
        metavar="NAME=PID",
        help="--url: a process of that server too, where its CPU counts as foreign; repeatable.",
    ),
]
PingPath = Annotated[
    str | None, typer.Option(metavar="PATH", help="--url: a route without model, asked beside the load.")
]
Concurrency = Annotated[
    list[int] | None,
    typer.Option("--concurrency", "-c", min=1, help="Closed loop: users; repeatable."),
]
Rate = Annotated[
    list[float] | None,
    typer.Option("--rate", help="Open loop: Poisson arrivals, requests a second; repeatable."),
]
Arrivals = Annotated[
    list[str] | None,
    typer.Option(
        "--arrivals",
        metavar="LAW",
        help="Open loop: constant(50), poisson(50), burst(10, 0.5), replay(FILE); repeatable.",
    ),
]
Cap = Annotated[int | None, typer.Option(min=1, help="Open loop: most requests in flight (500).")]
Requests = Annotated[int | None, typer.Option(min=1, help="Closed loop: measured requests per trial.")]
Duration = Annotated[
    float | None,
    typer.Option(
        min=0.05, max=bounds.A_DAY_S, help="Seconds measured per trial (closed loop: or --requests)."
    ),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Workers of the strategy.")]
StrategyOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        "-o",
        metavar="KEY=VALUE",
        help="An option of the strategies that take it, like max_batch=16; repeatable.",
    ),
]
ServerProcesses = Annotated[
    int | None, typer.Option(min=1, help="uvicorn's workers: so many copies of the whole service.")
]
Transport = Annotated[
    Literal["aiohttp", "httpx"] | None,
    typer.Option(help="What carries httpx's requests: aiohttp (cheap) or httpx's own."),
]
Timeout = Annotated[
    float | None, typer.Option(min=0.001, max=bounds.A_DAY_S, help="Seconds a request may take.")
]
Seed = Annotated[int | None, typer.Option(min=0, help="Of the order of trials, the texts and the arrivals.")]
WorkloadName = Annotated[
    str | None,
    typer.Option(
        "--workload",
        metavar="NAME",
        help="embed (default), synthetic, or your own: FILE.py or package.module:attribute; see `init`.",
    ),
]
Payloads = Annotated[
    str | None,
    typer.Option(
        "--payloads",
        metavar="FILE",
        help="Texts to ask, drawn by the seed: one a line, .jsonl, .json or .csv (column text); also .gz.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(help="embed: name or folder of a sentence-transformers model."),
]
Backend = Annotated[
    Literal["torch", "onnx"] | None,
    typer.Option(help="embed: what computes the transformer, torch (default) or ONNX Runtime (extra onnx)."),
]
TorchThreads = Annotated[
    int | None,
    typer.Option(min=1, help="embed, your own: torch's threads per worker (default: torch's own choice)."),
]
OnnxThreads = Annotated[
    int | None,
    typer.Option(min=1, help="embed, backend onnx: its threads per worker (default: as torch's)."),
]
Device = Annotated[str | None, typer.Option(help="embed: cpu (default), cuda, mps …")]
Online = Annotated[bool, typer.Option("--online", help="embed: a model hub may be asked.")]
ServiceMs = Annotated[float | None, typer.Option(min=0, help="synthetic: what a call costs.")]
Mode = Annotated[
    Literal["sleep", "hold", "spin", "release"] | None,
    typer.Option(
        help="synthetic: sleep (lock free), hold (lock held), spin (CPU), release (CPU, lock free)."
    ),
]
Io = Annotated[
    str | None,
    typer.Option(
        metavar="KIND", help="Awaited after the model: sleep:5ms, socket:5ms, pgvector or http:URL."
    ),
]
IoMs = Annotated[
    float | None,
    typer.Option(min=0, help="sleep, socket: how long that takes (5; of your own workload: none)."),
]
IoDsn = Annotated[
    str | None,
    typer.Option(metavar="DSN", help="pgvector: a database that exists (postgresql://…); it gets a schema."),
]
IoRows = Annotated[int | None, typer.Option(min=10, help="pgvector: texts in the table (10,000).")]
IoTimeout = Annotated[
    float | None, typer.Option(min=0.001, max=bounds.A_DAY_S, help="All but sleep: seconds it may take (10).")
]
Injected = Annotated[
    list[str] | None,
    typer.Option(
        "--inject",
        metavar="PART=MS",
        help="Add a known delay to queue, model, resume or io: checks the instrument. Repeatable.",
    ),
]
HeaderLines = Annotated[
    list[str] | None,
    typer.Option(
        "--header",
        metavar="'NAME: VALUE'",
        help="Sent with each request; repeatable. ${TOKEN} in it is read from the environment.",
    ),
]
Method = Annotated[str | None, typer.Option(help="GET; POST where there is a body or a text; or another.")]
Body = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help='What is sent; {text} is replaced by a text, as in the address: {"query": "{text}"}.',
    ),
]
ExpectStatus = Annotated[
    int | None, typer.Option(min=100, max=599, help="The HTTP status of a good answer (200).")
]
Out = Annotated[
    Path | None,
    typer.Option(help="The run's folder (default: results/<time>-<plan>); must not exist."),
]


def _keep_stdout(as_json: bool) -> bool:
    """Before anything of the user's is imported."""
    if as_json:
        streams.keep_for_document()
    return as_json


AsJson = Annotated[
    bool,
    typer.Option("--json", callback=_keep_stdout, help="Print the results as one JSON document."),
]


Blocks = Annotated[
    int | None,
    typer.Option(min=1, help="Times every arm and load is run (24; sweep: 12); with --precision: most."),
]
PrecisionShare = Annotated[
    str | None, typer.Option(metavar="SHARE", help="Stop once every interval is within ± this: 3%.")
]
Twin = Annotated[
    bool | None, typer.Option("--twin/--no-twin", help="Run the reference arm twice: is it quiet here?")
]
Reference = Annotated[
    str | None, typer.Option(metavar="ARM", help="Whom the arms are compared with (the first).")
]
Fresh = Annotated[
    bool | None, typer.Option("--fresh/--resident", help="A new server for each trial, or one all along.")
]
Pin = Annotated[bool | None, typer.Option("--pin/--no-pin", help="Client and servers on CPUs of their own.")]
SelfCheck = Annotated[
    bool | None,
    typer.Option("--self-check/--no-self-check", help="See first what the load generator can do (4 s)."),
]
Limit = Annotated[
    bool | None,
    typer.Option("--limit/--no-limit", help="See first what the bare model can do, alone (8 s a model)."),
]
ExcludeForeignCpu = Annotated[
    float | None,
    typer.Option(
        min=0.001, metavar="CORES", help="Leave out blocks in which other programs used more CPU (0.33)."
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would run and for how long; start nothing.")
]
Resume = Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with a killed run, to its own plan.")]


class Loads(NamedTuple):
    """What the flags say of loads."""

    concurrency: tuple[int, ...]
    arrivals: tuple[str, ...]


def loads(
    concurrency: list[int] | None, rate: list[float] | None, arrivals: list[str] | None, *, stage: str
) -> Loads:
    """Closed and open loads; UsageError for a law that is none."""
    laws = [f"poisson({number:.15g})" for number in rate or ()] + list(arrivals or ())
    for law in laws:
        _refuse_no_law(law, stage)
    return Loads(tuple(concurrency or ()), tuple(laws))


def _refuse_no_law(text: str, stage: str) -> None:
    from harness.wire import arrivals

    try:
        law = arrivals.parse(text)
    except ValueError as error:
        example = f"For example: --arrivals '{arrivals.EXAMPLES[2]}'"
        raise UsageError(f"{error}.", stage=stage, hint=example) from error
    if law.is_own and stage != "plan":
        raise UsageError(
            f"--arrivals {text!r} is a share of what an arm can do.",
            stage=stage,
            hint="Here it is not known: give a rate, as in --rate 50.",
        )
    if not law.is_open:
        raise UsageError(f"--arrivals {text!r} is a closed loop.", stage=stage, hint="Ask for it with -c 8.")


class Server(NamedTuple):
    """What several commands can be told of the servers: the workload, and options of the strategies."""

    workers: Workers = None
    option: StrategyOptions = None
    server_processes: ServerProcesses = None
    workload: WorkloadName = None
    payloads: Payloads = None
    model: Model = None
    backend: Backend = None
    torch_threads: TorchThreads = None
    onnx_threads: OnnxThreads = None
    device: Device = None
    online: Online = False
    service_ms: ServiceMs = None
    mode: Mode = None
    io: Io = None
    io_ms: IoMs = None
    io_dsn: IoDsn = None
    io_rows: IoRows = None
    io_timeout: IoTimeout = None
    inject: Injected = None

    def as_plan_flags(self) -> dict[str, Any]:
        """The keys of `flagged.Flags` that these are about; UsageError for a pair that is none."""
        from harness.plans import from_flags

        return {
            "workers": self.workers,
            "options": from_flags.pairs(self.option or (), "--option"),
            "server_processes": self.server_processes,
            "workload": self._workload(),
            "inject": inject(self.inject),
        }

    def _workload(self) -> dict[str, Any]:
        """What was said of the workload, and nothing else."""
        said = {
            "name": self.workload,
            "payloads": self.payloads,
            "model": self.model,
            "backend": self.backend,
            "torch_threads": self.torch_threads,
            "onnx_threads": self.onnx_threads,
            "device": self.device,
            "online": self.online or None,
            "service_ms": self.service_ms,
            "mode": self.mode,
        }
        return {key: value for key, value in said.items() if value is not None} | self._io()

    def _io(self) -> dict[str, Any]:
        """What was said of the awaited I/O."""
        from harness.workloads.io import kinds

        parsed = {} if self.io is None else kinds.parse(self.io)
        if self.io_ms is not None and "io_ms" in parsed:
            raise UsageError(
                f"--io {self.io} and --io-ms both say how long the I/O takes: give one.", stage="plan"
            )
        said = {
            "io_ms": self.io_ms,
            "io_dsn": None if self.io_dsn is None else _without_password(self.io_dsn),
            "io_rows": self.io_rows,
            "io_timeout_s": self.io_timeout,
        }
        return parsed | {key: value for key, value in said.items() if value is not None}


SERVER = Server()


class Measuring(NamedTuple):
    """What commands that run a plan can be told of loads, windows, blocks and the instrument."""

    concurrency: Concurrency = None
    rate: Rate = None
    arrivals: Arrivals = None
    cap: Cap = None
    requests: Requests = None
    duration: Duration = None
    blocks: Blocks = None
    precision: PrecisionShare = None
    twin: Twin = None
    reference: Reference = None
    fresh: Fresh = None
    pin: Pin = None
    transport: Transport = None
    timeout: Timeout = None
    seed: Seed = None
    self_check: SelfCheck = None
    limit: Limit = None
    exclude_foreign_cpu: ExcludeForeignCpu = None

    def as_plan_flags(self) -> dict[str, Any]:
        """The keys of `flagged.Flags` that these are about; UsageError for what contradicts itself."""
        refuse_both(self.requests, self.duration, stage="plan")
        said = loads(self.concurrency, self.rate, self.arrivals, stage="plan")
        same = ("cap", "requests", "blocks", "twin", "reference", "fresh", "pin", "transport", "seed")
        return {
            **said._asdict(),
            **{name: getattr(self, name) for name in (*same, "self_check", "limit")},
            "duration_s": self.duration,
            "precision": share(self.precision, "--precision"),
            "timeout_s": self.timeout,
            "exclude": exclude(self.exclude_foreign_cpu),
        }


MEASURING = Measuring()


class Asking(NamedTuple):
    """What a server that runs already is asked."""

    header: HeaderLines = None
    method: Method = None
    body: Body = None
    expect_status: ExpectStatus = None

    def as_request(self, **more: str | None) -> dict[str, Any]:
        """The keys of `options.Request` that were said, and `more` of them; UsageError for no header line."""
        said = {
            "headers": _headers(self.header) or None,
            "method": self.method,
            "body": self.body,
            "expect_status": self.expect_status,
            **more,
        }
        return {key: value for key, value in said.items() if value is not None}


ASKING = Asking()


def _headers(lines: list[str] | None) -> list[tuple[str, str]]:
    from harness.wire import sending

    try:
        return [sending.parse_header(line) for line in lines or ()]
    except ValueError as error:
        raise UsageError(
            f"--header is not understood: {error}.", stage="plan", hint="For example: --header 'X-Tenant: a'"
        ) from error


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer reads it: a parameter that is a group of flags (`Server`) stands there as those.

    The command itself gets them as the one object they make.
    """
    parameters: list[inspect.Parameter] = []
    groups: dict[str, Any] = {}
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if hasattr(parameter.annotation, "_field_defaults"):
            groups[parameter.name] = parameter.annotation
            parameters += _fields(parameter.annotation)
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def with_groups(**given: Any) -> None:
        made = {
            name: group(**{field: given.pop(field) for field in group._fields})
            for name, group in groups.items()
        }
        command(**given, **made)

    # what typer reads
    with_groups.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_groups.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_groups


def _fields(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[name])
        for name, default in group._field_defaults.items()
    ]


def refuse_both(requests: int | None, duration: float | None, *, stage: str) -> None:
    """UsageError when a window is given twice."""
    if requests is not None and duration is not None:
        raise UsageError("Give either --requests or --duration, not both.", stage=stage)


def refuse_resume(resume: Path | None) -> None:
    """UsageError when --resume stands beside --dry-run: what is left of a run is known only by running it."""
    if resume is not None:
        raise UsageError("Give one of --dry-run and --resume.", stage="resume")


def exclude(foreign_cpu: float | None) -> dict[str, float]:
    """The keys of `plans.Exclusion` that were said."""
    return {} if foreign_cpu is None else {"foreign_cpu": foreign_cpu}


def inject(pairs: list[str] | None) -> dict[str, float]:
    """PART=MS → the keys of `options.Inject`; UsageError for what is no such pair."""
    injected = {}
    for pair in pairs or ():
        part, _, delay = pair.partition("=")
        if part not in ("queue", "model", "resume", "io") or not _is_delay(delay):
            raise UsageError(
                f"--inject {shortened(pair)!r} is not understood.",
                stage="plan",
                hint="For example: --inject queue=20",
            )
        injected[f"{part}_ms"] = float(delay)
    return injected


def _without_password(dsn: str) -> str:
    """The address as it may be kept with the results; its password goes where all our processes find it."""
    from urllib.parse import unquote, urlsplit

    try:
        parts = urlsplit(dsn)
        password = parts.password
    except ValueError:
        return dsn  # which is none: connecting will say so
    if password is None:
        return dsn
    os.environ["PGPASSWORD"] = unquote(password)
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user.partition(':')[0]}@{host}").geturl()


def share(text: str | None, flag: str) -> float | None:
    """3% or 0.03 → 0.03; UsageError for anything that is not between 0 and 1."""
    if text is None:
        return None
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        number = math.nan
    if not 0 < number < 1:
        raise UsageError(
            f"{flag} {shortened(text)!r} is not understood.", stage="plan", hint=f"For example: {flag} 3%"
        )
    return number


def _is_delay(text: str) -> bool:
    try:
        return 0 <= float(text) < math.inf
    except ValueError:
        return False
