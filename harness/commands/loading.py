"""`execbench load`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands import flags
from harness.commands.running import keep_what_is_finished
from harness.errors import HarnessError, UsageError
from harness.terminal import console

if TYPE_CHECKING:
    from harness.options import LoadOptions

REQUESTS = 200
SECONDS = 20.0
OPEN_SETTLES_S = 3.0


def load(
    url: Annotated[str, typer.Argument(help="Where to send requests, such as http://127.0.0.1:8000/")],
    requests: flags.Requests = None,
    duration: flags.Duration = None,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", "-c", min=1, help="Closed loop: users (8).")
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", help="Open loop: Poisson arrivals, requests a second.")
    ] = None,
    arrivals: Annotated[
        str | None, typer.Option("--arrivals", metavar="LAW", help="Open loop: such as constant(50).")
    ] = None,
    cap: flags.Cap = None,
    transport: flags.Transport = None,
    timeout: flags.Timeout = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help='POST {"text": …} with texts drawn by this seed, instead of GET.'),
    ] = None,
    out: flags.Out = None,
    as_json: flags.AsJson = False,
) -> None:
    """Send our load to a server that runs already; shows the split if it answers with Server-Timing."""
    from harness.options import LoadOptions

    _check_url(url)
    flags.refuse_both(requests, duration, stage="load")
    law = _law(concurrency, rate, arrivals)
    users = None if law is not None else concurrency or 8
    said: dict[str, Any] = {
        "arrivals": law or f"closed({users})",
        "warmup_requests": 2 * users if users else None,
        "settle_s": None if users else OPEN_SETTLES_S,
        "cap": cap,
        "requests": requests,
        "duration_s": duration,
        "transport": transport,
        "timeout_s": timeout,
    }
    if requests is None and duration is None:
        said |= {"requests": REQUESTS} if users else {"duration_s": SECONDS}
    if seed is not None:
        said |= {"method": "POST", "texts": {"workload": {}, "seed": seed}, "seed": seed}
    given = {key: value for key, value in said.items() if value is not None}
    _load(LoadOptions(url=url, **given), out, as_json=as_json)


def _law(concurrency: int | None, rate: float | None, arrivals: str | None) -> str | None:
    """The open law asked for; None for the closed loop."""
    if sum(given is not None for given in (concurrency, rate, arrivals)) > 1:
        raise UsageError("Give one of --concurrency, --rate and --arrivals.", stage="load")
    laws = flags.loads(
        None, None if rate is None else [rate], None if arrivals is None else [arrivals], stage="load"
    ).arrivals
    return laws[0] if laws else None


def _load(options: LoadOptions, out: Path | None, *, as_json: bool) -> None:
    from harness import external, store
    from harness.commands.reporting import show
    from harness.progress import Progress

    writer = store.Writer(out or store.default_folder("load"))
    try:
        with Progress(console(stderr=True)) as progress:
            trial = external.load(options, writer, progress)
    except (KeyboardInterrupt, HarnessError):
        keep_what_is_finished(writer)
        raise
    show(writer.folder, as_json=as_json)
    if trial.state != "ok":
        rows = writer.folder / "requests.csv"
        raise HarnessError(trial.error, stage="load", hint=f"Its rows are kept: {rows}")


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
