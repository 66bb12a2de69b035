"""Flags that several commands share, and how a command has a group of them as one parameter."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from harness.system import streams
from harness.wire import bounds

Strategies = Annotated[
    list[str] | None,
    typer.Option(
        help="NAME or NAME:key=value,…; repeatable; see `execbench list`. With PLAN: keep the arms of these; "
        "with a run's folder, those that it has not are added."
    ),
]
Urls = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=URL", help="A server that runs already, as an arm; repeatable."),
]
UrlPids = Annotated[
    list[str] | None,
    typer.Option(
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
    list[float] | None, typer.Option(help="Open loop: Poisson arrivals, requests a second; repeatable.")
]
Arrivals = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LAW", help="Open loop: constant(50), poisson(50), burst(10, 0.5), replay(FILE); repeatable."
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
        metavar="NAME",
        help="embed (default), synthetic, or your own: FILE.py or package.module:attribute; see `init`.",
    ),
]
Payloads = Annotated[
    str | None,
    typer.Option(
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
        metavar="PART=MS",
        help="Add a known delay to queue, model, resume or io: checks the instrument. Repeatable.",
    ),
]
HeaderLines = Annotated[
    list[str] | None,
    typer.Option(
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
        streams.reserve_stdout_for_document()
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
