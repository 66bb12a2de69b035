"""`execbench load`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands import flags
from harness.commands.run import show_all
from harness.commands.terminal import console, print_message
from harness.errors import HarnessError, UsageError
from harness.wire.panel import Panel

if TYPE_CHECKING:
    from harness.plans.from_flags import Flags
    from harness.plans.settings import Known
    from harness.results.store import Writer
    from harness.wire.arrivals import Law
    from harness.wire.load_options import LoadOptions

REQUESTS = 200
SECONDS = 20.0
OPEN_SETTLES_S = 3.0


def _is_used(one: Known) -> bool:
    from harness.wire.load_options import LoadSettings

    if one.section == "ask":
        return one.name != "ping_path"
    return one.name == "payloads" or (one.section == "plan" and one.name in LoadSettings.model_fields)


EXAMPLES = (
    "execbench load http://127.0.0.1:8000/",
    "execbench load http://127.0.0.1:8000/predict -c 16 --payloads texts.txt --duration 10",
    """execbench load http://127.0.0.1:8000/search --rate 50 --body '{"query": "{text}"}' --seed 1""",
)


@flags.with_settings
def load(
    *,
    url: Annotated[str, typer.Argument(metavar="URL", help="Where to send requests.")],
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency",
            "-c",
            min=1,
            metavar="N",
            help="Closed loop: send from this many users. [8]",
            rich_help_panel=Panel.LOAD,
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            metavar="PER_S", help="Open loop: Poisson arrivals at this rate.", rich_help_panel=Panel.LOAD
        ),
    ] = None,
    arrivals: Annotated[
        str | None,
        typer.Option(
            metavar="LAW",
            help="Open loop: constant(50), burst(10, 0.5), replay(FILE).",
            rich_help_panel=Panel.LOAD,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="Send texts drawn by this seed, by POST.", rich_help_panel=Panel.LOAD
        ),
    ] = None,
    given: Flags = flags.settings(_is_used, stage="load"),
    out: flags.Out = None,
    as_json: flags.AsJson = False,
) -> None:
    """Send load to one server that already runs, and show its latency.

    The report splits the latency into its parts if the server answers with Server-Timing. Without a body,
    texts are sent as {"text": …}.
    """
    from harness.wire import addresses

    try:
        addresses.checked(url)
    except ValueError as error:
        raise UsageError(f"{error}.", stage="load", hint="For example: http://127.0.0.1:8000/") from error
    if sum(one is not None for one in (concurrency, rate, arrivals)) > 1:
        raise UsageError("Give only one of --concurrency, --rate and --arrivals.", stage="load")
    law = _law(concurrency, rate, arrivals)
    users = law.users
    window: dict[str, Any] = {
        name: given.plan[name] for name in ("requests", "duration_s") if name in given.plan
    }
    if len(window) > 1:
        raise UsageError("Give either --requests or --duration, not both.", stage="load")
    options: dict[str, Any] = {
        **given.plan,
        "arrivals": law,
        **({"warmup_requests": 2 * users} if users else {"settle_s": OPEN_SETTLES_S}),
        **(window or ({"requests": REQUESTS} if users else {"duration_s": SECONDS})),
        **_request(url, given, seed),
    }
    _load(_checked(url, options), out, as_json=as_json)


def _law(concurrency: int | None, rate: float | None, arrivals: str | None) -> Law:
    from harness.wire import arrivals as arrivals_

    flag, text = "--concurrency", f"closed({8 if concurrency is None else concurrency})"
    if rate is not None:
        flag, text = "--rate", f"poisson({rate:.15g})"
    if arrivals is not None:
        flag, text = "--arrivals", arrivals
    try:
        law = arrivals_.parse(text)
    except ValueError as error:
        hint = f"For example: --arrivals '{arrivals_.EXAMPLES[2]}'"
        raise UsageError(f"{flag}: {error}.", stage="load", hint=hint) from error
    if law.is_own:
        raise UsageError(
            f"{flag} {text!r} is a share of an arm's own throughput, which is unknown here.",
            stage="load",
            hint="Give a rate, as in --rate 50.",
        )
    if not law.is_open and arrivals is not None:
        raise UsageError(f"{flag} {text!r} is a closed loop.", stage="load", hint="Give it with -c 8.")
    return law


def _checked(url: str, given: dict[str, Any]) -> LoadOptions:
    """Return the checked load. Raises UsageError for one that is too large."""
    from harness.wire import arrivals
    from harness.wire.load_options import LoadOptions

    with _refused("This load is not valid"):
        load = LoadOptions(url=url, **given)
        arrivals.check_request_count(load.arrivals, load.settle_s + (load.duration_s or 0.0))
    return load


def _request(url: str, given: Flags, seed: int | None) -> dict[str, Any]:
    """Return the fields of `LoadOptions` about a request. Raises UsageError for one that cannot be sent."""
    from harness import workloads
    from harness.plans import plan_checks
    from harness.wire import addresses, sending
    from harness.wire.load_options import Request
    from harness.wire.options import WorkloadOptions

    ask = given.ask
    if seed is not None and addresses.PLACEHOLDER not in url and ask.keys() <= {"headers", "expect_status"}:
        ask = ask | {"body": sending.DEFAULT_BODY}
    with _refused("This request is not valid"):
        workload = WorkloadOptions(**given.workload)
        workloads.check(workload)
        request = Request.model_validate(ask)
        fields = request.load(workload, 1 if seed is None else seed, [url])
    plan_checks.check_headers(request, stage="load")
    return fields | ({} if seed is None else {"seed": seed})


@contextlib.contextmanager
def _refused(what: str) -> Iterator[None]:
    """Turn a ValueError into a UsageError that begins with `what`."""
    from pydantic import ValidationError

    from harness.wire.setting import explain

    try:
        yield
    except ValueError as error:
        why = explain(error) if isinstance(error, ValidationError) else error
        raise UsageError(f"{what}: {why}.", stage="load") from error


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
        raise HarnessError(trial.error, stage="load", hint=f"All rows are kept: {rows}")


def _show_what_there_is(writer: Writer, *, as_json: bool) -> None:
    """Show what an interrupted load has measured; remove a folder without any measured request."""
    if not writer.trials:
        writer.discard()
        return
    show_all(writer, as_json=as_json)
    measured = writer.measured
    counted = f"{measured} request{'s were' if measured > 1 else ' was'} measured"
    print_message(f"The load was interrupted: {counted}. All rows are in {writer.folder}.")


def _keep_record(writer: Writer) -> None:
    """Keep run.json of a load that began and failed: it has the reason."""
    if not writer.record:
        writer.discard()
    elif writer.folder.exists():
        print_message(f"The request and the error are kept in {writer.folder / 'run.json'}.")
