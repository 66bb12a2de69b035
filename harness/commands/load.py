"""`execbench load`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands import flag_groups, flags
from harness.commands.run import show_all
from harness.commands.terminal import console, tell
from harness.errors import HarnessError, UsageError

if TYPE_CHECKING:
    from harness.results.store import Writer
    from harness.wire.options import LoadOptions

REQUESTS = 200
SECONDS = 20.0
OPEN_SETTLES_S = 3.0


@flags.spread
def load(
    *,
    url: Annotated[str, typer.Argument(help="Where to send requests, such as http://127.0.0.1:8000/")],
    requests: flags.Requests = None,
    duration: flags.Duration = None,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", "-c", min=1, help="Closed loop: users (8).")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Open loop: Poisson arrivals, requests a second.")
    ] = None,
    arrivals: Annotated[
        str | None, typer.Option(metavar="LAW", help="Open loop: such as constant(50).")
    ] = None,
    cap: flags.Cap = None,
    transport: flags.Transport = None,
    timeout: flags.Timeout = None,
    asking: flag_groups.Asking,
    payloads: flags.Payloads = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help='Draws the texts; without a body it makes GET a POST of {"text": …}.'),
    ] = None,
    out: flags.Out = None,
    as_json: flags.AsJson = False,
) -> None:
    """Send our load to a server that runs already; shows the split if it answers with Server-Timing."""
    from harness.wire import addresses

    try:
        addresses.checked(url)
    except ValueError as error:
        raise UsageError(f"{error}.", stage="load", hint="For example: http://127.0.0.1:8000/") from error
    flag_groups.refuse_both(requests, duration, stage="load")
    if sum(given is not None for given in (concurrency, rate, arrivals)) > 1:
        raise UsageError("Give one of --concurrency, --rate and --arrivals.", stage="load")
    laws = flag_groups.open_laws(
        None if rate is None else [rate], None if arrivals is None else [arrivals], stage="load"
    )
    users = None if laws else concurrency or 8
    window: dict[str, Any] = {"requests": requests, "duration_s": duration}
    if requests is None and duration is None:
        window = {"requests": REQUESTS} if users else {"duration_s": SECONDS}
    said = {
        "arrivals": laws[0] if laws else f"closed({users})",
        "warmup_requests": 2 * users if users else None,
        "settle_s": None if users else OPEN_SETTLES_S,
        "cap": cap,
        "transport": transport,
        "timeout_s": timeout,
        **window,
        **_asked(url, asking.as_request(), payloads, seed),
    }
    _load(_checked(url, flag_groups.said(**said)), out, as_json=as_json)


def _checked(url: str, given: dict[str, Any]) -> LoadOptions:
    """UsageError for a number that is out of bounds."""
    from harness.wire import arrivals
    from harness.wire.options import LoadOptions

    with _refused("This load is not valid"):
        load = LoadOptions(url=url, **given)
        arrivals.check_request_count(load.arrivals, load.settle_s + (load.duration_s or 0.0))
    return load


def _asked(url: str, said: dict[str, Any], payloads: str | None, seed: int | None) -> dict[str, Any]:
    """What `LoadOptions` says of a request; UsageError for one that cannot be sent."""
    from harness import workloads
    from harness.plans import plan_checks
    from harness.wire import addresses, options, sending

    if seed is not None and addresses.PLACEHOLDER not in url and said.keys() <= {"headers", "expect_status"}:
        said = said | {"body": sending.DEFAULT_BODY}
    with _refused("What is asked"):
        workload = options.WorkloadOptions(**flag_groups.said(payloads=payloads))
        workloads.check(workload)
        request = options.Request.model_validate(said)
        asked = request.load(workload, 1 if seed is None else seed, [url])
    plan_checks.check_headers(request, stage="load")
    return asked | {"seed": seed}


@contextlib.contextmanager
def _refused(what: str) -> Iterator[None]:
    """A ValueError becomes a UsageError that begins with `what`."""
    from pydantic import ValidationError

    from harness.wire.options import explain

    try:
        yield
    except ValueError as error:
        said = explain(error) if isinstance(error, ValidationError) else error
        raise UsageError(f"{what}: {said}.", stage="load") from error


def _load(options: LoadOptions, out: Path | None, *, as_json: bool) -> None:
    from harness.commands.progress import Progress
    from harness.results import store
    from harness.run import load_url

    writer = store.Writer(out or store.default_folder("load"))
    try:
        with Progress(console(stderr=True)) as progress:
            trial = load_url.load(options, writer, progress)
    except KeyboardInterrupt:
        _show_what_there_is(writer, as_json=as_json)
        raise
    except HarnessError:
        _keep_record(writer)
        raise
    show_all(writer, as_json=as_json)
    if trial.state != "ok":
        rows = writer.folder / "requests.csv"
        raise HarnessError(trial.error, stage="load", hint=f"Its rows are kept: {rows}")


def _show_what_there_is(writer: Writer, *, as_json: bool) -> None:
    """Of a load that was interrupted; a folder without a measured request is removed."""
    if not writer.trials:
        writer.discard()
        return
    show_all(writer, as_json=as_json)
    measured = writer.measured
    said = f"The load was interrupted: {measured} request{'s were' if measured > 1 else ' was'} measured."
    tell(f"{said} Every row is kept in {writer.folder}.")


def _keep_record(writer: Writer) -> None:
    """Of a load that has begun and failed, with the reason in run.json."""
    if not writer.record:
        writer.discard()
    elif writer.folder.exists():
        tell(f"What was asked is kept in {writer.folder / 'run.json'}.")
