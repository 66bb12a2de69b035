"""The command line: options become frozen objects here. The only place that prints and exits.

Imports of what a command needs stand inside it: `execbench --help` must not load pandas, FastAPI or torch.
"""

from __future__ import annotations

import math
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from harness import __version__
from harness.errors import INTERRUPTED, HarnessError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from harness.options import LoadOptions
    from harness.plans import Flags, Plan
    from harness.server import Server
    from harness.store import Writer

PIPED_WIDTH = 80
REQUESTS_OF_LOAD = 200
A_DAY_S = 86_400.0


class Guarded(TyperGroup):
    """Turns what a command raises into one message and an exit code, in one place."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except HarnessError as error:
            if ctx.params.get("debug"):
                traceback.print_exception(error)
            _complain(error)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            _console(stderr=True).print("Interrupted.")
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=Guarded,
    name="execbench",
    help="Measure where a FastAPI service should run its model: on the event loop, in threads, in processes.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

Strategies = Annotated[
    list[str] | None,
    typer.Option("--strategy", help="Repeatable; see `execbench list`. With PLAN: keep the arms of these."),
]
Concurrency = Annotated[
    list[int] | None,
    typer.Option("--concurrency", "-c", min=1, help="Users in the closed loop; repeatable."),
]
Requests = Annotated[int | None, typer.Option(min=1, help="Measured requests per trial.")]
Duration = Annotated[
    float | None,
    typer.Option(min=0.05, max=A_DAY_S, help="Seconds measured per trial, in place of --requests."),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Workers of the strategy.")]
Transport = Annotated[
    Literal["aiohttp", "httpx"] | None,
    typer.Option(help="What carries httpx's requests: aiohttp (cheap) or httpx's own."),
]
Timeout = Annotated[float | None, typer.Option(min=0.001, max=A_DAY_S, help="Seconds a request may take.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Of the order of trials and the texts sent.")]
WorkloadName = Annotated[
    str | None,
    typer.Option("--workload", help="embed (default) or synthetic."),
]
Model = Annotated[
    str | None,
    typer.Option(help="embed: name or folder of a sentence-transformers model."),
]
TorchThreads = Annotated[
    int | None,
    typer.Option(min=1, help="embed: torch's threads per worker (default: torch's own choice)."),
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
IoMs = Annotated[float | None, typer.Option(min=0, help="The awaited I/O after the model (5).")]
Injected = Annotated[
    list[str] | None,
    typer.Option(
        "--inject",
        metavar="PART=MS",
        help="Add a known delay to queue, model, resume or io: checks the instrument. Repeatable.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(help="The run's folder (default: results/<time>-<plan>); must not exist."),
]


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,  # noqa: ARG001 - read by Guarded
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Measure where a FastAPI service should run its model: on the event loop, in threads, in processes."""
    if version:
        typer.echo(f"execbench {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


@app.command()
def run(
    plan: Annotated[
        str | None, typer.Argument(help="A plan's name or TOML file; else flags make one.")
    ] = None,
    strategy: Strategies = None,
    concurrency: Concurrency = None,
    requests: Requests = None,
    duration: Duration = None,
    blocks: Annotated[int | None, typer.Option(min=1, help="Times every arm and load is run.")] = None,
    workers: Workers = None,
    workload: WorkloadName = None,
    model: Model = None,
    torch_threads: TorchThreads = None,
    device: Device = None,
    online: Online = False,
    service_ms: ServiceMs = None,
    mode: Mode = None,
    io_ms: IoMs = None,
    inject: Injected = None,
    transport: Transport = None,
    timeout: Timeout = None,
    seed: Seed = None,
    out: Out = None,
) -> None:
    """Run a plan: every strategy under every load, in blocks of random order; then show what came of it."""
    from harness import plans

    flags = plans.Flags(
        strategies=tuple(strategy or ()),
        concurrency=tuple(concurrency or ()),
        requests=requests,
        duration_s=duration,
        blocks=blocks,
        workers=workers,
        transport=transport,
        timeout_s=timeout,
        seed=seed,
        workload=_workload(workload, model, torch_threads, device, online, service_ms, mode, io_ms),
        inject=_inject(inject),
    )
    _run_plan(_plan(plan, flags), out)


@app.command()
def serve(
    strategy: Annotated[str, typer.Argument(help="Where the model runs; see `execbench list`.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8000,
    workers: Workers = None,
    workload: WorkloadName = None,
    model: Model = None,
    torch_threads: TorchThreads = None,
    device: Device = None,
    online: Online = False,
    service_ms: ServiceMs = None,
    mode: Mode = None,
    io_ms: IoMs = None,
    inject: Injected = None,
) -> None:
    """Serve the app alone on 127.0.0.1, for curl or any other client, until Ctrl-C."""
    from harness import plans

    flags = plans.Flags(
        strategies=(strategy,),
        workers=workers,
        workload=_workload(workload, model, torch_threads, device, online, service_ms, mode, io_ms),
        inject=_inject(inject),
    )
    _serve(plans.from_flags(flags), port)


@app.command()
def load(
    url: Annotated[str, typer.Argument(help="Where to send requests, such as http://127.0.0.1:8000/")],
    requests: Requests = None,
    duration: Duration = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, help="Users in the closed loop.")
    ] = 8,
    transport: Transport = None,
    timeout: Timeout = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help='POST {"text": …} with texts drawn by this seed, instead of GET.'),
    ] = None,
    out: Out = None,
) -> None:
    """Send our load to a server that runs already; shows the split if it answers with Server-Timing."""
    from harness.options import LoadOptions

    _check_url(url)
    _refuse_both(requests, duration, stage="load")
    said: dict[str, Any] = {
        "requests": requests,
        "duration_s": duration,
        "transport": transport,
        "timeout_s": timeout,
    }
    if requests is None and duration is None:
        said["requests"] = REQUESTS_OF_LOAD
    if seed is not None:
        said |= {"method": "POST", "texts": {"workload": {}, "seed": seed}}
    given = {key: value for key, value in said.items() if value is not None}
    options = LoadOptions(url=url, concurrency=concurrency, warmup_requests=2 * concurrency, **given)
    _load(options, out)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run's folder, such as results/<time>-<plan>.")],
) -> None:
    """Make tables and charts again from a run's CSVs."""
    _report(run)


@app.command(name="list")
def list_() -> None:
    """Show strategies, workloads and plans, each in a line."""
    import strategies
    from harness import plans, workloads

    console = _console()
    said = {
        "Strategies": [(name, strategies.get(name).SUMMARY) for name in strategies.NAMES],
        "… when every worker is busy": [(name, strategies.get(name).WHEN_FULL) for name in strategies.NAMES],
        "Workloads": [(name, workloads.summary(name)) for name in workloads.NAMES],
        "Plans": [(name, plans.load(name).summary) for name in plans.names()],
    }
    for title, entries in said.items():
        console.print(_listing(title, entries))


@app.command()
def roofline(
    concurrency: Annotated[int, typer.Option("--concurrency", "-c", min=1, help="Connections.")] = 32,
    requests: Annotated[int, typer.Option(min=100, help="Requests per transport.")] = 6000,
) -> None:
    """What our load generator itself costs: CPU and requests/s against a server that does nothing."""
    from harness import roofline as measuring
    from harness.progress import Progress

    with Progress(_console(stderr=True)) as progress:
        results = measuring.measure(concurrency, requests, progress)
    for result in results:
        _console().print(str(result))


def main() -> None:
    """The console script `execbench`."""
    app()


# -- what the commands do --------------------------------------------------------------------------------


def _plan(name: str | None, flags: Flags) -> Plan:
    from harness import plans

    _refuse_both(flags.requests, flags.duration_s, stage="plan")
    return plans.from_flags(flags) if name is None else plans.override(plans.load(name), flags)


def _run_plan(plan: Plan, out: Path | None) -> None:
    from harness import run as running
    from harness import store
    from harness.progress import Progress

    writer = store.Writer(out or store.default_folder(plan.name))
    try:
        with Progress(_console(stderr=True)) as progress:
            trials = running.run(plan, writer, progress)
    except (KeyboardInterrupt, HarnessError):
        _keep_what_is_finished(writer)
        raise
    _report(writer.folder)
    failed = [trial for trial in trials if trial.state != "ok"]
    if failed:
        raise HarnessError(
            f"{len(failed)} of {len(trials)} trials failed, the first: {failed[0].error}",
            stage="run",
            hint=f"The others are kept and shown. Logs of the servers: {writer.folder / 'logs'}",
        )


def _report(folder: Path) -> None:
    from rich.text import Text

    from harness import report as reporting
    from harness import tables

    result = reporting.of(folder)
    reporting.write(result)
    console = _console()
    for part in tables.render(result):
        console.print(part, soft_wrap=isinstance(part, Text))  # tables fit; a sentence stays one line


def _serve(plan: Plan, port: int) -> None:
    import tempfile

    from harness import server
    from harness.supervisor import Supervisor

    arm = plan.arms[0]
    options = arm.server_options(plan.workload)
    with tempfile.TemporaryDirectory() as folder, Supervisor() as supervisor:
        log = Path(folder) / "server.log"
        with server.start(arm.name, options, supervisor, log=log, port=port) as child:
            child.wait_ready()
            typer.echo(f"{arm.name} serves {plan.workload.name} on {child.url}/ - Ctrl-C stops it")
            _follow(child, log)


def _follow(child: Server, log: Path) -> None:
    """Show the server's log as it grows, until the server ends."""
    import time

    with log.open() as stream:
        while True:
            sys.stderr.write(stream.read())
            child.check_alive(stage="serving")
            time.sleep(0.2)


def _load(options: LoadOptions, out: Path | None) -> None:
    from harness import external, store
    from harness.progress import Progress

    writer = store.Writer(out or store.default_folder("load"))
    try:
        with Progress(_console(stderr=True)) as progress:
            trial = external.load(options, writer, progress)
    except (KeyboardInterrupt, HarnessError):
        _keep_what_is_finished(writer)
        raise
    _report(writer.folder)
    if trial.state != "ok":
        rows = writer.folder / "requests.csv"
        raise HarnessError(trial.error, stage="load", hint=f"Its rows are kept: {rows}")


def _keep_what_is_finished(writer: Writer) -> None:
    """And say where it is; a folder without any trial would only be in the way of the next attempt."""
    if not writer.trials:
        writer.discard()
        return
    said = f"Finished trials are kept; `execbench report {writer.folder}` shows them."
    _console(stderr=True).print(said, markup=False, soft_wrap=True)


# -- the edge: words → objects ---------------------------------------------------------------------------


def _workload(
    name: str | None,
    model: str | None,
    torch_threads: int | None,
    device: str | None,
    online: bool,
    service_ms: float | None,
    mode: str | None,
    io_ms: float | None,
) -> dict[str, Any]:
    said = {
        "name": name,
        "model": model,
        "torch_threads": torch_threads,
        "device": device,
        "online": online or None,
        "service_ms": service_ms,
        "mode": mode,
        "io_ms": io_ms,
    }
    return {key: value for key, value in said.items() if value is not None}


def _refuse_both(requests: int | None, duration: float | None, *, stage: str) -> None:
    if requests is not None and duration is not None:
        raise UsageError("Give either --requests or --duration, not both.", stage=stage)


def _inject(pairs: list[str] | None) -> dict[str, float]:
    injected = {}
    for pair in pairs or ():
        part, _, delay = pair.partition("=")
        if part not in ("queue", "model", "resume", "io") or not _is_delay(delay):
            raise UsageError(
                f"--inject {pair!r} is not understood.", stage="plan", hint="For example: --inject queue=20"
            )
        injected[f"{part}_ms"] = float(delay)
    return injected


def _is_delay(text: str) -> bool:
    try:
        return 0 <= float(text) < math.inf
    except ValueError:
        return False


def _check_url(url: str) -> None:
    if not _is_address(url):
        raise UsageError(
            f"{url!r} is not an http address.", stage="load", hint="For example: http://127.0.0.1:8000/"
        )


def _is_address(url: str) -> bool:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not match, a port that is none
        return False


# -- the terminal ----------------------------------------------------------------------------------------


def _console(*, stderr: bool = False) -> Console:
    """Piped, tables keep to 80 columns whatever the environment says; nothing is cut, it wraps."""
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=PIPED_WIDTH)


def _listing(title: str, entries: list[tuple[str, str]]) -> Any:
    from rich.table import Table

    table = Table(title=f"\n{title}", title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column(no_wrap=True, min_width=12)
    table.add_column()
    for name, summary in entries:
        table.add_row(name, summary)
    table.show_header = False
    return table


def _complain(error: HarnessError) -> None:
    console = _console(stderr=True)
    console.print(f"Error ({error.stage}): {error.what}", markup=False, style="red", soft_wrap=True)
    if error.hint:
        console.print(error.hint, markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
